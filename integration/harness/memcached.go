package harness

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// startTimeout bounds how long a program may take until it answers.
const startTimeout = 20 * time.Second

// Memcached is a real memcached server on 127.0.0.1. It keeps its address
// over a restart.
type Memcached struct {
	*Process
	Addr string

	port int
	args []string
}

// steady turns off the background threads that hold a reference to an item now
// and then: whether memcached pads a number that got shorter with spaces
// depends on that, and two servers with the same history would differ.
const steady = "no_lru_maintainer,no_lru_crawler"

// StartMemcached starts memcached with one worker thread on a free port, and
// returns when it answers. Later args win over the defaults: "-t", "4".
func StartMemcached(tb testing.TB, args ...string) *Memcached {
	tb.Helper()
	port := FreePort(tb)
	s := &Memcached{Addr: Loopback(port), port: port, args: args}
	s.start(tb)
	return s
}

func (s *Memcached) start(tb testing.TB) {
	tb.Helper()
	argv := []string{
		MemcachedBinary(), "-u", "root", "-l", "127.0.0.1", "-p", strconv.Itoa(s.port),
		"-U", "0", "-t", "1", "-c", "4096", "-o", steady,
	}
	s.Process = StartProcess(tb, fmt.Sprintf("memcached-%d", s.port), nil, append(argv, s.args...)...)
	awaitAnswer(tb, s.Process, s.Addr)
}

// Restart begins a new life on the same address: it kills the server if it
// still runs, starts it again, empty, and returns when it answers.
func (s *Memcached) Restart() {
	tb := s.tb
	tb.Helper()
	s.Kill()
	s.start(tb)
}

// RestartWith is Restart with other arguments than those of StartMemcached.
func (s *Memcached) RestartWith(args ...string) {
	s.tb.Helper()
	s.args = args
	s.Restart()
}

// Stat returns one number of the server's own `stats`.
func (s *Memcached) Stat(name string) int64 {
	s.tb.Helper()
	c := MustDial(s.tb, s.Addr)
	defer func() { _ = c.Close() }()
	stats, err := c.Stats("")
	if err != nil {
		s.tb.Fatalf("stats of %s: %v", s.Name, err)
	}
	n, err := strconv.ParseInt(stats[name], 10, 64)
	if err != nil {
		s.tb.Fatalf("stats of %s: %s is %q", s.Name, name, stats[name])
	}
	return n
}

// awaitAnswer returns when the program answers `version` with a VERSION line, or
// asks for authentication.
func awaitAnswer(tb testing.TB, p *Process, addr string) {
	tb.Helper()
	var last string
	ok := Poll(startTimeout, func() bool {
		if !p.Running() {
			last = "it has ended"
			return true
		}
		c, err := Dial(addr)
		if err != nil {
			last = err.Error()
			return false
		}
		defer func() { _ = c.Close() }()
		answer, err := c.Command("version")
		last = fmt.Sprintf("answer %q, %v", answer, err)
		return err == nil && (strings.HasPrefix(answer, "VERSION ") || answer == "CLIENT_ERROR unauthenticated")
	})
	if !ok || !p.Running() {
		tb.Fatalf("%s does not answer on %s: %s\n%s", p.Name, addr, last, p.Output())
	}
}
