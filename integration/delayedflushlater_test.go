package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// over waits until a moment is over, in which memcached counts whole seconds.
func over(t *testing.T, moment time.Time) {
	t.Helper()
	end := moment.Add(4 * time.Second)
	harness.Eventually(t, time.Until(end)+recovery, "the moment is over", func() bool { return time.Now().After(end) })
}

// soon tells whether a moment is too near for anything to be done before.
func soon(moment time.Time) bool { return time.Until(moment) < 2*time.Second }

// withDelay runs a test of a delayed flush_all, and anew with a longer delay where this
// machine is too slow: run returns false then, and has judged nothing.
func withDelay(t *testing.T, delay time.Duration, run func(delay time.Duration) (inTime bool)) {
	t.Helper()
	for range 3 {
		if run(delay) {
			return
		}
		delay *= 3
	}
	t.Fatalf("this machine is too slow for a delay of %v", delay/3)
}

// missMore cuts a server off, changes k and deletes gone without it, and writes more
// keys than can be told, so that it is flushed when it is back.
func (s *story) missMore(t *testing.T, c *harness.Client, cut *harness.Memcached) {
	t.Helper()
	s.links[cut].Partition()
	s.awaitGone(t, cut)
	must(t, c.Set("k", "new"))
	// On a slow machine a flush_all that is to come has taken it already.
	if answer, err := c.Command("delete gone"); err != nil || answer != "DELETED" && answer != "NOT_FOUND" {
		t.Fatalf("delete gone: %q, %v", answer, err)
	}
	for _, key := range keysNamed("many:", 50) {
		must(t, c.Set(key, "x"))
	}
	flushes := cut.Stat("cmd_flush")
	s.links[cut].Cut()
	s.links[cut].Heal()
	awaitWhole(t, s.Magent)
	if cut.Stat("cmd_flush") == flushes {
		t.Fatal("the server was not flushed")
	}
}

// A server that magent has flushed hides what it held, and would show it again if it
// were sent a flush_all with a delay: memcached keeps one time for both. Nothing old is
// seen, whether such a flush_all was to come already, or comes then, and it empties both
// servers when it is due.
//
// promise: C6, C11
func TestNothingComesBackWithADelayedFlushAll(t *testing.T) {
	for who, server := range either {
		for _, when := range []string{"before", "after"} {
			for _, end := range []string{"upgraded", "stopped", "goes on"} {
				t.Run(fmt.Sprintf("%s flushed, the command comes %s, magent %s", who, when, end), func(t *testing.T) {
					t.Parallel()
					withDelay(t, 8*time.Second, func(delay time.Duration) bool { return flushedBefore(t, delay, when, server, ends[end]) })
				})
			}
		}
	}
}

// flushedBefore has magent flush a server, with a flush_all to come or one that comes
// afterwards, and changes magent before that is due. It returns false when that takes
// longer than the delay.
func flushedBefore(t *testing.T, delay time.Duration, when string, server func(*story) *harness.Memcached, change func(*testing.T, *story)) (inTime bool) {
	t.Helper()
	s := startStory(t, 1, 1, slices.Concat(hanging, []string{"--journal-keys", "20"})...)
	c := harness.MustDial(t, s.Addr)
	must(t, c.Set("k", "old"))
	must(t, c.Set("gone", "old"))
	s.awaitSame(t, 10*time.Second)
	cut := server(s)
	var due time.Time
	order := func() {
		expect(t, c, fmt.Sprintf("flush_all %.0f", delay.Seconds()), "OK")
		due = time.Now().Add(delay)
	}
	if when == "before" {
		order()
	}
	s.missMore(t, c, cut)
	if when == "after" {
		order()
	}
	if soon(due) {
		return false
	}
	s.staysNew(t, cut, c)
	if change != nil {
		change(t, s)
		c = harness.MustDial(t, s.Addr)
	}
	if soon(due) {
		return false
	}
	s.staysNew(t, cut, c)
	over(t, due)
	afterFlush(t, s, append(keysNamed("many:", 50), "k", "gone"))
	return true
}

// staysNew wants that nothing old is on a server that was flushed.
func (s *story) staysNew(t *testing.T, flushed *harness.Memcached, c *harness.Client) {
	t.Helper()
	for _, where := range []*harness.Client{c, harness.MustDial(t, flushed.Addr)} {
		if value, found, err := where.Value("gone"); found || err != nil {
			t.Fatalf("a key that was deleted holds %q, %v", value, err)
		}
	}
	expectValue(t, c, "k", "new")
	if value := everything(t, flushed)["k"].value; value == "old" {
		t.Fatal("the server that was flushed holds the old value")
	}
}

// The same where clients have flushed before: a second one with a delay is carried out
// when it is due, once, and by one of two proxies. Nobody sees an error.
//
// promise: C4, C11
func TestADelayedFlushAllBehindAFlushAll(t *testing.T) {
	t.Parallel()
	p := startPair(t, withoutFalseAlarms...)
	c, other := harness.MustDial(t, p.proxies[0].Addr), harness.MustDial(t, p.proxies[1].Addr)
	must(t, c.Set("old", "x"))
	expect(t, c, "flush_all", "OK")
	must(t, c.Set("between", "x"))
	before := [2]int64{p.primary().Stat("cmd_flush"), p.backup().Stat("cmd_flush")}
	expect(t, c, "flush_all 2", "OK")
	due := time.Now().Add(2 * time.Second)
	expectMiss(t, c, "old")
	expectValue(t, c, "between", "x")
	for i, tick := 0, time.NewTicker(time.Millisecond); time.Now().Before(due.Add(2 * time.Second)); i++ {
		<-tick.C
		must(t, c.Set(fmt.Sprint("one:", i), "x"))
		must(t, other.Set(fmt.Sprint("other:", i), "x"))
	}
	expectMiss(t, c, "between")
	expectMiss(t, other, "between")
	must(t, c.Set("after", "x"))
	p.awaitWhole(t)
	all := p.awaitSame(t, recovery) // a difference may be a write under way for as long as that may take
	if all["after"].value != "x" {
		t.Error("what was written afterwards is gone")
	}
	for i, m := range []*harness.Memcached{p.primary(), p.backup()} {
		if n := m.Stat("cmd_flush") - before[i]; n != 1 {
			t.Errorf("%s was flushed %d times", m.Addr, n)
		}
	}
}

// A flush_all with a delay takes nothing before it is due: not what a server alone holds
// that is out at the moment either.
//
// promise: C7, C11
func TestADelayedFlushAllTakesNothingBefore(t *testing.T) {
	for _, delay := range []int{3600, 6} {
		t.Run(fmt.Sprint(delay), func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, hanging...)
			c := harness.MustDial(t, s.Addr)
			must(t, c.Set("k", "old"))
			s.awaitSame(t, recovery)
			s.links[s.backup()].Partition()
			s.awaitGone(t, s.backup())
			must(t, c.Set("k", "v"))
			s.links[s.primary()].Partition()
			s.links[s.backup()].Heal()
			harness.Eventually(t, recovery, "the backup alone serves", func() bool {
				_, _ = c.Command("get x")
				return stateOf(t, s.Magent, s.name(s.backup())) == "warming" && stateOf(t, s.Magent, s.name(s.primary())) == "down"
			})
			expect(t, c, fmt.Sprint("flush_all ", delay), "OK")
			due := time.Now().Add(time.Duration(delay) * time.Second)
			if delay == 3600 {
				s.links[s.primary()].Heal()
				awaitWhole(t, s.Magent)
				expectValue(t, c, "k", "v")
				if all := s.awaitSame(t, 10*time.Second); all["k"].value != "v" {
					t.Errorf("k is %q on both servers", all["k"].value)
				}
				return
			}
			over(t, due) // and the primary has not heard of it
			s.links[s.primary()].Heal()
			awaitWhole(t, s.Magent) // until then k may be there for all that is known
			afterFlush(t, s, []string{"k"})
		})
	}
}

// The command comes again when it has been carried out: what it removed does not come
// back.
//
// promise: C11
func TestADelayedFlushAllBehindAnother(t *testing.T) {
	t.Parallel()
	s := startStory(t, 1, 1, withoutFalseAlarms...)
	c := harness.MustDial(t, s.Addr)
	must(t, c.Set("k", strings.Repeat("old", 3000)))
	s.awaitSame(t, recovery)
	expect(t, c, "flush_all 2", "OK")
	over(t, time.Now().Add(2*time.Second))
	expectMiss(t, c, "k")
	expect(t, c, "flush_all 3600", "OK")
	expectMiss(t, c, "k")
	if all := s.awaitSame(t, 10*time.Second); len(all) > 0 {
		t.Errorf("the servers hold %d keys", len(all))
	}
}
