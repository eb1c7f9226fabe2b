package conntrack

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// promise: L1, R2
func TestLimit(t *testing.T) {
	l := NewLimit(2)
	expect := func(current int64, total, rejected uint64) {
		t.Helper()
		if l.Current() != current || l.Total() != total || l.Rejected() != rejected {
			t.Errorf("%d now, %d ever, %d rejected; want %d, %d, %d", l.Current(), l.Total(), l.Rejected(), current, total, rejected)
		}
	}
	enter := func(want uint64, ok bool) {
		t.Helper()
		if id, got := l.Enter(); got != ok || id != want {
			t.Errorf("entered with number %d, %v; want %d, %v", id, got, want, ok)
		}
	}
	expect(0, 0, 0)
	enter(1, true)
	enter(2, true)
	enter(0, false)
	expect(2, 2, 1)
	l.Leave()
	enter(3, true)
	enter(0, false)
	expect(2, 3, 2)

	l.Set(3) // a reload
	if l.Most() != 3 {
		t.Errorf("at most %d, want 3", l.Most())
	}
	enter(4, true)
	enter(0, false)
	l.Set(1) // the three stay
	expect(3, 4, 3)
	l.Leave()
	l.Leave()
	enter(0, false)
	l.Leave()
	enter(5, true)
	expect(1, 5, 4)

	l.Reset()
	expect(1, 5, 0)
}

// Connections taken over from the program before an upgrade keep their
// numbers, in whatever order they come, and new ones get others.
//
// promise: L7
func TestAdopt(t *testing.T) {
	l := NewLimit(3)
	for _, id := range []uint64{7, 40, 12} {
		l.Adopt(id)
	}
	if l.Current() != 3 || l.Total() != 40 {
		t.Errorf("%d connections, the last number %d; want 3 and 40", l.Current(), l.Total())
	}
	if _, ok := l.Enter(); ok {
		t.Error("those that were taken over do not count")
	}
	l.Leave()
	if id, ok := l.Enter(); !ok || id != 41 {
		t.Errorf("the next number is %d, %v; want 41", id, ok)
	}
}

// Many come and go at once: never more than the limit are in, each number is
// given once, and the counts are right in the end.
//
// promise: R2
func TestLimitUnderContention(t *testing.T) {
	const most, goroutines, each = 5, 16, 3000
	l := NewLimit(most)
	var inside, entered, rejected atomic.Int64
	numbers := make([][]uint64, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				if g == 0 && i%10 == 0 {
					l.Adopt(uint64(i)) // an upgrade's, above the limit: counted all the same
					l.Leave()
				}
				id, ok := l.Enter()
				if !ok {
					rejected.Add(1)
					runtime.Gosched()
					continue
				}
				if n := inside.Add(1); n > most {
					t.Errorf("%d are in, the limit is %d", n, most)
				}
				entered.Add(1)
				numbers[g] = append(numbers[g], id)
				runtime.Gosched()
				inside.Add(-1)
				l.Leave()
			}
		})
	}
	wg.Wait()
	seen := map[uint64]bool{}
	for _, list := range numbers {
		last := uint64(0)
		for _, id := range list {
			if seen[id] || id <= last {
				t.Fatalf("number %d was given twice, or after %d", id, last)
			}
			seen[id], last = true, id
		}
	}
	if l.Current() != 0 || l.Rejected() != uint64(rejected.Load()) || entered.Load()+rejected.Load() != goroutines*each {
		t.Errorf("%d are left, %d of %d rejected are counted, %d entered", l.Current(), l.Rejected(), rejected.Load(), entered.Load())
	}
}
