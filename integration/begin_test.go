package integration

import (
	"fmt"
	"strconv"
	"testing"

	"magent/integration/harness"
)

// A proxy that is the only one gives a server what it has missed, when another one
// begins and gets clients at once, who write the same keys. They read what they have
// written, and not what the first one is still copying.
//
// promise: C1, C6
func TestAProxyBeginsWhileAnotherOneReplays(t *testing.T) {
	const keys, rate = 2500, 150_000 // few enough for a record; bytes of copies a second
	s := newStory(t, 1, 1)
	markers := []string{"1001", "1002"}
	junctions := map[*harness.Memcached]*harness.Junction{}
	for m := range s.links {
		junctions[m] = harness.NewJunction(t, m.Addr, "--max-clients="+markers[0], "--max-clients="+markers[1])
	}
	start := func(proxy int) *harness.Magent {
		return harness.StartMagent(t, harness.Config{
			Primaries: []string{junctions[s.primary()].Addr}, Backups: []string{junctions[s.backup()].Addr},
			Args: []string{"--max-clients=" + markers[proxy]},
		})
	}
	first := start(0)
	awaitWhole(t, first)
	var names []string
	for i := range keys {
		names = append(names, fmt.Sprint("k", i))
	}
	setAll(t, first, names, "0")
	link := junctions[s.primary()].Links[0]
	link.Refuse()
	setAll(t, first, names, "1")
	link.Heal()
	link.SlowRequests(rate)
	direct := harness.MustDial(t, s.primary().Addr)
	harness.Eventually(t, recovery, "the first proxy replays", func() bool {
		items, err := direct.Get(names...)
		must(t, err)
		for _, it := range items {
			if string(it.Value) == "1" {
				return true
			}
		}
		return false
	})
	second := start(1)
	c := harness.MustDial(t, second.Addr)
	for round := range 5 {
		want := strconv.Itoa(round + 2)
		setAll(t, second, names, want)
		for range 3 {
			items, err := c.Get(names...)
			must(t, err)
			if len(items) != keys {
				t.Fatalf("round %d: %d of %d keys are there", round, len(items), keys)
			}
			for _, it := range items {
				if string(it.Value) != want {
					t.Fatalf("%s is %s, want %s", it.Key, it.Value, want)
				}
			}
		}
	}
	awaitWhole(t, second) // which wakes it up again and again
	awaitWhole(t, first)
	for key, h := range s.awaitSame(t, recovery) {
		if h.value != "6" {
			t.Fatalf("%s is %s on both servers, want 6", key, h.value)
		}
	}
}
