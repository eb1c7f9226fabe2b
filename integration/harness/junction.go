package harness

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Junction is one address of a server for several programs, each of which has
// a Link of its own to it:
//
//	program 0 ──▶ Junction.Addr ─┬─ Links[0] ─▶ server
//	program 1 ──▶               └─ Links[1] ─▶
//
// So one of them can be cut off while the other is not, although both name
// the server alike. Which program a connection belongs to is read from /proc:
// a program's command line holds its marker. All methods may be called at any
// time.
type Junction struct {
	Addr  string
	Links []*Link

	tb      testing.TB
	markers []string
	ln      net.Listener
	wg      sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]struct{}
	procs  map[string]int // directory in /proc of a program, and its number
}

// NewJunction opens an address for the server at target, with one Link for
// each marker. A connection of a process without a marker is reset.
func NewJunction(tb testing.TB, target string, markers ...string) *Junction {
	tb.Helper()
	j := &Junction{tb: tb, markers: markers, open: make(map[net.Conn]struct{}), procs: make(map[string]int)}
	for range markers {
		j.Links = append(j.Links, NewLink(tb, target))
	}
	j.Addr = Loopback(FreePort(tb))
	var err error
	if j.ln, err = net.Listen("tcp", j.Addr); err != nil {
		tb.Fatal(err)
	}
	j.wg.Go(j.accept)
	tb.Cleanup(j.close)
	return j
}

func (j *Junction) close() {
	_ = j.ln.Close()
	j.mu.Lock()
	j.closed = true
	for conn := range j.open {
		_ = conn.Close()
	}
	j.mu.Unlock()
	j.wg.Wait()
}

// keep remembers connections, so that close ends them; false when it is over.
func (j *Junction) keep(conns ...net.Conn) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, conn := range conns {
		j.open[conn] = struct{}{}
	}
	return !j.closed
}

func (j *Junction) forget(conns ...net.Conn) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
		delete(j.open, conn)
	}
}

func (j *Junction) accept() {
	for {
		conn, err := j.ln.Accept()
		if err != nil {
			return
		}
		j.wg.Go(func() { j.serve(conn.(*net.TCPConn)) })
	}
}

// serve joins a connection with its Link.
func (j *Junction) serve(client *net.TCPConn) {
	defer j.forget(client)
	if !j.keep(client) {
		return
	}
	reset := func() { _ = client.SetLinger(0) }
	owner, err := j.owner(client)
	if err != nil { // the program has ended, or has given the connection up
		reset()
		return
	}
	conn, err := net.Dial("tcp", j.Links[owner].Addr)
	if err != nil {
		reset()
		return
	}
	link := conn.(*net.TCPConn)
	defer j.forget(link)
	if !j.keep(link) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { pass(client, link) })
	both.Go(func() { pass(link, client) })
	both.Wait()
}

// pass carries bytes one way, and the end: an orderly one and a reset.
func pass(from, to *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil && !errors.Is(err, net.ErrClosed) {
		_ = from.SetLinger(0)
		_ = to.SetLinger(0)
		_ = from.Close()
		_ = to.Close()
		return
	}
	_ = to.CloseWrite()
}

// owner returns the number of the program at the other end of a connection.
func (j *Junction) owner(conn *net.TCPConn) (int, error) {
	inode, err := socketInode(conn.RemoteAddr().(*net.TCPAddr), conn.LocalAddr().(*net.TCPAddr))
	if err != nil {
		return 0, err
	}
	socket := fmt.Sprintf("socket:[%d]", inode)
	for proc, owner := range j.known() {
		if holds(proc, socket) {
			return owner, nil
		}
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		for i, marker := range j.markers {
			if proc := filepath.Dir(path); bytes.Contains(line, []byte(marker)) && holds(proc, socket) {
				j.mu.Lock()
				j.procs[proc] = i
				j.mu.Unlock()
				return i, nil
			}
		}
	}
	return 0, fmt.Errorf("no program with one of the markers holds the connection from %s", conn.RemoteAddr())
}

// known returns the programs that have been found before.
func (j *Junction) known() map[string]int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.procs)
}

// holds reports whether a process has a file open.
func holds(proc, file string) bool {
	entries, _ := filepath.Glob(proc + "/fd/*")
	for _, entry := range entries {
		if target, err := os.Readlink(entry); err == nil && target == file {
			return true
		}
	}
	return false
}
