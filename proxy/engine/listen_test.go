package engine

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// listenForTest listens and closes the descriptor when the test ends.
func listenForTest(t *testing.T, network, address string, o ListenOptions) int {
	t.Helper()
	fd, err := Listen(network, address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// boundTo returns the address on which a TCP socket really listens.
func boundTo(t *testing.T, fd int) netip.AddrPort {
	t.Helper()
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	t.Fatalf("the socket's address is a %T", sa)
	return netip.AddrPort{}
}

func option(t *testing.T, fd, level, name int) int {
	t.Helper()
	value, err := unix.GetsockoptInt(fd, level, name)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// promise: L1
func TestListenTCPFamilies(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", "localhost:0", ":0", "[::]:0", "0.0.0.0:0"} {
		t.Run(address, func(t *testing.T) {
			fd := listenForTest(t, "tcp", address, ListenOptions{})
			at := boundTo(t, fd)
			if at.Addr().IsUnspecified() {
				loopback := netip.MustParseAddr("127.0.0.1")
				if at.Addr().Is6() {
					loopback = netip.IPv6Loopback()
				}
				at = netip.AddrPortFrom(loopback, at.Port())
			}
			conn, err := net.Dial("tcp", at.String())
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		})
	}
}

func TestListenTCPSocketOptions(t *testing.T) {
	fd := listenForTest(t, "tcp", "127.0.0.1:0", ListenOptions{})
	if option(t, fd, unix.SOL_SOCKET, unix.SO_REUSEPORT) != 0 {
		t.Error("SO_REUSEPORT is set: two programs could share the port")
	}
	for name, o := range map[string][2]int{
		"SO_REUSEADDR": {unix.SOL_SOCKET, unix.SO_REUSEADDR},
		"SO_KEEPALIVE": {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
		"TCP_NODELAY":  {unix.IPPROTO_TCP, unix.TCP_NODELAY},
		"IP_FREEBIND":  {unix.IPPROTO_IP, unix.IP_FREEBIND},
	} {
		if option(t, fd, o[0], o[1]) == 0 {
			t.Errorf("%s is not set", name)
		}
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("flags %#x, error %v: not non-blocking", flags, err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags %#x, error %v: not closed on exec", flags, err)
	}
	client, err := net.Dial("tcp", boundTo(t, fd).String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	// accept(2) finds the connection there: it is complete once Dial returned.
	conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(conn)
	if option(t, conn, unix.IPPROTO_TCP, unix.TCP_NODELAY) == 0 {
		t.Error("an accepted connection has no TCP_NODELAY")
	}
}

// Many clients that come while nobody accepts all get through.
func TestListenBacklog(t *testing.T) {
	limit, err := os.ReadFile("/proc/sys/net/core/somaxconn")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("net.core.somaxconn is %s", limit)
	fd := listenForTest(t, "tcp", "127.0.0.1:0", ListenOptions{Backlog: 1})
	at := boundTo(t, fd)
	for range 200 {
		client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(client) })
		if err := unix.Connect(client, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
			t.Fatal(err)
		}
	}
	accepted := 0
	for ; ; accepted++ {
		conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err != nil {
			break
		}
		unix.Close(conn)
	}
	if accepted != 200 {
		t.Errorf("%d of 200 waiting clients were accepted", accepted)
	}
}

// promise: L4
func TestListenOnAnAbsentAddress(t *testing.T) {
	for _, address := range []string{"10.66.77.88:0", "[2001:db8:66:77::88]:0"} {
		fd := listenForTest(t, "tcp", address, ListenOptions{})
		want := netip.MustParseAddrPort(address).Addr()
		if got := boundTo(t, fd).Addr(); got != want {
			t.Errorf("listens on %v, not on %v", got, want)
		}
	}
}

// promise: L3
func TestListenAddressInUse(t *testing.T) {
	fd := listenForTest(t, "tcp", "127.0.0.1:0", ListenOptions{})
	address := boundTo(t, fd).String()
	if _, err := Listen("tcp", address, ListenOptions{}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a second socket on %s: error %v, want EADDRINUSE", address, err)
	}
}

func TestListenMalformed(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "[::1", "[fe80::1%nosuchif0]:0"} {
		if fd, err := Listen("tcp", address, ListenOptions{}); err == nil {
			unix.Close(fd)
			t.Errorf("Listen(tcp, %q) found nothing wrong", address)
		}
	}
	if _, err := Listen("udp", "127.0.0.1:0", ListenOptions{}); err == nil {
		t.Error("Listen(udp) found nothing wrong")
	}
}

func TestListenUnixMode(t *testing.T) {
	for _, mode := range []fs.FileMode{0o700, 0o777, 0o600} {
		path := filepath.Join(t.TempDir(), "socket")
		listenForTest(t, "unix", path, ListenOptions{Mode: mode})
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("mode %o, want %o", info.Mode().Perm(), mode)
		}
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
}

// promise: L3
func TestListenUnixStaleAndTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	fd, err := Listen("unix", path, ListenOptions{Mode: 0o700})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix", path, ListenOptions{Mode: 0o700}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("on a socket in use: error %v, want EADDRINUSE", err)
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the socket in use was damaged: %v", err)
	} else {
		conn.Close()
	}
	unix.Close(fd)
	listenForTest(t, "unix", path, ListenOptions{Mode: 0o700})
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the stale socket was not replaced: %v", err)
	} else {
		conn.Close()
	}
}

func TestListenUnixLeavesOtherFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(path, []byte("keep me"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix", path, ListenOptions{Mode: 0o700}); err == nil {
		t.Error("listening in the place of a regular file succeeded")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "keep me" {
		t.Errorf("the file holds %q, error %v", text, err)
	}
	long := "/tmp/" + string(make([]byte, 200))
	if _, err := Listen("unix", long, ListenOptions{}); err == nil {
		t.Error("a path of 205 bytes was taken")
	}
}

// Root's listeners can have clients reset after their address has left.
//
// promise: L9
func TestListenersAreTransparent(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Fatal("only root may set IP_TRANSPARENT: run the tests as root")
	}
	for address, o := range map[string][2]int{
		"127.0.0.1:0": {unix.IPPROTO_IP, unix.IP_TRANSPARENT},
		"[::1]:0":     {unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT},
	} {
		if option(t, listenForTest(t, "tcp", address, ListenOptions{}), o[0], o[1]) == 0 {
			t.Errorf("a listener on %s is not transparent", address)
		}
	}
}
