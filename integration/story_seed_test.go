package integration

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"magent/integration/harness"
)

// The story that magent was made for: a server dies under load, the clients
// write, delete and count on, and it comes back empty. No client sees a miss
// for a key that its twin holds, nor anything old, and in the end both servers
// hold the same.
//
// promise: C3, C4, C6, C7, C8
func TestSeedStory(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			s := startStory(t, 1, 1, withoutFalseAlarms...)
			dead := server(s)
			known := fill(t, s.Magent, "still:", 3000)
			reading := startReaders(t, s.Addr, 20, known)
			owners := ownersRun{addr: s.Addr, clients: ownersCount - 20, keys: 4, before: 3000, after: 20}.
				run(t, func() {
					dead.Kill()
					s.awaitGone(t, dead)
					awaitRequests(t, s.Magent, 3000) // written without it
					dead.Restart()
					awaitWhole(t, s.Magent)
				})
			answered(t, owners)
			reading.wasRight(t)
			all := s.awaitSame(t, 10*time.Second)
			expectHeld(t, all, known)
			finally(t, owners, s.primary())
			finally(t, owners, s.backup())
		})
	}
}

// The same again and again, with one server and then the other.
//
// promise: C3, C4, C6, C7
func TestServersDieInTurn(t *testing.T) {
	s := startStory(t, 1, 1, withoutFalseAlarms...)
	known := fill(t, s.Magent, "still:", 1000)
	reading := startReaders(t, s.Addr, 10, known)
	owners := ownersRun{addr: s.Addr, clients: 50, keys: 4, before: 500, after: 20}.
		run(t, func() {
			for range 2 {
				for _, dead := range []*harness.Memcached{s.primary(), s.backup()} {
					dead.Kill()
					s.awaitGone(t, dead)
					dead.Restart()
					awaitWhole(t, s.Magent)
				}
			}
		})
	answered(t, owners)
	reading.wasRight(t)
	expectHeldNear(t, s.awaitSame(t, 10*time.Second), known, 2+4)
	finally(t, owners, s.primary())
	finally(t, owners, s.backup())
}

// expectHeld fails the test unless a server holds all the known keys as they
// are. The expiry is that by the test's own clock.
func expectHeld(t *testing.T, all, known map[string]held) {
	t.Helper()
	expectHeldNear(t, all, known, 2)
}

// expectHeldNear is expectHeld where an expiry may be so many seconds off: each
// copy may add one to it.
func expectHeldNear(t *testing.T, all, known map[string]held, most int64) {
	t.Helper()
	part := make(map[string]held)
	for key := range known {
		if h, found := all[key]; found {
			part[key] = h
		}
	}
	if diff := unequal(part, known, most); diff != "" {
		t.Fatalf("the servers hold something else than was written:\n%s", diff)
	}
}

// A server is cut off under load in place of a restart.
//
// promise: C3, C4, C5, C6
func TestPartitionStory(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, hanging...)
			cut := server(s)
			known := fill(t, s.Magent, "still:", 2000)
			reading := startReaders(t, s.Addr, 10, known)
			owners := ownersRun{addr: s.Addr, clients: 60, keys: 4, lossy: false, before: 1500, after: 20}.
				run(t, func() {
					s.links[cut].Partition()
					s.awaitGone(t, cut)
					awaitRequests(t, s.Magent, 2000)
					s.links[cut].Heal()
					awaitWhole(t, s.Magent)
				})
			answered(t, owners)
			reading.wasRight(t)
			expectHeld(t, s.awaitSame(t, 10*time.Second), known)
			finally(t, owners, s.primary())
			finally(t, owners, s.backup())
			if n := cut.Stat("cmd_flush"); n != 0 {
				t.Errorf("the server that was cut off was flushed %d times", n)
			}
		})
	}
}

// What a server has missed while it was cut off is all that is copied.
//
// promise: C6, C7, C8
func TestOnlyTheJournalIsCopied(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, hanging...)
			cut := server(s)
			known := fill(t, s.Magent, "still:", 4000)
			c := harness.MustDial(t, s.Addr)
			for i := range 100 {
				must(t, c.Set(fmt.Sprint("number:", i), strconv.Itoa(1000+i)))
			}
			s.awaitSame(t, 10*time.Second)

			s.links[cut].Partition()
			s.awaitGone(t, cut)
			must(t, s.change(c, known))
			s.links[cut].Cut() // what was on its way when it was cut off does not count
			stored := storedItems(cut)
			reading := startReaders(t, s.Addr, 40, known)
			s.links[cut].Heal()
			awaitWhole(t, s.Magent)
			reading.wasRight(t)

			all := s.awaitSame(t, 10*time.Second)
			expectHeld(t, all, known)
			for i := range 100 {
				key, want := fmt.Sprint("number:", i), strconv.Itoa(1000+i+5)
				if all[key].value != want {
					t.Fatalf("%s is %q, want %s", key, all[key].value, want)
				}
			}
			for i := range 50 {
				if h, found := all[fmt.Sprint("still:", 100+i)]; found {
					t.Fatalf("still:%d was deleted, and holds %q", 100+i, h.value)
				}
			}
			// 100 sets, 100 numbers, 20 touches, what was written to see that
			// the server is out, and a few keys of magent's own.
			if n := storedItems(cut) - stored; n > 260 {
				t.Errorf("%d items were stored on the server that came back; 221 were written while it was away", n)
			}
			if n := cut.Stat("cmd_flush"); n != 0 {
				t.Errorf("the server that came back was flushed %d times", n)
			}
		})
	}
}

// change writes, deletes, counts and touches some of the known keys, and notes
// what they hold then.
func (s *story) change(c *harness.Client, known map[string]held) error {
	for i := range 100 {
		key := fmt.Sprint("still:", i)
		h := held{flags: uint32(i), exp: -1, value: "new " + key}
		answer, err := c.Store("set", key, h.flags, 0, []byte(h.value))
		if err != nil || answer != "STORED" {
			return fmt.Errorf("set %s: %q, %v", key, answer, err)
		}
		known[key] = h
	}
	for i := range 50 {
		key := fmt.Sprint("still:", 100+i)
		if answer, err := c.Command("delete %s", key); err != nil || answer != "DELETED" {
			return fmt.Errorf("delete %s: %q, %v", key, answer, err)
		}
		delete(known, key)
	}
	for i := range 100 {
		if answer, err := c.Command("incr number:%d 5", i); err != nil || answer != strconv.Itoa(1000+i+5) {
			return fmt.Errorf("incr number:%d: %q, %v", i, answer, err)
		}
	}
	for i := range 20 {
		key := fmt.Sprint("still:", 200+i)
		if answer, err := c.Command("touch %s 5000", key); err != nil || answer != "TOUCHED" {
			return fmt.Errorf("touch %s: %q, %v", key, answer, err)
		}
		h := known[key]
		h.exp = time.Now().Unix() + 5000
		known[key] = h
	}
	return nil
}

// One primary of three comes back empty: its keys are copied to it from the
// two backups, and no others. Then the same with a backup.
//
// promise: C7, K1
func TestOnlyTheKeysOfAServerAreCopied(t *testing.T) {
	s := startStory(t, 3, 2, withoutFalseAlarms...)
	known := fill(t, s.Magent, "still:", 4000)
	s.awaitSame(t, 10*time.Second)
	for _, dead := range []*harness.Memcached{s.primaries[1], s.backups[0]} {
		before := holdings(t, dead)
		if len(before) < 400 {
			t.Fatalf("%s holds only %d keys", dead.Addr, len(before))
		}
		stored := make(map[*harness.Memcached]int64)
		for m := range s.links {
			stored[m] = storedItems(m)
		}
		reading := startReaders(t, s.Addr, 20, known)
		dead.Kill()
		s.awaitKnownGone(t, dead)
		dead.Restart()
		awaitWhole(t, s.Magent)
		reading.wasRight(t)
		// Each copy may add a second, and some of these were copied twice.
		if diff := unequal(before, holdings(t, dead), 3); diff != "" {
			t.Fatalf("%s held other keys before its restart:\n%s", dead.Addr, diff)
		}
		for m := range s.links {
			// What magent notes about the dead one is stored as well.
			if n := storedItems(m) - stored[m]; m != dead && n > 150 {
				t.Errorf("%d items were stored on %s, which stayed up", n, m.Addr)
			}
		}
		expectHeld(t, s.awaitSame(t, 10*time.Second), known)
	}
}

// awaitKnownGone waits until magent has taken a server out, without storing
// anything: a delete of a key that is not there reaches both of its servers.
func (s *story) awaitKnownGone(t *testing.T, m *harness.Memcached) {
	t.Helper()
	c := harness.MustDial(t, s.Addr)
	harness.Eventually(t, 20*time.Second, m.Addr+" is out", func() bool {
		for i := range 50 { // on all servers
			if _, err := c.Command("delete awaiting-out:%d", i); err != nil {
				t.Fatal(err)
			}
		}
		state := stateOf(t, s.Magent, s.name(m))
		return state == "down" || state == "dirty"
	})
}

// Each of two servers is the primary of some keys and the backup of the others.
//
// promise: C6, C7, K4
func TestSeedStoryInCrossedPools(t *testing.T) {
	s := newStory(t, 0, 0)
	a, b := s.server(t), s.server(t)
	s.primaries, s.backups = []*harness.Memcached{a, b}, []*harness.Memcached{b, a}
	s.launch(t, withoutFalseAlarms...)
	known := fill(t, s.Magent, "still:", 2000)
	reading := startReaders(t, s.Addr, 20, known)
	owners := ownersRun{addr: s.Addr, clients: 100, keys: 4, before: 2000, after: 20}.
		run(t, func() {
			for _, dead := range []*harness.Memcached{a, b} {
				dead.Kill()
				s.awaitKnownGone(t, dead)
				awaitRequests(t, s.Magent, 2000)
				dead.Restart()
				awaitWhole(t, s.Magent)
			}
		})
	answered(t, owners)
	reading.wasRight(t)
	all := awaitSame(t, 10*time.Second, []*harness.Memcached{a}, []*harness.Memcached{b})
	expectHeld(t, all, known)
	finally(t, owners, a)
	finally(t, owners, b)
}

// A resync shows how far it is, and the servers' states say what they are.
//
// promise: C7
func TestResyncShowsItsProgress(t *testing.T) {
	s := startStory(t, 1, 1, append([]string{"--resync-rate", "1000"}, withoutFalseAlarms...)...)
	known := fill(t, s.Magent, "still:", 3000)
	s.primary().Kill()
	s.awaitGone(t, s.primary())
	s.primary().Restart()
	name := s.name(s.primary())
	var seen []string
	harness.Eventually(t, recovery, "the resync is over", func() bool {
		stats := serverStats(t, s.Magent)
		if at := stats[name+":state"] + " " + stats[name+":resync_done"]; !slices.Contains(seen, at) {
			seen = append(seen, at)
		}
		return stats[name+":state"] == "up"
	})
	steps := 0
	for _, at := range seen {
		var done int
		if n, err := fmt.Sscanf(at, "warming %d", &done); n == 1 && err == nil && done > 0 && done < len(known) {
			steps++
		}
	}
	if steps < 3 {
		t.Errorf("the progress of the resync was %q", seen)
	}
	expectHeld(t, s.awaitSame(t, 10*time.Second), known)
}

// A resync whose connection breaks, or whose twin stands still for a while,
// goes on.
//
// promise: C7
func TestResyncGoesOnAfterABreak(t *testing.T) {
	s := startStory(t, 1, 1, append([]string{"--resync-rate", "1500"}, hanging...)...)
	known := fill(t, s.Magent, "still:", 4000)
	dead, twin := s.primary(), s.backup()
	dead.Kill()
	s.awaitGone(t, dead)
	dead.Restart()
	name := s.name(dead)
	done := func(n int) {
		harness.Eventually(t, recovery, "the resync is under way", func() bool {
			stats := serverStats(t, s.Magent)
			at, _ := strconv.Atoi(stats[name+":resync_done"])
			return at >= n || stats[name+":state"] == "up"
		})
	}
	done(500)
	s.links[twin].Cut()
	done(1500)
	twin.Freeze()
	s.awaitKnownGone(t, twin)
	twin.Thaw()
	awaitWhole(t, s.Magent)
	all := s.awaitSame(t, 10*time.Second)
	delete(all, "awaiting-out")
	if diff := unequal(all, known, 2); diff != "" {
		t.Fatalf("the servers hold something else than was written:\n%s", diff)
	}
}
