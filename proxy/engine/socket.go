package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Accept takes one connection from a listening socket. The new descriptor is
// non-blocking and owned by the caller. The address is the zero value for a
// Unix socket. EAGAIN says that nobody is waiting.
func Accept(listener int) (fd int, from netip.AddrPort, err error) {
	for {
		fd, sa, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err != nil {
			return -1, netip.AddrPort{}, err
		}
		return fd, addressOf(sa), nil
	}
}

func addressOf(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// LocalName returns where a socket is bound: "address:port", or the path of a
// Unix socket; "" when that cannot be learnt.
func LocalName(fd int) string {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return ""
	}
	if sa, ok := sa.(*unix.SockaddrUnix); ok {
		return sa.Name
	}
	return addressOf(sa).String()
}

// Peer tells the address at the other end of a connected socket, the zero
// value for a Unix socket or when it is gone.
func Peer(fd int) netip.AddrPort {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addressOf(sa)
}

// Local tells the address of a connected socket on this machine, the zero value
// for a Unix socket.
func Local(fd int) netip.AddrPort {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addressOf(sa)
}

// Connect begins to connect a new non-blocking socket to an address. The
// descriptor is owned by the caller. The connection stands once the socket is
// writable and SocketError says nil.
func Connect(to netip.AddrPort) (fd int, err error) {
	addr := to.Addr().Unmap()
	if addr.Is4() {
		return connect(unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: addr.As4()})
	}
	sa := &unix.SockaddrInet6{Port: int(to.Port()), Addr: addr.As16()}
	if zone := addr.Zone(); zone != "" {
		if link, err := net.InterfaceByName(zone); err == nil {
			sa.ZoneId = uint32(link.Index)
		}
	}
	return connect(unix.AF_INET6, sa)
}

func connect(family int, sa unix.Sockaddr) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if family != unix.AF_UNIX {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	}
	err = unix.Connect(fd, sa)
	if err != nil && err != unix.EINPROGRESS && err != unix.EINTR {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// GiveUpAfter has the kernel give a connection up when the other side has not
// taken what was sent for so long, also when the socket has been closed since or
// the process has ended: it is not delivered after that (TCP_USER_TIMEOUT in
// tcp(7)).
func GiveUpAfter(fd int, d time.Duration) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(max(d.Milliseconds(), 1)))
}

// KeepAsking has the kernel ask the other side of a silent connection every so
// often whether its machine is there, and give the connection up when that is
// not answered a few times (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT in tcp(7)).
func KeepAsking(fd int, every time.Duration) {
	seconds := max(int(every.Seconds()), 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3)
}

// SocketError returns and clears the pending error of a socket, nil for none.
func SocketError(fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if code != 0 {
		return unix.Errno(code)
	}
	return nil
}

// Close closes a socket the ordinary way: what was sent still arrives.
func Close(fd int) { _ = unix.Close(fd) }

// Reset closes a socket at once: the other side sees a reset, and what was
// not yet delivered is thrown away.
func Reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(fd)
}

// CloseWrite tells the other side that nothing more will come.
func CloseWrite(fd int) { _ = unix.Shutdown(fd, unix.SHUT_WR) }

// Write sends what the socket takes of b at once.
func Write(fd int, b []byte) (n int, err error) {
	for {
		if n, err = unix.SendmsgN(fd, b, nil, nil, unix.MSG_NOSIGNAL); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
