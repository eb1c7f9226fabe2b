package ketama_test

import (
	"fmt"
	"testing"
)

func BenchmarkLookup(b *testing.B) {
	keys := goldenKeys(b)[:1024]
	for _, d := range distributions {
		for _, n := range []int{1, 2, 10} {
			b.Run(fmt.Sprintf("%s/%d servers", d, n), func(b *testing.B) {
				r := newRing(b, d, equal(n))
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					r.Lookup(keys[i%len(keys)])
					i++
				}
			})
		}
	}
}

// The search alone, without the hash of the key.
func BenchmarkLookupHash(b *testing.B) {
	for _, d := range distributions {
		b.Run(string(d), func(b *testing.B) {
			r := newRing(b, d, equal(10))
			b.ReportAllocs()
			h := uint32(1)
			for b.Loop() {
				r.LookupHash(h)
				h = h*1664525 + 1013904223
			}
		})
	}
}

func BenchmarkNext(b *testing.B) {
	keys := goldenKeys(b)[:1024]
	for _, d := range distributions {
		b.Run(string(d), func(b *testing.B) {
			r := newRing(b, d, equal(10))
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				key := keys[i%len(keys)]
				first := r.Lookup(key)
				r.Next(key, func(i int) bool { return i == first })
				i++
			}
		})
	}
}
