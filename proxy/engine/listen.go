package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// MinBacklog is the least number of connections that may wait to be accepted.
// The kernel cuts it to net.core.somaxconn.
const MinBacklog = 1024

// resolveTimeout bounds the look-up of a host name that is listened on.
const resolveTimeout = 2 * time.Second

// ListenOptions say how a listening socket is made.
type ListenOptions struct {
	Backlog int         // connections waiting to be accepted; at least MinBacklog
	Mode    fs.FileMode // permission bits of a Unix socket file
}

// Listen makes a listening stream socket and returns its descriptor, which is
// non-blocking, closed on exec and owned by the caller.
//
// Network "tcp" takes "host:port" with an IPv4 or IPv6 address (a zone is
// allowed) or a host name, of which the first address is used. The address
// need not be on this machine yet (IP_FREEBIND, see ip(7)), and where the process
// may (CAP_NET_ADMIN) an accepted connection can still be reset when the address
// has left (IP_TRANSPARENT, which it inherits). Two sockets never
// share a port: SO_REUSEPORT is not set. An IPv6 socket takes no IPv4 clients,
// as in memcached. Accepted connections inherit TCP_NODELAY and SO_KEEPALIVE
// (memcached sets both).
//
// Network "unix" takes a path. A socket file left by a program that is gone is
// replaced; a file that is no socket, or a socket on which somebody listens, is
// left alone. The file never has more permissions than Mode.
//
// The error names the address and wraps the system's error, so that
// errors.Is(err, unix.EADDRINUSE) and the like work.
func Listen(network, address string, o ListenOptions) (fd int, err error) {
	switch network {
	case "tcp":
		fd, err = listenTCP(address, o)
	case "unix":
		fd, err = listenUnix(address, o)
	default:
		err = fmt.Errorf("network %q is neither tcp nor unix", network)
	}
	if err != nil {
		return -1, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	return fd, nil
}

func listenTCP(address string, o ListenOptions) (int, error) {
	addr, err := resolve(address)
	if err != nil {
		return -1, err
	}
	family, sockaddr, err := socketAddress(addr)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, err
	}
	if err := prepareTCP(fd, family); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if err := bindAndListen(fd, sockaddr, o); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func prepareTCP(fd, family int) error {
	for _, option := range []struct{ level, name int }{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY},
	} {
		if err := unix.SetsockoptInt(fd, option.level, option.name, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	// Without the right to it a client whose address has left hears nothing.
	if family == unix.AF_INET {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TRANSPARENT, 1)
		return os.NewSyscallError("setsockopt IP_FREEBIND", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1))
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
		return os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT, 1)
	err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
	if errors.Is(err, unix.ENOPROTOOPT) {
		// Linux before 4.15 has one flag for both families.
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
	}
	return os.NewSyscallError("setsockopt IPV6_FREEBIND", err)
}

func bindAndListen(fd int, sockaddr unix.Sockaddr, o ListenOptions) error {
	if err := unix.Bind(fd, sockaddr); err != nil {
		return err
	}
	return unix.Listen(fd, max(o.Backlog, MinBacklog))
}

// resolve turns "host:port" into an address. An empty host means every IPv4
// address.
func resolve(address string) (netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("port %q is not a number from 0 to 65535", portText)
	}
	if host == "" {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port)), nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
		defer cancel()
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return netip.AddrPort{}, err
		}
		ip = found[0]
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(port)), nil
}

func socketAddress(addr netip.AddrPort) (family int, sockaddr unix.Sockaddr, err error) {
	if addr.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}, nil
	}
	sa := &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	if zone := addr.Addr().Zone(); zone != "" {
		if sa.ZoneId, err = zoneIndex(zone); err != nil {
			return 0, nil, err
		}
	}
	return unix.AF_INET6, sa, nil
}

// zoneIndex finds the interface that an IPv6 zone names, by name or number.
func zoneIndex(zone string) (uint32, error) {
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	ifi, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, fmt.Errorf("no network interface %q", zone)
	}
	return uint32(ifi.Index), nil
}

func listenUnix(path string, o ListenOptions) (int, error) {
	if len(path) > maxUnixPath {
		return -1, fmt.Errorf("the path is %d bytes long and a socket's may have %d", len(path), maxUnixPath)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := bindUnix(fd, path, o); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// maxUnixPath is the room for a path in struct sockaddr_un, less the final zero.
const maxUnixPath = len(unix.RawSockaddrUnix{}.Path) - 1

func bindUnix(fd int, path string, o ListenOptions) error {
	// bind(2) makes the file with the mode of the socket less the umask, so
	// there is no moment at which it is open to more than it should be.
	mode := uint32(o.Mode.Perm())
	if err := unix.Fchmod(fd, mode); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	sockaddr := &unix.SockaddrUnix{Name: path}
	err := bindAndListen(fd, sockaddr, o)
	if errors.Is(err, unix.EADDRINUSE) {
		if err := removeStale(path); err != nil {
			return err
		}
		err = bindAndListen(fd, sockaddr, o)
	}
	if err != nil {
		return err
	}
	return os.NewSyscallError("chmod", unix.Chmod(path, mode))
}

// removeStale removes a socket file on which nobody listens any more.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file of that name that is not a socket: remove it or choose another path")
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// A full queue (EAGAIN) or a socket of another type (EPROTOTYPE) belongs to
	// somebody too: only a refused connection shows that nobody is there.
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	if !errors.Is(err, unix.ECONNREFUSED) {
		return unix.EADDRINUSE
	}
	return os.Remove(path)
}
