package harness

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stopTimeout bounds a clean shutdown: the longest drain plus a margin for a
// loaded machine.
const stopTimeout = 20 * time.Second

// raceStatus is the exit status that the race detector is told to use.
const raceStatus = 66

// Config says how to start a magent.
type Config struct {
	Primaries []string // -s, one per server
	Backups   []string // -b, one per server; none for a plain proxy
	Args      []string // more arguments, behind the defaults
	Plain     bool     // without the race detector, for tests that measure
}

// Magent is a running magent, the program under test.
type Magent struct {
	*Process
	Addr string

	stopped bool
}

// StartMagent starts magent in the foreground on a free port of 127.0.0.1 with
// two event loops, and returns when it answers. At the end of the test it is
// stopped with SIGTERM and has to exit with status 0, without a panic and
// without a report of the race detector.
func StartMagent(tb testing.TB, cfg Config) *Magent {
	tb.Helper()
	port := FreePort(tb)
	binary := Binary(tb)
	if cfg.Plain {
		binary = PlainBinary(tb)
	}
	argv := []string{
		binary, "-D", "--threads", "2", "--log-level", "debug",
		"-l", "127.0.0.1", "-p", strconv.Itoa(port),
	}
	for _, addr := range cfg.Primaries {
		argv = append(argv, "-s", addr)
	}
	for _, addr := range cfg.Backups {
		argv = append(argv, "-b", addr)
	}
	argv = append(argv, "--in-flight-file", filepath.Join(tb.TempDir(), "in-flight"))
	argv = append(argv, cfg.Args...)
	env := []string{fmt.Sprintf("GORACE=halt_on_error=0 atexit_sleep_ms=0 exitcode=%d", raceStatus)}

	m := &Magent{Addr: Loopback(port)}
	m.Process = StartProcess(tb, fmt.Sprintf("magent-%d", port), env, argv...)
	awaitAnswer(tb, m.Process, m.Addr)
	tb.Cleanup(func() { m.Stop() })
	return m
}

// Stop ends magent with SIGTERM and fails the test unless it was alive, exits
// in time with status 0, and reported neither a panic nor a race.
func (m *Magent) Stop() {
	tb := m.tb
	tb.Helper()
	if m.stopped {
		return
	}
	m.stopped = true
	if !m.Running() {
		tb.Errorf("%s died: %s", m.Name, m.cmd.ProcessState)
	}
	m.Signal(syscall.SIGTERM)
	state, ended := m.WaitEnd(stopTimeout)
	switch {
	case !ended:
		// A dump of every goroutine says where it hangs.
		m.Signal(syscall.SIGQUIT)
		m.WaitEnd(5 * time.Second)
		tb.Errorf("%s still ran %v after SIGTERM", m.Name, stopTimeout)
	case state.ExitCode() != 0:
		tb.Errorf("%s: %s after SIGTERM, want exit status 0", m.Name, state)
	}
	out := m.Output()
	for _, bad := range []string{"WARNING: DATA RACE", "panic:", "fatal error:", "SIGSEGV"} {
		if i := strings.Index(out, bad); i >= 0 {
			tb.Errorf("%s reported %q:\n%s", m.Name, bad, head(out[i:], 3<<10))
			break
		}
	}
}

// head returns the first n bytes of s.
func head(s string, n int) string {
	if len(s) > n {
		return s[:n] + "\n[…]"
	}
	return s
}
