package integration

import (
	"testing"
	"time"

	"magent/integration/harness"
)

// Servers without backups: one that was out when all were flushed is flushed when it is
// back, and that is all. It is not flushed again, taken out or counted as lacking anything.
//
// promise: C7, C11, L7
func TestFlushAllWithoutBackupsIsMissedOnce(t *testing.T) {
	t.Parallel()
	s := startStory(t, 2, 0, patient...)
	c := harness.MustDial(t, s.Addr)
	away, other := s.primaries[0], s.primaries[1]
	keys := keysNamed("k", 100)
	setThem := func() {
		t.Helper()
		for _, key := range keys {
			must(t, c.Set(key, "v"))
		}
	}
	awaitOut := func(m *harness.Memcached) {
		t.Helper()
		s.links[m].Refuse()
		harness.Eventually(t, recovery, "it is out", func() bool {
			_, _ = c.Get(keys...)
			state := stateOf(t, s.Magent, s.name(m))
			return state == "down" || state == "dirty"
		})
	}
	setThem()
	awaitOut(away)
	expect(t, c, "flush_all", "OK")
	s.links[away].Heal()
	awaitWhole(t, s.Magent)
	for _, key := range keys {
		expectMiss(t, c, key)
	}
	setThem()
	stats := serverStats(t, s.Magent)
	if overflow := stats[s.name(away)+":journal_overflow"]; overflow != "no" {
		t.Errorf("the journal of the server has overflowed: %s", overflow)
	}
	flushes, outages := away.Stat("cmd_flush"), stats[s.name(away)+":outages"]
	upgrade(t, s)
	awaitWhole(t, s.Magent)
	for _, key := range keys {
		expectValue(t, c, key, "v")
	}
	if n := away.Stat("cmd_flush") - flushes; n != 0 {
		t.Errorf("the upgrade flushed it %d times", n)
	}
	expect(t, c, "flush_all", "OK")
	setThem()
	if now := serverStats(t, s.Magent)[s.name(away)+":outages"]; now != "0" {
		t.Errorf("the next flush_all took it out: %s outages since the upgrade, %s before", now, outages)
	}
	awaitOut(other)
	expect(t, c, "flush_all", "OK")
}

// One that was sent a flush_all with a delay as its connection failed may not have got it.
//
// promise: C11
func TestADelayedFlushAllWithoutBackupsIsNotForgotten(t *testing.T) {
	t.Parallel()
	s := startStory(t, 2, 0, hanging...)
	c := harness.MustDial(t, s.Addr)
	keys := keysNamed("k", 100)
	for _, key := range keys {
		must(t, c.Set(key, "old"))
	}
	away := s.primaries[0]
	s.links[away].Partition()
	expect(t, c, "flush_all 2", "OK")
	due := time.Now().Add(2 * time.Second)
	s.links[away].Cut()
	over(t, due)
	s.links[away].Heal()
	awaitWhole(t, s.Magent)
	for _, key := range keys {
		expectMiss(t, c, key)
	}
}

// The only server that serves has missed more writes than are known. A flush_all is run
// there like anywhere: nobody sees an error, and nothing is flushed a second time.
//
// promise: C5, C11
func TestFlushAllOnAServerThatHasMissedMore(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			l := startLoss(t, server)
			l.leave()
			l.proxies[1].Crash()
			pause(t, 600*time.Millisecond)
			l.link(0, l.twin).Partition()
			must(t, l.first.Set("k", "the only copy"))
			l.stays(t, 4*time.Second, "the only copy")
			flushes := l.kept.Stat("cmd_flush")
			expect(t, l.first, "flush_all", "OK")
			if n := l.kept.Stat("cmd_flush") - flushes; n != 1 {
				t.Errorf("flushed %d times", n)
			}
			expectMiss(t, l.first, "k")
			must(t, l.first.Set("k", "after"))
			l.stays(t, 3*time.Second, "after")
			l.link(0, l.twin).Heal()
			awaitWhole(t, l.proxies[0])
			if all := l.awaitSame(t, 10*time.Second); all["k"].value != "after" {
				t.Errorf("k is %q on both servers", all["k"].value)
			}
		})
	}
}
