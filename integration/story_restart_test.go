package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"magent/integration/harness"
)

// warmServer starts a memcached that keeps its items over an orderly restart
// (memcached -e, which wants a file in memory).
func (s *story) warmServer(t *testing.T) *harness.Memcached {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "magent-test-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return s.server(t, "-e", filepath.Join(dir, "items"), "-m", "64")
}

// stopWarm ends a memcached so that its next life has its items. It returns
// when that life may begin: memcached takes no items that were left behind in
// the current second.
func stopWarm(t *testing.T, m *harness.Memcached) {
	t.Helper()
	m.Signal(syscall.SIGUSR1)
	if _, ended := m.WaitEnd(20 * time.Second); !ended {
		t.Fatalf("%s does not end on SIGUSR1", m.Addr)
	}
	ended := time.Now().Unix()
	harness.Eventually(t, 5*time.Second, "the second is over", func() bool { return time.Now().Unix() > ended+1 })
}

// startWarm begins the next life.
func startWarm(t *testing.T, m *harness.Memcached) {
	t.Helper()
	m.Restart()
	if strings.Contains(m.Output(), "starting with a clean cache") {
		t.Fatal("the server has come back empty")
	}
}

// A server comes back with the items it had, while its twin has newer ones.
//
// promise: C6, C7
func TestServerComesBackWithOldItems(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, 0, 0)
			s.primaries, s.backups = []*harness.Memcached{s.warmServer(t)}, []*harness.Memcached{s.warmServer(t)}
			s.launch(t, withoutFalseAlarms...)
			away := server(s)
			known := fill(t, s.Magent, "still:", 1000)
			c := harness.MustDial(t, s.Addr)
			for i := range 100 {
				must(t, c.Set(fmt.Sprint("number:", i), strconv.Itoa(1000+i)))
			}
			s.awaitSame(t, 10*time.Second)
			stopWarm(t, away)
			s.awaitGone(t, away)
			must(t, s.change(c, known))
			reading := startReaders(t, s.Addr, 10, known)
			gone := neverAgain(t, s.Addr, deletedKeys())
			startWarm(t, away)
			awaitWhole(t, s.Magent)
			reading.wasRight(t)
			gone()
			all := s.awaitSame(t, 10*time.Second)
			expectHeld(t, all, known)
			for i := range 100 {
				if key, want := fmt.Sprint("number:", i), strconv.Itoa(1005+i); all[key].value != want {
					t.Fatalf("%s is %q, want %s", key, all[key].value, want)
				}
			}
		})
	}
}

// The same under load.
//
// promise: C3, C4, C6, C7
func TestServerComesBackWithOldItemsUnderLoad(t *testing.T) {
	s := newStory(t, 0, 0)
	s.primaries, s.backups = []*harness.Memcached{s.warmServer(t)}, []*harness.Memcached{s.warmServer(t)}
	s.launch(t, withoutFalseAlarms...)
	known := fill(t, s.Magent, "still:", 500)
	reading := startReaders(t, s.Addr, 10, known)
	owners := ownersRun{addr: s.Addr, clients: 60, keys: 4, before: 1000, after: 20}.
		run(t, func() {
			for _, away := range []*harness.Memcached{s.primary(), s.backup()} {
				stopWarm(t, away)
				startWarm(t, away)
				awaitWhole(t, s.Magent)
			}
		})
	answered(t, owners)
	reading.wasRight(t)
	expectHeld(t, s.awaitSame(t, 10*time.Second), known)
	finally(t, owners, s.primary())
	finally(t, owners, s.backup())
}

// A server is restarted so quickly that no request finds it dead. The first
// that finds it empty gets its answer nevertheless, and it is filled also when
// nobody writes.
//
// promise: C4, C7
func TestQuickRestartOfAnIdleServer(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, withoutFalseAlarms...)
			known := fill(t, s.Magent, "still:", 300)
			s.awaitSame(t, 10*time.Second)
			server(s).Restart()
			reading := startReaders(t, s.Addr, 5, known)
			awaitRequests(t, s.Magent, 1000)
			reading.wasRight(t)
			expectHeld(t, s.awaitSame(t, recovery), known)
			awaitWhole(t, s.Magent)
		})
	}
}

// A server came back empty, its twin cannot be reached, and magent is killed.
// The next run of it knows from the server itself that a key which is not there
// may be on the twin: a miss would be wrong.
//
// promise: C7
func TestTheNextProxyKnowsWhatAServerLacks(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, slices.Concat(hanging, []string{"--resync-rate", "0", "--lost-after", "5m"})...)
			known := fill(t, s.Magent, "still:", 50)
			s.awaitSame(t, 10*time.Second)
			server(s).Restart()
			harness.Eventually(t, recovery, "magent has found the server empty", func() bool {
				_, err := harness.MustDial(t, s.Addr).Get("still:0")
				return err == nil && stateOf(t, s.Magent, s.name(server(s))) == "warming"
			})
			twin := s.primary()
			if server(s) == twin {
				twin = s.backup()
			}
			s.links[twin].Partition()
			s.Crash()
			s.Magent = s.second(t)
			c := harness.MustDial(t, s.Addr)
			for key := range known {
				if items, err := c.Get(key); err == nil && len(items) == 0 {
					t.Fatalf("%s is a miss although the server that cannot be reached holds it", key)
				}
			}
			s.links[twin].Heal()
			harness.Eventually(t, recovery, "both servers serve again", func() bool {
				state := stateOf(t, s.Magent, s.name(twin))
				return state == "up" || state == "warming"
			})
			for key, want := range known {
				items, err := c.Get(key)
				if err != nil || len(items) != 1 || string(items[0].Value) != want.value {
					t.Fatalf("get %s: %v, %v", key, items, err)
				}
			}
		})
	}
}

// memcached -X lists no keys: the emptied server is filled by what is asked
// for, and the log says once that there is no more.
//
// promise: C7, R5
func TestWarmUpAloneWithoutAListOfKeys(t *testing.T) {
	s := newStory(t, 0, 0)
	s.primaries, s.backups = []*harness.Memcached{s.server(t)}, []*harness.Memcached{s.server(t, "-X")}
	s.launch(t, withoutFalseAlarms...)
	known := fill(t, s.Magent, "still:", 500)
	for range 2 {
		s.primary().Kill()
		s.awaitGone(t, s.primary())
		s.primary().Restart()
		reading := startReaders(t, s.Addr, 20, known)
		direct := harness.MustDial(t, s.primary().Addr)
		harness.Eventually(t, recovery, "the primary is filled by what is read", func() bool {
			for key := range known {
				if _, found, err := direct.Peek(key); err != nil || !found {
					must(t, err)
					return false
				}
			}
			return true
		})
		reading.wasRight(t)
		expectHeld(t, holdings(t, s.primary()), known)
	}
	said := 0
	for line := range strings.Lines(s.Output()) {
		if strings.Contains(line, "metadump") && !strings.Contains(line, `"level":"debug"`) {
			said++
		}
	}
	if said != 1 {
		t.Errorf("the log says %d times that keys cannot be listed, want once", said)
	}
}
