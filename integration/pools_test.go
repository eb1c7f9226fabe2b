package integration

import (
	"testing"

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
