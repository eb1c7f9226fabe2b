package harness

import (
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// NewMock starts a server that treats every connection as handle says, each in
// its own goroutine, and returns its address. handle need not close the
// connection; it has to return once reading from it fails.
func NewMock(tb testing.TB, handle func(conn net.Conn)) string {
	tb.Helper()
	addr := Loopback(FreePort(tb))
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
		over  bool
	)
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if over {
				_ = conn.Close()
			}
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				handle(conn)
			})
		}
	})
	tb.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		over = true
		for _, conn := range conns {
			_ = conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return addr
}

// Blackhole returns an address where connecting neither succeeds nor fails, as
// with a machine that is gone: a listener whose backlog is full.
func Blackhole(tb testing.TB) string {
	tb.Helper()
	port := FreePort(tb)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = syscall.Close(fd) })
	// The port was free, but connections of whoever had it last may not be forgotten.
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		tb.Fatal(err)
	}
	sa := &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	if err := syscall.Bind(fd, sa); err != nil {
		tb.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		tb.Fatal(err)
	}
	addr := Loopback(port)
	for range 8 { // a backlog of 0 has room for one; then connecting hangs
		conn, err := net.DialTimeout("tcp", addr, 300*time.Millisecond)
		if err != nil {
			return addr
		}
		tb.Cleanup(func() { _ = conn.Close() })
	}
	tb.Fatalf("%s still takes connections", addr)
	return ""
}
