package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// resolveTimeout bounds the look-up of a host name that is listened on. A
// script that launches magent is itself given only a few seconds.
const resolveTimeout = 1500 * time.Millisecond

// endpoint is one place to listen on.
type endpoint struct {
	network  string // "tcp" or "unix"
	address  string // "ip:port" or the path
	optional bool   // may be left out on a machine without its address family
}

func (e endpoint) same(other endpoint) bool {
	return e.network == other.network && e.address == other.address
}

// lockName is the abstract socket that stands for the endpoint, or "" when the
// kernel chooses the port.
func (e endpoint) lockName() string {
	if e.network == "tcp" && strings.HasSuffix(e.address, ":0") {
		return ""
	}
	return "@magent/" + e.network + "/" + e.address
}

// tcpLocks begins the lock names of all endpoints that are addresses.
const tcpLocks = "@magent/tcp/"

// covers returns the endpoints that, listened on, serve this one too: every
// address serves each.
func (e endpoint) covers() []endpoint {
	addr, err := netip.ParseAddrPort(e.address)
	if e.network != "tcp" || err != nil || addr.Addr().IsUnspecified() {
		return nil
	}
	every := netip.IPv4Unspecified()
	if addr.Addr().Is6() {
		every = netip.IPv6Unspecified()
	}
	return []endpoint{{network: "tcp", address: netip.AddrPortFrom(every, addr.Port()).String()}}
}

// resolver finds the addresses of a host name.
type resolver func(ctx context.Context, host string) ([]netip.Addr, error)

func systemResolver(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// endpoints returns where the settings ask to listen, each once and in an order
// that depends on nothing but the set, so that two launches that take several
// locks take them in the same order.
func endpoints(s *settings, resolve resolver) ([]endpoint, error) {
	var all []endpoint
	if s.port != 0 {
		tcp, err := tcpEndpoints(withoutEmpty(s.listen.Value()), s.port, resolve)
		if err != nil {
			return nil, err
		}
		all = tcp
	}
	if s.socket != "" {
		all = append(all, endpoint{network: "unix", address: s.socket})
	}
	slices.SortFunc(all, func(a, b endpoint) int {
		if c := strings.Compare(a.network, b.network); c != 0 {
			return c
		}
		return strings.Compare(a.address, b.address)
	})
	return slices.CompactFunc(all, endpoint.same), nil
}

func tcpEndpoints(listen []string, port int, resolve resolver) ([]endpoint, error) {
	port = max(port, 0) // anyPort is 0 to the kernel
	if len(listen) == 0 {
		if port == 0 {
			// Two sockets would get two different ports.
			return []endpoint{{network: "tcp", address: "0.0.0.0:0"}}, nil
		}
		p := strconv.Itoa(port)
		return []endpoint{
			{network: "tcp", address: "0.0.0.0:" + p},
			{network: "tcp", address: "[::]:" + p, optional: true},
		}, nil
	}
	var all []endpoint
	for _, text := range listen {
		host, p, err := splitListen(text, port)
		if err != nil {
			return nil, err
		}
		addrs, err := hostAddresses(host, resolve)
		if err != nil {
			return nil, fmt.Errorf("cannot find the address of %q, given with -l: %w: give an IP address, or mend the name", host, oneLine(err))
		}
		for _, addr := range addrs {
			e := endpoint{network: "tcp", address: netip.AddrPortFrom(addr, uint16(p)).String()}
			// A name such as localhost often has an IPv6 address where the
			// kernel has no IPv6.
			e.optional = len(addrs) > 1 && addr.Is6()
			all = append(all, e)
		}
	}
	return all, nil
}

// splitListen takes ADDRESS, ADDRESS:PORT and [IPV6]:PORT. A bare IPv6 address
// has no port.
func splitListen(text string, port int) (host string, p int, err error) {
	malformed := func(what string) error {
		return fmt.Errorf("malformed address %q, given with -l: %s: write ADDRESS or ADDRESS:PORT, for example 192.0.2.10 or [2001:db8::10]:12000", text, what)
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	if addr, err := netip.ParseAddr(bare); err == nil && (bare == text || addr.Is6() && len(text) == len(bare)+2) {
		return bare, port, nil
	}
	host = text
	if strings.Contains(text, ":") {
		var portText string
		if host, portText, err = net.SplitHostPort(text); err != nil {
			var addressError *net.AddrError
			if errors.As(err, &addressError) {
				return "", 0, malformed(addressError.Err)
			}
			return "", 0, malformed(err.Error())
		}
		if port, err = strconv.Atoi(portText); err != nil || port < 1 || port > 65535 {
			return "", 0, malformed("the port is not from 1 to 65535")
		}
	}
	if !isHostName(host) {
		if _, err := netip.ParseAddr(host); err != nil {
			return "", 0, malformed("neither an IP address nor a host name")
		}
	}
	return host, port, nil
}

// isHostName says whether text may be a host name. What looks like an IPv4
// address but is none, such as 10.0.0.256, is not: the last label of a name is
// never a number (RFC 3696, section 2).
func isHostName(text string) bool {
	if text == "" || len(text) > 253 {
		return false
	}
	labels := strings.Split(strings.TrimSuffix(text, "."), ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
				continue
			}
			return false
		}
	}
	_, err := strconv.Atoi(labels[len(labels)-1])
	return err != nil
}

func hostAddresses(host string, resolve resolver) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	addrs, err := resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, nil
}
