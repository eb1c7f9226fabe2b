package backend

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// DefaultPort is memcached's port, used when an address names none.
const DefaultPort = 11211

// Address is where a server listens, and its weight on the ring.
type Address struct {
	Host   string // an IP address without brackets, or a host name
	Port   int
	Weight int
}

// ParseAddress reads "host", "host:port" or "host:port:weight". An IPv6
// address stands in brackets when a port follows. The error says what is
// wrong and how to mend it.
func ParseAddress(s string) (Address, error) {
	a := Address{Port: DefaultPort, Weight: 1}
	bad := func(what string) (Address, error) {
		return Address{}, fmt.Errorf("server address %q: %s; write host[:port[:weight]], an IPv6 address in brackets", s, what)
	}
	var rest string
	switch {
	case isIP(s):
		a.Host = s
	case strings.HasPrefix(s, "["):
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return bad("the bracket is not closed")
		}
		a.Host, rest = s[1:end], s[end+1:]
		if _, err := netip.ParseAddr(a.Host); err != nil {
			return bad("no IPv6 address in the brackets")
		}
		if rest != "" && rest[0] != ':' {
			return bad("only a port may follow the bracket")
		}
		rest = strings.TrimPrefix(rest, ":")
	default:
		a.Host, rest, _ = strings.Cut(s, ":")
	}
	if a.Host == "" {
		return bad("the host is missing")
	}
	if strings.ContainsAny(a.Host, " \t\r\n/@[]") {
		return bad("the host has a character that no host has")
	}
	if looksNumeric(a.Host) && !isIP(a.Host) {
		return bad("this is no IP address")
	}
	if rest == "" {
		if strings.HasSuffix(s, ":") && !isIP(s) {
			return bad("the port is missing")
		}
		return a, nil
	}
	port, weight, weighted := strings.Cut(rest, ":")
	var err error
	if a.Port, err = strconv.Atoi(port); err != nil || a.Port < 1 || a.Port > 65535 {
		return bad("the port must be a number from 1 to 65535")
	}
	if weighted {
		if a.Weight, err = strconv.Atoi(weight); err != nil || a.Weight < 1 || a.Weight > 65535 {
			return bad("the weight must be a number from 1 to 65535")
		}
	}
	return a, nil
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// looksNumeric tells a mistyped IP address from a host name.
func looksNumeric(s string) bool {
	return strings.Trim(s, "0123456789.") == ""
}

// Name is host:port, the form in which messages name a server.
func (a Address) Name() string { return net.JoinHostPort(a.Host, strconv.Itoa(a.Port)) }
