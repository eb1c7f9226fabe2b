package launch

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/integration/harness"
)

// manager stands for systemd: it reads what a service tells it.
type manager struct {
	*testing.T
	conn *net.UnixConn
	name string
}

// newManager listens at a path, or at a name that begins with @.
func newManager(t *testing.T, name string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	raw, err := conn.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) }))
	must(t, err)
	return &manager{T: t, conn: conn, name: name}
}

// message is one of a service: its lines by name, and the process that sent it.
type message struct {
	from  int
	lines map[string]string
}

// next returns the next message.
func (m *manager) next() message {
	m.Helper()
	must(m, m.conn.SetReadDeadline(time.Now().Add(eventTime)))
	text, control := make([]byte, 4096), make([]byte, 256)
	n, controlled, _, _, err := m.conn.ReadMsgUnix(text, control)
	if err != nil {
		m.Fatalf("the service manager hears nothing: %v", err)
	}
	parts, err := unix.ParseSocketControlMessage(control[:controlled])
	must(m, err)
	got := message{lines: map[string]string{}}
	for i := range parts {
		if credentials, err := unix.ParseUnixCredentials(&parts[i]); err == nil {
			got.from = int(credentials.Pid)
		}
	}
	for line := range strings.SplitSeq(string(text[:n]), "\n") {
		name, value, found := strings.Cut(line, "=")
		if !found || got.lines[name] != "" {
			m.Errorf("the message %q has the line %q", text[:n], line)
		}
		got.lines[name] = value
	}
	return got
}

// hears waits for the next message other than the watchdog's, which must have
// a line NAME=1, come from that process and say something about the status.
func (m *manager) hears(name string, pid int) message {
	m.Helper()
	got := m.next()
	for got.lines["WATCHDOG"] != "" {
		got = m.next()
	}
	if got.lines[name] != "1" || got.from != pid || got.lines["STATUS"] == "" {
		m.Fatalf("the service manager hears %v, want %s=1 from %d", got, name, pid)
	}
	// It would be another process's in a container.
	if _, found := got.lines["MAINPID"]; found {
		m.Errorf("the service manager is told a main process: %v", got)
	}
	return got
}

// managed starts magent as a service.
func (s *site) managed(m *manager, more ...string) *harness.Process {
	s.Helper()
	s.env = append(s.env, "NOTIFY_SOCKET="+m.name)
	return harness.StartProcess(s, "magent", s.env, append([]string{s.binary, "-D"}, s.args(more...)...)...)
}

func TestServiceManagerIsTold(t *testing.T) {
	for _, kind := range []string{"path", "abstract name"} {
		t.Run(kind, func(t *testing.T) {
			s := newSite(t)
			config := func(text string) { must(t, os.WriteFile(s.path("magent.toml"), []byte(text), 0o600)) }
			config("max-clients = 100\n")
			name := s.path("notify")
			if kind != "path" {
				name = "@" + name
			}
			m := newManager(t, name)
			p := s.managed(m, "--config", s.path("magent.toml"))
			pid := p.PID()
			if got := m.hears("READY", pid); got.lines["STATUS"] != "serving on "+s.addr() {
				t.Errorf("the status is %q", got.lines["STATUS"])
			}
			s.serves(s.addr())

			// What systemd does with Type=notify-reload: only an answer from
			// after its signal counts.
			var before unix.Timespec
			must(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &before))
			p.Signal(syscall.SIGHUP)
			at, err := strconv.ParseInt(m.hears("RELOADING", pid).lines["MONOTONIC_USEC"], 10, 64)
			if err != nil || at < before.Nano()/1000 {
				t.Errorf("reloading at %d, error %v, want %d or later", at, err, before.Nano()/1000)
			}
			m.hears("READY", pid)
			config("max-clients = 0\n")
			p.Signal(syscall.SIGHUP)
			m.hears("RELOADING", pid)
			if got := m.hears("READY", pid); !strings.Contains(got.lines["STATUS"], "not read anew") {
				t.Errorf("with a mistake in the config file the status is %q", got.lines["STATUS"])
			}

			p.Signal(syscall.SIGTERM)
			m.hears("STOPPING", pid)
			if state, ended := p.WaitEnd(eventTime); !ended || state.ExitCode() != 0 {
				t.Errorf("%v, want exit code 0", state)
			}
		})
	}
}

// The process stays the same in an upgrade, and so does the one that the
// manager listens to. Programs that the old one tries out must be silent.
func TestServiceManagerIsToldOfUpgrades(t *testing.T) {
	s := newSite(t)
	s.ownBinary()
	m := newManager(t, s.path("notify"))
	s.env = append(s.env, "WATCHDOG_USEC=1000000")
	p := s.managed(m)
	m.hears("READY", p.PID())
	for range 3 {
		p.Signal(syscall.SIGUSR2)
		m.hears("RELOADING", p.PID())
		m.hears("READY", p.PID())
		s.serves(s.addr())
		if got := m.next(); got.lines["WATCHDOG"] != "1" || got.from != p.PID() {
			t.Errorf("after an upgrade the manager hears %v, want WATCHDOG=1", got)
		}
	}

	// A program that would tell what is in its environment.
	s.replaceBinary([]byte("#!/bin/sh\nenv >" + s.path("environment") + "\nexit 1\n"))
	p.Signal(syscall.SIGUSR2)
	m.hears("RELOADING", p.PID())
	if got := m.hears("READY", p.PID()); !strings.Contains(got.lines["STATUS"], "upgrade failed") {
		t.Errorf("after an upgrade that failed the status is %q", got.lines["STATUS"])
	}
	environment, err := os.ReadFile(s.path("environment"))
	must(t, err)
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC"} {
		if strings.Contains(string(environment), name) {
			t.Errorf("a program that magent started has %s:\n%s", name, environment)
		}
	}
}

func TestWatchdogHearsOfEveryTurn(t *testing.T) {
	s := newSite(t)
	m := newManager(t, s.path("notify"))
	s.env = append(s.env, "WATCHDOG_USEC=200000")
	p := s.managed(m, "--threads", "2")
	m.hears("READY", p.PID())
	for range 10 {
		if got := m.next(); got.lines["WATCHDOG"] != "1" || len(got.lines) != 1 || got.from != p.PID() {
			t.Fatalf("the service manager hears %v, want WATCHDOG=1", got)
		}
	}
}

// What is meant for another process is not for this one.
func TestWatchdogOfAnotherProcess(t *testing.T) {
	s := newSite(t)
	m := newManager(t, s.path("notify"))
	s.env = append(s.env, "WATCHDOG_USEC=1000", "WATCHDOG_PID=1")
	p := s.managed(m)
	m.hears("READY", p.PID())
	s.serves(s.addr()) // time for many
	p.Signal(syscall.SIGTERM)
	if got := m.next(); got.lines["STOPPING"] != "1" {
		t.Errorf("the service manager hears %v, want STOPPING=1", got)
	}
}

// Nothing depends on the manager.
func TestServiceManagerThatCannotBeTold(t *testing.T) {
	for name, words := range map[string]string{
		"missing":  "cannot tell the service manager",
		"@missing": "cannot tell the service manager",
		"nonsense": `NOTIFY_SOCKET is \"nonsense\"`,
		"watchdog": `WATCHDOG_USEC is \"often\"`,
		"long":     "cannot tell the service manager",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			switch name {
			case "missing":
				s.env = append(s.env, "NOTIFY_SOCKET="+s.path(name))
			case "watchdog":
				s.env = append(s.env, "NOTIFY_SOCKET="+newManager(t, s.path(name)).name, "WATCHDOG_USEC=often")
			case "long":
				s.env = append(s.env, "NOTIFY_SOCKET="+filepath.Join(s.dir, strings.Repeat("x", 200)))
			default:
				s.env = append(s.env, "NOTIFY_SOCKET="+name)
			}
			p := s.foreground()
			s.serves(s.addr())
			p.Signal(syscall.SIGHUP)
			s.logged("settings read")
			p.Signal(syscall.SIGTERM)
			if state, ended := p.WaitEnd(eventTime); !ended || state.ExitCode() != 0 {
				t.Errorf("%v, want exit code 0", state)
			}
			if n := s.timesLogged(`"level":"warn"`, words); n != 1 {
				t.Errorf("%d warnings that say %s, want one", n, words)
			}
		})
	}
}

// A manager that does not read holds up nothing for long.
func TestServiceManagerThatDoesNotRead(t *testing.T) {
	s := newSite(t)
	m := newManager(t, s.path("notify"))
	full, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.name, Net: "unixgram"})
	must(t, err)
	defer full.Close()
	raw, err := full.SyscallConn()
	must(t, err)
	must(t, raw.Write(func(fd uintptr) bool {
		for err == nil {
			_, err = unix.SendmsgN(int(fd), []byte("STATUS=full"), nil, nil, unix.MSG_DONTWAIT)
		}
		return true
	}))
	p := s.managed(m)
	s.logged(`"message":"serving"`)
	s.serves(s.addr())
	p.Signal(syscall.SIGTERM)
	if state, ended := p.WaitEnd(eventTime); !ended || state.ExitCode() != 0 {
		t.Errorf("%v, want exit code 0", state)
	}
	s.logged("cannot tell the service manager")
}

// keepalived is a service that systemd listens to, and it launches magent with
// its own environment: magent in the background must not speak for it.
func TestBackgroundSpeaksForNoService(t *testing.T) {
	s := newSite(t)
	m := newManager(t, s.path("notify"))
	s.env = append(s.env, "NOTIFY_SOCKET="+m.name, "WATCHDOG_USEC=1000")
	pid := s.launch()
	s.serves(s.addr())
	s.signal(pid, syscall.SIGHUP)
	s.logged("settings read")
	s.signal(pid, syscall.SIGUSR2)
	harness.Eventually(t, eventTime, "the next program serves", func() bool { return s.timesLogged(`"message":"serving"`) == 2 })
	s.signal(pid, syscall.SIGTERM)
	s.ends(pid)
	// Behind all that it might have said.
	own, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.name, Net: "unixgram"})
	must(t, err)
	defer own.Close()
	_, err = fmt.Fprint(own, "LAST=1")
	must(t, err)
	if got := m.next(); got.lines["LAST"] != "1" {
		t.Errorf("the service manager hears %v from a magent in the background", got)
	}
}
