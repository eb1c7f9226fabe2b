package proxy

// copyKey is a key that some goroutine wants to be copied (engine.Task).
type copyKey struct {
	w     *worker
	key   []byte
	to    int32
	exact bool
	then  func(ok bool) // called on some loop
}

// Run starts the copy on the loop that may.
func (k *copyKey) Run() {
	w := k.w
	if w.frozen {
		k.then(false) // the program behind the upgrade goes on with it
		return
	}
	if !w.p.recovery.acts(k.to) {
		k.then(false) // another proxy sees to it by now
		return
	}
	if w.pausing {
		w.delayed = append(w.delayed, k)
		return
	}
	hash := w.p.leases.hash(k.key)
	primary, backup := w.p.pools.find(k.key)
	from := backup
	if k.to == backup {
		from = primary
	} else if k.to != primary || backup < 0 {
		k.then(true) // it is not the server's key
		return
	}
	stripe := stripeOf(hash)
	if !w.p.leases.take(stripe, w.index) {
		k.w = w.holder(stripe)
		k.w.loop.Post(k)
		return
	}
	w.p.bothMissed(k.key)
	if _, missed := w.p.missed(k.to, from, k.key); k.exact && !missed {
		k.then(true) // its twin missed a later write
		w.p.leases.give(stripe)
		w.beginCopies(stripe)
		return
	}
	twin := from
	from, ok := w.source(k.key, from, k.to)
	other := w.copies[string(k.key)]
	switch {
	case !ok, from == nowhere && !k.exact:
		k.then(ok) // nothing to add is done
	case from == nowhere && w.stands(k.key, k.to, twin):
		w.p.journals[k.to].drop(k.key, 0)
		k.then(true)
	case other != nil && (other.to != k.to || k.exact && !other.exact):
		k.then(false) // another copy of the key comes first
	default:
		w.startCopy(k.key, hash, from, k.to, k.exact, nil, k.then)
	}
	w.p.leases.give(stripe)
	w.beginCopies(stripe)
}

// holder is the worker that has a stripe's lease, this one when it is free again.
func (w *worker) holder(stripe uint32) *worker {
	if holder := w.p.leases.holder(stripe); holder >= 0 {
		return w.p.workers[holder]
	}
	return w
}

// source tells from where a key may be copied to a server: from its other
// one, from nowhere when that one is gone or holds the wrong value too. ok is
// false when nobody can tell at present.
func (w *worker) source(key []byte, from, to int32) (int32, bool) {
	if from < 0 {
		return nowhere, true
	}
	if _, wrong := w.p.missed(from, to, key); wrong && !w.undecided(key, from, to) {
		return nowhere, !w.p.rivalsTell(from, to, key) && !w.p.rivalsTell(to, from, key)
	}
	if c := w.conns[from]; c.Sync().Serves() {
		if !c.Server.HasMeta() {
			return nowhere, true // it cannot tell how long an item lives
		}
		return from, true
	}
	return nowhere, w.p.gone(from)
}

// stands tells whether what a server holds of a key is all that is left of it:
// nobody knows whether its twin had a later write, and the twin is gone.
func (w *worker) stands(key []byte, server, twin int32) bool {
	if twin < 0 {
		return false
	}
	at, missed := w.p.journals[server].missedAt(key)
	_, wrong := w.p.journals[twin].find(key)
	return missed && at == 0 && !wrong && !w.p.servers[twin].Serves()
}

// undecided tells whether nobody knows if a server has got the last write of a
// key, and its twin cannot decide that, because it lacks keys. What the server
// holds is right then either way.
func (w *worker) undecided(key []byte, server, twin int32) bool {
	at, missed := w.p.journals[server].missedAt(key)
	return missed && at == 0 && w.p.recovery.lacks(twin)
}
