package integration

import (
	"slices"
	"testing"

	"magent/integration/harness"
)

// pair is two proxies before the same servers, each with links of its own.
type pair struct {
	*story
	proxies   []*harness.Magent
	junctions map[*harness.Memcached]*harness.Junction
}

// startPair starts both, and waits until they know of each other.
func startPair(t *testing.T, args ...string) *pair {
	t.Helper()
	return startPairBefore(t, 1, 1, args...)
}

// startPairBefore is startPair with so many primaries and backups.
func startPairBefore(t *testing.T, primaries, backups int, args ...string) *pair {
	t.Helper()
	p := &pair{story: newStory(t, primaries, backups), junctions: make(map[*harness.Memcached]*harness.Junction)}
	markers := []string{"1001", "1002"}
	join := func(servers []*harness.Memcached) (addrs []string) {
		for _, m := range servers {
			p.junctions[m] = harness.NewJunction(t, m.Addr, "--max-clients="+markers[0], "--max-clients="+markers[1])
			addrs = append(addrs, p.junctions[m].Addr)
		}
		return addrs
	}
	cfg := harness.Config{Primaries: join(p.primaries), Backups: join(p.backups)}
	for _, marker := range markers {
		cfg.Args = append(slices.Clone(args), "--max-clients="+marker)
		p.proxies = append(p.proxies, harness.StartMagent(t, cfg))
	}
	p.awaitWhole(t)
	for m := range p.junctions {
		c := harness.MustDial(t, m.Addr)
		harness.Eventually(t, recovery, "both proxies have told of themselves", func() bool {
			value, _, err := c.Value(magentPrefix + "proxies")
			must(t, err)
			return len(slices.DeleteFunc([]byte(value), func(b byte) bool { return b != '\n' })) == 2
		})
	}
	return p
}

// link is the way of one proxy to a server.
func (p *pair) link(proxy int, m *harness.Memcached) *harness.Link {
	return p.junctions[m].Links[proxy]
}

// awaitOut waits until a proxy has taken a server out.
func (p *pair) awaitOut(t *testing.T, proxy int, m *harness.Memcached) {
	t.Helper()
	harness.Eventually(t, recovery, "the proxy has taken the server out", func() bool {
		return stateOf(t, p.proxies[proxy], p.junctions[m].Addr) == "dirty"
	})
}

// awaitWhole waits until redundancy is whole for both proxies.
func (p *pair) awaitWhole(t *testing.T) {
	t.Helper()
	for _, m := range p.proxies {
		awaitWhole(t, m)
	}
}
