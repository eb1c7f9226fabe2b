package proxy

import (
	"fmt"
	"maps"
	"time"
)

// When a journal has overflowed, or the server has missed a flush_all, it is not known
// any more which keys the server has missed: only when it missed the last of them, and
// what it has missed after that.

// lossReason says for people why it is not known any more which keys a server has
// missed.
type lossReason string

const (
	lostByNumber lossReason = "more than --journal-keys"
	lostBySize   lossReason = "more than --journal-memory"
	lostByFlush  lossReason = "flush_all"
	lostByOther  lossReason = "another magent has not named them all"
	lostByBefore lossReason = "the program before did not name them all"
)

// wide tells whether a key may have been missed then whatever the twin has missed: not
// where this proxy alone has written too many keys. It has written the key that the twin
// has missed on the server, and none of it on the twin since, or that would be known.
func (by lossReason) wide() bool { return by != lostByNumber && by != lostBySize }

// lossTimes are journal.lostAt and journal.lostWide.
type lossTimes struct{ at, wide int64 }

// of is the one that counts for a key that this proxy wrote without the twin, or another.
func (l lossTimes) of(own bool) int64 {
	if own {
		return l.wide
	}
	return l.at
}

// lose notes that everything may have been missed.
func (j *journal) lose(by lossReason) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counter++
	j.overflowNow(by, unixMilliNow())
	j.forgetLater()
	j.foreign = false
	for _, at := range j.twins {
		j.owed[at] = j.counter
	}
}

// loseNoted notes that another proxy has missed keys of one twin that are not
// known, the last at a time, in Unix milliseconds.
func (j *journal) loseNoted(at int32, last int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	foreign := !j.overflow || j.foreign
	for _, e := range j.keys {
		foreign = foreign && e.foreign // what this proxy has missed is not forgotten with what others have
	}
	j.overflowNow(lostByOther, last)
	j.foreign = foreign
	j.owed[at] = max(j.owed[at], j.counter)
}

// overflowNow forgets the keys, and keeps whose twins they were. last is when a key
// was missed that does not stand here.
func (j *journal) overflowNow(by lossReason, last int64) {
	if !j.overflow {
		j.overflow, j.lostBy, j.owed = true, by, map[int32]uint64{}
	}
	j.raiseLoss(last, by.wide())
	for key, e := range j.keys {
		j.raiseLoss(e.at, e.foreign)
		at := j.twinOf([]byte(key))
		j.owed[at] = max(j.owed[at], e.when)
	}
	j.forget()
	j.count.Store(1)
}

func (j *journal) raiseLoss(at int64, wide bool) {
	j.lostAt = max(j.lostAt, at)
	if wide {
		j.lostWide = max(j.lostWide, at)
	}
}

// missLater notes when a key was missed that comes after the overflow. At time 0 the
// server holds what is right either way. When there are too many, all that was missed
// so far is not known any more.
func (j *journal) missLater(key []byte, own bool, at int64) {
	if at == 0 {
		return
	}
	now := unixMilliNow()
	if own && at > leftAt {
		at = max(at, now) // a loop's clock is a little late
	}
	before, known := j.later[string(key)]
	if !known {
		j.laterLen += int64(len(key)) + entrySize
	}
	if !known && len(j.later) >= j.most || j.laterLen > j.mostSize {
		j.forgetLater()
		j.raiseLoss(now, !own)
		return
	}
	if j.later == nil {
		j.later = map[string]int64{}
	}
	j.later[string(key)] = max(at, before)
}

func (j *journal) forgetLater() { j.later, j.laterLen = nil, 0 }

// settle takes it that what was entered up to a count of the keys of one twin is
// made good.
func (j *journal) settle(at int32, when uint64) {
	if owed, ok := j.owed[at]; ok && owed <= when {
		delete(j.owed, at)
	}
	if len(j.owed) == 0 {
		j.known()
	}
}

// known ends an overflow.
func (j *journal) known() {
	j.overflow, j.lostBy, j.owed, j.lostAt, j.lostWide = false, "", nil, 0, 0
	j.forgetLater()
	j.count.Store(0)
}

// lostOf tells whether keys of one twin are not known, and when the last of them
// was entered.
func (j *journal) lostOf(at int32) (when uint64, lost bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	when, lost = j.owed[at]
	return when, lost
}

// lostSince tells whether the keys are not known, and when the last of them was
// missed, in Unix milliseconds.
func (j *journal) lostSince() (at int64, lost bool) {
	times, lost := j.lossTimes()
	return times.at, lost
}

// lostSinceOf is lostSince for one key. own tells whether the twin has missed a write of
// it by this proxy: then only a later loss counts that this proxy does not know of key by
// key.
func (j *journal) lostSinceOf(key []byte, own bool) (at int64, lost bool) {
	times, lost := j.lossTimes()
	if !lost {
		return 0, false
	}
	return max(times.of(own), j.laterOf(key)), true
}

// lossTimes are both times of the loss.
func (j *journal) lossTimes() (times lossTimes, lost bool) {
	if j.empty() {
		return lossTimes{}, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return lossTimes{j.lostAt, j.lostWide}, j.overflow
}

// laterOf is when a key was missed after the overflow, 0 if it was not.
func (j *journal) laterOf(key []byte) int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.later[string(key)]
}

// lastMissed is when the last key was missed, whether it is known or not.
func (j *journal) lastMissed() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	last := j.lostAt
	for _, at := range j.later {
		last = max(last, at)
	}
	for _, e := range j.keys {
		last = max(last, e.at)
	}
	return last
}

// loseAt is lose for what was missed up to a time, and some keys after that.
func (j *journal) loseAt(by lossReason, times lossTimes, later map[string]int64) {
	j.lose(by)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lostAt, j.lostWide = times.at, times.wide
	for key, at := range later {
		j.missLater([]byte(key), false, at)
	}
}

// allLater are the keys that were missed after the overflow, and when.
func (j *journal) allLater() map[string]int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.later)
}

// lossReason is why the keys are not known, "" when they are.
func (j *journal) lossReason() lossReason {
	if j.empty() {
		return ""
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lostBy
}

// missedMore says of a server why only a flush helps.
func missedMore(j *journal) string {
	return fmt.Sprintf("it has missed more writes than are known (%s)", j.lossReason())
}

// tellLost logs once of each loss what becomes of the server, and returns whether it
// is told now.
func (rc *recovery) tellLost(server int32, told bool) bool {
	lost := rc.p.journals[server].lost()
	if lost && !told {
		rc.p.log.Warn().Str("server", rc.p.servers[server].Name()).Str("why", missedMore(rc.p.journals[server])).
			Msg("this server will be flushed, and filled from its twins")
	}
	return lost
}

// lost tells whether the keys are not known, so that only a flush helps.
func (j *journal) lost() bool {
	_, lost := j.lostSince()
	return lost
}

// holdsLater tells whether a key of one twin was missed after a time, which since
// tells for each key, and which is not before the first.
func (j *journal) holdsLater(at int32, first lossTimes, since func(key []byte, own bool) int64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for name, e := range j.keys {
		own := e.isOwn()
		if e.at <= first.of(own) {
			continue
		}
		if key := []byte(name); j.twinOf(key) == at && e.at > since(key, own) {
			return true
		}
	}
	return false
}

// programStart is where the time begins that keys are noted with: it goes on evenly
// when the clock is set.
var programStart = time.Now()

// unixNow is the time, in Unix nanoseconds.
func unixNow() int64 { return programStart.UnixNano() + int64(time.Since(programStart)) }

func unixMilliNow() int64 { return unixNow() / 1e6 }
