package integration

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"magent/integration/harness"
)

// upgrade has magent go on as the program in its file, which is the same one.
func upgrade(t *testing.T, s *story) {
	t.Helper()
	serving := func() int { return strings.Count(s.Output(), `"message":"serving"`) }
	before := serving()
	s.Signal(syscall.SIGUSR2)
	harness.Eventually(t, 20*time.Second, "the next program serves", func() bool { return serving() > before })
}

// An upgrade while a server is out and has missed writes: the next program
// knows what is to be replayed, and replays it.
//
// promise: C6, L7
func TestUpgradeWhileAServerHasMissedWrites(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, hanging...)
			cut := server(s)
			known := fill(t, s.Magent, "still:", 1000)
			c := harness.MustDial(t, s.Addr)
			for i := range 100 {
				must(t, c.Set(fmt.Sprint("number:", i), strconv.Itoa(1000+i)))
			}
			s.awaitSame(t, 10*time.Second)
			s.links[cut].Partition()
			s.awaitGone(t, cut)
			must(t, s.change(c, known))
			journal := func() int {
				n, err := strconv.Atoi(serverStats(t, s.Magent)[s.name(cut)+":journal_keys"])
				must(t, err)
				return n
			}
			before := journal()
			if before < 270 { // the keys that story.change writes
				t.Fatalf("%d keys in the journal before the upgrade, want 270", before)
			}
			stored := storedItems(cut)
			upgrade(t, s)
			if after := journal(); after < before {
				t.Fatalf("%d keys in the journal before the upgrade, %d after it", before, after)
			}
			s.awaitUsed(t, cut)
			reading := startReaders(t, s.Addr, 5, known)
			gone := neverAgain(t, s.Addr, deletedKeys())
			awaitRequests(t, s.Magent, 200)
			s.links[cut].Cut() // what is on its way arrives no more
			s.links[cut].Heal()
			awaitWhole(t, s.Magent)
			reading.wasRight(t)
			gone()
			if n := journal(); n != 0 {
				t.Errorf("%d keys in the journal when all is whole again", n)
			}
			all := s.awaitSame(t, 10*time.Second)
			expectHeld(t, all, known)
			for i := range 100 {
				if key, want := fmt.Sprint("number:", i), strconv.Itoa(1005+i); all[key].value != want {
					t.Fatalf("%s is %q, want %s", key, all[key].value, want)
				}
			}
			expect(t, c, "incr number:0 1", "1006") // the client from before the upgrade
			copied, flushes := storedItems(cut)-stored, cut.Stat("cmd_flush")
			if flushes > 0 || copied > 2*271+60 {
				t.Errorf("%d flushes and %d copied items; 271 keys were written while the server was away", flushes, copied)
			}
		})
	}
}

// A server is out, and writes that had no effect were made without it: that is not known
// to be nothing, so it is dirty, and lacks nothing. An upgrade leaves it that: it is not
// flushed, and what it alone holds is not lost.
//
// promise: C7, L7
func TestUpgradeWhileAServerIsDirtyAndHasMissedNothing(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, slices.Concat(hanging, []string{"--lost-after", "5m"})...)
			c := harness.MustDial(t, s.Addr)
			known := setAll(t, s.Magent, keysNamed("still:", 100), "<kept>")
			must(t, c.Set("k", "old"))
			s.awaitSame(t, recovery)
			holder := server(s)
			s.writeAlone(t, c, holder)
			expect(t, c, "incr nothing 1", "NOT_FOUND")
			expect(t, c, "decr nothing 1", "NOT_FOUND")
			upgrade(t, s)
			c = harness.MustDial(t, s.Addr)
			if overflow := serverStats(t, s.Magent)[s.name(holder)+":journal_overflow"]; overflow != "no" {
				t.Errorf("the server counts as one that has missed more than is known")
			}
			s.links[holder].Cut() // what is on its way arrives no more
			s.links[holder].Heal()
			awaitWhole(t, s.Magent)
			expectValue(t, c, "k", "v")
			if n := holder.Stat("cmd_flush"); n > 0 {
				t.Errorf("it was flushed %d times", n)
			}
			expectHeld(t, s.awaitSame(t, 10*time.Second), known)
		})
	}
}
