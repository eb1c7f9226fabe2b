package proxy

import "slices"

// What becomes of a key that both of its servers have missed writes of: the one
// that missed the later write has to get it from the other.

// bothMissed sees to it that a key which both of its servers have missed stays
// in the journal of one: of the one that missed the later write. A write of
// which nobody knows whether the server got it counts as the earliest: that
// server holds what is right either way. Then the primary decides.
//
// Of a key in a journal that has overflowed see missed.
func (p *Proxy) bothMissed(key []byte) {
	primary, backup := p.pools.find(key)
	if backup < 0 {
		return
	}
	first, missed := p.journals[primary].missedAt(key)
	second, both := p.journals[backup].missedAt(key)
	switch {
	case p.journals[primary].lost():
		p.journals[backup].drop(key, p.journals[primary].laterOf(key))
	case p.journals[backup].lost():
		p.journals[primary].drop(key, p.journals[backup].laterOf(key))
	case !missed || !both:
	case first > second:
		p.journals[backup].drop(key, second)
	default:
		p.journals[primary].drop(key, first)
	}
}

// missed tells whether a server has missed a write of a key, and when it was
// entered. One of whose keys it is not known which it has missed has not missed
// those that its twin has missed since.
func (p *Proxy) missed(server, twin int32, key []byte) (when uint64, missed bool) {
	when, missed = p.journals[server].find(key)
	if !missed || twin < 0 || p.recovery.rival(server) || !p.ranLater(server, twin, key) {
		return when, missed
	}
	return 0, false
}

// rivalsTell tells whether nobody knows at present which of a key's servers holds
// what is right: one has run a write since, see ranLater, and so may a rival have, on
// the other.
func (p *Proxy) rivalsTell(server, twin int32, key []byte) bool {
	return twin >= 0 && p.recovery.rival(server) && p.ranLater(server, twin, key)
}

// ranLater tells whether a server of whose keys it is not known which it has missed
// has run a write of a key without its twin since it missed the last of them, or since
// the last that may have been of this key.
func (p *Proxy) ranLater(server, twin int32, key []byte) bool {
	e, missed := p.journals[twin].entryOf(key)
	if !missed {
		return false
	}
	since, lost := p.journals[server].lostSinceOf(key, e.isOwn())
	return lost && e.at > since
}

// holdsMore tells whether a server of whose keys it is not known which it has missed
// holds what its twins have missed since. It must not be flushed before they have it.
func (p *Proxy) holdsMore(server int32) bool {
	first, lost := p.journals[server].lossTimes()
	if !lost {
		return false
	}
	since := func(key []byte, own bool) int64 {
		at, _ := p.journals[server].lostSinceOf(key, own)
		return at
	}
	p.recovery.twoJournals.Lock() // nobody else locks two
	defer p.recovery.twoJournals.Unlock()
	return slices.ContainsFunc(p.recovery.twins[server], func(twin int32) bool {
		return p.journals[twin].holdsLater(server, first, since)
	})
}

// undecidedTwins are the twins of a server from which it cannot get keys as long as a
// rival has clients; see rivalsTell.
func (p *Proxy) undecidedTwins(server int32) (twins []int32) {
	for _, twin := range p.recovery.twins[server] {
		if p.recovery.rival(twin) && p.journals[twin].lost() {
			twins = append(twins, twin)
		}
	}
	return twins
}

// emptied forgets what a server has missed that holds nothing. What only a twin
// holds that has to be flushed stays: it is copied first.
func (p *Proxy) emptied(server int32) {
	times := map[int32]lossTimes{}
	for _, twin := range p.recovery.twins[server] {
		if since, lost := p.journals[twin].lossTimes(); lost {
			times[twin] = since
		}
	}
	p.journals[server].clearUntil(times)
	for _, at := range p.recovery.twins[server] {
		p.recovery.record(server, at).follow(unixMilliNow())
	}
}
