package launch

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"magent/integration/harness"
)

// ownBinary gives the site a copy of magent that the test may replace.
func (s *site) ownBinary() {
	s.Helper()
	content, err := os.ReadFile(s.binary)
	must(s, err)
	s.binary = s.path("magent")
	s.replaceBinary(content)
}

// replaceBinary puts another program in the place of magent, in one step as
// package managers do.
func (s *site) replaceBinary(content []byte) {
	s.Helper()
	must(s, os.WriteFile(s.path("next"), content, 0o755))
	must(s, os.Rename(s.path("next"), s.binary))
}

// load is clients that each write and read their own keys, without end, and
// report what they did not expect.
type load struct {
	operations atomic.Int64
	stop       chan struct{}
	wg         sync.WaitGroup
	mu         sync.Mutex
	faults     []string
}

func startLoad(t *testing.T, clients int, addr string) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	for i := range clients {
		c, err := dial("tcp", addr)
		must(t, err)
		t.Cleanup(func() { _ = c.Close() })
		l.wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-l.stop:
					return
				default:
				}
				if err := l.operate(c, i, n); err != nil {
					l.mu.Lock()
					l.faults = append(l.faults, fmt.Sprintf("client %d, operation %d: %v", i, n, err))
					l.mu.Unlock()
					return
				}
				l.operations.Add(1)
			}
		})
	}
	return l
}

// operate sends a set, two gets and a counter's step at once, so that an
// upgrade may cut between any of them, and reads the four answers.
func (l *load) operate(c *harness.Client, client, n int) error {
	key, value := fmt.Sprintf("key-%d", client), fmt.Sprintf("value-%d-%d-%s", client, n, strings.Repeat("x", n%2000))
	batch := harness.Storage("set", key, 7, 0, []byte(value))
	batch = append(batch, fmt.Sprintf("get %s\r\nget missing-%d\r\nincr counter-%d 1\r\n", key, client, client)...)
	if n == 0 {
		if err := c.Set(fmt.Sprintf("counter-%d", client), "0"); err != nil {
			return err
		}
	}
	// In two parts, so that a request may be half there.
	half := 1 + (n*37)%(len(batch)-1)
	if err := c.Send(batch[:half]); err != nil {
		return err
	}
	if err := c.Send(batch[half:]); err != nil {
		return err
	}
	if line, err := c.Line(); err != nil || line != "STORED" {
		return fmt.Errorf("set: %q, %w", line, err)
	}
	items, err := c.Values()
	if err != nil || len(items) != 1 || string(items[0].Value) != value || items[0].Flags != 7 {
		return fmt.Errorf("get: %v, %w", items, err)
	}
	if items, err = c.Values(); err != nil || len(items) != 0 {
		return fmt.Errorf("get of a missing key: %v, %w", items, err)
	}
	if line, err := c.Line(); err != nil || line != fmt.Sprint(n+1) {
		return fmt.Errorf("incr: %q, want %d, %w", line, n+1, err)
	}
	return nil
}

// goesOn waits until the clients have done some more.
func (l *load) goesOn(t *testing.T) {
	t.Helper()
	want := l.operations.Load() + 500
	harness.Eventually(t, time.Minute, "the clients go on", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.faults) > 0 || l.operations.Load() >= want
	})
}

// end stops the clients and reports.
func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	for _, fault := range l.faults {
		t.Error(fault)
	}
	t.Logf("%d batches", l.operations.Load())
}

// promise: L7
func TestUpgradeLosesNothing(t *testing.T) {
	s := newSite(t)
	s.ownBinary()
	backup := harness.StartMemcached(t)
	socket := s.path("magent.sock")
	pid := s.launch("-b", backup.Addr, "-f", socket, "--threads", "2")
	clients := startLoad(t, 50, s.addr())
	clients.goesOn(t)

	next := exec.Command("go", "build", "-ldflags", "-X main.version=99.0.1", "-o", s.path("next"), "magent/cmd/magent")
	if out, err := next.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	must(t, os.Rename(s.path("next"), s.binary))
	for i := range 5 {
		s.signal(pid, syscall.SIGUSR2)
		harness.Eventually(t, eventTime, "the next program serves", func() bool {
			return s.timesLogged(`"message":"serving"`, `"version":"99.0.1"`) == i+1 || s.timesLogged("upgrade failed") > 0
		})
		clients.goesOn(t)
		// It is asked as before, and answers.
		s.run(s.args("-b", backup.Addr, "-f", socket)...).wants(t, 0)
		if s.only() != pid || comm(pid) != "magent" {
			t.Fatalf("process %d (%s) serves, not %d", s.only(), comm(pid), pid)
		}
	}
	clients.end(t)
	if n := s.timesLogged("upgrade failed"); n != 0 {
		t.Errorf("%d upgrades failed", n)
	}
	s.serves(s.addr()) // and takes new clients
	s.serves(socket)
	s.signal(pid, syscall.SIGTERM)
	s.ends(pid)
	for _, name := range []string{socket, s.path("pid")} {
		if _, err := os.Stat(name); !os.IsNotExist(err) {
			t.Errorf("%s is left behind: %v", name, err)
		}
	}
}

// promise: L7
func TestUpgradeAsAnotherUserInTheForeground(t *testing.T) {
	s := newSite(t)
	p := s.foreground("-u", "nobody")
	s.serves(s.addr())
	before := ids(t, p.PID())
	c, err := dial("tcp", s.addr())
	must(t, err)
	defer c.Close()
	must(t, c.Set("key", "value"))
	p.Signal(syscall.SIGUSR2)
	harness.Eventually(t, eventTime, "it serves again", func() bool { return s.timesLogged(`"message":"serving"`) == 2 })
	if value, found, err := c.Value("key"); err != nil || !found || value != "value" {
		t.Errorf("the client from before: %q, %v, %v", value, found, err)
	}
	if after := ids(t, p.PID()); after != before {
		t.Errorf("it ran as %s and runs as %s", before, after)
	}
	s.serves(s.addr())
	p.Signal(syscall.SIGTERM)
	if state, ended := p.WaitEnd(eventTime); !ended || state.ExitCode() != 0 {
		t.Errorf("%v, want exit code 0", state)
	}
}

// Whatever is wrong with the next program, this one goes on.
// promise: L7
func TestUpgradeThatFails(t *testing.T) {
	s := newSite(t)
	s.ownBinary()
	pid := s.launch()
	clients := startLoad(t, 10, s.addr())
	for i, script := range []string{
		// Not magent, or broken.
		"#!/bin/sh\necho other 1.0\n",
		"#!/bin/sh\nexit 3\n",
		// Does not like the settings.
		"#!/bin/sh\n[ \"$1\" = --version ] && echo magent 2.0.0 && exit\necho unknown flag >&2; exit 1\n",
		// Cannot be executed once all is given up for it.
		"#!/bin/sh\n[ \"$1\" = --version ] && echo magent 2.0.0 && exit\nchmod 644 \"$0\"\n",
	} {
		s.replaceBinary([]byte(script))
		s.signal(pid, syscall.SIGUSR2)
		harness.Eventually(t, eventTime, "the failure is logged", func() bool { return s.timesLogged("upgrade failed") == i+1 })
		clients.goesOn(t)
		s.serves(s.addr())
		if s.only() != pid {
			t.Fatal("another process took its place")
		}
	}
	clients.end(t)
	s.logged("upgrade failed", "permission denied")
	// And it still listens to signals.
	s.signal(pid, syscall.SIGHUP)
	s.logged("settings read")
	s.signal(pid, syscall.SIGTERM)
	s.ends(pid)
}

// A mistake that is in the config file by now is found before anything is
// given up.
// promise: L7
func TestUpgradeWithAMistakeInTheConfigFile(t *testing.T) {
	s := newSite(t)
	must(t, os.WriteFile(s.path("magent.toml"), []byte("max-clients = 100\n"), 0o600))
	pid := s.launch("--config", s.path("magent.toml"))
	must(t, os.WriteFile(s.path("magent.toml"), []byte("max-clients = 0\n"), 0o600))
	s.signal(pid, syscall.SIGUSR2)
	s.logged("upgrade failed", "max-clients")
	s.serves(s.addr())
	if s.only() != pid {
		t.Error("another process took its place")
	}
}
