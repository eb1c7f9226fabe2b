package proxy

import (
	"math"
	"testing"
	"time"

	"magent/backend"
	"magent/proxy/protocol"
)

// What an item has left is written as the point in time at which it ends, so
// that it does not live longer with every copy.
//
// promise: C8
func TestExpiryOf(t *testing.T) {
	server := func() *backend.Server {
		return backend.NewServer(backend.Address{Host: "127.0.0.1", Port: 1}, 0, 1, func(*backend.Server, backend.Change) {})
	}
	from, to := server(), server()
	if got := expiryOf(-1, from, to); got != 0 {
		t.Errorf("an item without an end: %d, want none", got)
	}
	const day = 24 * 60 * 60
	for _, ttl := range []int64{1, 60, 30 * day, 30*day + 1, 365 * day} {
		before := from.Clock()
		got := expiryOf(ttl, from, to)
		if after := from.Clock(); got < before+ttl || got > after+ttl {
			t.Errorf("%d seconds left: %d, want that much behind %d", ttl, got, before)
		}
		if got <= 30*day {
			t.Errorf("%d seconds left: %d, which memcached takes for seconds from now", ttl, got)
		}
	}
	// One second of rounding more, and memcached takes it for the past.
	for _, over := range []int64{0, 1, 1 << 40} {
		if got := expiryOf(math.MaxInt32-from.Clock()+over, from, to); got > math.MaxInt32 || got < math.MaxInt32-1 {
			t.Errorf("%d seconds beyond the latest expiry: %d", over, got)
		}
	}
}

// What an item has left is counted from when it came: the target may answer late,
// and the copy must not live longer for that.
//
// promise: C8
func TestLeft(t *testing.T) {
	for _, c := range []struct {
		ttl  int64
		ago  time.Duration
		left int64
	}{
		{-1, time.Hour, -1}, {60, 0, 60}, {60, 400 * time.Millisecond, 60}, {60, 900 * time.Millisecond, 59},
		{60, 10 * time.Second, 50}, {1, 2 * time.Second, 0}, {0, 0, 0},
	} {
		copied := keyCopy{item: protocol.ValueHeader{TTL: c.ttl}, fetched: time.Now().Add(-c.ago)}
		if got := copied.left(); got != c.left {
			t.Errorf("%d seconds left %v ago: %d are left, want %d", c.ttl, c.ago, got, c.left)
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

// What a request has had copied before counts no more when the copy that it has waited
// for then was not made: its server may have been emptied in between.
//
// promise: C3
func TestTheLastCopyCounts(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
	w := newTestProxy(t, o).workers[0]
	w.pausing = true // keeps a request from being run
	for _, c := range []struct {
		ok, exact     bool
		to            int32
		filled, cured bool
	}{
		{true, true, 0, true, true},
		{true, false, 0, true, false},
		{true, true, 1, false, false},
		{false, true, 0, false, false},
	} {
		r := &request{w: w, home: w, filled: true, cured: true}
		r.Write = true
		one := &keyCopy{w: w, to: c.to, exact: c.exact, waiting: []*request{r}}
		one.Key = []byte("k")
		if !w.p.leases.take(one.stripe, w.index) {
			t.Fatal("no lease")
		}
		w.idle[one.stripe]++
		w.writes = 2
		one.end(c.ok)
		if r.filled != c.filled || r.cured != c.cured {
			t.Errorf("copied to %d, exactly %v, made %v: filled %v, cured %v; want %v, %v", c.to, c.exact, c.ok, r.filled, r.cured, c.filled, c.cured)
		}
	}
}
