package backend

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// changes is a server whose changes of state are noted.
func changes() (s *Server, noted func() []string) {
	var mu sync.Mutex
	var list []string
	s = NewServer(Address{"10.0.0.1", 11211, 1}, 0, 1, func(_ *Server, c Change) {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, fmt.Sprintf("%v to %v: %s", c.From, c.To, c.Why))
	})
	return s, func() []string {
		mu.Lock()
		defer mu.Unlock()
		l := list
		list = nil
		return l
	}
}

// promise: C5, C6
func TestServerStates(t *testing.T) {
	s, noted := changes()
	expect := func(state State, want ...string) {
		t.Helper()
		if got, _ := s.Load(); got != state || s.Serves() != (state == Up) {
			t.Errorf("state %v, up %v; want %v", got, s.Serves(), state)
		}
		if got := noted(); !slices.Equal(got, want) {
			t.Errorf("changes %q, want %q", got, want)
		}
	}
	_, first := s.Load()
	if first == 0 {
		t.Error("epoch 0 cannot be told from never")
	}
	expect(Down)
	s.TakeOut(false, "again") // nothing changes
	expect(Down)
	word := s.word.Load()
	if !s.bringUp(word, Up, "hello") {
		t.Fatal("not brought up")
	}
	expect(Up, "down to up: hello")
	if s.bringUp(word, Up, "again") || s.Miss() {
		t.Error("a server that is up was brought up again, or can be gone without")
	}
	expect(Up)

	s.TakeOut(false, "refused")
	expect(Down, "up to down: refused")
	if !s.Miss() {
		t.Error("a server that is down cannot be gone without")
	}
	expect(Dirty, "down to dirty: writes are made without it")
	if !s.Miss() {
		t.Error("a server that is dirty cannot be gone without")
	}
	s.TakeOut(true, "again")
	s.TakeOut(false, "again")
	expect(Dirty)
	s.bringUp(s.word.Load(), Up, "flushed")
	expect(Up, "dirty to up: flushed")

	s.TakeOut(true, "no answer")
	expect(Dirty, "up to dirty: no answer")
	s.bringUp(s.word.Load(), Up, "flushed")
	s.TakeOut(false, "closed")
	s.TakeOut(true, "a write has no answer") // down becomes dirty
	expect(Dirty, "dirty to up: flushed", "up to down: closed", "down to dirty: writes are made without it")
	if n := s.Outages.Load(); n != 3 {
		t.Errorf("%d outages, want 3", n)
	}
	for state, name := range map[State]string{Up: "up", Down: "down", Dirty: "dirty"} {
		if state.String() != name {
			t.Errorf("state %d is called %q, want %q", state, state, name)
		}
	}
}

// A server that missed a write after its prober looked at it does not come up
// on the strength of that look.
//
// promise: C6
func TestBringUpAfterAMiss(t *testing.T) {
	for name, between := range map[string]func(s *Server){
		"missed":                  func(s *Server) { s.Miss() },
		"taken out again":         func(s *Server) { s.bringUp(s.word.Load(), Up, ""); s.TakeOut(false, "") },
		"up, and down for a miss": func(s *Server) { s.bringUp(s.word.Load(), Up, ""); s.TakeOut(true, "") },
	} {
		s, _ := changes()
		word := s.word.Load()
		between(s)
		if s.bringUp(word, Up, "") {
			t.Errorf("%s in between, and it was brought up all the same", name)
		}
	}
}

// Every change of what a loop may do with a server begins a new epoch, so
// that a loop which was not there when it happened sees it; that a server
// which is out has missed a write does not.
//
// promise: C6
func TestEpochs(t *testing.T) {
	s, _ := changes()
	_, e1 := s.Load()
	s.Miss()
	if _, e := s.Load(); e != e1 {
		t.Error("a miss began an epoch")
	}
	s.bringUp(s.word.Load(), Up, "")
	_, e2 := s.Load()
	s.TakeOut(false, "")
	_, e3 := s.Load()
	if e2 <= e1 || e3 <= e2 {
		t.Errorf("epochs %d, %d, %d do not grow", e1, e2, e3)
	}
}

func TestSeenByAll(t *testing.T) {
	s := NewServer(Address{"10.0.0.1", 11211, 1}, 0, 3, func(*Server, Change) {})
	_, epoch := s.Load()
	for i := range s.seen {
		if s.seenByAll(epoch) {
			t.Errorf("seen by all when %d of 3 loops have seen it", i)
		}
		s.seen[i].Store(epoch)
	}
	if !s.seenByAll(epoch) || s.seenByAll(epoch+1) {
		t.Errorf("seen by all: %v, the next one: %v", s.seenByAll(epoch), s.seenByAll(epoch+1))
	}
}

// A kick is not lost and does not block, however many come.
func TestCheckDoesNotBlock(t *testing.T) {
	s, _ := changes()
	for range 100 {
		s.Check()
	}
	within(t, s.kick, "the kick")
	if len(s.kick) != 0 {
		t.Error("a hundred kicks are more than one")
	}
}

// Many loops and a prober change one server at the same time. Within one
// outage: once somebody was told that it may be gone without, it does not come
// up as one that has missed nothing.
//
// promise: C6
func TestStatesUnderContention(t *testing.T) {
	var ups, outs, dirties atomic.Int64
	s := NewServer(Address{"10.0.0.1", 11211, 1}, 0, 1, func(_ *Server, c Change) {
		switch {
		case c.To == Up:
			ups.Add(1)
		case c.From == Up:
			outs.Add(1)
		case c.From == Down && c.To == Dirty:
			dirties.Add(1)
		default:
			t.Errorf("from %v to %v", c.From, c.To)
		}
	})
	const outages = 3000
	missed := make([][]uint64, 4)          // the epochs in which each loop went without the server
	clean, flushed := map[uint64]bool{}, 0 // the outages that ended without a flush, and with one
	var wg sync.WaitGroup
	for i := range missed {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for ; s.Outages.Load() < outages; runtime.Gosched() {
				_, before := s.Load()
				switch random.IntN(10) {
				case 0:
					s.TakeOut(true, "")
				case 1:
					if !s.Miss() {
						continue
					}
				default:
					s.TakeOut(false, "")
					continue
				}
				state, after := s.Load()
				if before != after {
					continue // nobody knows in which of the epochs it was
				}
				if state != Dirty {
					t.Errorf("a write was made without the server, which is %v", state)
					return
				}
				missed[i] = append(missed[i], after)
			}
		})
	}
	stop := make(chan struct{})
	var prober sync.WaitGroup
	prober.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			word := s.word.Load()
			if State(word) == Up || !s.bringUp(word, Up, "") {
				continue
			}
			if State(word) == Down {
				clean[word>>8] = true
			} else {
				flushed++
			}
		}
	})
	wg.Wait()
	close(stop)
	prober.Wait()
	for i := range missed {
		for _, epoch := range missed[i] {
			if clean[epoch] {
				t.Fatalf("a write was missed in epoch %d, which ended without a flush", epoch)
			}
		}
	}
	if d := ups.Load() - outs.Load(); d != 0 && d != 1 || uint64(outs.Load()) != s.Outages.Load() || int(ups.Load()) != len(clean)+flushed {
		t.Errorf("%d times up, %d times out, %d outages counted, %d times brought up", ups.Load(), outs.Load(), s.Outages.Load(), len(clean)+flushed)
	}
	t.Logf("%d outages: %d without and %d with a flush; %d times missed", outs.Load(), len(clean), flushed,
		len(missed[0])+len(missed[1])+len(missed[2])+len(missed[3]))
}
