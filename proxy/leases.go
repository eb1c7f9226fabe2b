package proxy

import (
	"hash/maphash"
	"sync/atomic"
)

const stripes = 1 << 16

// leases say which loop may write the keys of a stripe at present. A stripe is
// free, or leased by one worker, which counts the writes that it has in
// flight there; the last one frees the stripe. So all writes of a key that
// are under way at one time share the connections of one loop, and with them
// one order.
type leases struct {
	seed maphash.Seed
	// 0: free; otherwise the worker's index plus one, shifted, and the count.
	word [stripes]atomic.Uint32
}

const (
	leaseOwner = 20 // bits below hold the count
	leaseCount = 1<<leaseOwner - 1
)

func newLeases() *leases { return &leases{seed: maphash.MakeSeed()} }

// hash is the hash of a key, the same on every loop.
func (l *leases) hash(key []byte) uint64 { return maphash.Bytes(l.seed, key) }

// stripeOf is the stripe of a key with this hash.
func stripeOf(hash uint64) uint32 { return uint32(hash>>32) % stripes }

// take leases the stripe to a worker, once more if it has it already. It
// returns false when another worker has it.
func (l *leases) take(stripe uint32, worker int) bool {
	w := &l.word[stripe]
	own := uint32(worker+1) << leaseOwner
	for {
		v := w.Load()
		switch {
		case v == 0:
			if w.CompareAndSwap(0, own|1) {
				return true
			}
		case v&^leaseCount == own:
			if v&leaseCount == leaseCount {
				return false // a million writes of one stripe in flight: it waits as for another loop
			}
			w.Store(v + 1) // nobody else changes a word that is leased to this worker
			return true
		default:
			return false
		}
	}
}

// give ends one lease of the stripe by the worker that has it.
func (l *leases) give(stripe uint32) {
	w := &l.word[stripe]
	v := w.Load()
	if v&leaseCount == 1 {
		w.Store(0)
		return
	}
	w.Store(v - 1)
}

// holder is the index of the worker that has the stripe, -1 for none.
func (l *leases) holder(stripe uint32) int {
	return int(l.word[stripe].Load()>>leaseOwner) - 1
}

// count is how many writes the worker that has the stripe has in flight there.
func (l *leases) count(stripe uint32) int { return int(l.word[stripe].Load() & leaseCount) }
