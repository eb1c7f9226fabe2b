package integration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// A server has missed more writes than are known, of another proxy that may still
// have clients, so that it cannot be flushed yet. Then its twin falls out, and a write
// is stored on this server alone. It is flushed only when the twin has that write:
// whether the twin comes back as it was, or empty.
//
// promise: C5, C6, C7
func TestAServerIsNotFlushedBeforeItsTwinHasWhatOnlyItHolds(t *testing.T) {
	for who, server := range either {
		for _, how := range []string{"as it was", "empty", "late"} {
			t.Run(who+", its twin comes back "+how, func(t *testing.T) {
				t.Parallel()
				l := startLoss(t, server)
				l.leave()
				l.proxies[1].Crash()
				// Until it would have given the next sign of it; later, the server is about to be
				// flushed as the write is under way.
				pause(t, map[bool]time.Duration{false: 600 * time.Millisecond, true: time.Second}[how == "late"])

				l.link(0, l.twin).Partition()
				harness.Eventually(t, recovery, "the write is stored", func() bool {
					err := l.first.Set("k", "the only copy")
					must(t, ignoreServerError(err))
					return err == nil
				})
				flushes := l.kept.Stat("cmd_flush")
				l.stays(t, 5*time.Second, "the only copy") // by then the other proxy counts for nothing
				if again := l.kept.Stat("cmd_flush"); again != flushes {
					t.Fatalf("the server that holds the only copy was flushed %d times", again-flushes)
				}
				expectValue(t, l.first, "k", "the only copy")

				if how == "empty" {
					l.twin.Restart()
				}
				l.link(0, l.twin).Heal()
				awaitWhole(t, l.proxies[0])
				expectValue(t, l.first, "k", "the only copy")
				all := l.awaitSame(t, 10*time.Second)
				if value := all["k"].value; value != "the only copy" {
					t.Fatalf("k is %q on both servers", value)
				}
				if how != "empty" {
					expectHeld(t, all, l.known)
				}
			})
		}
	}
}

// The same, but the other proxy goes on writing on the twin alone, which the first one
// cannot reach. Nothing tells which keys it has written, only when: what the first one
// has written before that does not undo it. Nobody knows which is right, so a miss is.
//
// promise: C1, C6
func TestWhatAnotherProxyHasWrittenSinceIsNotUndone(t *testing.T) {
	for who, server := range either {
		for _, how := range []string{"", "flushed meanwhile", "upgraded meanwhile"} {
			t.Run(who+", "+how, func(t *testing.T) {
				t.Parallel()
				l := startLoss(t, server, "--threads", "1") // a second loop would tell of the loss anew
				second := harness.MustDial(t, l.proxies[1].Addr)
				l.link(0, l.twin).Partition()
				if how == "flushed meanwhile" { // when nothing is heard of the other proxy any more
					flushes := l.kept.Stat("cmd_flush")
					harness.Eventually(t, recovery, "the server is flushed", func() bool {
						_, _ = l.first.Command("delete nothing")
						return l.kept.Stat("cmd_flush") > flushes && stateOf(t, l.proxies[0], l.junctions[l.kept].Addr) == "warming"
					})
				}
				must(t, l.first.Set("k", "before"))
				l.awaitOut(t, 0, l.twin)
				l.stays(t, 500*time.Millisecond, "before") // a clock may be behind
				must(t, second.Set("k", "last"))
				l.stays(t, 500*time.Millisecond, "before") // until it has told that it has written
				l.leave()
				l.stays(t, 3*time.Second, "before") // it has no clients any more
				if how == "upgraded meanwhile" {
					upgrade(t, &story{Magent: l.proxies[0]})
					l.first = harness.MustDial(t, l.proxies[0].Addr)
					l.stays(t, time.Second, "before")
				}

				l.link(0, l.twin).Heal()
				awaitWhole(t, l.proxies[0])
				l.link(1, l.kept).Heal()
				l.awaitWhole(t)
				all := l.awaitSame(t, 10*time.Second)
				if k, found := all["k"]; found && k.value != "last" {
					t.Fatalf("k is %q on both servers, want what was written last, or nothing", k.value)
				}
				expectHeld(t, all, l.known)
			})
		}
	}
}

// Each of two proxies is cut off from one server. One has missed more than is known,
// and its clients go to the other one, which does not know of that yet. What they write
// there, on one server alone, comes after it, and is not lost when the links are back.
//
// promise: C5, C6, C7
func TestWritesBehindALossThatIsNotKnownYet(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, slices.Concat(hanging, []string{"--journal-keys", "20"})...)
			kept, twin := server(p.story), p.primary()
			if kept == twin {
				twin = p.backup()
			}
			p.link(0, twin).Partition()
			p.link(1, kept).Partition()
			known := setAll(t, p.proxies[1], keysNamed("many:", 50), "<new>")
			p.awaitOut(t, 1, kept)
			pause(t, 600*time.Millisecond) // an address does not move faster
			maps.Copy(known, setAll(t, p.proxies[0], keysNamed("after:", 10), "<after>"))
			p.awaitOut(t, 0, twin)

			p.link(0, twin).Heal()
			awaitWhole(t, p.proxies[0])
			p.link(1, kept).Heal()
			p.awaitWhole(t)
			p.serves(t, known)
			expectHeld(t, p.awaitSame(t, 10*time.Second), known)
		})
	}
}

// A write is stored on one server alone. Then that one falls out, its twin is there
// again without it, and so many other keys are written there that nobody knows any more
// what the first one has missed. It still holds the only copy, which is not lost.
//
// promise: C5, C6, C7
func TestTheOnlyCopyOutlivesALossThatComesLater(t *testing.T) {
	for who, server := range either {
		for _, upgraded := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, upgraded meanwhile: %v", who, upgraded), func(t *testing.T) {
				t.Parallel()
				s := startStory(t, 1, 1, slices.Concat(hanging, []string{"--journal-keys", "20", "--lost-after", "5m"})...)
				c := harness.MustDial(t, s.Addr)
				must(t, c.Set("k", "old"))
				s.awaitSame(t, recovery)
				holder := server(s)
				s.writeAlone(t, c, holder)
				known := setAll(t, s.Magent, keysNamed("many:", 50), "<new>")
				stats := serverStats(t, s.Magent)
				if stats[s.name(holder)+":journal_overflow"] != "yes" {
					t.Fatal("all that the server has missed is known")
				}
				if upgraded {
					upgrade(t, s)
					c = harness.MustDial(t, s.Addr)
				}
				if answer, err := c.Command("get k"); !strings.HasPrefix(answer, "SERVER_ERROR") {
					t.Errorf("while the only copy is out, get is answered %q, %v", answer, err)
				}
				s.links[holder].Heal()
				awaitWhole(t, s.Magent)
				expectValue(t, c, "k", "v")
				all := s.awaitSame(t, 10*time.Second)
				if all["k"].value != "v" {
					t.Errorf("k is %q on both servers", all["k"].value)
				}
				expectHeld(t, all, known)
			})
		}
	}
}

// writeAlone stores v in k on one server alone, and then has the other one serve alone.
func (s *story) writeAlone(t *testing.T, c *harness.Client, holder *harness.Memcached) {
	t.Helper()
	other := s.primary()
	if other == holder {
		other = s.backup()
	}
	s.links[other].Partition()
	s.awaitGone(t, other)
	must(t, c.Set("k", "v"))
	s.links[holder].Partition()
	s.links[other].Heal()
	harness.Eventually(t, recovery, "the other server serves alone", func() bool {
		_, _ = c.Command("get x")
		return stateOf(t, s.Magent, s.name(other)) == "warming" && stateOf(t, s.Magent, s.name(holder)) == "down"
	})
}

// loss is a pair of which one proxy has missed more writes of a server than are known;
// the other one reaches that server, and has a client.
type loss struct {
	*pair
	kept, twin *harness.Memcached
	first      *harness.Client // of the proxy that reaches it
	known      map[string]held
	leave      func() // has the clients of the other proxy go
}

func startLoss(t *testing.T, server func(*story) *harness.Memcached, args ...string) *loss {
	t.Helper()
	l := &loss{pair: startPair(t, slices.Concat(hanging, []string{"--journal-keys", "20"}, args)...)}
	if l.kept, l.twin = server(l.story), l.primary(); l.kept == l.twin {
		l.twin = l.backup()
	}
	l.link(1, l.kept).Partition()
	l.known = setAll(t, l.proxies[1], keysNamed("many:", 50), "<new>")
	l.awaitOut(t, 1, l.kept)
	t.Cleanup(keepAsking(t, l.proxies[0].Addr, "get nothing"))
	l.leave = keepAsking(t, l.proxies[1].Addr, "delete nothing")
	harness.Eventually(t, recovery, "the other proxy knows of it", func() bool {
		return stateOf(t, l.proxies[0], l.junctions[l.kept].Addr) == "warming"
	})
	l.first = harness.MustDial(t, l.proxies[0].Addr)
	return l
}

// stays checks for a while that the first proxy's clients find nothing else in k; the
// proxy may say that it does not know.
func (l *loss) stays(t *testing.T, while time.Duration, want string) {
	t.Helper()
	over := time.Now().Add(while)
	harness.Eventually(t, while+recovery, "time passes", func() bool {
		value, found, err := l.first.Value("k")
		if err == nil && (!found || value != want) || err != nil && !strings.Contains(err.Error(), "SERVER_ERROR") {
			t.Fatalf("k: %q, found %v, %v; want %q", value, found, err, want)
		}
		return time.Now().After(over)
	})
}

// keepAsking has a client of a proxy ask something again and again, whatever it is
// answered.
func keepAsking(t *testing.T, addr, line string) (stop func()) {
	t.Helper()
	end, ended := make(chan struct{}), make(chan struct{})
	c := harness.MustDial(t, addr)
	go func() {
		defer close(ended)
		for {
			if _, err := c.Command("%s", line); err != nil {
				return
			}
			select {
			case <-end:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}
