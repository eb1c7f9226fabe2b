package proxy

import (
	"runtime"
	"sync"
	"testing"
)

// Two workers never have one stripe at a time, and the last of a worker's
// leases frees it.
//
// promise: C2
func TestAStripeHasOneHolder(t *testing.T) {
	l := newLeases()
	const stripe = 7
	if holder := l.holder(stripe); holder != -1 {
		t.Fatalf("a free stripe is held by %d", holder)
	}
	for range 3 {
		if !l.take(stripe, 4) {
			t.Fatal("the holder cannot take its stripe once more")
		}
	}
	if l.take(stripe, 5) {
		t.Fatal("a second worker took a leased stripe")
	}
	for range 2 {
		l.give(stripe)
		if l.holder(stripe) != 4 || l.take(stripe, 5) {
			t.Fatal("the stripe was free before the last lease ended")
		}
	}
	l.give(stripe)
	if l.holder(stripe) != -1 || !l.take(stripe, 5) {
		t.Fatal("the stripe is not free after the last lease ended")
	}
}

// promise: C2
func TestWorkersExcludeEachOther(t *testing.T) {
	l := newLeases()
	const stripe, workers, rounds = 3, 4, 20000
	inside := 0 // guarded by the lease alone: the race detector watches it
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for round := range rounds {
				if !l.take(stripe, worker) {
					runtime.Gosched()
					continue
				}
				inside++
				again := round%3 == 0 && l.take(stripe, worker)
				runtime.Gosched() // the others try meanwhile
				if inside != 1 || l.holder(stripe) != worker {
					t.Error("two workers hold one stripe")
					return
				}
				inside--
				l.give(stripe)
				if again {
					l.give(stripe)
				}
			}
		})
	}
	wg.Wait()
}

// Keys spread over the stripes.
func TestStripesSpread(t *testing.T) {
	l := newLeases()
	seen := map[uint32]bool{}
	for i := range 1000 {
		key := []byte{byte(i), byte(i >> 8), 'k'}
		seen[stripeOf(l.hash(key))] = true
	}
	if len(seen) < 950 {
		t.Errorf("1000 keys share %d stripes", len(seen))
	}
}
