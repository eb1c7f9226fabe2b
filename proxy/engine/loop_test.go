package engine

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// eventLog keeps what a socket's handler was told.
type eventLog chan Events

func (c eventLog) Ready(ev Events) { c <- ev }

// await returns the first event that satisfies ok.
func (c eventLog) await(t *testing.T, what string, ok func(Events) bool) Events {
	t.Helper()
	for {
		if ev := within(t, c, what); ok(ev) {
			return ev
		}
	}
}

func TestEvents(t *testing.T) {
	l, do := runLoop(t, untilWoken)
	here, there := socketPair(t)
	seen := make(eventLog, 64)
	do(func() {
		if err := l.Register(here, seen); err != nil {
			t.Error(err)
		}
	})
	// A socket that is new and has room says so.
	if ev := within(t, seen, "the first event"); !ev.Writable() || ev.Readable() || ev.Ended() {
		t.Errorf("a new socket: %#x, want writable and nothing else", uint32(ev))
	}
	write(t, there, "x")
	if ev := seen.await(t, "a readable socket", Events.Readable); ev.Ended() {
		t.Errorf("after a byte: %#x, want no end", uint32(ev))
	}
	// Edge triggered: the byte was not read, so there is no new event.
	do(func() {})
	do(func() {})
	if len(seen) > 0 {
		t.Errorf("%#x again, although nothing has changed", uint32(<-seen))
	}
	// Half a close is seen together with what came before it.
	if err := unix.Shutdown(there, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if ev := seen.await(t, "the end", Events.Ended); !ev.Readable() {
		t.Errorf("the end: %#x, want readable too", uint32(ev))
	}
	do(func() { l.Unregister(here) })
	write(t, here, "y")
	if err := unix.Shutdown(there, unix.SHUT_RD); err != nil {
		t.Fatal(err)
	}
	do(func() {})
	if len(seen) > 0 {
		t.Errorf("%#x after Unregister", uint32(<-seen))
	}
}

func TestEventsOfAFullSocket(t *testing.T) {
	l, do := runLoop(t, untilWoken)
	here, there := socketPair(t)
	filled := 0
	for block := make([]byte, 4096); ; {
		n, err := unix.Write(here, block)
		if err != nil {
			break
		}
		filled += n
	}
	seen := make(eventLog, 64)
	do(func() {
		if err := l.Register(here, seen); err != nil {
			t.Error(err)
		}
	})
	do(func() {})
	if len(seen) > 0 {
		t.Fatalf("%#x for a socket that is full and has nothing to read", uint32(<-seen))
	}
	for block := make([]byte, 64<<10); filled > 0; {
		n, err := unix.Read(there, block)
		if err != nil {
			t.Fatal(err)
		}
		filled -= n
	}
	seen.await(t, "room", Events.Writable)
	if err := unix.Shutdown(there, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	if ev := seen.await(t, "the end", Events.Ended); !ev.Writable() || !ev.Readable() {
		t.Errorf("a closed socket: %#x, want it readable and writable, so that either side of a session sees it", uint32(ev))
	}
}

func TestRegisterWhatCannotBe(t *testing.T) {
	l := newLoop(t)
	here, _ := socketPair(t)
	if err := l.Register(here, make(eventLog)); err != nil {
		t.Fatal(err)
	}
	if err := l.Register(here, make(eventLog)); err == nil {
		t.Error("a descriptor was registered twice")
	}
	if err := l.Register(9999, make(eventLog)); err == nil {
		t.Error("a descriptor that is not open was registered")
	}
	// What was unregistered may be registered again, with another handler.
	l.Unregister(here)
	if err := l.Register(here, make(eventLog)); err != nil {
		t.Errorf("registered again: %v", err)
	}
}

// victim is a handler that closes the other's socket, and opens a new one
// with the same number, in the turn in which both are ready.
type victim struct {
	t         *testing.T
	l         *Loop
	fd        int
	other     *victim
	gone      bool
	successor *eventLog
	fresh     int
}

func (v *victim) Ready(ev Events) {
	if v.gone {
		v.t.Error("a handler was called after Unregister")
		return
	}
	if !ev.Readable() || v.other.gone {
		return
	}
	o := v.other
	o.gone = true
	v.l.Unregister(o.fd)
	if err := unix.Dup3(v.fresh, o.fd, unix.O_CLOEXEC); err != nil { // closes the old one
		v.t.Error(err)
	}
	if err := v.l.Register(o.fd, *v.successor); err != nil {
		v.t.Error(err)
	}
}

// promise: R4
func TestDescriptorReusedWithinOneTurn(t *testing.T) {
	for range 20 {
		l, err := New()
		if err != nil {
			t.Fatal(err)
		}
		a, fromA := socketPair(t)
		b, fromB := socketPair(t)
		fresh, freshThere := socketPair(t)
		successor := make(eventLog, 64)
		first := &victim{t: t, l: l, fd: a, successor: &successor, fresh: fresh}
		second := &victim{t: t, l: l, fd: b, successor: &successor, fresh: fresh, other: first}
		first.other = second
		for _, v := range []*victim{first, second} {
			if err := l.Register(v.fd, v); err != nil {
				t.Fatal(err)
			}
		}
		write(t, fromA, "for a")
		write(t, fromB, "for b") // both are ready before the first turn
		do := startLoop(t, l, untilWoken)
		do(func() {})
		do(func() {})
		if !first.gone && !second.gone {
			t.Fatal("neither socket was reported")
		}
		for len(successor) > 0 {
			if ev := <-successor; ev.Readable() {
				t.Fatalf("the new socket was told %#x, an event of the old one with its number", uint32(ev))
			}
		}
		write(t, freshThere, "for the new one")
		successor.await(t, "the new socket's own event", Events.Readable)
	}
}

// promise: C2
func TestPostKeepsTheOrderOfEachGoroutine(t *testing.T) {
	const posters, each = 16, 2000
	l, do := runLoop(t, untilWoken)
	next := make([]int, posters)
	ran := 0
	var wg sync.WaitGroup
	for p := range posters {
		wg.Go(func() {
			for i := range each {
				l.Post(TaskFunc(func() {
					if next[p] != i {
						t.Errorf("goroutine %d: task %d ran, want %d", p, i, next[p])
					}
					next[p] = i + 1
					ran++
				}))
			}
		})
	}
	wg.Wait()
	do(func() {
		if ran != posters*each {
			t.Errorf("%d of %d tasks ran", ran, posters*each)
		}
	})
}

// One goroutine's tasks run in order although other tasks post more.
func TestPostFromATask(t *testing.T) {
	l, do := runLoop(t, untilWoken)
	var order []int
	all := make(chan struct{})
	do(func() {
		for i := range 3 {
			l.Post(TaskFunc(func() {
				order = append(order, i)
				l.Post(TaskFunc(func() {
					if order = append(order, 10+i); len(order) == 6 {
						close(all)
					}
				}))
			}))
		}
	})
	within(t, all, "tasks posted by tasks")
	do(func() {
		if want := []int{0, 1, 2, 10, 11, 12}; !slices.Equal(order, want) {
			t.Errorf("tasks ran in the order %v, want %v", order, want)
		}
	})
}

// A task posted by a task runs in a later turn: sockets are not starved by
// tasks that go on for ever.
func TestPostedTasksLeaveRoomForSockets(t *testing.T) {
	l, do := runLoop(t, untilWoken)
	here, there := socketPair(t)
	seen := make(eventLog, 64)
	stop := false
	var again func()
	again = func() {
		if !stop {
			l.Post(TaskFunc(again))
		}
	}
	do(func() {
		if err := l.Register(here, seen); err != nil {
			t.Error(err)
		}
		again()
	})
	write(t, there, "x")
	seen.await(t, "an event between tasks", Events.Readable)
	do(func() { stop = true })
}

// promise: R2
func TestBurstOfTasksIsNotKept(t *testing.T) {
	l := newLoop(t)
	ran := 0
	for range 3 {
		for range 10_000 {
			l.Post(TaskFunc(func() { ran++ }))
		}
		l.runInbox()
		l.runInbox()
	}
	if ran != 30_000 {
		t.Errorf("%d of 30000 tasks ran", ran)
	}
	if n := max(cap(l.inbox), cap(l.spare)); n > 4096 {
		t.Errorf("room for %d tasks is kept after a burst", n)
	}
	for range 10 {
		l.Post(TaskFunc(func() {}))
	}
	l.runInbox()
	if cap(l.spare) < 10 {
		t.Fatalf("the list of 10 tasks is not kept for the next ones: room for %d", cap(l.spare))
	}
	for _, task := range l.spare[:cap(l.spare)] {
		if task != nil {
			t.Fatal("a task that has run is kept")
		}
	}
}

type countingTask struct{ n int }

func (c *countingTask) Run() { c.n++ }

func TestPostAllocatesNothing(t *testing.T) {
	l := newLoop(t)
	task := &countingTask{}
	for range 2 { // both of the loop's lists have room then
		l.Post(task)
		l.Post(task)
		l.runInbox()
		l.drainWake()
	}
	if n := testing.AllocsPerRun(100, func() {
		l.Post(task)
		l.Post(task)
		l.runInbox()
		l.drainWake()
	}); n != 0 {
		t.Errorf("%v allocations to post and run two tasks", n)
	}
}

func TestStop(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	turns, afterStop := 0, 0
	stopped := false
	var order []string
	l.Post(TaskFunc(func() {
		order = append(order, "stop")
		l.Stop()
		stopped = true
	}))
	l.Post(TaskFunc(func() { order = append(order, "same turn") }))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(ownerFunc(func() time.Duration {
			if turns++; stopped {
				afterStop++
			}
			return -1
		}))
	}()
	within(t, ended, "the end of Run")
	if want := []string{"stop", "same turn"}; !slices.Equal(order, want) {
		t.Errorf("tasks %v, want %v", order, want)
	}
	if afterStop != 1 {
		t.Errorf("EndTurn was called %d times from Stop on, want once: the turn is ended and flushed", afterStop)
	}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, l.wake, nil); err != unix.EBADF {
		t.Errorf("the loop's descriptors are open after Run: %v", err)
	}
}

// A loop that has stopped has closed its descriptors, and others may have got
// their numbers: a task that comes late must not write to those.
//
// promise: R4
func TestPostAfterStop(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	l.Post(TaskFunc(l.Stop))
	l.Run(untilWoken)
	// Whoever is next to open a socket gets the number of the loop's eventfd.
	here, there := socketPair(t)
	if l.wake != here && l.wake != there {
		if err := unix.Dup3(here, l.wake, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		here = l.wake
		t.Cleanup(func() { unix.Close(here) })
	}
	l.Post(TaskFunc(func() { t.Error("a task ran after Stop") }))
	for _, fd := range []int{here, there} {
		buf := make([]byte, 64)
		if n, err := unix.Read(fd, buf); err == nil {
			t.Errorf("Post wrote %q to a socket that got the number of the loop's descriptor", buf[:n])
		}
	}
}

// What EndTurn returns is how long the loop sleeps.
func TestEndTurnSetsTheWait(t *testing.T) {
	for _, wait := range []time.Duration{0, 50 * time.Microsecond, 3 * time.Millisecond} {
		t.Run(fmt.Sprint(wait), func(t *testing.T) {
			l, err := New()
			if err != nil {
				t.Fatal(err)
			}
			turns := 0
			ended := make(chan time.Duration, 1)
			go func() {
				begin := time.Now()
				l.Run(ownerFunc(func() time.Duration {
					if turns++; turns == 5 {
						l.Stop()
					}
					return wait
				}))
				ended <- time.Since(begin)
			}()
			if took := within(t, ended, "five turns"); took < 4*wait {
				t.Errorf("four waits of %v took %v", wait, took)
			}
		})
	}
}

// Kernels before 5.11 know whole milliseconds only: the loop then waits no
// shorter than it was told.
func TestWaitWithoutNanoseconds(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	l.noNanos = true
	if l.CanHold() {
		t.Error("CanHold without epoll_pwait2")
	}
	turns := 0
	ended := make(chan time.Duration, 1)
	go func() {
		begin := time.Now()
		l.Run(ownerFunc(func() time.Duration {
			if turns++; turns == 4 {
				l.Stop()
			}
			return 1500 * time.Microsecond
		}))
		ended <- time.Since(begin)
	}()
	if took := within(t, ended, "four turns"); took < 6*time.Millisecond {
		t.Errorf("three waits of at least 2 ms took %v", took)
	}
}

// A loop with nothing to do sleeps.
//
// promise: C10
func TestIdleLoopTakesNoTurns(t *testing.T) {
	turns := 0
	l, do := runLoop(t, ownerFunc(func() time.Duration {
		turns++
		return -1
	}))
	here, there := socketPair(t)
	seen := make(eventLog, 64)
	do(func() {
		if err := l.Register(here, seen); err != nil {
			t.Error(err)
		}
	})
	write(t, there, "x") // never read
	seen.await(t, "an event", Events.Readable)
	before := 0
	did := make(chan int, 1)
	do(func() {
		before = turns
		l.Arm(&Timer{Func: func() { did <- turns - before }}, 20*time.Millisecond)
	})
	if n := within(t, did, "the timer"); n > 5 {
		t.Errorf("%d turns in 20 ms with nothing to do", n)
	}
}

func TestNowNeverJumpsBack(t *testing.T) {
	l, do := runLoop(t, untilWoken)
	last := int64(0)
	for range 100 {
		do(func() {
			if now := l.Now(); now <= 0 || now < last {
				t.Errorf("now %d after %d", now, last)
			}
			last = l.Now()
		})
	}
}

// All of many sockets are served, more than one call of epoll reports.
func TestManySockets(t *testing.T) {
	const count = eventsPerTurn + 100
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	readable := map[int]bool{}
	all := make(chan struct{})
	for i := range count {
		here, there := socketPair(t)
		if err := l.Register(here, handlerFunc(func(ev Events) {
			mu.Lock()
			defer mu.Unlock()
			if ev.Readable() && !readable[i] {
				if readable[i] = true; len(readable) == count {
					close(all)
				}
			}
		})); err != nil {
			t.Fatal(err)
		}
		write(t, there, "x")
	}
	startLoop(t, l, untilWoken)
	within(t, all, "an event of every socket")
}
