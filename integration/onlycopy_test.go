package integration

import (
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
		for _, how := range []string{"as it was", "empty"} {
			t.Run(who+", its twin comes back "+how, func(t *testing.T) {
				t.Parallel()
				p := startPair(t, slices.Concat(hanging, []string{"--journal-keys", "20"})...)
				kept, twin := server(p.story), p.primary()
				if kept == twin {
					twin = p.backup()
				}
				p.link(1, kept).Partition()
				known := setAll(t, p.proxies[1], keysNamed("many:", 50), "<new>")
				p.awaitOut(t, 1, kept)
				stay, leave := keepAsking(t, p.proxies[0].Addr, "get nothing"), keepAsking(t, p.proxies[1].Addr, "delete nothing")
				defer stay()
				harness.Eventually(t, recovery, "the other proxy knows of it", func() bool {
					return stateOf(t, p.proxies[0], p.junctions[kept].Addr) == "warming"
				})
				leave()
				p.proxies[1].Crash()
				pause(t, 600*time.Millisecond) // until it would have given the next sign of it

				p.link(0, twin).Partition()
				first := harness.MustDial(t, p.proxies[0].Addr)
				must(t, first.Set("k", "the only copy"))
				flushes := kept.Stat("cmd_flush")
				// By then the proxy that has ended counts for nothing any more.
				over := time.Now().Add(5 * time.Second)
				harness.Eventually(t, recovery, "it is forgotten", func() bool {
					value, found, err := first.Value("k")
					if err == nil && (!found || value != "the only copy") || err != nil && !strings.Contains(err.Error(), "SERVER_ERROR") {
						t.Fatalf("k: %q, found %v, %v", value, found, err)
					}
					return time.Now().After(over)
				})
				if again := kept.Stat("cmd_flush"); again != flushes {
					t.Fatalf("the server that holds the only copy was flushed %d times", again-flushes)
				}
				expectValue(t, first, "k", "the only copy")

				if how == "empty" {
					twin.Restart()
				}
				p.link(0, twin).Heal()
				awaitWhole(t, p.proxies[0])
				expectValue(t, first, "k", "the only copy")
				all := p.awaitSame(t, 10*time.Second)
				if value := all["k"].value; value != "the only copy" {
					t.Fatalf("k is %q on both servers", value)
				}
				if how == "as it was" {
					expectHeld(t, all, known)
				}
			})
		}
	}
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
