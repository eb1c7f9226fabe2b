package main

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// target is the address that is put under load.
type target struct {
	text string
	ip   netip.Addr
	port int
}

// resolve reads "host:port".
func resolve(address string) (target, error) {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return target{}, fmt.Errorf("--addr %q: %w; give host:port", address, err)
	}
	ip, ok := netip.AddrFromSlice(a.IP)
	if !ok {
		return target{}, fmt.Errorf("--addr %q has no host; give host:port", address)
	}
	return target{text: address, ip: ip.Unmap(), port: a.Port}, nil
}

func sockaddr(ip netip.Addr, port int) (family int, sa unix.Sockaddr) {
	if ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: ip.As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: ip.As16()}
}

// connect opens a connection and returns its non-blocking descriptor, which the
// caller owns. source is the address to come from; the zero value leaves the
// choice to the kernel. It gives up after connectSeconds.
func connect(t target, source netip.Addr) (fd int, err error) {
	family, to := sockaddr(t.ip, t.port)
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err = prepare(fd, source); err == nil {
		err = unix.Connect(fd, to)
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connect to %s: %w", t.text, err)
	}
	return fd, nil
}

// connectSeconds is the longest wait for a connection.
const connectSeconds = 3

func prepare(fd int, source netip.Addr) error {
	if source.IsValid() {
		// The port is chosen at connect, so that each source address has all
		// ports for itself.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return err
		}
		_, from := sockaddr(source, 0)
		if err := unix.Bind(fd, from); err != nil {
			return err
		}
	}
	// SO_SNDTIMEO also bounds connect (man 7 socket).
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: connectSeconds}); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

// receive reads what is there into b, which must not be empty. The descriptor
// does not block, so the scheduler need not hear of the call.
func receive(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// send writes as much of b, which must not be empty, as the socket takes.
func send(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd),
		uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// epollWait waits for ready descriptors, at most so many milliseconds. It
// blocks without telling the scheduler, which keeps this thread's processor for
// it: given up and taken back it cost a quarter of all processor time. The
// program has a second one (GOMAXPROCS) for everything else, and the wait is
// short, so that a collection never waits long for this thread.
func epollWait(epoll int, events []unix.EpollEvent, millis int) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll),
		uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(millis), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
