package proxy

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func testHash(key []byte) uint64 {
	h := fnv.New64a()
	h.Write(key)
	return h.Sum64()
}

// A list gives every key back once, those used last first, and keys that were
// used in the same second as they came.
//
// promise: C7
func TestKeyListIsInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type used struct {
			key    string
			access int64
		}
		var want []used
		l := newKeyList(0, 1, testHash)
		for i := range rapid.IntRange(0, 60).Draw(t, "keys") {
			u := used{
				key:    fmt.Sprint(i) + rapid.StringMatching(`[a-z]{0,6}|x{245}`).Draw(t, "key"),
				access: rapid.SampledFrom([]int64{-1, 0, 1, 5, 1 << 31, 1<<32 - 1}).Draw(t, "access"),
			}
			want = append(want, u)
			l.add([]byte(u.key), u.access, 0)
		}
		slices.SortStableFunc(want, func(a, b used) int { return int(max(b.access, 0) - max(a.access, 0)) })
		l.newestFirst()
		var got []string
		for {
			n := rapid.IntRange(1, 9).Draw(t, "n")
			batch := l.next(n, 1<<30)
			if len(batch) > n {
				t.Fatalf("%d keys, want %d at most", len(batch), n)
			}
			if len(batch) == 0 {
				break
			}
			got = append(got, batch...)
		}
		if len(got) != len(want) {
			t.Fatalf("%d keys of %d", len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i].key {
				t.Fatalf("place %d: %q, want %q", i, got[i], want[i].key)
			}
		}
		if len(l.next(5, 1<<30)) != 0 || l.passes(len(want)) != 1 {
			t.Fatalf("a list that is used up gives more, or %d passes", l.passes(len(want)))
		}
	})
}

// When there are too many keys for one list, each key is in one of the later
// passes, and none of them is too large.
//
// promise: C7, R2
func TestEveryKeyIsInAPass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		passes := rapid.IntRange(2, 9).Draw(t, "passes")
		const keys = 400
		found := map[string]int{}
		for pass := 1; pass < passes; pass++ {
			l := newKeyList(pass, passes, testHash)
			for i := range keys {
				l.add(fmt.Appendf(nil, "key%d", i), int64(i), 0)
			}
			for _, key := range l.next(keys, 1<<30) {
				found[key]++
			}
		}
		for i := range keys {
			if n := found[fmt.Sprintf("key%d", i)]; n != 1 {
				t.Fatalf("key%d is in %d of %d passes", i, n, passes)
			}
		}
	})
}

// The number of passes is such that their keys fit.
//
// promise: R2
func TestPasses(t *testing.T) {
	for _, c := range []struct {
		length, all int // of a key, keys of the server
	}{{10, 3 * listMost}, {10, 20 * listMost}, {250, 3 * listMost}, {250, 10 * listMost}, {64, 5 * listMost}} {
		l := newKeyList(0, 1, testHash)
		for range 100 {
			l.add(make([]byte, c.length), 0, 0)
		}
		passes := l.passes(c.all)
		if passes < 3 {
			t.Fatalf("%d keys of %d bytes: %d passes", c.all, c.length, passes)
		}
		each := c.all / (passes - 1)
		if each > listMost || each*c.length > listBytes {
			t.Errorf("%d keys of %d bytes in %d passes: %d keys, %d bytes in each", c.all, c.length, passes, each, each*c.length)
		}
		if each < listMost/4 && each*c.length < listBytes/4 {
			t.Errorf("%d keys of %d bytes in %d passes, although only %d would be in each", c.all, c.length, passes, each)
		}
	}
}

// The first list of a server with too many keys holds those used last, and has
// a bound.
//
// promise: C7, R2
func TestTheFirstListHoldsTheNewest(t *testing.T) {
	const keys = 2*listMost + listMost/8
	l := newKeyList(0, 1, testHash)
	var key [4]byte
	for i := range uint64(keys) {
		at := keys - 1 - (i+keys/3)%keys // some of the newest come last
		binary.BigEndian.PutUint32(key[:], uint32(at))
		l.add(key[:], int64(at), 0)
		if len(l.entries) > 2*listMost || len(l.text) > 2*listBytes {
			t.Fatalf("the list holds %d keys, %d bytes", len(l.entries), len(l.text))
		}
	}
	if passes := l.passes(keys); passes < 2 {
		t.Errorf("%d passes for keys that do not fit", passes)
	}
	l.newestFirst()
	newest := l.next(listMost, 1<<30)
	if len(newest) != listMost {
		t.Fatalf("%d keys, want %d", len(newest), listMost)
	}
	for i, text := range newest {
		if at := binary.BigEndian.Uint32([]byte(text)); at != uint32(keys-1-i) {
			t.Fatalf("place %d: a key used at %d, want %d", i, at, keys-1-i)
		}
	}
}

// Long keys are bounded by their bytes.
//
// promise: R2
func TestAListOfLongKeysIsBounded(t *testing.T) {
	const keys = 2*listBytes/250 + 1000
	l := newKeyList(0, 1, testHash)
	key := make([]byte, 250)
	for i := range uint32(keys) {
		binary.BigEndian.PutUint32(key, i)
		l.add(key, int64(i), 0)
	}
	if len(l.text) > 2*listBytes || len(l.text) < listBytes/2 {
		t.Errorf("%d keys of %d bytes are kept", len(l.entries), len(l.text))
	}
	l.newestFirst()
	for i, text := range l.next(1000, 1<<30) {
		if at := binary.BigEndian.Uint32([]byte(text)); at != uint32(keys-1-i) || len(text) != 250 {
			t.Fatalf("place %d: key %d of %d bytes", i, at, len(text))
		}
	}
}
