package conntrack

import "sync/atomic"

// Limit counts connections and bounds how many there are at once. Its methods
// may be called from any goroutine.
type Limit struct {
	most     atomic.Int64
	current  atomic.Int64
	total    atomic.Uint64
	rejected atomic.Uint64
}

// NewLimit returns a limit of most connections at once.
func NewLimit(most int) *Limit {
	l := &Limit{}
	l.most.Store(int64(most))
	return l
}

// Set changes the limit. Connections above a lower one stay.
func (l *Limit) Set(most int) { l.most.Store(int64(most)) }

// Most is the limit.
func (l *Limit) Most() int64 { return l.most.Load() }

// Enter counts a connection and returns its number, which no other one ever
// has, or returns false when there are too many. Leave must follow the former.
func (l *Limit) Enter() (id uint64, ok bool) {
	if l.current.Add(1) > l.most.Load() {
		l.current.Add(-1)
		l.rejected.Add(1)
		return 0, false
	}
	return l.total.Add(1), true
}

// Leave counts a connection out.
func (l *Limit) Leave() { l.current.Add(-1) }

// Current is the number of connections.
func (l *Limit) Current() int64 { return l.current.Load() }

// Total is the number of connections that ever entered.
func (l *Limit) Total() uint64 { return l.total.Load() }

// Rejected is the number of connections that were turned away.
func (l *Limit) Rejected() uint64 { return l.rejected.Load() }

// Reset sets the counts of the past to zero (stats reset). Numbers of
// connections go on.
func (l *Limit) Reset() { l.rejected.Store(0) }

// Adopt counts a connection that entered in the program before an upgrade,
// with the number that it had there.
func (l *Limit) Adopt(id uint64) {
	l.current.Add(1)
	for {
		total := l.total.Load()
		if total >= id || l.total.CompareAndSwap(total, id) {
			return
		}
	}
}
