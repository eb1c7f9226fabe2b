package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestBucketsFollowEachOtherAndHoldTheirMiddle(t *testing.T) {
	last := -1
	for v := int64(0); v < 1<<20; v++ {
		b := bucketOf(v)
		if b != last && b != last+1 {
			t.Fatalf("value %d is in bucket %d, the one before in %d", v, b, last)
		}
		last = b
	}
	for i := range numBuckets {
		if got := bucketOf(middleOf(i)); got != i {
			t.Fatalf("the middle %d of bucket %d is in bucket %d", middleOf(i), i, got)
		}
	}
	if got := bucketOf(math.MaxInt64); got != numBuckets-1 {
		t.Errorf("the longest duration is in bucket %d, want the last, %d", got, numBuckets-1)
	}
}

func TestQuantilesAreExactToOnePercent(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h histogram
	var all []int64
	for range 100_000 {
		ns := int64(math.Exp(random.Float64() * 20)) // 1 ns to half a second
		all = append(all, ns)
		h.record(ns)
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.001, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1} {
		rank := min(max(int(q*float64(len(all))+0.5), 1), len(all))
		want, got := all[rank-1], h.quantile(q)
		if diff := math.Abs(float64(got - want)); diff > 0.01*float64(want) {
			t.Errorf("quantile %g is %d, want %d within 1 %%", q, got, want)
		}
	}
	if got := h.quantile(1); got != all[len(all)-1] {
		t.Errorf("the longest is %d, want exactly %d", got, all[len(all)-1])
	}
}

func TestEmptyAndResetHistogram(t *testing.T) {
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("median of nothing is %d, want 0", got)
	}
	h.record(-5)
	h.record(7)
	if h.total != 2 || h.quantile(0) != 0 || h.quantile(1) != 7 {
		t.Errorf("total %d, least %d, most %d; want 2, 0, 7", h.total, h.quantile(0), h.quantile(1))
	}
	h.reset()
	if h.total != 0 || h.max != 0 || h.quantile(1) != 0 {
		t.Error("something is left after reset")
	}
}
