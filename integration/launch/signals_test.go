package launch

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"magent/integration/harness"
)

// foreground starts magent with -D, with its output in the log too.
func (s *site) foreground(more ...string) *harness.Process {
	s.Helper()
	argv := append([]string{s.binary, "-D"}, s.args(more...)...)
	p := harness.StartProcess(s, "magent", s.env, argv...)
	s.logged(`"message":"serving"`)
	return p
}

// promise: L7
func TestStopFinishesWhatIsInFlight(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s := newSite(t)
		p := s.foreground("--drain-timeout", "1m")
		c, err := dial("tcp", s.addr())
		must(t, err)
		defer c.Close()
		must(t, c.Set("key", "value"))
		s.server.Freeze()
		must(t, c.Send([]byte("get key\r\n")))
		s.awaitRequest(len("get key\r\n"))
		p.Signal(sig)
		harness.Eventually(t, eventTime, "new clients are refused", func() bool {
			conn, err := net.Dial("tcp", s.addr())
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
		if !p.Running() {
			t.Fatalf("%v: it ended with a request in flight", sig)
		}
		s.server.Thaw()
		items, err := c.Values()
		if err != nil || len(items) != 1 || string(items[0].Value) != "value" {
			t.Errorf("%v: the answer in flight is %v, error %v", sig, items, err)
		}
		state, ended := p.WaitEnd(eventTime)
		if !ended || state.ExitCode() != 0 {
			t.Errorf("%v: %v, want exit code 0", sig, state)
		}
		s.logged(`"message":"stopped"`)
	}
}

// promise: L7
func TestStopIsBounded(t *testing.T) {
	s := newSite(t)
	p := s.foreground("--drain-timeout", "100ms", "--server-timeout", "1h")
	c := s.hang()
	defer c.Close()
	s.awaitRequest(len("get key\r\n") + len("version\r\n")) // magent asks by itself whether the server is there
	p.Signal(syscall.SIGTERM)
	if state, ended := p.WaitEnd(eventTime); !ended || state.ExitCode() != 0 {
		t.Errorf("%v, want exit code 0", state)
	}
}

// promise: L7
func TestSecondSignalStopsAtOnce(t *testing.T) {
	s := newSite(t)
	p := s.foreground("--drain-timeout", "1h", "--server-timeout", "1h")
	c := s.hang()
	defer c.Close()
	p.Signal(syscall.SIGTERM)
	s.logged(`"signal":"TERM"`)
	p.Signal(syscall.SIGINT)
	if state, ended := p.WaitEnd(eventTime); !ended || state.ExitCode() != 0 {
		t.Errorf("%v, want exit code 0", state)
	}
	s.logged(`"signal":"INT"`)
	if _, err := os.Stat(s.path("pid")); !os.IsNotExist(err) {
		t.Errorf("the pid file is left: %v", err)
	}
}

// hang leaves a client whose request the server does not answer.
func (s *site) hang() *harness.Client {
	s.Helper()
	c, err := dial("tcp", s.addr())
	must(s, err)
	must(s, c.Set("key", "value"))
	s.server.Freeze()
	must(s, c.Send([]byte("get key\r\n")))
	s.awaitRequest(len("get key\r\n"))
	return c
}

// promise: L7
func TestHangupReadsTheConfigFile(t *testing.T) {
	s := newSite(t)
	config := func(text string) {
		must(t, os.WriteFile(s.path("magent.toml"), []byte(text), 0o600))
	}
	config("max-clients = 100\n")
	pid := s.launch("--config", s.path("magent.toml"))
	hangUp := func() {
		before := s.timesLogged(`"signal":"HUP"`)
		s.signal(pid, syscall.SIGHUP)
		harness.Eventually(t, eventTime, "the signal is logged", func() bool { return s.timesLogged(`"signal":"HUP"`) > before })
	}
	first, err := dial("tcp", s.addr())
	must(t, err)
	defer first.Close()
	must(t, first.Set("key", "value"))
	s.serves(s.addr()) // there is room for a second client

	config("max-clients = 1\nthreads = 9\npid-file = \"/elsewhere\"\n")
	hangUp()
	s.logged("settings read", s.path("magent.toml"))
	s.logged("restart", "threads")
	harness.Eventually(t, eventTime, "a second client is refused", func() bool {
		err := roundTrip("tcp", s.addr())
		return err != nil && strings.Contains(err.Error(), "SERVER_ERROR")
	})

	config("max-clients = 100\nmax-cleints = 1\n")
	hangUp()
	s.logged("settings stay the same", "max-cleints", "max-clients")
	if err := roundTrip("tcp", s.addr()); err == nil {
		t.Error("a config file with a mistake was applied")
	}

	config("max-clients = 100\n")
	hangUp()
	harness.Eventually(t, eventTime, "a second client is served", func() bool { return roundTrip("tcp", s.addr()) == nil })
	if value, found, err := first.Value("key"); value != "value" || !found || err != nil {
		t.Errorf("the first client: %q, %v, %v", value, found, err)
	}
	if s.only() != pid {
		t.Error("another process took its place")
	}
}

// promise: L7
func TestHangupOpensTheLogFileAnew(t *testing.T) {
	s := newSite(t)
	pid := s.launch("-u", "nobody")
	s.signal(pid, syscall.SIGHUP)
	s.logged("settings read")
	if s.timesLogged("the log file stays the same") != 0 {
		t.Error("it may not open its own log file")
	}
	// A user that owns the file only, as after a rotation with "create".
	must(t, os.Rename(s.path("log"), s.path("log.1")))
	must(t, os.WriteFile(s.path("log"), nil, 0o600))
	must(t, os.Chown(s.path("log"), nobody, nobody))
	s.signal(pid, syscall.SIGHUP)
	s.logged("settings read")
	// Where it cannot be opened, it stays the same.
	must(t, os.Rename(s.path("log"), s.path("log.2")))
	s.signal(pid, syscall.SIGHUP)
	harness.Eventually(t, eventTime, "the old log goes on", func() bool {
		text, err := os.ReadFile(s.path("log.2"))
		return err == nil && strings.Contains(string(text), "the log file stays the same")
	})
}

// promise: L7
func TestHangupChangesTheLogLevel(t *testing.T) {
	s := newSite(t)
	must(t, os.WriteFile(s.path("magent.toml"), []byte("log-level = \"error\"\n"), 0o600))
	s.run("--config", s.path("magent.toml"), "-l", s.host, "-p", fmt.Sprint(s.port), "-P", s.path("pid"), "--log-file", s.path("log"), "-s", s.server.Addr).wants(t, 0)
	s.serves(s.addr())
	if log := s.log(); log != "" {
		t.Errorf("at level error it logs %s", log)
	}
	must(t, os.WriteFile(s.path("magent.toml"), []byte("log-level = \"info\"\n"), 0o600))
	s.signal(s.pid(), syscall.SIGHUP)
	s.logged("settings read")
}
