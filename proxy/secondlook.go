package proxy

import (
	"strconv"
	"strings"
	"time"

	"magent/backend"
	"magent/proxy/engine"
)

// The two copies of some keys are compared a little later, and made equal when
// they differ:
//
//   - keys that nobody was sure of;
//   - while another proxy serves the same servers, all keys that are written:
//     two proxies that write one key have no order between them, and the
//     backup may have got the writes in another one than the primary;
//   - a small sample of all keys that are asked for, to see whether the
//     promises hold (see --compare-rate).

const (
	lookTick   = 50 * time.Millisecond
	lookBatch  = 500       // keys of one worker at once
	lookMost   = 256 << 10 // keys of one worker that wait
	lookAfter  = int64(300 * time.Millisecond)
	sampleWait = int64(2 * time.Second)
	lookTries  = 20
)

// secondLook is a key that is to be compared.
type secondLook struct {
	key    string
	due    int64
	sample bool
	tries  uint8
	tokens [2]uint64 // of both copies when they differed last, 0 for none
}

// secondLooks are those of one worker, in the order in which they are due.
type secondLooks struct {
	list   []secondLook
	known  map[string]bool
	timer  engine.Timer
	budget float64 // keys that may be sampled now
	wanted bool    // the next key that is asked for is one
}

// lookLater has a key compared after a while.
func (w *worker) lookLater(key []byte, sample bool) {
	after := lookAfter
	if sample {
		after = sampleWait
	}
	w.lookAt(secondLook{key: string(key), due: w.loop.Now() + after, sample: sample})
}

func (w *worker) lookAt(l secondLook) {
	s := &w.looks
	if s.known[l.key] || strings.HasPrefix(l.key, backend.Prefix) {
		return // magent's own items are not the same on two servers
	}
	if len(s.list) >= lookMost {
		w.stats.looksMissed++
		return
	}
	s.known[l.key] = true
	s.list = append(s.list, l)
}

// lookNow compares the keys that are due.
func (w *worker) lookNow() {
	w.loop.Arm(&w.looks.timer, lookTick)
	if silent := w.loop.Now() - w.wrote; silent < int64(lookTick)*2 {
		w.p.recovery.wrote.Store(time.Now().UnixNano())
	}
	w.fallAsleep()
	s := &w.looks
	s.budget = min(s.budget+float64(w.p.options.Load().CompareRate)*lookTick.Seconds()/float64(len(w.p.workers)), 1)
	if s.budget >= 1 && !s.wanted {
		s.wanted = true
		s.budget--
	}
	if w.pausing || w.frozen {
		return
	}
	if w.p.recovery.elsewhere.Load() {
		w.handLooksOn()
		return
	}
	now := w.loop.Now()
	left := s.list[:0]
	begun := 0
	for i, l := range s.list {
		if begun >= lookBatch {
			left = append(left, s.list[i:]...)
			break
		}
		if l.due > now {
			left = append(left, l)
			continue
		}
		begun++
		delete(s.known, l.key)
		w.loop.Post(&compareKey{w: w, look: l})
	}
	clear(s.list[len(left):])
	s.list = left
}

// handLooksOn leaves it to the proxy that has clients to compare what this one
// has not.
func (w *worker) handLooksOn() {
	s := &w.looks
	left := s.list[:0]
	for _, l := range s.list {
		if l.sample || w.p.recovery.unclear(w.primaryOf(l.key), []byte(l.key)) {
			delete(s.known, l.key)
		} else {
			left = append(left, l) // until there is room
		}
	}
	clear(s.list[len(left):])
	s.list = left
}

// takeSample has the key of a request compared later, when one is wanted.
func (w *worker) takeSample(r *request) {
	w.looks.wanted = false
	if r.backup >= 0 {
		w.lookLater(r.key(), true)
	}
}

// compareKey compares the two copies of a key (engine.Task).
type compareKey struct {
	w    *worker
	look secondLook
}

// Run starts the comparison on the loop that may.
func (k *compareKey) Run() {
	w := k.w
	again := func() {
		k.look.due = w.loop.Now() + lookAfter
		w.lookAt(k.look)
	}
	if w.frozen {
		again() // if the upgrade does not happen
		return
	}
	if w.pausing {
		w.delayed = append(w.delayed, k)
		return
	}
	key := []byte(k.look.key)
	hash := w.p.leases.hash(key)
	primary, backup := w.p.pools.find(key)
	if backup < 0 {
		return
	}
	if first, second := w.p.servers[primary], w.p.servers[backup]; !first.HasMeta() || !second.HasMeta() {
		if !k.look.sample && (first.Version() == "" || second.Version() == "") {
			again() // one of them has not told its version yet
		}
		return
	}
	stripe := stripeOf(hash)
	if !w.p.leases.take(stripe, w.index) {
		k.w = w.holder(stripe)
		k.w.loop.Post(k)
		return
	}
	switch {
	case w.copies[k.look.key] == nil && w.comparable(key, primary, backup):
		c := w.startCopy(key, hash, primary, backup, true, nil, nil)
		c.compare = true
		c.look = k.look
		w.stats.compared++
	case !k.look.sample:
		again()
	}
	w.p.leases.give(stripe)
	w.beginCopies(stripe)
}

// comparable tells whether both servers should hold the same of a key. One
// that is still being filled is looked after anyway.
func (w *worker) comparable(key []byte, primary, backup int32) bool {
	for _, at := range []int32{primary, backup} {
		if _, missed := w.p.journals[at].find(key); missed || !w.conns[at].Sync().Serves() || w.p.recovery.lacks(at) || !w.p.servers[at].HasMeta() {
			return false
		}
	}
	return true
}

// differs is told that the copies of a key differ, with the tokens of both, and
// returns whether they are to be made equal now.
func (w *worker) differs(l secondLook, tokens [2]uint64) bool {
	l.tries++
	again := l
	again.tokens = tokens
	again.due = w.loop.Now() + lookAfter
	alone := w.p.recovery.alone()
	if !alone {
		again.due += int64(w.p.limits.Answer)
	}
	if l.tries < lookTries {
		w.lookAt(again)
	}
	// Perhaps another proxy is writing it at this moment: to mirror that, or to
	// run it on the other server and note so, takes it no longer than a server may
	// take to answer. The watchers read what was noted before the next look.
	if l.tries == 1 && (l.sample || !alone) || !alone && l.tokens != tokens {
		return false
	}
	if l.sample {
		w.stats.divergent++
		w.p.warnings.warn(w.log.Error().Str("key", strconv.Quote(l.key)).Str("primary", w.p.servers[w.primaryOf(l.key)].Name()), "divergent",
			"the two copies of a key differed; mended from the primary (see magent explain)")
	} else {
		w.stats.repairs++
	}
	return true
}

func (w *worker) primaryOf(key string) int32 {
	primary, _ := w.p.pools.find([]byte(key))
	return primary
}
