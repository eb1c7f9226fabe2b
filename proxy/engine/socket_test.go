package engine

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// connected begins to connect and waits until the loop says how it went.
func connected(t *testing.T, to netip.AddrPort) (fd int, err error) {
	t.Helper()
	l, do := runLoop(t, untilWoken)
	fd, err = Connect(to)
	if err != nil {
		return -1, err
	}
	t.Cleanup(func() { unix.Close(fd) })
	seen := make(eventLog, 16)
	do(func() {
		if err := l.Register(fd, seen); err != nil {
			t.Error(err)
		}
	})
	seen.await(t, "the connection", Events.Writable)
	do(func() { l.Unregister(fd) })
	return fd, SocketError(fd)
}

func TestConnectAndAccept(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			listener := listenForTest(t, "tcp", address, ListenOptions{})
			if _, _, err := Accept(listener); !errors.Is(err, unix.EAGAIN) {
				t.Errorf("nobody waits and Accept says %v, want EAGAIN", err)
			}
			to := boundTo(t, listener)
			here, err := connected(t, to)
			if err != nil {
				t.Fatal(err)
			}
			there, from, err := Accept(listener)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(there)
			if got := Peer(here); got != to {
				t.Errorf("the client's peer is %v, want %v", got, to)
			}
			if got := Peer(there); got != from || from.Addr() != to.Addr() || from.Port() == 0 {
				t.Errorf("accepted from %v, and its peer is %v", from, got)
			}
			for _, fd := range []int{here, there} {
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
					t.Errorf("flags %#x, error %v: not non-blocking", flags, err)
				}
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("descriptor flags %#x, error %v: not closed on exec", flags, err)
				}
			}
			buf := make([]byte, 16)
			for _, fd := range []int{here, there} {
				if _, errno := Recv(fd, buf); errno != unix.EAGAIN {
					t.Errorf("read of an empty socket: %v, want EAGAIN and no wait", errno)
				}
			}
			if option(t, here, unix.IPPROTO_TCP, unix.TCP_NODELAY) == 0 || option(t, here, unix.SOL_SOCKET, unix.SO_KEEPALIVE) == 0 {
				t.Error("a connection to a server has no TCP_NODELAY or no SO_KEEPALIVE")
			}
			write(t, here, "hello")
			if n, errno := Recv(there, buf); errno != 0 || string(buf[:n]) != "hello" {
				t.Errorf("received %q, %v", buf[:n], errno)
			}
		})
	}
}

// promise: C5
func TestConnectRefused(t *testing.T) {
	// A port that is bound and does not listen refuses, and nobody else gets it.
	bound, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(bound)
	if err := unix.Bind(bound, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	closed := boundTo(t, bound)
	fd, err := connected(t, closed)
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("error %v, want ECONNREFUSED", err)
	}
	if err := SocketError(fd); err != nil {
		t.Errorf("the error is told twice: %v", err)
	}
	if Peer(fd).IsValid() {
		t.Errorf("a socket that is not connected has the peer %v", Peer(fd))
	}
}

func TestConnectNowhere(t *testing.T) {
	// An address of a family that the socket cannot reach fails at once.
	if fd, err := Connect(netip.MustParseAddrPort("[fe80::1%nosuchif0]:11211")); err == nil {
		unix.Close(fd)
		t.Error("connecting to a link that does not exist began")
	}
	if err := SocketError(-1); err == nil {
		t.Error("no error for a descriptor that is none")
	}
}

func TestAcceptUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener := listenForTest(t, "unix", path, ListenOptions{Mode: 0o700})
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	fd, from, err := Accept(listener)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if from.IsValid() || Peer(fd).IsValid() {
		t.Errorf("a client of a Unix socket comes from %v, its peer is %v; want no address", from, Peer(fd))
	}
}

// tcpPair returns a connection whose far end is the engine's.
func tcpPair(t *testing.T) (client *net.TCPConn, fd int) {
	t.Helper()
	listener := listenForTest(t, "tcp", "127.0.0.1:0", ListenOptions{})
	conn, err := net.Dial("tcp", boundTo(t, listener).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fd, _, err = Accept(listener)
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn), fd
}

// The three ways to end a connection: what was sent still arrives with Close
// and CloseWrite, and the other side sees a reset at once with Reset.
func TestEnds(t *testing.T) {
	buf := make([]byte, 16)
	client, fd := tcpPair(t)
	write(t, fd, "last words")
	Close(fd)
	if n, err := client.Read(buf); err != nil || string(buf[:n]) != "last words" {
		t.Errorf("before an ordinary close: %q, %v", buf[:n], err)
	}
	if _, err := client.Read(buf); err == nil || errors.Is(err, unix.ECONNRESET) {
		t.Errorf("after an ordinary close: %v, want the end", err)
	}

	client, fd = tcpPair(t)
	CloseWrite(fd)
	if _, err := client.Read(buf); err == nil {
		t.Error("no end after CloseWrite")
	}
	if _, err := client.Write([]byte("answer")); err != nil {
		t.Error(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	l, do := runLoop(t, untilWoken)
	seen := make(eventLog, 16)
	do(func() {
		if err := l.Register(fd, seen); err != nil {
			t.Error(err)
		}
	})
	seen.await(t, "the client's end", Events.Ended)
	if got := receiveAll(t, fd, nil); string(got) != "answer" {
		t.Errorf("after CloseWrite %q was received, want what the client still had to say", got)
	}
	do(func() { l.Unregister(fd) })
	Close(fd)

	client, fd = tcpPair(t)
	Reset(fd)
	if _, err := client.Read(buf); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("after Reset: %v, want ECONNRESET", err)
	}
}
