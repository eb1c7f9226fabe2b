package integration

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"magent/integration/harness"
)

// Whatever is out when a flush_all is due, that serves nothing older when it is back, and
// nothing that was written afterwards is lost. So it is where the proxy that got the
// command has died since, and where its clients have gone to another one.
//
// promise: C6, C7, C11
func TestWhateverIsOutWhenAFlushAllIsDue(t *testing.T) {
	for who, server := range either {
		for _, since := range []string{"before", "behind"} {
			for _, how := range []string{"alone", "beside another", "crashed"} {
				t.Run(fmt.Sprintf("%s, out %s the command, the proxy is %s", who, since, how), func(t *testing.T) {
					t.Parallel()
					out := func(s *story) []*harness.Memcached { return []*harness.Memcached{server(s)} }
					withDelay(t, 10*time.Second, func(delay time.Duration) bool { return runDelayedFlush(t, delay, how, since == "before", out) })
				})
			}
		}
	}
	for _, how := range []string{"alone", "beside another", "crashed"} {
		t.Run("both, the proxy is "+how, func(t *testing.T) {
			t.Parallel()
			out := func(s *story) []*harness.Memcached { return []*harness.Memcached{s.primary(), s.backup()} }
			withDelay(t, 10*time.Second, func(delay time.Duration) bool { return runDelayedFlush(t, delay, how, false, out) })
		})
	}
}

// runDelayedFlush has a proxy told to flush with a delay. Some servers are out when that
// is due, and maybe before the command. It returns false when that takes longer than the
// delay.
func runDelayedFlush(t *testing.T, delay time.Duration, how string, before bool, out func(s *story) []*harness.Memcached) (inTime bool) {
	t.Helper()
	p := &pair{}
	args := slices.Concat(hanging, []string{"--lost-after", "5m"})
	if how == "alone" {
		p.story = startStory(t, 1, 1, args...)
		p.proxies = []*harness.Magent{p.Magent}
	} else {
		p = startPair(t, args...)
	}
	link := func(proxy int, m *harness.Memcached) *harness.Link {
		if p.junctions == nil {
			return p.links[m]
		}
		return p.link(proxy, m)
	}
	each := func(do func(proxy int, m *harness.Memcached)) {
		for proxy := range p.proxies {
			for _, m := range out(p.story) {
				do(proxy, m)
			}
		}
	}
	takeOut := func() {
		each(func(proxy int, m *harness.Memcached) { link(proxy, m).Partition() })
		each(func(proxy int, m *harness.Memcached) {
			c := harness.MustDial(t, p.proxies[proxy].Addr)
			harness.Eventually(t, recovery, "the server is out", func() bool {
				_, _ = c.Command("touch awaiting-out 0")
				state := stateOf(t, p.proxies[proxy], p.knownAs(m))
				return state == "down" || state == "dirty"
			})
		})
	}
	last := p.proxies[len(p.proxies)-1] // which serves the clients in the end
	first, c := harness.MustDial(t, p.proxies[0].Addr), harness.MustDial(t, last.Addr)
	must(t, first.Set("k", "old"))
	p.awaitSame(t, recovery)
	if before {
		takeOut()
	}
	expect(t, first, fmt.Sprintf("flush_all %.0f", delay.Seconds()), "OK")
	due := time.Now().Add(delay)
	pause(t, 600*time.Millisecond) // by then the other proxy has heard of it
	if !before {
		takeOut()
	}
	if how == "crashed" {
		p.proxies[0].Crash()
		p.proxies = p.proxies[1:]
		plain := link
		link = func(_ int, m *harness.Memcached) *harness.Link { return plain(1, m) }
	}
	if soon(due) {
		return false
	}
	over(t, due)
	after := map[string]held{}
	if len(out(p.story)) == 1 {
		expectMiss(t, c, "k")
		after = setAll(t, last, keysNamed("after:", 50), "<new>")
	}
	each(func(proxy int, m *harness.Memcached) { link(proxy, m).Heal() })
	end := time.Now().Add(4 * time.Second)
	harness.Eventually(t, recovery, "time passes", func() bool {
		must(t, ignoreServerError(c.Set("writing", "x")))
		if value, found, err := c.Value("k"); found || ignoreServerError(err) != nil {
			t.Fatalf("k is %q, %v", value, err)
		}
		return time.Now().After(end)
	})
	for _, m := range p.proxies {
		awaitWhole(t, m)
	}
	for key, h := range after {
		expectValue(t, c, key, h.value)
	}
	all := p.awaitSame(t, 10*time.Second)
	if h, found := all["k"]; found {
		t.Errorf("both servers hold k: %q", h.value)
	}
	expectHeld(t, all, after)
	return true
}

// knownAs is the address by which the proxies know a server.
func (p *pair) knownAs(m *harness.Memcached) string {
	if p.junctions == nil {
		return p.name(m)
	}
	return p.junctions[m].Addr
}

// ignoreServerError drops an error that magent has answered.
func ignoreServerError(err error) error {
	var answer *harness.AnswerError
	if errors.As(err, &answer) {
		return nil
	}
	return err
}

// No magent runs when a flush_all is due. The next one serves nothing older, and loses
// nothing that its clients write from the first moment on.
//
// promise: C7, C11
func TestAFlushAllIsDueWithoutMagent(t *testing.T) {
	for _, how := range []string{"crashed", "stopped"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, withoutFalseAlarms...)
			c := harness.MustDial(t, s.Addr)
			must(t, c.Set("k", "old"))
			s.awaitSame(t, recovery)
			const delay = 2
			expect(t, c, fmt.Sprint("flush_all ", delay), "OK")
			due := time.Now().Add(delay * time.Second)
			if how == "crashed" {
				pause(t, 300*time.Millisecond) // what was answered is on the servers then
				s.Crash()
			} else {
				s.Stop()
			}
			over(t, due)
			s.Magent = s.second(t)
			c = harness.MustDial(t, s.Addr)
			harness.Eventually(t, recovery, "a server is flushed and serves", func() bool {
				value, found, err := c.Value("k")
				if found {
					t.Fatalf("k is %q", value)
				}
				must(t, ignoreServerError(err))
				return err == nil
			})
			must(t, c.Set("new", "x"))
			end := time.Now().Add(3 * time.Second)
			harness.Eventually(t, recovery, "time passes", func() bool {
				expectMiss(t, c, "k")
				expectValue(t, c, "new", "x")
				return time.Now().After(end)
			})
			awaitWhole(t, s.Magent)
			if all := s.awaitSame(t, 10*time.Second); len(all) != 1 || all["new"].value != "x" {
				t.Errorf("the servers hold %d keys", len(all))
			}
		})
	}
}

// A flush_all that is called off by another one, with a delay or without, does not come
// back with a server that was out meanwhile.
//
// promise: C7, C11
func TestADelayedFlushAllThatIsCalledOff(t *testing.T) {
	for who, server := range either {
		for _, other := range []string{"flush_all", "flush_all 3600"} {
			t.Run(who+" out, "+other, func(t *testing.T) {
				t.Parallel()
				withDelay(t, 10*time.Second, func(delay time.Duration) bool { return calledOff(t, delay, server, other) })
			})
		}
	}
}

// calledOff has another flush_all call one off. It returns false when that takes longer
// than the delay.
func calledOff(t *testing.T, delay time.Duration, server func(*story) *harness.Memcached, other string) (inTime bool) {
	t.Helper()
	s := startStory(t, 1, 1, hanging...)
	c := harness.MustDial(t, s.Addr)
	s.awaitSame(t, recovery)
	expect(t, c, fmt.Sprintf("flush_all %.0f", delay.Seconds()), "OK")
	due := time.Now().Add(delay)
	pause(t, 500*time.Millisecond)
	s.links[server(s)].Partition()
	s.awaitGone(t, server(s))
	expect(t, c, other, "OK")
	s.links[server(s)].Heal()
	awaitWhole(t, s.Magent)
	must(t, c.Set("k", "after"))
	if soon(due) {
		return false
	}
	over(t, due)
	expectValue(t, c, "k", "after")
	awaitWhole(t, s.Magent)
	if all := s.awaitSame(t, 10*time.Second); all["k"].value != "after" {
		t.Errorf("k is %q on both servers", all["k"].value)
	}
	return true
}

// The proxy that runs a flush_all cannot reach one server, which another proxy uses. That
// one flushes the server that has missed it, and not the other one, where clients have
// written since.
//
// promise: C7, C11
func TestAFlushAllThatIsDueIsRunOnce(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, slices.Concat(hanging, []string{"--lost-after", "5m"})...)
			missing := server(p.story)
			first, second := harness.MustDial(t, p.proxies[0].Addr), harness.MustDial(t, p.proxies[1].Addr)
			must(t, second.Set("k", "old"))
			p.awaitSame(t, recovery)
			const delay = 4
			expect(t, second, fmt.Sprint("flush_all ", delay), "OK")
			due := time.Now().Add(delay * time.Second)
			pause(t, 500*time.Millisecond)
			p.link(1, missing).Partition()
			write := func(c *harness.Client, end time.Time) {
				harness.Eventually(t, recovery, "time passes", func() bool {
					must(t, ignoreServerError(c.Set("writing", "x")))
					return time.Now().After(end)
				})
			}
			write(second, due.Add(1500*time.Millisecond))
			after := setAll(t, p.proxies[1], keysNamed("after:", 50), "<new>")
			write(first, time.Now().Add(4*time.Second))
			for key, h := range after {
				expectValue(t, first, key, h.value)
			}
			expectMiss(t, first, "k")
			p.link(1, missing).Heal()
			p.awaitWhole(t)
			expectHeld(t, p.awaitSame(t, 10*time.Second), after)
		})
	}
}
