package proxy

import (
	"magent/backend"
)

// A server that has not got a write has the key in its journal. So that
// another proxy knows it too, the key is also noted on the server that did get
// the write: ahead of that write, on the same connection.

// unixMilli is a time by the loop's clock as others are told it.
func (w *worker) unixMilli(now int64) int64 { return (w.clockZero + now) / 1e6 }

// missing notes that r's write is about to be made on twin without the server.
// It returns false when the server serves again, so that the write must not go
// without it.
func (w *worker) missing(r *request, server int32, twin *backend.Conn) bool {
	at := w.unixMilli(w.loop.Now())
	if r.when != 0 {
		at = 0 // what the twin holds is wrong as well, until it has run this
	}
	how := w.p.journals[server].add(r.key(), at)
	if how == addedFresh {
		r.absent, _ = w.p.journals[server].find(r.key())
	}
	out := w.p.servers[server].Miss()
	if !out {
		w.p.servers[server].Doubt("a key was entered in its journal as it came back")
	}
	w.note(r.key(), at, server, how, twin)
	return out
}

// madeGoodHere notes that a server holds the right value of r's key since it has
// run r, although it had missed an earlier write: the twin is the one that lacks
// it now.
func (w *worker) madeGoodHere(r *request) {
	w.p.recovery.madeGood(r.at, r.key(), r.when)
	if r.onTwin {
		at := w.unixMilli(w.loop.Now())
		w.p.journals[r.primary].add(r.key(), at)
		w.note(r.key(), at, r.primary, addedFresh, w.conns[r.at])
	}
	r.when = 0
}

// doubt notes that nobody knows whether a server has got r's write.
func (w *worker) doubt(r *request, server int32, why string) {
	other := r.primary
	if server == r.primary {
		other = r.backup
	}
	at := int64(0)
	if r.phase == mirroring { // the primary has had it since then
		at = w.unixMilli(r.confirmed)
	}
	w.doubtKey(r.key(), at, server, other, why)
}

// uncertain ends a write of which nobody knows whether its primary has run it,
// or will run it yet. Who uses the primary compares the copies of the key, when
// nothing is under way there any more.
func (w *worker) uncertain(r *request) {
	server := r.primary
	// Another proxy sees to it, so it counts as what others have noted.
	w.p.journals[server].addNoted(r.key(), 0)
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
// at is the time at which the other one had what this one lacks, 0 if it may
// lack it as well.
func (w *worker) doubtKey(key []byte, at int64, server, other int32, why string) {
	how := w.p.journals[server].add(key, at)
	s := w.p.servers[server]
	if !s.Miss() {
		s.Doubt(why)
	}
	if other >= 0 {
		w.note(key, at, server, how, w.conns[other])
	}
	w.lookLater(key, false)
	w.p.recovery.wake()
}
