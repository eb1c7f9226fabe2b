package backend

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/proxy/engine"
)

// fakeServer answers each line that it gets with what a function says, "" for
// no answer. It listens until the test ends.
type fakeServer struct {
	t        testing.TB
	listener net.Listener
	answer   func(line string) string

	mu    sync.Mutex
	lines []string
	conns []net.Conn
	wg    sync.WaitGroup
}

func newFakeServer(t testing.TB, address string, answer func(line string) string) *fakeServer {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeServer{t: t, listener: listener, answer: answer}
	f.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, conn)
			f.mu.Unlock()
			f.wg.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(f.close)
	return f
}

func (f *fakeServer) serve(conn net.Conn) {
	defer conn.Close()
	for input := bufio.NewReader(conn); ; {
		line, err := input.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		f.mu.Lock()
		f.lines = append(f.lines, line)
		f.mu.Unlock()
		if answer := f.answer(line); answer != "" {
			if _, err := conn.Write([]byte(answer + "\r\n")); err != nil {
				return
			}
		}
	}
}

// close ends the server as a program that is killed does.
func (f *fakeServer) close() {
	f.listener.Close()
	f.mu.Lock()
	for _, conn := range f.conns {
		conn.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// got counts the lines so far that are equal to line.
func (f *fakeServer) got(line string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.lines {
		if l == line {
			n++
		}
	}
	return n
}

func (f *fakeServer) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.lines)
}

func (f *fakeServer) at() netip.AddrPort { return f.listener.Addr().(*net.TCPAddr).AddrPort() }

// healthy answers as a memcached does to a prober.
func healthy(line string) string {
	switch line {
	case "version":
		return "VERSION 1.6.18"
	case "flush_all":
		return "OK"
	}
	return "ERROR"
}

// closedPort is an address on which a connection is refused until the test
// ends, and that nobody else gets.
func closedPort(t testing.TB) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*unix.SockaddrInet4).Port))
}

// silentPort is an address at which connecting is never answered: somebody
// listens there and his queue is full.
func silentPort(t testing.TB) netip.AddrPort {
	t.Helper()
	to := closedPort(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	to = netip.AddrPortFrom(to.Addr(), uint16(sa.(*unix.SockaddrInet4).Port))
	for range 8 { // more than a queue of length 0 takes
		queued, err := engine.Connect(to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(queued) })
	}
	// It is full when a new connection stays where it is, though others stand.
	eventually(t, "the queue is full", func() bool {
		conn, err := net.DialTimeout("tcp", to.String(), 20*time.Millisecond)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return err != nil
	})
	return to
}

// probed is a server with its prober, which runs until the test ends.
type probed struct {
	*Server
	first   chan struct{}
	reports chan error

	mu      sync.Mutex
	changes []Change
}

var quickProbes = ProbeOptions{Connect: patience, Answer: patience, Min: time.Millisecond, Max: 4 * time.Millisecond}

// probe starts a prober for a server with the given number of loops, each of
// which has seen all that has happened. before is called before it runs.
func probe(t testing.TB, a Address, loops int, o ProbeOptions, before func(*Server)) *probed {
	t.Helper()
	p := &probed{first: make(chan struct{}), reports: make(chan error, 1000)}
	p.Server = NewServer(a, 0, loops, func(_ *Server, c Change) {
		p.mu.Lock()
		p.changes = append(p.changes, c)
		p.mu.Unlock()
	})
	p.seeAll()
	if before != nil {
		before(p.Server)
	}
	prober := &Prober{Server: p.Server, Options: o, Report: func(s *Server, err error) {
		if s != p.Server {
			t.Error("the report is of another server")
		}
		select {
		case p.reports <- err:
		default:
		}
	}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		prober.Run(ctx, func() { close(p.first) })
	}()
	t.Cleanup(func() {
		cancel()
		within(t, ended, "the prober's end")
	})
	return p
}

// seeAll has every loop see the present epoch.
func (p *probed) seeAll() {
	_, epoch := p.Load()
	for i := range p.seen {
		p.seen[i].Store(epoch)
	}
}

func (p *probed) awaitUp(t testing.TB) {
	t.Helper()
	eventually(t, "the server is up", p.Serves)
}

// awaitLast waits for the last change of state: a server is in a state a moment before that is told.
func (p *probed) awaitLast(t *testing.T, to State) (c Change) {
	t.Helper()
	eventually(t, "the change is told", func() bool {
		c = p.last()
		return c.To == to
	})
	return c
}

// last is the last change of state.
func (p *probed) last() (c Change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.changes); n > 0 {
		c = p.changes[n-1]
	}
	return c
}

// report waits for a report of which ok is true.
func (p *probed) report(t testing.TB, what string, ok func(error) bool) error {
	t.Helper()
	for {
		if err := within(t, p.reports, "a report that says "+what); ok(err) {
			return err
		}
	}
}

// addressAt is the address of a server as it is named by its IP address.
func addressAt(at netip.AddrPort) Address {
	return Address{Host: at.Addr().String(), Port: int(at.Port()), Weight: 1}
}

// memcached is a real one. It runs until the test ends.
type memcached struct {
	cmd *exec.Cmd
	at  netip.AddrPort
}

func startMemcached(t testing.TB, args ...string) *memcached {
	t.Helper()
	ports := filepath.Join(t.TempDir(), "ports")
	cmd := exec.Command(cmp.Or(os.Getenv("MAGENT_MEMCACHED"), "memcached"), append([]string{"-l", "127.0.0.1", "-p", "-1", "-U", "0", "-u", "root", "-t", "2", "-m", "64"}, args...)...)
	cmd.Env = append(os.Environ(), "MEMCACHED_PORT_FILENAME="+ports) // memcached's own tests do so
	if err := cmd.Start(); err != nil {
		t.Fatalf("memcached does not start (apt-get install memcached): %v", err)
	}
	m := &memcached{cmd: cmd}
	t.Cleanup(m.kill)
	eventually(t, "memcached tells its port", func() bool {
		text, _ := os.ReadFile(ports)
		_, port, found := strings.Cut(string(text), "TCP INET: ")
		if !found || !strings.Contains(port, "\n") {
			return false
		}
		n, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(port, "\n", 2)[0]))
		if err != nil {
			t.Fatalf("memcached's ports are %q", text)
		}
		m.at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(n))
		return true
	})
	return m
}

func (m *memcached) signal(t testing.TB, s unix.Signal) {
	t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	if s == unix.SIGSTOP { // it takes effect a little later, thread by thread
		eventually(t, "memcached has stopped", m.stopped)
	}
}

// stopped tells whether all threads of the process are stopped.
func (m *memcached) stopped() bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", m.cmd.Process.Pid))
	for _, thread := range threads {
		stat, _ := os.ReadFile(thread)
		_, state, found := strings.Cut(string(stat), ") ")
		if !found || state[0] != 'T' {
			return false
		}
	}
	return len(threads) > 0
}

// kill ends a memcached and waits until nothing of it is left.
func (m *memcached) kill() {
	m.cmd.Process.Kill()
	m.cmd.Wait()
}

// stop stops a memcached, as a machine does that hangs, and waits until each
// of its threads stands still.
func (m *memcached) stop(t testing.TB) {
	t.Helper()
	m.signal(t, unix.SIGSTOP)
	eventually(t, "memcached stands still", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", m.cmd.Process.Pid))
		if err != nil || len(threads) == 0 {
			t.Fatalf("memcached's threads: %q, %v", threads, err)
		}
		for _, thread := range threads {
			text, err := os.ReadFile(thread)
			if _, state, _ := strings.Cut(string(text), ") "); err != nil || !strings.HasPrefix(state, "T") {
				return false
			}
		}
		return true
	})
}

// ask sends a line to a memcached and returns the first line of the answer.
func (m *memcached) ask(t testing.TB, line string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", m.at.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte(line + "\r\n")); err != nil {
		t.Fatal(err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(answer)
}
