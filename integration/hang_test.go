package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// hangTimeout is the --server-timeout of the tests with a server that hangs,
// and slack is what a loaded machine may add to it.
const (
	hangTimeout = 500 * time.Millisecond
	slack       = 2 * time.Second
)

var hanging = []string{"--server-timeout", hangTimeout.String(), "--connect-timeout", "300ms"}

// hangs are the ways in which a server stops answering without a word.
var hangs = map[string]struct {
	start func(s *harness.Memcached, l *harness.Link)
	end   func(s *harness.Memcached, l *harness.Link)
}{
	"stopped process": {
		func(s *harness.Memcached, _ *harness.Link) { s.Freeze() },
		func(s *harness.Memcached, _ *harness.Link) { s.Thaw() },
	},
	"partition": {
		func(_ *harness.Memcached, l *harness.Link) { l.Partition() },
		func(_ *harness.Memcached, l *harness.Link) { l.Heal() },
	},
	"answers lost": {
		func(_ *harness.Memcached, l *harness.Link) { l.BlockAnswers() },
		func(_ *harness.Memcached, l *harness.Link) { l.Heal() },
	},
	"requests lost": {
		func(_ *harness.Memcached, l *harness.Link) { l.BlockRequests() },
		func(_ *harness.Memcached, l *harness.Link) { l.Heal() },
	},
}

// linked is a primary behind a link, a backup, and magent.
type linked struct {
	*harness.Magent
	primary, backup *harness.Memcached
	link            *harness.Link
}

func startLinked(t *testing.T, memcached []string, args ...string) *linked {
	t.Helper()
	l := &linked{primary: harness.StartMemcached(t, memcached...), backup: harness.StartMemcached(t)}
	l.link = harness.NewLink(t, l.primary.Addr)
	l.Magent = harness.StartMagent(t, harness.Config{
		Primaries: []string{l.link.Addr}, Backups: []string{l.backup.Addr}, Args: args,
	})
	return l
}

// Every client goes on while the primary hangs, waits no longer than the
// server timeout plus little, and reads nothing old when it is back.
//
// promise: C4, C5, C6
func TestClientsGoOnWhileThePrimaryHangs(t *testing.T) {
	for name, hang := range hangs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := startLinked(t, nil, hanging...)
			r := ownersRun{addr: m.Addr, clients: 25, keys: 4, lossy: true, before: 500, after: 20, still: time.Second}
			var slowest []time.Duration
			owners := r.timed(&slowest).run(t, func() {
				hang.start(m.primary, m.link)
				// Long enough that everybody has written past the hung server.
				awaitBackupOnly(t, m)
				hang.end(m.primary, m.link)
			})
			if worst := slices.Max(slowest); worst > hangTimeout+slack {
				t.Errorf("a client waited %v for one answer, with a server timeout of %v", worst, hangTimeout)
			}
			awaitReads(t, m.Magent, m.primary)
			for _, o := range owners {
				must(t, o.final(o.writer))
			}
		})
	}
}

// awaitBackupOnly waits until many commands in a row are answered without delay,
// although the primary hangs.
func awaitBackupOnly(t *testing.T, m *linked) {
	t.Helper()
	c := harness.MustDial(t, m.Addr)
	fast := 0
	harness.Eventually(t, 20*time.Second, "nobody waits for the hung server", func() bool {
		start := time.Now()
		err := c.Set("past-the-hung-server", "x")
		must(t, ignoreServerError(err))
		if fast++; err != nil || time.Since(start) > hangTimeout/2 {
			fast = 0
		}
		return fast == 30
	})
}

// promise: C5
func TestNobodyWaitsForAServerThatIsOut(t *testing.T) {
	m := startLinked(t, nil, hanging...)
	c := harness.MustDial(t, m.Addr)
	must(t, c.Set("k", "v"))
	m.primary.Freeze()
	awaitBackupOnly(t, m)
	var took []time.Duration
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		start := time.Now()
		expectValue(t, c, "k", "v")
		must(t, c.Set("k", "v"))
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	// One or two pauses of the machine are no wait for the server: that would
	// last for the whole timeout each time it is probed.
	if late := took[len(took)*99/100]; late > hangTimeout/2 {
		t.Errorf("one in a hundred of %d exchanges took %v and more, the slowest %v", len(took), late, took[len(took)-1])
	}
	m.primary.Thaw()
}

// Writes that lie in the socket buffers of a stopped server are carried out
// when it goes on, after newer ones went to its twin. None of them may be seen.
//
// promise: C5, C6
func TestStaleWritesInTheBuffersOfAStoppedServer(t *testing.T) {
	for _, threads := range []string{"1", "4"} {
		t.Run("threads "+threads, func(t *testing.T) {
			t.Parallel()
			for round := range 2 {
				m := startLinked(t, []string{"-t", threads}, hanging...)
				staleWrites(t, m, round)
				m.Stop()
			}
		})
	}
}

func staleWrites(t *testing.T, m *linked, round int) {
	t.Helper()
	writeBehindItsBack(t, m, fmt.Sprintf("stale%d-", round), m.primary.Freeze, m.primary.Thaw)
}

// The same with a path on which the old requests arrive little by little,
// while new connections are fast.
//
// promise: C5, C6
func TestStaleWritesThatArriveSlowly(t *testing.T) {
	t.Parallel()
	m := startLinked(t, nil, hanging...)
	writeBehindItsBack(t, m, "slow-", m.link.BlockRequests, func() {
		m.link.SlowRequests(400_000)
		m.link.Unblock()
	})
}

// writeBehindItsBack makes the primary hang, sends it writes that it will find
// later, writes newer values on its twin, and looks for old values from the
// moment when it goes on.
func writeBehindItsBack(t *testing.T, m *linked, prefix string, hang, end func()) {
	t.Helper()
	keys := keysNamed(prefix, 50)
	old := func(key string) string { return "old:" + key + strings.Repeat("o", 4000) }
	for _, key := range keys {
		must(t, harness.MustDial(t, m.Addr).Set(key, "first"))
	}
	hang()
	// The answers come from the twin.
	group(t, 12, func(int) error {
		c, err := harness.Dial(m.Addr)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		var out []byte
		for range 3 {
			for _, key := range keys {
				out = append(out, harness.Storage("set", key, 0, 0, []byte(old(key)))...)
			}
		}
		go func() { _ = c.Send(out) }() // the answers show what arrived
		for range 3 * len(keys) {
			if answer, err := c.Line(); err != nil || answer != "STORED" {
				return fmt.Errorf("%q, %w", answer, err)
			}
		}
		return nil
	})
	c := harness.MustDial(t, m.Addr)
	for _, key := range keys {
		must(t, c.Set(key, "new:"+key))
	}
	end()
	check := func() {
		items, err := c.Get(keys...)
		must(t, err)
		for _, it := range items {
			if string(it.Value) != "new:"+it.Key {
				t.Fatalf("%s is %s after the server went on", it.Key, short(string(it.Value)))
			}
		}
	}
	// Look all the time until the server is read again, and a while after.
	before := m.primary.Stat("cmd_get")
	harness.Eventually(t, 15*time.Second, "reads reach the primary again", func() bool {
		check()
		return m.primary.Stat("cmd_get") > before
	})
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
		check()
	}
}

// promise: C6
func TestAServerThatMissedWritesIsReplayedBeforeItIsRead(t *testing.T) {
	for name, hang := range hangs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := startLinked(t, nil, hanging...)
			c := harness.MustDial(t, m.Addr)
			must(t, c.Set("missed", "old"))
			must(t, c.Set("untouched", "same"))
			must(t, c.Set("deleted", "old"))
			hang.start(m.primary, m.link)
			must(t, c.Set("missed", "new"))
			expect(t, c, "delete deleted", "DELETED")
			awaitBackupOnly(t, m)
			hang.end(m.primary, m.link)
			awaitReads(t, m.Magent, m.primary)
			if n := m.primary.Stat("cmd_flush"); n != 0 {
				t.Error("the primary was flushed, although it is known what it missed")
			}
			for key, want := range map[string]string{"missed": "new", "untouched": "same"} {
				expectValue(t, c, key, want)
			}
			expectMiss(t, c, "deleted")
			must(t, c.Set("after", "x"))
			awaitEqual(t, m.primary, m.backup, []string{"after"})
		})
	}
}

// promise: C6
func TestAServerThatMissedNothingKeepsItsItems(t *testing.T) {
	for name, hang := range hangs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := startLinked(t, nil, hanging...)
			c := harness.MustDial(t, m.Addr)
			must(t, c.Set("kept", "value"))
			awaitEqual(t, m.primary, m.backup, []string{"kept"})
			hang.start(m.primary, m.link)
			fast := 0
			harness.Eventually(t, 20*time.Second, "reads no longer wait for the hung server", func() bool {
				start := time.Now()
				expectValue(t, c, "kept", "value")
				if fast++; time.Since(start) > hangTimeout/2 {
					fast = 0
				}
				return fast == 30
			})
			hang.end(m.primary, m.link)
			awaitReads(t, m.Magent, m.primary)
			if n := m.primary.Stat("cmd_flush"); n != 0 {
				t.Error("the primary missed nothing and was flushed")
			}
			expectValue(t, harness.MustDial(t, m.primary.Addr), "kept", "value")
			expectValue(t, c, "kept", "value")
		})
	}
}

// The same for the backup: what it missed must not be read when the primary
// fails after its return.
//
// promise: C4, C5, C6
func TestABackupThatMissedWritesServesNothingOld(t *testing.T) {
	t.Parallel()
	p, b := harness.StartMemcached(t), harness.StartMemcached(t)
	link := harness.NewLink(t, b.Addr)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{p.Addr}, Backups: []string{link.Addr}, Args: hanging})
	c := harness.MustDial(t, m.Addr)
	keys := keysNamed("k", 50)
	for _, key := range keys {
		must(t, c.Set(key, "old"))
	}
	awaitEqual(t, p, b, keys)
	link.Partition()
	for i, key := range keys[:40] {
		start := time.Now()
		must(t, c.Set(key, "new"))
		if took := time.Since(start); took > hangTimeout+slack {
			t.Errorf("a write took %v with the backup hung", took)
		}
		if i == 0 { // the others are not even sent to it
			harness.Eventually(t, 10*time.Second, "the backup is out", func() bool {
				stats, err := c.Stats("servers")
				must(t, err)
				return stats[link.Addr+":state"] != "up"
			})
		}
	}
	link.Heal()
	awaitWrites(t, m, b)
	must(t, c.Set(keys[0], "newest"))
	p.Kill()
	for i, key := range keys {
		want := []string{"new", "old"}[i/40]
		if i == 0 {
			want = "newest"
		}
		got, found, err := c.Value(key)
		if err != nil || found && got != want || i == 0 && !found {
			t.Fatalf("%s is %q (found %v, %v) after the primary died; want %q", key, got, found, err, want)
		}
	}
}

// promise: C5
func TestAnAnswerThatKeepsArrivingIsNoFailure(t *testing.T) {
	t.Parallel()
	m := startLinked(t, nil, "--server-timeout", "1500ms")
	c := harness.MustDial(t, m.Addr)
	value := largeValue(900_000)
	must(t, c.Set("slow", value))
	awaitEqual(t, m.primary, m.backup, []string{"slow"})
	// Only the primary has this one: an answer from the backup would miss.
	must(t, harness.MustDial(t, m.primary.Addr).Set("here", value))
	m.link.Slow(300_000)
	start := time.Now()
	expectValue(t, c, "here", value)
	if took := time.Since(start); took < 2*time.Second {
		t.Errorf("the link was not slow: %v", took)
	}
}

// promise: C4, C5
func TestAServerThatCannotBeConnectedTo(t *testing.T) {
	t.Parallel()
	b := harness.StartMemcached(t)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{harness.Blackhole(t)}, Backups: []string{b.Addr}, Args: hanging})
	c := harness.MustDial(t, m.Addr)
	for i := range 50 {
		start := time.Now()
		key := fmt.Sprint("k", i)
		must(t, c.Set(key, "v"))
		expectValue(t, c, key, "v")
		if took := time.Since(start); took > 2*300*time.Millisecond+slack {
			t.Fatalf("exchange %d took %v", i, took)
		}
	}
}
