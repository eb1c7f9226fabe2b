package integration

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"magent/integration/harness"
)

// While another proxy serves the same servers, one that has had nothing to do
// for a moment first asks what it has to know. A client that pipelines while a
// server stands still for such a moment is answered in full all the same.
//
// promise: R3, W6
func TestPipelinesBesideAnotherProxyAreAnswered(t *testing.T) {
	const requests = 1000
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, append([]string{"--threads", "1"}, patient...)...)
			s.second(t)
			setup := harness.MustDial(t, s.Addr)
			must(t, setup.Set("k", "v"))
			must(t, setup.Set("n", "0"))
			s.awaitSame(t, 10*time.Second)
			for round := range 3 {
				c := harness.MustDial(t, s.Addr)
				c.Timeout = 20 * time.Second
				var out []byte
				for i := range requests {
					if i%10 == 5 {
						out = append(out, "incr n 1\r\n"...)
						continue
					}
					out = append(out, "get k\r\n"...)
				}
				server(s).Freeze()
				must(t, c.Send(out))
				// Longer than a proxy trusts what it knows.
				still := time.Now().Add(400 * time.Millisecond)
				harness.Eventually(t, 10*time.Second, "the moment is over", func() bool { return time.Now().After(still) })
				server(s).Thaw()
				for i := range requests {
					if i%10 == 5 {
						want := strconv.Itoa(round*requests/10 + i/10 + 1)
						if answer, err := c.Line(); err != nil || answer != want {
							t.Fatalf("round %d, request %d: incr: %q, %v; want %s", round, i, answer, err, want)
						}
						continue
					}
					items, err := c.Values()
					if err != nil || len(items) != 1 || string(items[0].Value) != "v" {
						t.Fatalf("round %d, request %d: get: %v, %v", round, i, items, err)
					}
				}
			}
		})
	}
}

// One of two proxies is cut off from a server, and its clients write the same
// keys again and again. The clients of the other, which reaches both servers,
// see each of these writes soon, not only the first.
//
// promise: C6
func TestTheOtherProxySeesEveryWriteThatAServerMissed(t *testing.T) {
	const (
		rounds = 4
		keys   = 5
		soon   = 3 * time.Second // one second, and what a loaded machine adds
	)
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, hanging...)
			proxies, s := p.proxies, p.story
			cut, reaching := harness.MustDial(t, proxies[0].Addr), harness.MustDial(t, proxies[1].Addr)
			for i := range keys {
				must(t, cut.Set(fmt.Sprint("k", i), "0"))
			}
			s.awaitSame(t, 10*time.Second)
			stop := keepBusy(t, proxies[1].Addr)
			defer stop()

			direct := harness.MustDial(t, server(s).Addr)
			p.link(0, server(s)).Partition()
			for round := range rounds {
				want := strconv.Itoa(round + 1)
				for i := range keys {
					must(t, cut.Set(fmt.Sprint("k", i), want))
				}
				for i := range keys {
					key := fmt.Sprint("k", i)
					harness.Eventually(t, soon, fmt.Sprintf("the other proxy serves %s of %s", want, key), func() bool {
						value, found, err := reaching.Value(key)
						must(t, err)
						return found && value == want
					})
				}
				// The next round begins when the other proxy has mended the server,
				// if it does.
				harness.Poll(time.Second, func() bool {
					value, _, err := direct.Value("k0")
					must(t, err)
					return value == want
				})
			}
			p.link(0, server(s)).Heal()
			awaitWhole(t, proxies[0])
			awaitWhole(t, proxies[1])
			all := s.awaitSame(t, 10*time.Second)
			for i := range keys {
				if value := all[fmt.Sprint("k", i)].value; value != strconv.Itoa(rounds) {
					t.Fatalf("k%d is %q on both servers, want %d", i, value, rounds)
				}
			}
		})
	}
}

// A proxy is cut off from the one server and then from the other, and writes a
// key without the one and then without the other. The next proxy, which reaches
// both, can tell which of them got the last write.
//
// promise: C6, C7
func TestBothServersOfAKeyHaveMissedWrites(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, patient...)
			early := server(p.story)
			late := p.primary()
			if early == late {
				late = p.backup()
			}
			first := harness.MustDial(t, p.proxies[0].Addr)
			for _, key := range []string{"twice", "once"} {
				must(t, first.Set(key, "0"))
			}
			p.awaitSame(t, 10*time.Second)
			p.link(0, early).Refuse()
			for _, key := range []string{"twice", "once"} {
				must(t, first.Set(key, "1"))
			}
			p.awaitOut(t, 0, early)
			p.link(0, late).Refuse()
			p.link(0, early).Heal()
			harness.Eventually(t, recovery, "the proxy writes to the server that is back", func() bool {
				return first.Set("twice", "2") == nil
			})
			moved := time.Now().Add(500 * time.Millisecond) // an address does not move faster
			harness.Eventually(t, recovery, "the address has moved", func() bool { return time.Now().After(moved) })
			second := harness.MustDial(t, p.proxies[1].Addr)
			for key, want := range map[string]string{"twice": "2", "once": "1"} {
				if value, found, err := second.Value(key); err != nil || value != want {
					t.Fatalf("%s is %q, found %v, %v; want %s", key, value, found, err, want)
				}
			}
			p.link(0, late).Heal()
			p.awaitWhole(t)
			all := p.awaitSame(t, 10*time.Second)
			if all["twice"].value != "2" || all["once"].value != "1" {
				t.Fatalf("both servers hold %v", all)
			}
		})
	}
}

// keepBusy has a client read, so that its proxy is one with clients, until
// stop is called.
func keepBusy(t *testing.T, addr string) (stop func()) {
	t.Helper()
	end := make(chan struct{})
	result := make(chan error, 1)
	go func() {
		c, err := harness.Dial(addr)
		if err != nil {
			result <- err
			return
		}
		defer func() { _ = c.Close() }()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, _, err := c.Value("other"); ignoreServerError(err) != nil {
				result <- err
				return
			}
			select {
			case <-end:
				result <- nil
				return
			case <-tick.C:
			}
		}
	}()
	return sync.OnceFunc(func() {
		t.Helper()
		close(end)
		if err := <-result; err != nil {
			t.Errorf("the reading client: %v", err)
		}
	})
}
