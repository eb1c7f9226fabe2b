package proxy

import (
	"magent/backend"
	"magent/proxy/protocol"
)

// A server that is warming may lack a key that its twin holds, and may hold
// one that was written without it. Both are looked at key by key, and mended
// before anybody sees them: what was missed is copied exactly, and what is
// lacking is added, each under the key's lease, once however many ask.

// prepare makes r ready to run on a server in the given state; other is the
// key's other server, -1 for none. It returns true when r has to wait, or is
// answered already.
func (w *worker) prepare(r *request, state backend.State, at, other int32) (done bool) {
	r.filled, r.cured = r.filled && r.at == at, r.cured && r.at == at
	r.at, r.lacking, r.when = at, false, 0
	if state != backend.Warming || isReserved(r.key()) {
		return false
	}
	when, missed := w.p.journals[at].find(r.key())
	if missed && other >= 0 {
		w.p.bothMissed(r.key())
		when, missed = w.p.missed(at, other, r.key())
	}
	if missed && at == r.primary && w.p.recovery.late(at) && w.canAsk(r, other) {
		if done, ok := w.runOnTwin(r); ok {
			return done
		}
	}
	if missed && !r.cured {
		if r.op == protocol.OpSet {
			r.when = when
			return false // it makes the key good
		}
		return w.copyFirst(r, at, other, true)
	}
	r.lacking = w.p.recovery.lacks(at)
	// What depends on what is there has to find it. A get may do so when it has
	// missed: it changes nothing.
	if r.lacking && r.Write && r.op != protocol.OpSet && !r.filled {
		return w.copyFirst(r, at, other, false)
	}
	if r.lacking && !r.Write && !r.unsure && r.w == r.home && r.session != nil {
		r.unsure = true
		r.session.unsure++
	}
	return false
}

// canAsk tells whether a key's other server can answer for it.
func (w *worker) canAsk(r *request, other int32) bool {
	if other < 0 || !w.conns[other].Sync().Serves() {
		return false
	}
	_, missed := w.p.missed(other, r.primary, r.key())
	return !missed && !w.p.recovery.lacks(other)
}

// runOnTwin runs a request on the backup although the primary serves: what
// another proxy has sent to the primary may still be run there, and what is
// copied to it may be overwritten. ok is false when writes are under way at the
// primary, which the request must not overtake.
func (w *worker) runOnTwin(r *request) (done, ok bool) {
	r.stripe = stripeOf(r.hash)
	if holder := w.p.leases.holder(r.stripe); holder >= 0 && holder != w.index {
		w.handOver(r)
		return true, true
	}
	own := 0
	if r.leased {
		own = 1
	}
	if w.p.leases.count(r.stripe)-w.idle[r.stripe]-own > w.onTwins[r.stripe] {
		return false, false
	}
	b := w.conns[r.backup]
	if r.Write {
		w.onTwins[r.stripe]++
		r.routed = true
		at := w.unixMilli(w.loop.Now())
		how := w.p.journals[r.primary].add(r.key(), at)
		w.p.servers[r.primary].Doubt("a key was written without it")
		w.note(r.key(), at, r.primary, how, b)
		r.at, r.onTwin = r.backup, true
		w.stats.failovers++
		w.send(b, r)
		return true, true
	}
	r.at = r.backup
	w.ask(b, r)
	return true, true
}

// leftTwin counts a write out that runOnTwin has begun.
func (w *worker) leftTwin(r *request) {
	r.routed = false
	if w.onTwins[r.stripe]--; w.onTwins[r.stripe] == 0 {
		delete(w.onTwins, r.stripe)
	}
}

// afterReads tells whether a write has to wait until its client has the
// answers to what it asked before of the same key: a get that misses on a
// server that lacks keys is asked again, and must not see the write then.
func (w *worker) afterReads(r *request) bool {
	for q := r.session.head; q != nil && q != r; q = q.after {
		if q.unsure && !q.done && q.hash == r.hash {
			r.session.parked = r
			r.session.turn = r // goOn begins it
			return true
		}
	}
	return false
}

// lacked decides what becomes of a get that a server has answered with a miss.
// It returns true when the answer does not count.
func (w *worker) lacked(r *request) (done bool) {
	if !r.lacking || r.filled {
		return false
	}
	other := r.backup
	if r.at == r.backup {
		other = r.primary
	}
	return w.copyFirst(r, r.at, other, false)
}

// copyFirst has the key copied to the server at which r is to run, and r run
// again behind that. It returns false when there is nothing to copy, and r may
// go on.
func (w *worker) copyFirst(r *request, at, other int32, exact bool) (done bool) {
	if r.copies >= copyLimit {
		w.unreachable(r)
		return true
	}
	from, ok := w.source(r.key(), other, at)
	if !ok {
		// Its other server may hold what this one lacks. To say that there is
		// nothing would be wrong.
		w.unreachable(r)
		return true
	}
	if from == nowhere && exact && w.stands(r.key(), at, other) {
		w.p.journals[at].drop(r.key(), 0)
		return false
	}
	if from == nowhere && !exact {
		// Its other server has missed a write that may be under way here: a miss
		// would be older than that, and the value before it is not here.
		if other >= 0 && !r.Write && r.again < copyLimit && w.p.leases.holder(stripeOf(r.hash)) >= 0 {
			r.again++
			w.read(r)
			return true
		}
		return false
	}
	r.stripe = stripeOf(r.hash)
	if !r.leased {
		// A write that has no lease has no twin either. It is counted among those
		// in flight, here, so it can neither be held back nor go to another loop.
		if w.pausing && !r.sent {
			w.delayed = append(w.delayed, r)
			return true
		}
		if !w.p.leases.take(r.stripe, w.index) {
			if r.sent {
				w.unreachable(r)
			} else {
				w.handOver(r)
			}
			return true
		}
	}
	w.startCopy(r.key(), r.hash, from, at, exact, r, nil)
	if !r.leased {
		w.p.leases.give(r.stripe) // the copy has its own
		w.beginCopies(r.stripe)
	}
	return true
}
