package integration

import (
	"cmp"
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// pools is magent before several servers.
type pools struct {
	*harness.Magent
	primaries, backups []*harness.Memcached
}

func addrs(servers []*harness.Memcached) []string {
	var out []string
	for _, s := range servers {
		out = append(out, s.Addr)
	}
	return out
}

// startPools starts p primaries, b backups and magent.
func startPools(t *testing.T, p, b int, args ...string) *pools {
	t.Helper()
	var m pools
	for range p {
		m.primaries = append(m.primaries, harness.StartMemcached(t))
	}
	for range b {
		m.backups = append(m.backups, harness.StartMemcached(t))
	}
	m.Magent = harness.StartMagent(t, harness.Config{Primaries: addrs(m.primaries), Backups: addrs(m.backups), Args: args})
	return &m
}

// ketamaServer is where a libmemcached client that is set to weighted ketama
// looks for a key (libmemcached/hosts.cc, dispatch_host): 160 points a server,
// four from each MD5 of "host:port-k", without the port if it is 11211.
func ketamaServer(servers []string, key string) string {
	type point struct {
		value  uint32
		server string
	}
	var ring []point
	for _, s := range servers {
		for k := range 40 {
			digest := md5.Sum([]byte(fmt.Sprintf("%s-%d", strings.TrimSuffix(s, ":11211"), k)))
			for i := range 4 {
				ring = append(ring, point{binary.LittleEndian.Uint32(digest[4*i:]), s})
			}
		}
	}
	slices.SortStableFunc(ring, func(a, b point) int { return cmp.Compare(a.value, b.value) })
	digest := md5.Sum([]byte(key))
	at := binary.LittleEndian.Uint32(digest[:])
	for _, p := range ring {
		if p.value >= at {
			return p.server
		}
	}
	return ring[0].server
}

// places stores keys through magent and returns the server of each, looked up
// directly.
func places(t *testing.T, addr string, servers []*harness.Memcached, keys []string) map[string]*harness.Memcached {
	t.Helper()
	c := harness.MustDial(t, addr)
	for _, key := range keys {
		must(t, c.Set(key, "v"))
	}
	at := make(map[string]*harness.Memcached)
	for _, s := range servers {
		items, err := harness.MustDial(t, s.Addr).Get(keys...)
		must(t, err)
		for _, it := range items {
			if other := at[it.Key]; other != nil {
				t.Errorf("%s is on %s and on %s", it.Key, other.Addr, s.Addr)
			}
			at[it.Key] = s
		}
	}
	for _, key := range keys {
		if at[key] == nil {
			t.Errorf("%s is on no server", key)
		}
	}
	return at
}

// promise: K1
func TestKeysAreWhereALibmemcachedClientLooks(t *testing.T) {
	t.Parallel()
	m := startPools(t, 4, 3, patient...)
	keys := keysNamed("place:", 400)
	at := places(t, m.Addr, m.primaries, keys)
	for _, key := range keys {
		if want := ketamaServer(addrs(m.primaries), key); at[key] == nil || at[key].Addr != want {
			t.Fatalf("%s is on %v, libmemcached looks on %s", key, at[key], want)
		}
	}
	// The backup pool has a ring of its own.
	for _, key := range keys {
		want := ketamaServer(addrs(m.backups), key)
		var has bool
		if !harness.Poll(5*time.Second, func() bool {
			s := holder(t, m.backups, key)
			has = s != nil && s.Addr == want
			return has
		}) {
			t.Fatalf("%s is not on the backup %s", key, want)
		}
	}
}

// promise: K1
func TestOnePrimaryHoldsEveryKey(t *testing.T) {
	t.Parallel()
	m := startPools(t, 1, 2, patient...)
	keys := keysNamed("one:", 100)
	places(t, m.Addr, m.primaries, keys)
}

// promise: K2
func TestPlacesOfTheCMagent(t *testing.T) {
	t.Parallel()
	m := startPools(t, 3, 0, append([]string{"--distribution", "magent-modula"}, patient...)...)
	keys := append(keysNamed("c:", 200), "schlüssel", "ключ")
	at := places(t, m.Addr, m.primaries, keys)
	for _, key := range keys {
		h := uint32(5381) // hashme of the C program: signed characters, 31 bits
		for _, b := range []byte(key) {
			h = h*33 + uint32(int32(int8(b)))
		}
		if want := m.primaries[h&0x7fffffff%3]; at[key] != want {
			t.Fatalf("%s is on %s, the C program has it on %s", key, at[key].Addr, want.Addr)
		}
	}
}

// promise: K3
func TestWeights(t *testing.T) {
	t.Parallel()
	a, b := harness.StartMemcached(t), harness.StartMemcached(t)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{a.Addr + ":3", b.Addr + ":1"}, Args: patient})
	heavy := 0
	const count = 1000
	for _, s := range places(t, m.Addr, []*harness.Memcached{a, b}, keysNamed("weight:", count)) {
		if s == a {
			heavy++
		}
	}
	if share := float64(heavy) / count; share < 0.62 || share > 0.88 {
		t.Errorf("a server with three quarters of the weight has %.0f%% of the keys", 100*share)
	}
}

// promise: K3
func TestAddingAServerMovesFewKeys(t *testing.T) {
	t.Parallel()
	var servers []*harness.Memcached
	for range 5 {
		servers = append(servers, harness.StartMemcached(t))
	}
	keys := keysNamed("move:", 1000)
	four := harness.StartMagent(t, harness.Config{Primaries: addrs(servers[:4]), Args: patient})
	before := places(t, four.Addr, servers[:4], keys)
	for _, s := range servers {
		expect(t, harness.MustDial(t, s.Addr), "flush_all", "OK")
	}
	five := harness.StartMagent(t, harness.Config{Primaries: addrs(servers), Args: patient})
	after := places(t, five.Addr, servers, keys)
	moved := 0
	for _, key := range keys {
		if before[key] != after[key] {
			if moved++; after[key] != servers[4] {
				t.Errorf("%s moved from one old server to another", key)
			}
		}
	}
	if share := float64(moved) / float64(len(keys)); share < 0.1 || share > 0.32 {
		t.Errorf("the fifth server took %.0f%% of the keys", 100*share)
	}
}

// promise: K3, C4
func TestADeadServerKeepsItsPlace(t *testing.T) {
	t.Parallel()
	m := startPools(t, 3, 3, patient...)
	keys := keysNamed("dead:", 200)
	at := places(t, m.Addr, m.primaries, keys)
	m.primaries[0].Kill()
	c := harness.MustDial(t, m.Addr)
	for _, key := range keys {
		must(t, c.Set(key, "w"))
	}
	items, err := c.Get(keys...)
	if err != nil || len(items) != len(keys) {
		t.Fatalf("%d of %d values, %v", len(items), len(keys), err)
	}
	for _, key := range keys {
		s := holder(t, m.primaries[1:], key)
		switch {
		case at[key] == m.primaries[0] && s != nil:
			t.Errorf("%s of the dead server moved to the primary %s", key, s.Addr)
		case at[key] != m.primaries[0] && s != at[key]:
			t.Errorf("%s moved although its server lives", key)
		}
	}
}

// promise: K4
func TestABackupIsNeverThePrimaryItself(t *testing.T) {
	t.Parallel()
	var servers []*harness.Memcached
	for range 3 {
		servers = append(servers, harness.StartMemcached(t))
	}
	names := addrs(servers)
	for _, backups := range [][]string{{names[2], names[0], names[1]}, names, {names[0], names[1]}} {
		m := harness.StartMagent(t, harness.Config{Primaries: names, Backups: backups, Args: patient})
		c := harness.MustDial(t, m.Addr)
		expect(t, c, "flush_all", "OK")
		keys := keysNamed("crossed:", 200)
		for _, key := range keys {
			must(t, c.Set(key, "v"))
		}
		copies := func() map[string]int {
			n := make(map[string]int)
			for _, s := range servers {
				items, err := harness.MustDial(t, s.Addr).Get(keys...)
				must(t, err)
				for _, it := range items {
					n[it.Key]++
				}
			}
			return n
		}
		harness.Eventually(t, 10*time.Second, "every key is on two servers", func() bool {
			n := copies()
			for _, key := range keys {
				if n[key] != 2 {
					return false
				}
			}
			return true
		})
		m.Stop()
	}
}
