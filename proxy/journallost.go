package proxy

import "time"

// When a journal has overflowed, or the server has missed a flush_all, it is not known
// any more which keys the server has missed: only when it missed the last of them.

// lose notes that everything may have been missed.
func (j *journal) lose() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counter++
	j.overflowNow(unixMilliNow())
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
	j.overflowNow(last)
	j.foreign = foreign
	j.owed[at] = max(j.owed[at], j.counter)
}

// overflowNow forgets the keys, and keeps whose twins they were. last is when a key
// was missed that does not stand here.
func (j *journal) overflowNow(last int64) {
	if !j.overflow {
		j.overflow, j.owed = true, map[int32]uint64{}
	}
	j.lostAt = max(j.lostAt, last)
	for key, e := range j.keys {
		j.lostAt = max(j.lostAt, e.at)
		at := j.twinOf([]byte(key))
		j.owed[at] = max(j.owed[at], e.when)
	}
	j.forget()
	j.count.Store(1)
}

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
	j.overflow, j.owed, j.lostAt = false, nil, 0
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
	if j.empty() {
		return 0, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lostAt, j.overflow
}

// loseAt is lose for what was missed up to a time.
func (j *journal) loseAt(at int64) {
	j.lose()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lostAt = at
}

// lost tells whether the keys are not known, so that only a flush helps.
func (j *journal) lost() bool {
	if j.empty() {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.overflow
}

// holdsLater tells whether a key of one twin was missed after a time.
func (j *journal) holdsLater(at int32, since int64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for key, e := range j.keys {
		if e.at > since && j.twinOf([]byte(key)) == at {
			return true
		}
	}
	return false
}

func unixMilliNow() int64 { return time.Now().UnixMilli() }
