package proxy

import (
	"slices"
	"sync"
	"sync/atomic"
)

// journal holds the keys whose writes one server has missed, or may have. Each
// key stands in it once. When there are too many it forgets them all: then the
// server has to be flushed.
//
// All loops write to it, and the recovery of its server reads it.
type journal struct {
	most     int                    // keys
	mostSize int64                  // bytes
	twins    []int32                // of the server
	twinOf   func(key []byte) int32 // the one that holds a key

	count atomic.Int64 // keys, one more when it has overflowed; read without the lock

	mu       sync.Mutex
	keys     map[string]entry
	order    []place // the same, oldest first, with some that are gone
	size     int64
	counter  uint64
	again    map[string]bool // keys that may have been missed again since others were told when
	untold   map[string]bool // this proxy's keys that could not be noted when they came
	overflow bool
	lostBy   lossReason       // why it has overflowed
	foreign  bool             // the overflow is another proxy's
	owed     map[int32]uint64 // when it has overflowed: the twins some of whose keys are not known, and when the last of them was entered
	lostAt   int64            // when the last key was missed that is not known, Unix milliseconds
	lostWide int64            // the same of those that count also where the twin has missed this proxy's write; see lostSinceOf
	later    map[string]int64 // keys that were missed after that, and when
	laterLen int64            // bytes of them
}

// entry is one key that was missed.
type entry struct {
	first   uint64 // counted: it came first
	when    uint64 // counted: it came last
	noted   bool   // for other proxies
	foreign bool   // only another proxy has noted it
	at      int64  // when its twin had the last write and this server not, Unix milliseconds; 0: nobody knows which of them had it
	told    int64  // the same as other proxies were told it
}

// place is that of one key. It is its own until the key is taken out; when it
// comes again it gets another.
type place struct {
	key   string
	first uint64
}

// added is what became of a key.
type added uint8

const (
	addedKnown added = iota // it is noted for other proxies already
	addedFresh              // it is to be noted now
	addedLost               // too many keys: none is known any more
)

// mostAgain is of how many keys it is known that others have to be told again.
const mostAgain = 4096

const entrySize = 96 // bytes that a key costs besides its own, at most

// newJournal makes the journal of a server with such twins; twinOf tells which
// of them holds a key.
func newJournal(most int, mostSize int64, twins []int32, twinOf func(key []byte) int32) *journal {
	return &journal{most: most, mostSize: mostSize, twins: twins, twinOf: twinOf, keys: map[string]entry{}, again: map[string]bool{}}
}

// empty tells whether nothing has been missed.
func (j *journal) empty() bool { return j.count.Load() == 0 }

// add enters a key that was missed at a time. The caller notes it for other
// proxies if it is fresh.
func (j *journal) add(key []byte, at int64) added { return j.enter(key, true, at) }

// addNoted enters a key that another proxy has noted.
func (j *journal) addNoted(key []byte, at int64) added { return j.enter(key, false, at) }

func (j *journal) enter(key []byte, note bool, at int64) added {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.overflow || note {
		j.counter++
	}
	if j.overflow {
		j.missLater(key, note, at)
		j.foreign = j.foreign && !note
		if _, owed := j.owed[j.twinOf(key)]; note || !owed {
			j.owed[j.twinOf(key)] = j.counter
		}
		return addedLost
	}
	if e, ok := j.keys[string(key)]; ok {
		known := !note || e.noted && !e.foreign
		e.when, e.noted, e.foreign, e.at = j.counter, note || e.noted, e.foreign && !note, max(e.at, at)
		if !known {
			e.told = at
		} else if note && e.at > e.told && len(j.again) < mostAgain {
			j.again[string(key)] = true
		}
		j.keys[string(key)] = e
		if known {
			return addedKnown
		}
		return addedFresh
	}
	size := int64(len(key)) + entrySize
	if len(j.keys) >= j.most || j.size+size > j.mostSize {
		by := lostByNumber
		if len(j.keys) < j.most {
			by = lostBySize
		}
		j.overflowNow(by, unixMilliNow())
		if !note {
			j.raiseLoss(unixMilliNow(), true) // another proxy's key is among them
		}
		j.foreign = false
		j.owed[j.twinOf(key)] = j.counter
		return addedLost
	}
	name := string(key)
	j.keys[name] = entry{first: j.counter, when: j.counter, noted: true, foreign: !note, at: at, told: at}
	if len(j.order) > 2*len(j.keys)+1024 {
		j.compact()
	}
	j.order = append(j.order, place{name, j.counter})
	j.size += size
	j.count.Add(1)
	if note {
		return addedFresh
	}
	return addedKnown
}

func (j *journal) forget() {
	clear(j.keys)
	clear(j.again)
	clear(j.untold)
	j.order, j.size = nil, 0
}

// find tells whether a key was missed, and when it came. A journal that has
// overflowed holds every key.
func (j *journal) find(key []byte) (when uint64, missed bool) {
	if j.empty() {
		return 0, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.overflow {
		return max(j.counter, 1), true
	}
	e, missed := j.keys[string(key)]
	return e.when, missed
}

// missedAt tells whether a key was missed, and when.
func (j *journal) missedAt(key []byte) (at int64, missed bool) {
	e, missed := j.entryOf(key)
	return e.at, missed
}

// entryOf is the entry of a key that was missed.
func (j *journal) entryOf(key []byte) (e entry, missed bool) {
	if j.empty() {
		return entry{}, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	e, missed = j.keys[string(key)]
	return e, missed
}

// isOwn tells whether this proxy wrote the key when it was missed, and for certain.
func (e entry) isOwn() bool { return !e.foreign && e.at > leftAt }

// drop takes a key out that was missed at a time, or before.
func (j *journal) drop(key []byte, at int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e, ok := j.keys[string(key)]; ok && e.at <= at {
		j.take(string(key))
	}
}

// remove takes a key out that has been made good, unless it has come again
// since. With a rival, which has clients too and writes without the server, what
// only others have noted stays: it may write that again, and notes no key twice.
func (j *journal) remove(key []byte, when uint64, rival bool) {
	if j.empty() {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if e, ok := j.keys[string(key)]; !ok || e.when != when || e.foreign && rival {
		return
	}
	j.take(string(key))
	if len(j.keys) == 0 {
		j.order = nil
	}
}

// compact drops from the order what is gone.
func (j *journal) compact() {
	left := make([]place, 0, len(j.keys)+1)
	for _, p := range j.order {
		if j.stands(p) {
			left = append(left, p)
		}
	}
	j.order = left
}

// stands tells whether a place is still that of its key.
func (j *journal) stands(p place) bool {
	e, ok := j.keys[p.key]
	return ok && e.first == p.first
}

// latest is the count of what was entered.
func (j *journal) latest() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.counter
}

// forgetUntil takes out what another proxy has made good that has begun a new
// generation of the record on one twin: of that twin's keys all that only others
// have noted, and what was entered up to a count.
func (j *journal) forgetUntil(when uint64, at int32) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.overflow {
		j.settle(at, when)
	}
	for key, e := range j.keys {
		if (e.foreign || e.when <= when) && j.twinOf([]byte(key)) == at && !j.untold[key] {
			j.take(key)
		}
	}
}

// dropGood takes out what was entered up to a count, is one twin's and is made
// good. So are keys that are not known any more, and not those that nobody was told of.
func (j *journal) dropGood(when uint64, at int32, good func(key string) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.overflow {
		j.settle(at, when)
	}
	for key, e := range j.keys {
		if e.when <= when && j.twinOf([]byte(key)) == at && good(key) && !j.untold[key] {
			j.take(key)
		}
	}
}

func (j *journal) take(key string) {
	delete(j.keys, key)
	delete(j.untold, key)
	j.size -= int64(len(key)) + entrySize
	j.count.Add(-1)
}

// setUntold notes that nobody was told of a key: the twin that has got it was out at
// this moment. Until then no other proxy can have made it good.
func (j *journal) setUntold(key []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, ok := j.keys[string(key)]; !ok {
		return
	}
	if j.untold == nil {
		j.untold = map[string]bool{}
	}
	j.untold[string(key)] = true
}

// hasUntold tells whether there are such keys.
func (j *journal) hasUntold() bool {
	if j.empty() {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.untold) > 0
}

// setNoted notes that others can read of keys.
func (j *journal) setNoted(keys []missedKey) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, key := range keys {
		delete(j.untold, key.name)
	}
}

// noteAgain has every key that this proxy has missed noted once more when it
// comes again.
func (j *journal) noteAgain() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for key, e := range j.keys {
		if !e.foreign {
			e.noted = false
			j.keys[key] = e
		}
	}
}

// missed returns the keys with their times, of this proxy or of all, and whether
// they are not known any more.
func (j *journal) missed(own bool) (keys []missedKey, lost bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for key, e := range j.keys {
		if !own || !e.foreign {
			keys = append(keys, missedKey{key, e.at})
		}
	}
	return keys, j.overflow && !(own && j.foreign)
}

// outdated returns up to n of this proxy's keys on one twin that have been missed
// again since others were told when.
func (j *journal) outdated(at int32, n int) (keys []missedKey) {
	if j.empty() {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for key := range j.again {
		e, ok := j.keys[key]
		switch {
		case !ok || e.foreign || e.at <= e.told:
			delete(j.again, key)
		case j.twinOf([]byte(key)) == at:
			keys = append(keys, missedKey{key, e.at})
		}
		if len(keys) == n {
			break
		}
	}
	return keys
}

// setTold notes that others were told when keys were missed.
func (j *journal) setTold(keys []missedKey) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, key := range keys {
		if e, ok := j.keys[key.name]; ok {
			e.told = max(e.told, key.at)
			j.keys[key.name] = e
		}
	}
}

// shares tells whether a key stands in both journals.
func (j *journal) shares(other *journal) bool {
	if j.empty() || other.empty() {
		return false
	}
	keys, _ := other.missed(false)
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, key := range keys {
		if _, both := j.keys[key.name]; both {
			return true
		}
	}
	return false
}

// forgetForeign takes out what only others have noted.
func (j *journal) forgetForeign() {
	if j.empty() {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.overflow && j.foreign {
		j.known()
	}
	for key, e := range j.keys {
		if e.foreign {
			j.take(key)
		}
	}
}

// onlyForeign tells whether all that stands here was noted by others.
func (j *journal) onlyForeign() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.overflow {
		return false
	}
	for _, e := range j.keys {
		if !e.foreign {
			return false
		}
	}
	return true
}

// mostPassed is how many keys are passed at once that are not wanted now.
const mostPassed = 1 << 16

// oldest returns up to n keys in the order in which they came first, without those of
// some twins. These go behind the others: nobody passes them again and again. When there
// are many, it may return none although there are others.
func (j *journal) oldest(n int, but ...int32) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []string
	var wanted, passed []place
	seen := 0
	for _, p := range j.order {
		if len(found) == n || len(passed) == mostPassed {
			break
		}
		seen++
		switch {
		case !j.stands(p):
		case len(but) > 0 && slices.Contains(but, j.twinOf([]byte(p.key))):
			passed = append(passed, p)
		default:
			found, wanted = append(found, p.key), append(wanted, p)
		}
	}
	j.order = j.order[seen-len(wanted):]
	copy(j.order, wanted)
	j.order = append(j.order, passed...)
	return found
}

// all returns every key, and whether the journal has overflowed.
func (j *journal) all() (keys []string, overflow bool) {
	keys = j.oldest(1 << 62)
	j.mu.Lock()
	defer j.mu.Unlock()
	return keys, j.overflow
}

// clearUntil forgets what was missed up to a time of each twin, and of those that
// are not named everything: the server has been emptied.
func (j *journal) clearUntil(times map[int32]lossTimes) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.overflow || len(times) == 0 {
		j.forget()
		j.known()
	}
	for key, e := range j.keys {
		if since, named := times[j.twinOf([]byte(key))]; !named || e.at <= since.of(e.isOwn()) {
			j.take(key)
		}
	}
}

// length is the number of keys.
func (j *journal) length() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.keys)
}
