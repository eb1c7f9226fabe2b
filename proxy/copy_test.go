package proxy

import (
	"testing"
	"time"

	"magent/backend"
)

// What an item has left is written as memcached reads it: as seconds up to 30
// days, as a point in time beyond.
//
// promise: C8
func TestExpiryOf(t *testing.T) {
	s := backend.NewServer(backend.Address{Host: "127.0.0.1", Port: 1}, 0, 1, func(*backend.Server, backend.Change) {})
	const day = 24 * 60 * 60
	for ttl, want := range map[int64]int64{-1: 0, 1: 1, 60: 60, 30 * day: 30 * day} {
		if got := expiryOf(ttl, s); got != want {
			t.Errorf("%d seconds left: %d, want %d", ttl, got, want)
		}
	}
	for _, ttl := range []int64{30*day + 1, 365 * day, 1 << 40} {
		from := time.Now().Unix()
		got := expiryOf(ttl, s)
		if got < from+ttl || got > time.Now().Unix()+ttl {
			t.Errorf("%d seconds left: %d, want that much behind %d", ttl, got, from)
		}
	}
}

// Two items that expire together are the same, and one that never expires is
// not the same as one that does.
//
// promise: C8
func TestSameExpiry(t *testing.T) {
	for _, c := range []struct {
		a, b int64
		same bool
	}{
		{-1, -1, true}, {0, 0, true}, {60, 60, true}, {60, 61, true}, {60, 62, true}, {60, 63, false}, {60, 3600, false},
		{-1, 60, false}, {-1, 0, false}, {-1, 1, false}, {-1, 1 << 40, false},
	} {
		if sameExpiry(c.a, c.b) != c.same || sameExpiry(c.b, c.a) != c.same {
			t.Errorf("%d and %d seconds left: the same %v, want %v", c.a, c.b, sameExpiry(c.a, c.b), c.same)
		}
	}
}
