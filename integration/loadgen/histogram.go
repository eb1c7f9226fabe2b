package main

import "math/bits"

// Each power of two is cut into subBuckets equal parts, so that a part is never
// wider than 1/subBuckets (0.8 %) of the values in it.
const (
	subBits    = 7
	subBuckets = 1 << subBits
	maxBits    = 40 // 2^40 ns, about 18 minutes; longer ones count as that
	numBuckets = (maxBits - subBits + 1) * subBuckets
)

// histogram counts durations in nanoseconds. The zero value is empty and ready.
type histogram struct {
	counts [numBuckets]uint64
	total  uint64
	max    int64
}

// record counts one duration. A negative one counts as zero.
func (h *histogram) record(ns int64) {
	if ns < 0 {
		ns = 0
	}
	if ns > h.max {
		h.max = ns
	}
	h.counts[bucketOf(ns)]++
	h.total++
}

// reset forgets everything.
func (h *histogram) reset() { *h = histogram{} }

// quantile is the duration in nanoseconds that a share q (0 to 1) of all
// durations do not exceed, and 0 when there are none.
func (h *histogram) quantile(q float64) int64 {
	if h.total == 0 {
		return 0
	}
	rank := uint64(q*float64(h.total) + 0.5)
	rank = min(max(rank, 1), h.total)
	if rank == h.total {
		return h.max
	}
	var seen uint64
	for i, n := range &h.counts {
		seen += n
		if seen >= rank {
			return min(middleOf(i), h.max)
		}
	}
	return h.max
}

// bucketOf is the index of the bucket that counts ns. Below subBuckets every
// value has its own; above, the highest subBits bits after the leading one
// choose the part of the power of two.
func bucketOf(ns int64) int {
	v := uint64(ns)
	if v >= 1<<maxBits {
		v = 1<<maxBits - 1
	}
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - 1 - subBits
	return (shift+1)*subBuckets + int(v>>shift) - subBuckets
}

// middleOf is the value in the middle of bucket i.
func middleOf(i int) int64 {
	if i < subBuckets {
		return int64(i)
	}
	shift := i/subBuckets - 1
	low := int64(i%subBuckets+subBuckets) << shift
	return low + (int64(1)<<shift)/2
}
