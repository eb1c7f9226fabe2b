package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// AddressWatch tells when addresses leave this machine, as a virtual address
// does that keepalived moves to another one. It hears of changes from the kernel
// (RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR in rtnetlink(7)) and needs no
// privilege.
type AddressWatch struct {
	socket *os.File
	known  map[netip.Addr]bool
}

// WatchAddresses begins to listen for changes; the addresses of this moment are
// those that can leave. Close ends it.
func WatchAddresses() (*AddressWatch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	groups := uint32(unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	w := &AddressWatch{socket: os.NewFile(uintptr(fd), "netlink")}
	if w.known, err = addressesHere(); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Close ends the watch, and a Next that waits.
func (w *AddressWatch) Close() { _ = w.socket.Close() }

// listAgain is the pause before the addresses are listed again when that failed.
const listAgain = 100 * time.Millisecond

// Next waits until addresses have left this machine and returns them. One that
// has come back at once does not count. The error is os.ErrClosed after Close.
func (w *AddressWatch) Next() (gone []netip.Addr, err error) {
	message := make([]byte, os.Getpagesize())
	for len(gone) == 0 {
		// What the messages say is not needed: that there is one is. The kernel
		// drops some when there are many, and says so (ENOBUFS).
		if _, err := w.socket.Read(message); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return nil, err
		}
		now, err := addressesHere()
		for err != nil { // such as no descriptor left
			time.Sleep(listAgain)
			now, err = addressesHere()
		}
		for addr := range w.known {
			if !now[addr] {
				gone = append(gone, addr)
			}
		}
		w.known = now
	}
	return gone, nil
}

// IsHere tells whether this machine has an address now. It counts as there when that
// cannot be told.
func IsHere(addr netip.Addr) bool {
	here, err := addressesHere()
	return err != nil || here[addr]
}

// addressesHere are the addresses of all interfaces. They have no zone: where a
// link-local one stands on several interfaces it leaves with the last.
func addressesHere() (map[netip.Addr]bool, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of this machine: %w", err)
	}
	here := make(map[netip.Addr]bool, len(list))
	for _, a := range list {
		if prefix, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(prefix.IP); ok {
				here[addr.Unmap()] = true
			}
		}
	}
	return here, nil
}
