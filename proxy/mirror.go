package proxy

import (
	"magent/backend"
	"magent/proxy/protocol"
)

// confirmed is told the answer to a write. The effect goes into the backup's
// queue before the answer goes into the client's: a client that has its answer
// finds its write on either server. Since the primary answers in the order in
// which it ran the writes, the backup gets them in that order.
func (w *worker) confirmed(r *request, line []byte, kind protocol.Answer, number uint64) {
	w.count(r, kind)
	if r.when != 0 && kind == protocol.Stored {
		w.madeGoodHere(r)
	}
	if r.refusal != nil {
		line = r.refusal
	}
	if r.onTwin && r.tries == 0 && r.absent != 0 && r.effectOf(kind) == protocol.OpNone {
		// It did nothing, so the primary has missed nothing.
		w.p.journals[r.primary].remove(r.key(), r.absent, false)
	}
	mirrored := false
	if effect := r.effectOf(kind); effect != protocol.OpNone && r.backup >= 0 && !r.onTwin {
		if kind == protocol.Number {
			r.result = number
			if r.tokened {
				r.token = w.p.servers[r.primary].ClientToken(r.Token)
			}
		}
		mirrored = w.mirror(r, effect)
	}
	if r.refusal != nil {
		kind = protocol.ServerError
	}
	w.answer(r, line, kind, number)
	if !mirrored {
		w.settle(r)
	}
}

// effectOf is what the primary did to a key when it answered a command so.
// What the backup would decide for itself travels as a set. A delete that
// found nothing is one all the same: the primary may have evicted a key that
// the backup still holds. A set that failed has removed the old value.
func effectOf(op protocol.Op, answer protocol.Answer) protocol.Op {
	switch op {
	case protocol.OpSet, protocol.OpAdd, protocol.OpReplace, protocol.OpCas:
		switch {
		case answer == protocol.Stored:
			return protocol.OpSet
		case answer == protocol.ServerError && op == protocol.OpSet:
			return protocol.OpDelete
		}
	case protocol.OpAppend, protocol.OpPrepend:
		if answer == protocol.Stored {
			return op
		}
	case protocol.OpIncr, protocol.OpDecr:
		if answer == protocol.Number {
			return op
		}
	case protocol.OpTouch:
		if answer == protocol.Touched {
			return op
		}
	case protocol.OpDelete:
		if answer == protocol.Deleted || answer == protocol.NotFound {
			return op
		}
	case protocol.OpInvalidate:
		if answer == protocol.Deleted {
			return op
		}
		if answer == protocol.NotFound {
			return protocol.OpDelete
		}
	}
	return protocol.OpNone
}

// effectOf is what the primary did. A meta set that failed has removed the old
// value whatever its mode was (process_mset_command of memcached).
func (r *request) effectOf(answer protocol.Answer) protocol.Op {
	if answer == protocol.ServerError && r.dialect != protocol.Text && r.meta && isStorage(r.op) {
		return protocol.OpDelete
	}
	return effectOf(r.op, answer)
}

// mirrorTouch mirrors a gat that found its key.
func (w *worker) mirrorTouch(r *request) bool {
	return r.backup >= 0 && !r.onTwin && w.mirror(r, protocol.OpTouch)
}

// mirror queues an effect to the backup. It returns false when the backup is
// out: then it is known to have missed a write.
func (w *worker) mirror(r *request, effect protocol.Op) bool {
	b := w.conns[r.backup]
	state := b.Sync()
	for ; !state.Serves(); state = b.Sync() {
		if w.missing(r, r.backup, w.conns[r.primary]) {
			return false
		}
	}
	if r.encoded && !b.Server.HasMeta() {
		return false // it cannot be told of such a key, and is never asked for it
	}
	r.when = 0
	if state == backend.Warming && (effect == protocol.OpSet || effect == protocol.OpDelete) {
		r.when, _ = w.p.journals[r.backup].find(r.key())
	}
	if !w.p.recovery.alone() {
		w.lookLater(r.key(), false)
	}
	w.stats.mirrored++
	r.phase = mirroring
	r.confirmed = w.loop.Now()
	r.effect = effect
	w.command(b, r, effect)
	if r.tokened && isArith(effect) {
		w.retoken(b, r)
	}
	w.crowd(r, b)
	return true
}

// mirrored is told the backup's answer to an effect. A copy that differs from
// the primary's is replaced by the primary's.
func (w *worker) mirrored(r *request, kind protocol.Answer, number uint64) {
	same := false
	switch r.effect {
	case protocol.OpDelete:
		same = kind == protocol.Deleted || kind == protocol.NotFound
	case protocol.OpInvalidate:
		same = kind == protocol.Deleted
	case protocol.OpMetaGet:
		same = kind == protocol.Done
	case protocol.OpIncr, protocol.OpDecr:
		same = kind == protocol.Number && number == r.result
	case protocol.OpTouch:
		same = kind == protocol.Touched
	default:
		same = kind == protocol.Stored
	}
	if r.retoken {
		r.same = same
		return
	}
	w.mirrorEnded(r, same)
}

// mirrorEnded ends a write, when the backup holds the same as the primary.
func (w *worker) mirrorEnded(r *request, same bool) {
	if same {
		if r.when != 0 {
			w.p.recovery.madeGood(r.backup, r.key(), r.when)
		}
		w.settle(r)
		return
	}
	w.stats.repairs++
	w.repair(r)
	w.settle(r)
}

// repair makes the backup's copy the primary's, or has it waited for when that
// cannot be done now.
func (w *worker) repair(r *request) {
	from, ok := w.source(r.key(), r.primary, r.backup)
	if !ok || from == nowhere || !w.conns[r.backup].Sync().Serves() {
		w.doubt(r, r.backup, "it answered a write otherwise than the primary")
		return
	}
	key, primary, backup, at := append([]byte(nil), r.key()...), r.primary, r.backup, w.unixMilli(r.confirmed)
	w.startCopy(key, r.hash, from, backup, true, nil, func(done bool) {
		if !done {
			w.doubtKey(key, at, backup, primary, "its copy could not be mended")
		}
	})
}

// count keeps memcached's counters of hits and misses.
func (w *worker) count(r *request, kind protocol.Answer) {
	st := &w.stats
	if r.foreign && kind == protocol.ClientError {
		w.lookLater(r.key(), false) // it may have been found wrong when it had run
	}
	switch r.op {
	case protocol.OpDelete, protocol.OpInvalidate:
		tally(&st.deleteHits, &st.deleteMisses, kind == protocol.Deleted)
	case protocol.OpIncr:
		tally(&st.incrHits, &st.incrMisses, kind == protocol.Number)
	case protocol.OpDecr:
		tally(&st.decrHits, &st.decrMisses, kind == protocol.Number)
	case protocol.OpTouch:
		st.touches++
		tally(&st.touchHits, &st.touchMisses, kind == protocol.Touched)
	case protocol.OpCas:
		switch kind {
		case protocol.Stored:
			st.casHits++
		case protocol.Exists:
			st.casBadval++
		case protocol.NotFound:
			st.casMisses++
		}
	}
}

func tally(hits, misses *uint64, hit bool) {
	if hit {
		*hits++
	} else {
		*misses++
	}
}
