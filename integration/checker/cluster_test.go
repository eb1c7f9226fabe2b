package checker

import (
	"math/rand/v2"
	"testing"
	"time"

	"magent/integration/harness"
)

// startPair starts a cluster with both magents.
func startPair(t *testing.T) *Cluster {
	t.Helper()
	c := startCluster(t, rand.New(rand.NewPCG(1, 1)), 2)
	if err := c.awaitWhole(); err != nil {
		t.Fatal(err)
	}
	return c
}

// One magent is cut off from a server, and the other one is not.
func TestEachMagentHasLinksOfItsOwn(t *testing.T) {
	c := startPair(t)
	for first := range c.magents {
		c.link(first, 1).Refuse()
		conn := harness.MustDial(t, c.magents[first].Addr)
		harness.Eventually(t, 10*time.Second, "the magent that is cut off sees it", func() bool {
			_ = conn.Set("key", "value")
			return c.states(c.magents[first])[1] != "up"
		})
		// A busy machine looks like a server that is out, for a moment.
		harness.Eventually(t, 10*time.Second, "the magent that is cut off uses A", func() bool {
			return c.states(c.magents[first])[0] == "up"
		})
		// It may know that the other one wrote without B.
		harness.Eventually(t, 10*time.Second, "the magent that is not cut off uses both", func() bool {
			got := c.states(c.magents[1-first])
			return got[0] == "up" && got[1] != "down" && got[1] != "dirty"
		})
		if ok, said := c.whole(); ok {
			t.Errorf("redundancy is said to be whole: %s", said)
		}
		c.link(first, 1).Heal()
		if err := c.awaitWhole(); err != nil {
			t.Fatal(err)
		}
	}
}

// The comparison of the servers finds what is on one of them only, other
// values, other flags and other times to live.
func TestComparisonFindsDifferences(t *testing.T) {
	c := startPair(t)
	a, b := harness.MustDial(t, c.servers[0].Addr), harness.MustDial(t, c.servers[1].Addr)
	store := func(conn *harness.Client, key, value string, flags uint32, exptime int) {
		t.Helper()
		if answer, err := conn.Store("set", key, flags, exptime, []byte(value)); err != nil || answer != "STORED" {
			t.Fatal(answer, err)
		}
	}
	store(a, "same", "x", 1, 100)
	store(b, "same", "x", 1, 100)
	store(a, "missing", "x", 0, 0)
	store(a, "value", "x", 0, 0)
	store(b, "value", "y", 0, 0)
	store(a, "flags", "x", 1, 0)
	store(b, "flags", "x", 2, 0)
	store(a, "expiry", "x", 0, 100)
	store(b, "expiry", "x", 0, 0)
	agreed, differ, err := c.compare([]string{"same", "absent", "missing", "value", "flags", "expiry"}, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if !agreed["same"].found || agreed["absent"].found || len(agreed) != 2 || len(differ) != 4 {
		t.Errorf("agreed %v, differ %v", agreed, differ)
	}
}
