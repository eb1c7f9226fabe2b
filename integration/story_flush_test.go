package integration

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"magent/integration/harness"
)

// neverAgain has clients read keys that were flushed until stop is called,
// which fails the test if one was seen.
func neverAgain(t *testing.T, addr string, keys []string) (stop func()) {
	t.Helper()
	end := make(chan struct{})
	result := make(chan error, 1)
	go func() {
		result <- groupErr(4, func(i int) error {
			c, err := harness.Dial(addr)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			for at := i * 1000; ; at += 37 {
				select {
				case <-end:
					return nil
				default:
				}
				at %= len(keys)
				items, err := c.Get(keys[at:min(at+37, len(keys))]...)
				if err != nil {
					return err
				}
				if len(items) > 0 {
					return fmt.Errorf("%s is %s after the flush_all", items[0].Key, short(string(items[0].Value)))
				}
			}
		})
	}()
	return func() {
		t.Helper()
		close(end)
		must(t, <-result)
	}
}

// afterFlush stores something new, waits until redundancy is whole and wants
// that both servers hold that and nothing older.
func afterFlush(t *testing.T, s *story, old []string) {
	t.Helper()
	c := harness.MustDial(t, s.Addr)
	stop := neverAgain(t, s.Addr, old)
	fresh := keysNamed("fresh:", 50)
	for _, key := range fresh {
		must(t, c.Set(key, "new"))
	}
	awaitWhole(t, s.Magent)
	stop()
	all := s.awaitSame(t, 10*time.Second)
	for _, key := range fresh {
		if all[key].value != "new" {
			t.Fatalf("%s was stored after the flush_all and holds %q", key, all[key].value)
		}
	}
	for _, key := range old {
		if h, found := all[key]; found {
			t.Fatalf("%s is %s on both servers after the flush_all", key, short(h.value))
		}
	}
}

// promise: C11, C6
func TestFlushAllWhileAServerIsCutOffAndDirty(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, hanging...)
			cut := server(s)
			fill(t, s.Magent, "old:", 500)
			s.awaitSame(t, 10*time.Second)
			s.links[cut].Partition()
			s.awaitGone(t, cut)
			fill(t, s.Magent, "missed:", 100) // in the journal when the flush comes
			c := harness.MustDial(t, s.Addr)
			expect(t, c, "flush_all", "OK")
			s.links[cut].Heal()
			afterFlush(t, s, append(keysNamed("old:", 500), keysNamed("missed:", 100)...))
		})
	}
}

// promise: C11, C7
func TestFlushAllWhileAServerIsDead(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, patient...)
			dead := server(s)
			fill(t, s.Magent, "old:", 500)
			dead.Kill()
			s.awaitGone(t, dead)
			c := harness.MustDial(t, s.Addr)
			expect(t, c, "flush_all", "OK")
			dead.Restart()
			afterFlush(t, s, keysNamed("old:", 500))
		})
	}
}

// promise: C11, C7
func TestFlushAllWhileAResyncRuns(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, append([]string{"--resync-rate", "2000"}, patient...)...)
			dead := server(s)
			const n = 8000
			fill(t, s.Magent, "old:", n)
			dead.Kill()
			s.awaitGone(t, dead)
			dead.Restart()
			harness.Eventually(t, recovery, "the resync is under way", func() bool {
				stats := serverStats(t, s.Magent)
				done, _ := strconv.Atoi(stats[s.name(dead)+":resync_done"])
				return done > 500 || stats[s.name(dead)+":state"] == "up"
			})
			if state := stateOf(t, s.Magent, s.name(dead)); state != "warming" {
				t.Fatalf("the server is %s before the flush_all, want warming", state)
			}
			c := harness.MustDial(t, s.Addr)
			expect(t, c, "flush_all", "OK")
			afterFlush(t, s, keysNamed("old:", n))
		})
	}
}

// A flush_all with a delay, asked for while a server is away, also empties
// that one, whether it comes back before the moment or after it.
//
// promise: C11, C6, C7
func TestDelayedFlushAllWhileAServerIsAway(t *testing.T) {
	for _, back := range []string{"before the moment", "after the moment"} {
		for _, how := range []string{"killed", "cut off"} {
			for who, server := range either {
				t.Run(who+" "+how+", "+back, func(t *testing.T) {
					t.Parallel()
					s := startStory(t, 1, 1, hanging...)
					away := server(s)
					const n = 300
					fill(t, s.Magent, "old:", n)
					s.awaitSame(t, 10*time.Second)
					if how == "killed" {
						away.Kill()
					} else {
						s.links[away].Partition()
					}
					s.awaitGone(t, away)
					fill(t, s.Magent, "missed:", n)
					delay := 4
					if back == "after the moment" {
						delay = 1
					}
					c := harness.MustDial(t, s.Addr)
					expect(t, c, fmt.Sprint("flush_all ", delay), "OK")
					moment := time.Now().Add(time.Duration(delay) * time.Second)
					over := func() bool { return time.Now().After(moment.Add(5 * time.Second)) }
					if back == "after the moment" {
						harness.Eventually(t, 20*time.Second, "the moment is over", over)
					}
					if how == "killed" {
						away.Restart()
					} else {
						s.links[away].Heal()
					}
					harness.Eventually(t, 20*time.Second, "the moment is over", over)
					afterFlush(t, s, append(keysNamed("old:", n), keysNamed("missed:", n)...))
				})
			}
		}
	}
}

// Clients flush while a server dies and comes back, again and again: nothing
// that was confirmed before a flush_all is seen after it.
//
// promise: C11, C6, C7
func TestFlushAllWhileServersComeBack(t *testing.T) {
	s := startStory(t, 1, 1, withoutFalseAlarms...)
	c := harness.MustDial(t, s.Addr)
	const n = 200
	keys := keysNamed("round:", n)
	for round := range 6 {
		for _, key := range keys {
			must(t, c.Set(key, strconv.Itoa(round)))
		}
		dead := s.primary()
		if round%2 == 1 {
			dead = s.backup()
		}
		dead.Kill()
		if round < 4 {
			s.awaitGone(t, dead)
		}
		dead.Restart()
		expect(t, c, "flush_all", "OK")
		items, err := c.Get(keys...)
		must(t, err)
		if len(items) > 0 {
			t.Fatalf("round %d: %s is %q after flush_all", round, items[0].Key, items[0].Value)
		}
		awaitWhole(t, s.Magent)
		if items, err = c.Get(keys...); err != nil || len(items) > 0 {
			t.Fatalf("round %d: %d values after flush_all and recovery, %v", round, len(items), err)
		}
		s.awaitSame(t, 10*time.Second)
	}
}

// A flush_all that reaches no server has failed, and is not made up for: what another
// proxy has written since would be lost.
//
// promise: C4, C11
func TestFlushAllThatReachesNoServer(t *testing.T) {
	p := startPair(t, hanging...)
	a, b := harness.MustDial(t, p.proxies[0].Addr), harness.MustDial(t, p.proxies[1].Addr)
	must(t, a.Set("before", "1"))
	for _, m := range []*harness.Memcached{p.primary(), p.backup()} {
		p.link(0, m).Partition()
	}
	for m, junction := range p.junctions {
		harness.Eventually(t, recovery, m.Addr+" is out", func() bool {
			state := stateOf(t, p.proxies[0], junction.Addr)
			return state == "down" || state == "dirty"
		})
	}
	expect(t, a, "flush_all", "SERVER_ERROR no server is reachable to flush "+p.junctions[p.primary()].Addr)
	must(t, b.Set("since", "2"))
	for _, m := range []*harness.Memcached{p.primary(), p.backup()} {
		p.link(0, m).Heal()
	}
	p.awaitWhole(t)
	for _, c := range []*harness.Client{a, b} {
		for key, want := range map[string]string{"before": "1", "since": "2"} {
			value, found, err := c.Value(key)
			if err != nil || !found || value != want {
				t.Errorf("get %s: %q, found %v, %v; want %s", key, value, found, err, want)
			}
		}
	}
	for _, m := range []*harness.Memcached{p.primary(), p.backup()} {
		if n := m.Stat("cmd_flush"); n != 0 {
			t.Errorf("%s was flushed %d times", m.Addr, n)
		}
	}
}
