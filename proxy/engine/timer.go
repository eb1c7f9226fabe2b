package engine

import (
	"container/heap"
	"time"
)

// Timer calls a function on the loop when it is due. The zero value is not
// armed. A timer belongs to one loop.
type Timer struct {
	Func  func() // set once, before the first Arm
	when  int64
	index int // place in the heap plus one; 0 when not armed
}

// Armed tells whether the timer is waiting.
func (t *Timer) Armed() bool { return t.index > 0 }

// Arm sets t to go off once, d from now, in place of any earlier setting.
func (l *Loop) Arm(t *Timer, d time.Duration) {
	t.when = l.now + int64(d)
	if t.index > 0 {
		heap.Fix(&l.timers, t.index-1)
		return
	}
	heap.Push(&l.timers, t)
}

// Disarm makes t not go off.
func (l *Loop) Disarm(t *Timer) {
	if t.index > 0 {
		heap.Remove(&l.timers, t.index-1)
	}
}

func (l *Loop) runTimers() {
	for len(l.timers) > 0 && l.timers[0].when <= l.now {
		t := heap.Pop(&l.timers).(*Timer)
		t.Func()
	}
}

// shorten limits a wait to the next timer.
func (l *Loop) shorten(wait time.Duration) time.Duration {
	if len(l.timers) == 0 {
		return wait
	}
	left := max(time.Duration(l.timers[0].when-l.now), 0)
	if wait < 0 || left < wait {
		return left
	}
	return wait
}

// timerHeap orders timers by when they are due (container/heap).
type timerHeap []*Timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].when < h[j].when }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i+1, j+1
}

// Push is called by container/heap only.
func (h *timerHeap) Push(x any) {
	t := x.(*Timer)
	*h = append(*h, t)
	t.index = len(*h)
}

// Pop is called by container/heap only.
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = 0
	return t
}
