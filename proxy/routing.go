package proxy

import (
	"magent/backend"
	"magent/ketama"
	"magent/proxy/protocol"
)

// pools say where keys live: in each pool one server, found by its ring.
type pools struct {
	primary, backup *ketama.Ring
	primaries       []int32 // index of the server by place in the pool
	backups         []int32
	hashed          bool // a pool has more than one server
	// For each server, whether the one at a place of the backup pool is the
	// same: a key's backup is never its primary.
	not []func(place int) bool
}

// find returns the servers of a key; backup is -1 when there is none.
func (p *pools) find(key []byte) (primary, backup int32) {
	var hash uint32 // the same for both rings
	if p.hashed {
		hash = p.primary.Hash(key)
	}
	primary = p.primaries[p.primary.LookupHash(hash)]
	if p.backup == nil {
		return primary, -1
	}
	place := p.backup.LookupHash(hash)
	if backup = p.backups[place]; backup == primary {
		if place = p.backup.NextHash(hash, p.not[primary]); place < 0 {
			return primary, -1
		}
		backup = p.backups[place]
	}
	return primary, backup
}

func (w *worker) route(r *request) {
	r.hash = w.p.leases.hash(r.key())
	r.primary, r.backup = w.p.pools.find(r.key())
	w.asked = w.loop.Now()
	if w.looks.wanted && !isReserved(r.key()) {
		w.takeSample(r)
	}
}

// read asks the primary, or the backup when the primary is out or has just
// failed to answer.
func (w *worker) read(r *request) {
	p := w.conns[r.primary]
	state := p.Sync()
	if state.Serves() && r.tries == 0 {
		w.readFrom(p, state, r, r.primary, r.backup)
		return
	}
	if r.backup >= 0 {
		b := w.conns[r.backup]
		if state := b.Sync(); state.Serves() {
			// What the client knows may still be on its way to the backup.
			r.stripe = stripeOf(r.hash)
			if holder := w.p.leases.holder(r.stripe); holder >= 0 && holder != w.index {
				w.handOver(r)
				return
			}
			w.readFrom(b, state, r, r.backup, r.primary)
			return
		}
	}
	if state.Serves() { // only its connection was lost
		w.readFrom(p, state, r, r.primary, r.backup)
		return
	}
	w.unreachable(r)
}

// readFrom asks a server, when it can answer for the key.
func (w *worker) readFrom(c *backend.Conn, state backend.State, r *request, at, other int32) {
	if len(w.copies) > 0 && r.tries == 0 {
		// An earlier write of this client may wait there too. A later one may be
		// under way when a read is run once more.
		if c := w.copies[string(r.key())]; c != nil {
			c.wait(r)
			return
		}
	}
	if !w.prepare(r, state, at, other) {
		w.ask(c, r)
	}
}

// ask joins the open get of a connection.
func (w *worker) ask(c *backend.Conn, r *request) {
	r.phase, r.raw, r.meta = atServer, false, false
	switch {
	case r.cannotSay(c.Server):
		w.tooOld(r, c.Server)
	case r.op == protocol.OpMetaGet && !c.Server.HasMeta():
		r.Kind = backend.Value
		c.Get(&r.Call, protocol.OpGets, r.hash)
	case r.op == protocol.OpMetaGet, r.op == protocol.OpMetaDebug:
		r.raw, r.Kind, r.Answers = true, backend.Meta, protocol.AnswersTo(r.op)
		c.Get(&r.Call, protocol.OpMetaGet, r.hash)
	case r.encoded:
		r.Kind = backend.Item
		c.Get(&r.Call, protocol.OpMetaGet, r.hash)
	default:
		r.Kind = backend.Value
		c.Get(&r.Call, r.op, r.hash)
	}
}

// write begins a write: it needs the lease of its stripe when there is a
// backup.
func (w *worker) write(r *request) {
	r.Write = true
	w.route(r)
	w.wrote = w.loop.Now()
	if r.session.unsure > 0 && w.afterReads(r) {
		return
	}
	if w.pausing {
		r.session.parked = r // what the client sends next comes after it
		w.delayed = append(w.delayed, r)
		return
	}
	w.writeRouted(r)
}

func (w *worker) writeRouted(r *request) {
	if r.backup >= 0 && !r.leased {
		r.stripe = stripeOf(r.hash)
		if !w.p.leases.take(r.stripe, w.index) {
			w.contended(r)
			return
		}
		r.leased = true
	}
	if len(w.copies) > 0 {
		if c := w.copies[string(r.key())]; c != nil {
			c.wait(r)
			return
		}
	}
	if !r.sent {
		r.sent = true
		w.writes++
		r.slot = noSlot
		if r.backup >= 0 {
			r.slot = w.inFlight.enter(r.key())
		}
	}
	w.runWrite(r)
}

// runWrite runs a write on the primary, or on the backup alone when the
// primary is out.
func (w *worker) runWrite(r *request) {
	for {
		p := w.conns[r.primary]
		if state := p.Sync(); state.Serves() {
			if r.tries > 0 {
				// It came back at this moment, and may have run the write already.
				w.doubt(r, r.backup, "a write to "+p.Server.Name()+" has no answer")
				w.broken(r, backend.ErrClosed)
				return
			}
			r.onTwin = false
			if r.routed {
				w.leftTwin(r)
			}
			if !w.prepare(r, state, r.primary, r.backup) {
				w.send(p, r)
			}
			return
		}
		if r.backup < 0 {
			break
		}
		b := w.conns[r.backup]
		state := b.Sync()
		if !state.Serves() {
			break
		}
		if w.prepare(r, state, r.backup, r.primary) {
			return
		}
		if w.missing(r, r.primary, b) {
			r.onTwin = true
			w.stats.failovers++
			w.send(b, r)
			return
		}
		// The primary came back at this moment.
	}
	w.unreachable(r)
}

// send puts the client's command on a connection.
func (w *worker) send(c *backend.Conn, r *request) {
	r.phase = atServer
	if r.cannotSay(c.Server) {
		w.tooOld(r, c.Server)
		return
	}
	if r.dialect == protocol.Binary && isStorage(r.op) && !r.isBinarySet() && !c.Server.HasRoomFor(r.keyLen+len(r.value())) {
		// For a value that is too large a meta command would drop what is there.
		if !r.classicWouldDo() && c.Server.HasRoomFor(0) {
			w.confirmed(r, tooLargeLine, protocol.ServerError, 0)
			return
		}
		r.classic, r.tell = true, false
	}
	w.chooseToken(c, r)
	w.command(c, r, r.op)
	w.crowd(r, c)
}

// unreachable answers a request whose servers are all out.
func (w *worker) unreachable(r *request) {
	if r.Write && r.tries > 0 && !r.onTwin && r.backup >= 0 {
		// The primary may have run it, or may run it yet. What the backup holds
		// counts, if it holds anything.
		w.doubt(r, r.primary, "a write to it has no answer")
	}
	w.stats.unreachable++
	name := w.p.servers[r.primary].Name()
	w.line = append(append(w.line[:0], "SERVER_ERROR no server for the key is reachable "...), name...)
	w.replyFailure(r, w.line)
	w.settle(r)
}

// settle ends the servers' part in a request.
func (w *worker) settle(r *request) {
	if r.routed {
		w.leftTwin(r)
	}
	if r.leased {
		r.leased = false
		w.p.leases.give(r.stripe)
		if len(w.pending) > 0 {
			w.beginCopies(r.stripe)
		}
	}
	if r.sent {
		r.sent = false
		w.inFlight.leave(r.slot)
		w.writeEnded()
	}
	if r.w != r.home {
		w.sendHome(r)
		return
	}
	r.settled = true
	if r.popped {
		w.release(r)
	}
}

// writeEnded counts down the writes in flight.
func (w *worker) writeEnded() {
	if w.writes--; w.writes == 0 && w.pausing {
		w.paused()
	}
}
