package backend

import (
	"net"
	"strconv"
	"strings"
	"testing"
)

// promise: L1, K3
func TestParseAddress(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Address
		name string
	}{
		{"10.0.0.1", Address{"10.0.0.1", 11211, 1}, "10.0.0.1:11211"},
		{"10.0.0.1:11212", Address{"10.0.0.1", 11212, 1}, "10.0.0.1:11212"},
		{"10.0.0.1:11212:7", Address{"10.0.0.1", 11212, 7}, "10.0.0.1:11212"},
		{"10.0.0.1:1:1", Address{"10.0.0.1", 1, 1}, "10.0.0.1:1"},
		{"10.0.0.1:65535:65535", Address{"10.0.0.1", 65535, 65535}, "10.0.0.1:65535"},
		{"cache", Address{"cache", 11211, 1}, "cache:11211"},
		{"cache-1.example.com:11212", Address{"cache-1.example.com", 11212, 1}, "cache-1.example.com:11212"},
		{"cache.example.com:11212:3", Address{"cache.example.com", 11212, 3}, "cache.example.com:11212"},
		{"localhost", Address{"localhost", 11211, 1}, "localhost:11211"},
		{"[::1]", Address{"::1", 11211, 1}, "[::1]:11211"},
		{"[::1]:11212", Address{"::1", 11212, 1}, "[::1]:11212"},
		{"[::1]:11212:2", Address{"::1", 11212, 2}, "[::1]:11212"},
		{"[2001:db8::7]:11212", Address{"2001:db8::7", 11212, 1}, "[2001:db8::7]:11212"},
		{"[fe80::1%eth0]:11212", Address{"fe80::1%eth0", 11212, 1}, "[fe80::1%eth0]:11212"},
		{"2001:db8::7", Address{"2001:db8::7", 11211, 1}, "[2001:db8::7]:11211"},
		{"2001:db8:0:0:0:0:0:7", Address{"2001:db8:0:0:0:0:0:7", 11211, 1}, "[2001:db8:0:0:0:0:0:7]:11211"},
		{"::ffff:10.0.0.1", Address{"::ffff:10.0.0.1", 11211, 1}, "[::ffff:10.0.0.1]:11211"},
		// Two colons only, as host:port:weight has them; an empty port is none.
		{"::1", Address{"::1", 11211, 1}, "[::1]:11211"},
		{"fe80::1", Address{"fe80::1", 11211, 1}, "[fe80::1]:11211"},
	} {
		got, err := ParseAddress(c.in)
		if err != nil || got != c.want {
			t.Errorf("ParseAddress(%q) = %+v, %v; want %+v", c.in, got, err, c.want)
			continue
		}
		if got.Name() != c.name {
			t.Errorf("%q has the name %q, want %q", c.in, got.Name(), c.name)
		}
	}
}

// promise: L6
func TestParseAddressMalformed(t *testing.T) {
	const mend = "write host[:port[:weight]], an IPv6 address in brackets"
	for _, c := range []struct{ in, what string }{
		{"", "the host is missing"},
		{":11211", "the host is missing"},
		{"host:", "the port is missing"},
		{"[::1]:", "the port is missing"},
		{"host:0", "the port must be a number from 1 to 65535"},
		{"host:65536", "the port must be a number from 1 to 65535"},
		{"host:-1", "the port must be a number from 1 to 65535"},
		{"host:http", "the port must be a number from 1 to 65535"},
		{"host:11211 ", "the port must be a number from 1 to 65535"},
		{"host:99999999999999999999", "the port must be a number from 1 to 65535"},
		{"host:11211:", "the weight must be a number from 1 to 65535"},
		{"host:11211:0", "the weight must be a number from 1 to 65535"},
		{"host:11211:-3", "the weight must be a number from 1 to 65535"},
		{"host:11211:65536", "the weight must be a number from 1 to 65535"},
		{"host:11211:1:1", "the weight must be a number from 1 to 65535"},
		{"host:11211:x", "the weight must be a number from 1 to 65535"},
		{"[::1", "the bracket is not closed"},
		{"[::1:11211", "the bracket is not closed"},
		{"[cache]:11211", "no IPv6 address in the brackets"},
		{"[]:11211", "no IPv6 address in the brackets"},
		{"[::1]11211", "only a port may follow the bracket"},
		{"10.0.0.256:11211", "this is no IP address"},
		{"10.0.0:11211", "this is no IP address"},
		{"10.0.0.1.5", "this is no IP address"},
		{"11211", "this is no IP address"},
		{"a b:11211", "the host has a character that no host has"},
		{" host", "the host has a character that no host has"},
		{"host\n", "the host has a character that no host has"},
		{"tcp//host:11211", "the host has a character that no host has"},
		{"user@host:11211", "the host has a character that no host has"},
	} {
		got, err := ParseAddress(c.in)
		if err == nil {
			t.Errorf("ParseAddress(%q) = %+v, want an error", c.in, got)
			continue
		}
		if got != (Address{}) {
			t.Errorf("ParseAddress(%q) returns %+v besides an error", c.in, got)
		}
		text := err.Error()
		for _, part := range []string{strconv.Quote(c.in), c.what, mend} {
			if !strings.Contains(text, part) {
				t.Errorf("ParseAddress(%q): %q does not say %q", c.in, text, part)
			}
		}
		if strings.ContainsAny(text, "\r\n") {
			t.Errorf("ParseAddress(%q): the error %q has more than one line", c.in, text)
		}
	}
}

// Whatever is accepted is an address that can be asked for, and its name read
// again is the same address.
//
// promise: L1, L6
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{
		"", ":", "::", "a", "a:1", "a:1:1", "a:1:1:1", "[::1]", "[::1]:1:2", "[fe80::1%x]:1", "1.2.3.4:5", "::1", "1::2",
		"2001:db8::1", "[", "]", "[]", "a]b:1", "[1.2.3.4]:5", "a:+1", "a:01", "a%b:1", "%:1", "\x00", "é:1", "fe80::1%a b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			if a != (Address{}) || !strings.HasPrefix(err.Error(), "server address ") {
				t.Fatalf("ParseAddress(%q) = %+v, %v", s, a, err)
			}
			return
		}
		if a.Host == "" || a.Port < 1 || a.Port > 65535 || a.Weight < 1 || a.Weight > 65535 {
			t.Fatalf("ParseAddress(%q) = %+v", s, a)
		}
		// The name goes into lines of the protocol and into logs.
		if strings.ContainsAny(a.Name(), " \t\r\n") {
			t.Fatalf("ParseAddress(%q): the name %q would break a line apart", s, a.Name())
		}
		if host, port, err := net.SplitHostPort(a.Name()); err != nil || host != a.Host || port != strconv.Itoa(a.Port) {
			t.Fatalf("ParseAddress(%q): the name %q is split into %q and %q, %v", s, a.Name(), host, port, err)
		}
		again, err := ParseAddress(a.Name())
		if err != nil || again.Host != a.Host || again.Port != a.Port || again.Weight != 1 {
			t.Fatalf("ParseAddress(%q) has the name %q, which is read as %+v, %v", s, a.Name(), again, err)
		}
	})
}
