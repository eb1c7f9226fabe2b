package proxy

import (
	"magent/backend"
)

// A server that has not got a write has the key in its journal. So that
// another proxy knows it too, the key is also noted on the server that did get
// the write: ahead of that write, on the same connection.

// missing notes that r's write is about to be made on twin without the server.
// It returns false when the server serves again, so that the write must not go
// without it.
func (w *worker) missing(r *request, server int32, twin *backend.Conn) bool {
	how := w.p.journals[server].add(r.key())
	if how == addedFresh {
		r.absent, _ = w.p.journals[server].find(r.key())
	}
	out := w.p.servers[server].Miss()
	if !out {
		w.p.servers[server].Doubt("a key was entered in its journal as it came back")
	}
	w.note(r.key(), server, how, twin)
	return out
}

// doubt notes that nobody knows whether a server has got r's write.
func (w *worker) doubt(r *request, server int32, why string) {
	other := r.primary
	if server == r.primary {
		other = r.backup
	}
	w.doubtKey(r.key(), server, other, why)
}

// uncertain ends a write of which nobody knows whether its primary has run it,
// or will run it yet. Who uses the primary compares the copies of the key, when
// nothing is under way there any more.
func (w *worker) uncertain(r *request) {
	server := r.primary
	// Another proxy sees to it, so it counts as what others have noted.
	w.p.journals[server].addNoted(r.key())
	if !w.p.servers[server].Miss() {
		w.p.servers[server].Doubt("a write to it has no answer")
	}
	w.p.recovery.unclear(server, r.key())
	w.noteUncertain(r.key(), server, w.conns[r.backup])
	w.line = append(append(w.line[:0], "SERVER_ERROR no answer in time from "...), w.p.servers[server].Name()...)
	w.replyFailure(r, w.line)
	w.settle(r)
}

// doubtKey notes that a server may hold something else than it should. It may
// go on serving all the same: nobody is answered for the key before it has
// been copied from its other server.
func (w *worker) doubtKey(key []byte, server, other int32, why string) {
	how := w.p.journals[server].add(key)
	s := w.p.servers[server]
	if !s.Miss() {
		s.Doubt(why)
	}
	if other >= 0 {
		w.note(key, server, how, w.conns[other])
	}
	w.lookLater(key, false)
	w.p.recovery.wake()
}
