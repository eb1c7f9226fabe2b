package proxy

import (
	"errors"

	"magent/backend"
)

// ConnFailed decides what becomes of the requests of a connection that failed
// (backend.Owner). A server that may lack a write from now on is taken out
// first; only then is anything run without it.
func (w *worker) ConnFailed(c *backend.Conn, calls *backend.Call, why error) {
	count, missed, writes := 0, false, false
	for call := calls; call != nil; call = call.Next() {
		count++
		writes = writes || call.Write
		r, ok := call.Owner.(*request)
		if !ok {
			_, lost := call.Owner.(*retoken)
			missed = missed || lost
			continue
		}
		switch {
		case r.phase == flushingAll:
			w.missFlush(int32(c.Server.Index))
			missed = true
		case r.phase == mirroring:
			missed = true
		case r.Write && !r.onTwin && r.backup >= 0 && w.p.servers[r.backup].Serves():
			missed = true // it will run on the backup
		}
	}
	late := errors.Is(why, backend.ErrTimeout) || errors.Is(why, backend.ErrProtocol)
	gone := errors.Is(why, backend.ErrRefused) || errors.Is(why, backend.ErrNewLife) || errors.Is(why, backend.ErrAuth)
	switch {
	// A late write may still run. It must not do so behind a newer one, so the
	// server stays out until it has run what it was sent.
	case missed, gone, late && (writes || c.Failed(count)):
		c.Server.TakeOut(missed, why.Error())
	case errors.Is(why, backend.ErrClosed):
		c.Server.Check()
	}
	for call := calls; call != nil; {
		next := call.Next()
		switch o := call.Owner.(type) {
		case *request:
			if !o.retoken { // which comes behind it
				w.failOver(o, late, why)
			}
		case *retoken:
			o.failed(why)
		case *keyCopy:
			o.failed()
		case *itemMark:
			o.done()
		case *telling:
			o.failed()
		}
		call = next
	}
}

// failOver runs a request once more, on the twin, or answers that it could
// not be run.
func (w *worker) failOver(r *request, late bool, why error) {
	switch r.phase {
	case mirroring: // the client has its answer
		w.doubt(r, r.backup, why.Error())
		w.settle(r)
		return
	case flushingAll:
		w.flushed(r, false)
		return
	}
	r.tries++
	if !r.Write {
		twin := r.backup >= 0 && w.conns[r.backup].Sync().Serves()
		if r.tries > 1 || late && !twin {
			w.broken(r, why)
			return
		}
		w.stats.failovers++
		w.read(r)
		return
	}
	if r.tries == 1 && !r.onTwin && r.backup >= 0 && w.conns[r.backup].Sync().Serves() &&
		!w.conns[r.primary].Sync().Serves() {
		if r.gone.Load() && !w.p.recovery.alone() {
			// Its client asks another proxy by now, which may use the primary: there
			// it may have seen the write. It must not come again on the backup.
			w.uncertain(r)
			return
		}
		w.runWrite(r)
		return
	}
	// Nobody knows whether it took effect on the primary. That decides, so the
	// backup must not be read before it has been made the same.
	if r.backup >= 0 && !r.onTwin {
		w.doubt(r, r.backup, "a write to "+w.p.servers[r.primary].Name()+" has no answer")
	}
	w.broken(r, why)
}

// broken answers a request whose server failed and which cannot run
// elsewhere.
func (w *worker) broken(r *request, why error) {
	w.stats.serverErrors++
	at := r.primary
	if r.onTwin {
		at = r.backup
	}
	what := "the server closed before it answered "
	switch {
	case errors.Is(why, backend.ErrTimeout):
		what = "no answer in time from "
	case errors.Is(why, backend.ErrProtocol):
		what = "no answer that can be understood from "
	case errors.Is(why, backend.ErrRefused):
		what = "cannot connect to "
	case errors.Is(why, backend.ErrAuth):
		what = "magent is not let in by "
	}
	w.line = append(append(append(w.line[:0], "SERVER_ERROR "...), what...), w.p.servers[at].Name()...)
	w.replyFailure(r, w.line)
	w.settle(r)
}
