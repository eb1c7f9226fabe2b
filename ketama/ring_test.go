package ketama_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	goketama "github.com/dgryski/go-ketama"

	"magent/ketama"
)

var distributions = []ketama.Distribution{
	ketama.Ketama, ketama.KetamaOneAtATime, ketama.MagentKetama, ketama.MagentModula,
}

// equal returns n servers of weight 1.
func equal(n int) []ketama.Server {
	servers := make([]ketama.Server, n)
	for i := range servers {
		servers[i] = ketama.Server{Host: fmt.Sprintf("10.0.%d.%d", i/250, i%250+1), Port: 11211, Weight: 1}
	}
	return servers
}

func newRing(t testing.TB, d ketama.Distribution, servers []ketama.Server) *ketama.Ring {
	t.Helper()
	r, err := ketama.New(d, servers)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// walk returns the servers in the order in which Next asks for them.
func walk(r *ketama.Ring, key []byte) []int {
	var order []int
	r.Next(key, func(i int) bool {
		order = append(order, i)
		return true
	})
	return order
}

// promise: K1
func TestOneServerHasEveryKey(t *testing.T) {
	for _, d := range distributions {
		r := newRing(t, d, equal(1))
		for _, key := range [][]byte{nil, []byte("key"), []byte(strings.Repeat("k", 250))} {
			if got := r.Lookup(key); got != 0 {
				t.Errorf("%s: Lookup(%q) = %d, want 0", d, key, got)
			}
			if got := r.LookupHash(r.Hash(key)); got != 0 {
				t.Errorf("%s: LookupHash of %q = %d, want 0", d, key, got)
			}
			if got := r.Next(key, func(int) bool { return false }); got != 0 {
				t.Errorf("%s: Next(%q), nothing excluded, = %d, want 0", d, key, got)
			}
			if got := r.Next(key, func(int) bool { return true }); got != -1 {
				t.Errorf("%s: Next(%q), all excluded, = %d, want -1", d, key, got)
			}
		}
	}
}

// promise: K1
//
// The key is on a page that may not be read.
func TestOneServerNeedsNoHash(t *testing.T) {
	key, err := syscall.Mmap(-1, 0, os.Getpagesize(), syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Munmap(key); err != nil {
			t.Error(err)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for _, d := range distributions {
		r := newRing(t, d, equal(1))
		func() {
			defer func() {
				if fault := recover(); fault != nil {
					t.Errorf("%s: the key was read: %v", d, fault)
				}
			}()
			r.Lookup(key)
			r.Next(key, func(int) bool { return false })
		}()
	}
}

// promise: K1
//
// Programs that read the same list in another order agree on the rings, but
// where two servers share a point (see the last pools of testdata/pools.txt).
func TestOrderOfServersDoesNotMatterOnARing(t *testing.T) {
	keys := goldenKeys(t)
	for _, d := range []ketama.Distribution{ketama.Ketama, ketama.KetamaOneAtATime, ketama.MagentKetama} {
		servers := equal(5)
		forward := newRing(t, d, servers)
		slices.Reverse(servers)
		backward := newRing(t, d, servers)
		for _, key := range keys {
			if a, b := forward.Lookup(key), backward.Lookup(key); a != len(servers)-1-b {
				t.Fatalf("%s: key %q is on server %d, on %d of the reversed pool", d, key, a, b)
			}
		}
	}
}

// promise: K1, K4
//
// The sizes are those for which go-ketama and libmemcached compute the same
// number of points.
func TestLookupAndWalkAreGoKetamas(t *testing.T) {
	for _, n := range []int{2, 3, 5, 10, 24} {
		servers := equal(n)
		index := make(map[string]int)
		var buckets []goketama.Bucket
		for i, s := range servers {
			index[s.Host] = i
			buckets = append(buckets, goketama.Bucket{Label: s.Host, Weight: 1})
		}
		c, err := goketama.NewWithHash(buckets, goketama.HashFunc2)
		if err != nil {
			t.Fatal(err)
		}
		r := newRing(t, ketama.Ketama, servers)
		for _, key := range goldenKeys(t) {
			if got, want := r.Lookup(key), index[c.Hash(string(key))]; got != want {
				t.Fatalf("%d servers: Lookup(%q) = %d, go-ketama says %d", n, key, got, want)
			}
			var want []int
			for _, label := range c.HashMultiple(string(key), n) {
				want = append(want, index[label])
			}
			if got := walk(r, key); !slices.Equal(got, want) {
				t.Fatalf("%d servers: Next walks %v from %q, go-ketama %v", n, got, key, want)
			}
		}
	}
}

// promise: K4
func TestNextAsksForEveryServerOnceAndNeverReturnsAnExcludedOne(t *testing.T) {
	weighted := equal(4)
	weighted[1].Weight = 1000
	weighted[2].Weight = 2000 // 0 and 3 are too light for a point
	pools := map[string][]ketama.Server{
		"2": equal(2), "3": equal(3), "7": equal(7), "70": equal(70), "1100": equal(1100), "weighted": weighted,
	}
	keys := goldenKeys(t)[:60]
	for name, servers := range pools {
		for _, d := range distributions {
			if d == ketama.MagentKetama && len(servers) > 100 {
				continue // a million points, and nothing that the others do not show
			}
			if name == "weighted" && (d == ketama.MagentKetama || d == ketama.MagentModula) {
				continue // no weights there
			}
			r := newRing(t, d, servers)
			for _, key := range keys {
				order := walk(r, key)
				if order[0] != r.Lookup(key) {
					t.Fatalf("%s, pool %s: Next begins at %d, Lookup says %d", d, name, order[0], r.Lookup(key))
				}
				sorted := slices.Sorted(slices.Values(order))
				if len(sorted) != len(servers) || len(slices.Compact(sorted)) != len(servers) {
					t.Fatalf("%s, pool %s: Next asked for %v, want each of %d servers once", d, name, order, len(servers))
				}
				for n := range min(len(order), 8) {
					got := r.Next(key, func(i int) bool { return slices.Contains(order[:n], i) })
					if got != order[n] {
						t.Fatalf("%s, pool %s: without %v Next = %d, want %d", d, name, order[:n], got, order[n])
					}
				}
				if got := r.Next(key, func(int) bool { return true }); got != -1 {
					t.Fatalf("%s, pool %s: Next with all excluded = %d, want -1", d, name, got)
				}
			}
		}
	}
}

// promise: K4
func TestNextOfModulaIsTheNextIndex(t *testing.T) {
	r := newRing(t, ketama.MagentModula, equal(5))
	for _, key := range goldenKeys(t) {
		first := r.Lookup(key)
		if got, want := r.Next(key, func(i int) bool { return i == first }), (first+1)%5; got != want {
			t.Fatalf("Next(%q) after server %d = %d, want %d", key, first, got, want)
		}
	}
}

func TestRefusedPools(t *testing.T) {
	s := func(host string, port, weight int) ketama.Server {
		return ketama.Server{Host: host, Port: port, Weight: weight}
	}
	for _, c := range []struct {
		name    string
		d       ketama.Distribution
		servers []ketama.Server
		want    error
		says    string
	}{
		{"none", ketama.Ketama, nil, ketama.ErrNoServers, "at least one"},
		{"name", "kitama", equal(2), ketama.ErrDistribution, `"kitama"`},
		{"no name", "", equal(1), ketama.ErrDistribution, "choose ketama"},
		{"negative", ketama.Ketama, []ketama.Server{s("a", 1, -3)}, ketama.ErrWeight, "-3 for a:1"},
		{"huge", ketama.Ketama, []ketama.Server{s("a", 1, 1), s("b", 1, math.MaxUint32+1)}, ketama.ErrWeight, "4294967296 for b:1"},
		{"unequal", ketama.MagentKetama, []ketama.Server{s("a", 1, 1), s("b", 1, 2)}, ketama.ErrWeight, "2 for b:1"},
		{"unequal modula", ketama.MagentModula, []ketama.Server{s("a", 1, 2), s("b", 1, 0)}, ketama.ErrWeight, "choose ketama"},
		{"twice", ketama.MagentModula, []ketama.Server{s("a", 1, 1), s("b", 1, 1), s("a", 1, 1)}, ketama.ErrDuplicate, "a:1"},
		{"two labels", ketama.Ketama, []ketama.Server{{Label: "x", Host: "a", Port: 1}, s("a", 1, 1)}, ketama.ErrDuplicate, "a:1"},
		{"label twice", ketama.Ketama, []ketama.Server{s("a", 11211, 1), {Label: "a", Host: "b", Port: 1}}, ketama.ErrDuplicate, "a"},
	} {
		r, err := ketama.New(c.d, c.servers)
		if r != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: New = %v, %v, want the error %v", c.name, r, err, c.want)
			continue
		}
		if text := err.Error(); !strings.Contains(text, c.says) || strings.Contains(text, "\n") {
			t.Errorf("%s: the error is %q, want one line with %q", c.name, text, c.says)
		}
	}
	if _, err := ketama.New(ketama.MagentKetama, []ketama.Server{s("a", 1, 0), s("b", 1, 1)}); err != nil {
		t.Errorf("no weight and a weight of 1 are the same: %v", err)
	}
}

func TestLookupAndNextDoNotAllocate(t *testing.T) {
	for _, d := range distributions {
		for _, n := range []int{1, 2, 10, 100} {
			r := newRing(t, d, equal(n))
			sum := 0
			allocs := testing.AllocsPerRun(200, func() {
				var key [32]byte // on the stack, as long as it does not escape
				copy(key[:], "user:1234:session")
				first := r.Lookup(key[:])
				sum += first + r.Next(key[:], func(i int) bool { return i == first })
				sum += r.Next(key[:], func(int) bool { return true })
			})
			if allocs != 0 {
				t.Errorf("%s, %d servers: %v allocations", d, n, allocs)
			}
		}
	}
	r := newRing(t, ketama.Ketama, equal(1024))
	if allocs := testing.AllocsPerRun(200, func() { r.Next([]byte("key"), func(int) bool { return true }) }); allocs != 0 {
		t.Errorf("a walk past 1024 servers: %v allocations", allocs)
	}
}

func TestRingIsSharedByGoroutines(t *testing.T) {
	keys := goldenKeys(t)
	for _, d := range distributions {
		r := newRing(t, d, equal(10))
		want := make([]int, len(keys))
		for i, key := range keys {
			want[i] = r.Lookup(key)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i, key := range keys {
					first := r.Lookup(key)
					if next := r.Next(key, func(i int) bool { return i == first }); first != want[i] || next == first {
						t.Errorf("%s: key %q: Lookup = %d, Next = %d, want %d and another", d, key, first, next, want[i])
						return
					}
				}
			})
		}
		wg.Wait()
	}
}
