package integration

import (
	"fmt"
	"testing"
	"time"

	"magent/integration/harness"
)

// lifetime is one item with an expiry.
type lifetime struct {
	key     string
	exptime func(now int64) int64 // as protocol.txt has it
	flags   uint32
	touch   bool                  // given its expiry by touch
	expires func(now int64) int64 // Unix time, -1 for never, 0 for at once
}

// shortLife is how many seconds the shortest of them last.
const shortLife = 4

func lifetimes() []lifetime {
	plus := func(n int64) func(int64) int64 { return func(now int64) int64 { return now + n } }
	fixed := func(n int64) func(int64) int64 { return func(int64) int64 { return n } }
	const day = 24 * 3600
	return []lifetime{
		{"life:none", fixed(0), 1, false, fixed(-1)},
		{"life:soon", fixed(shortLife), 2, false, plus(shortLife)},
		{"life:soon-absolute", plus(shortLife), 3, false, plus(shortLife)},
		{"life:minutes", fixed(600), 4294967295, false, plus(600)},
		{"life:30-days", fixed(30 * day), 5, false, plus(30 * day)},
		{"life:more-than-30-days", plus(31 * day), 6, false, plus(31 * day)},
		{"life:years", plus(3000 * day), 7, false, plus(3000 * day)},
		{"life:negative", fixed(-1), 8, false, fixed(0)},
		{"life:past", plus(-100), 9, false, fixed(0)},
		{"life:past-by-relative", fixed(30*day + 1), 10, false, fixed(0)}, // in 1970
		{"life:touched", fixed(900), 11, true, plus(900)},
		{"life:touched-soon", fixed(shortLife), 12, true, plus(shortLife)},
		{"life:touched-forever", fixed(0), 13, true, fixed(-1)},
	}
}

// storeLifetimes writes all of them through magent and returns those that live, and
// when the last of the short ones expires.
func storeLifetimes(t *testing.T, addr string) (known map[string]held, short map[string]bool, end time.Time) {
	t.Helper()
	c := harness.MustDial(t, addr)
	known, short = make(map[string]held), make(map[string]bool)
	now := time.Now().Unix()
	for _, l := range lifetimes() {
		value := "<" + l.key + ">"
		first, given := l.exptime(now), int64(0)
		if l.touch {
			first, given = 77, first
		}
		answer, err := c.Store("set", l.key, l.flags, int(first), []byte(value))
		if err != nil || answer != "STORED" {
			t.Fatalf("set %s: %q, %v", l.key, answer, err)
		}
		if l.touch {
			expect(t, c, fmt.Sprintf("touch %s %d", l.key, given), "TOUCHED")
		}
		exp := l.expires(now)
		if exp != 0 {
			known[l.key] = held{flags: l.flags, exp: exp, value: value}
		}
		short[l.key] = exp >= 0 && exp <= now+shortLife
	}
	return known, short, time.Unix(now+shortLife, 0)
}

// checkLifetimes wants that a server holds what it should, now and when the
// short lives are over: an item that has expired is not there again.
func checkLifetimes(t *testing.T, s *story, server *harness.Memcached, known map[string]held, short map[string]bool, end time.Time) {
	t.Helper()
	all := holdings(t, server)
	if time.Now().Before(end.Add(-3 * time.Second)) {
		for key, want := range known {
			if got, found := all[key]; !found || got.flags != want.flags || got.value != want.value || !near(got.exp, want.exp, 2) {
				t.Errorf("%s on %s: %+v, found %v; want %+v", key, server.Addr, got, found, want)
			}
		}
	} else {
		t.Logf("the short lives were over before the copy could be looked at")
	}
	for key := range all {
		if _, alive := known[key]; !alive && short[key] {
			t.Errorf("%s on %s has expired, and is there", key, server.Addr)
		}
	}
	c := harness.MustDial(t, s.Addr)
	harness.Eventually(t, 20*time.Second, "the short lives are over", func() bool { return time.Now().After(end.Add(5 * time.Second)) })
	harness.Holds(t, time.Second, "what has expired stays away", func() bool {
		for key, gone := range short {
			_, found, err := c.Value(key)
			must(t, err)
			if found == gone {
				t.Errorf("get %s: found %v, expired %v", key, found, gone)
				return false
			}
		}
		return true
	})
	all = holdings(t, server)
	for key, want := range known {
		got, found := all[key]
		switch {
		case found && short[key]:
			t.Errorf("%s on %s has expired, and is there", key, server.Addr)
		case !short[key] && (!found || got.flags != want.flags || got.value != want.value || !near(got.exp, want.exp, 2)):
			t.Errorf("%s on %s: %+v, found %v; want %+v", key, server.Addr, got, found, want)
		}
	}
}

// promise: C8, C7
func TestLifetimesThroughAWarmUp(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, append([]string{"--resync-rate", "0"}, patient...)...)
			dead := server(s)
			known, short, end := storeLifetimes(t, s.Addr)
			s.awaitSame(t, 10*time.Second)
			dead.Kill()
			s.awaitGone(t, dead)
			dead.Restart()
			harness.Eventually(t, recovery, "the server is back", func() bool {
				state := stateOf(t, s.Magent, s.name(dead))
				return state == "warming" || state == "up"
			})
			// Reads fill the primary. A backup is filled by commands that
			// need what is there.
			c := harness.MustDial(t, s.Addr)
			for key, want := range known {
				if short[key] && time.Now().After(end.Add(-2*time.Second)) {
					continue // it may be over before it is asked for
				}
				if who == "primary" {
					expectValue(t, c, key, want.value)
					continue
				}
				answer, err := c.Store("append", key, 0, 0, []byte("+"))
				if err != nil || answer != "STORED" {
					t.Fatalf("append %s: %q, %v", key, answer, err)
				}
				want.value += "+"
				known[key] = want
			}
			harness.Eventually(t, 10*time.Second, "the server is filled", func() bool {
				all := holdings(t, dead)
				for key := range known {
					if _, found := all[key]; !found && !time.Now().After(end.Add(-time.Second)) {
						return false
					}
				}
				return true
			})
			checkLifetimes(t, s, dead, known, short, end)
		})
	}
}

// promise: C8, C7
func TestLifetimesThroughAResync(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, patient...)
			dead := server(s)
			known, short, end := storeLifetimes(t, s.Addr)
			dead.Kill()
			s.awaitGone(t, dead)
			dead.Restart()
			awaitWhole(t, s.Magent)
			checkLifetimes(t, s, dead, known, short, end)
			s.awaitSame(t, 10*time.Second)
		})
	}
}

// promise: C8, C6
func TestLifetimesThroughAReplay(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, hanging...)
			cut := server(s)
			c := harness.MustDial(t, s.Addr)
			for _, l := range lifetimes() { // an old life, to be replaced
				must(t, c.Set(l.key, "old"))
			}
			s.awaitSame(t, 10*time.Second)
			s.links[cut].Partition()
			s.awaitGone(t, cut)
			known, short, end := storeLifetimes(t, s.Addr)
			s.links[cut].Heal()
			awaitWhole(t, s.Magent)
			checkLifetimes(t, s, cut, known, short, end)
			s.awaitSame(t, 10*time.Second)
		})
	}
}

// What expires while a server is away is not brought back by it, and what
// expires while it is copied does not live longer.
//
// promise: C8
func TestExpiredWhileAServerIsAway(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, hanging...)
			cut := server(s)
			c := harness.MustDial(t, s.Addr)
			must(t, c.Set("long", "old"))
			must(t, c.Set("dropped", "old"))
			s.awaitSame(t, 10*time.Second)
			s.links[cut].Partition()
			s.awaitGone(t, cut)
			// One had no end and gets a short one, one is overwritten with a short life.
			expect(t, c, "touch long 1", "TOUCHED")
			answer, err := c.Store("set", "dropped", 0, 1, []byte("new"))
			if err != nil || answer != "STORED" {
				t.Fatalf("set dropped: %q, %v", answer, err)
			}
			harness.Eventually(t, 10*time.Second, "both have expired", func() bool {
				items, err := c.Get("long", "dropped")
				must(t, err)
				return len(items) == 0
			})
			s.links[cut].Heal()
			var items []harness.Item
			harness.Eventually(t, recovery, "the server is up", func() bool {
				items, err = c.Get("long", "dropped")
				must(t, err)
				return len(items) > 0 || stateOf(t, s.Magent, s.name(cut)) == "up"
			})
			if len(items) > 0 {
				t.Fatalf("%s is %q again", items[0].Key, items[0].Value)
			}
			direct := harness.MustDial(t, cut.Addr)
			expectMiss(t, direct, "long")
			expectMiss(t, direct, "dropped")
		})
	}
}
