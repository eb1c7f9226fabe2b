package proxy

import (
	"testing"

	"magent/backend"
	"magent/proxy/protocol"
)

// No token is made twice, by one worker or by two, however fast they are asked
// for and whatever the clock does.
//
// promise: C9
func TestTokensAreUnique(t *testing.T) {
	const zero = int64(1_900_000_000) * 1e9
	for _, id := range []uint64{0, 1, 1<<tokenIDBits - 2, 1<<64 - 2} {
		a, b := newTokens(id, zero), newTokens(id+1, zero)
		seen := map[uint64]bool{}
		last := uint64(0)
		for i, now := range []int64{0, 0, 1, 4096, 1e9, 1e9, 1e9, 5e8, 0, 73 * 365 * 24 * 3600 * 1e9 / 4, 1} {
			for range 1000 {
				x, y := a.next(now), b.next(now)
				if x <= last || seen[x] || seen[y] || x == y {
					t.Fatalf("step %d: %x and %x behind %x", i, x, y, last)
				}
				if !backend.IsChosen(x) || !backend.IsChosen(y) || int64(x) < 0 {
					t.Fatalf("step %d: %x and %x", i, x, y)
				}
				seen[x], seen[y], last = true, true, x
			}
		}
	}
	// A program that is started a second later never makes one of before.
	before, after := newTokens(5, zero), newTokens(5, zero+1e9)
	if x, y := before.next(1e6), after.next(0); y <= x {
		t.Fatalf("%x behind %x", y, x)
	}
}

// promise: C9, W4
func TestClassicAnswers(t *testing.T) {
	for _, test := range []struct{ meta, classic string }{
		{"HD", "STORED"},
		{"NS", "NOT_STORED"},
		{"EX", "EXISTS"},
		{"NF", "NOT_FOUND"},
		{"STORED", "STORED"},
		{"17", "17"},
		{"SERVER_ERROR object too large for cache", "SERVER_ERROR object too large for cache"},
		{"CLIENT_ERROR bad data chunk", "CLIENT_ERROR bad data chunk"},
	} {
		line, _, kind, _ := protocol.ParseLine([]byte(test.meta + "\r\n"))
		as := plainKind(protocol.OpSet, kind)
		got := classicLine(line, as)
		_, _, want, _ := protocol.ParseLine([]byte(test.classic + "\r\n"))
		if string(got) != test.classic || as != want {
			t.Errorf("%s: %s, %d, want %s, %d", test.meta, got, as, test.classic, want)
		}
	}
}

// promise: C9
func TestTokensCostNoMemory(t *testing.T) {
	r := &request{data: append(make([]byte, 0, 64), "key"...), keyLen: 3, meta: true, tokened: true, token: 7}
	tokens := newTokens(1, 0)
	line := make([]byte, 0, 128)
	if n := testing.AllocsPerRun(100, func() {
		r.token = tokens.next(1)
		line = r.metaSet(line[:0], protocol.OpSet, 1, 0, true)
	}); n != 0 {
		t.Errorf("%v allocations for a write", n)
	}
}
