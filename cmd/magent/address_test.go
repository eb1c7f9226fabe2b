package main

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func noResolver(_ context.Context, host string) ([]netip.Addr, error) {
	return nil, errors.New("no such host")
}

func twoAddresses(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}, nil
}

// promise: L1
func TestEndpoints(t *testing.T) {
	for _, c := range []struct{ arguments, want string }{
		{"", "tcp 0.0.0.0:11211, tcp [::]:11211"},
		{"-p 12000", "tcp 0.0.0.0:12000, tcp [::]:12000"},
		{"-p 12000 -l 10.0.0.66", "tcp 10.0.0.66:12000"},
		{"-p 12000 -l 10.0.0.66,10.0.0.65", "tcp 10.0.0.65:12000, tcp 10.0.0.66:12000"},
		{"-p 12000 -l 10.0.0.66 -l 10.0.0.66:12000", "tcp 10.0.0.66:12000"},
		{"-l 10.0.0.66:12001", "tcp 10.0.0.66:12001"},
		{"-p 12000 -l ::1", "tcp [::1]:12000"},
		{"-p 12000 -l [::1]", "tcp [::1]:12000"},
		{"-l [2001:db8::1]:12001", "tcp [2001:db8::1]:12001"},
		{"-l fe80::1%eth0", "tcp [fe80::1%eth0]:11211"},
		{"-l ::ffff:10.0.0.66", "tcp 10.0.0.66:11211"},
		{"-l localhost", "tcp 127.0.0.1:11211, tcp [::1]:11211"},
		{"-l localhost:12001", "tcp 127.0.0.1:12001, tcp [::1]:12001"},
		{"-p -1", "tcp 0.0.0.0:0"},
		{"-p -1 -l 127.0.0.1", "tcp 127.0.0.1:0"},
		{"-p 0 -f /run/m", "unix /run/m"},
		{"-p 12000 -l 127.0.0.1 -f m", "tcp 127.0.0.1:12000, unix /start/m"},
		{"-p 0 -f /run/m -l 127.0.0.1", "unix /run/m"},
	} {
		s := parsed(t, append(strings.Fields(c.arguments), "-s", "a")...)
		list, err := endpoints(s, twoAddresses)
		if err != nil {
			t.Errorf("%q: %v", c.arguments, err)
			continue
		}
		var got []string
		for _, e := range list {
			got = append(got, e.network+" "+e.address)
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%q: %s\nwant %s", c.arguments, strings.Join(got, ", "), c.want)
		}
	}
}

// promise: L6
func TestMalformedAddresses(t *testing.T) {
	for _, text := range []string{"10.0.0.256", "10.0.0", "1", "[::1", "::1]", "[10.0.0.1]", "[::1]:0", "10.0.0.1:0", "10.0.0.1:x", "10.0.0.1:70000", "a b", "-x", "a..b", ":", ":12000", "/run/magent"} {
		s := parsed(t, "-s", "a", "--listen="+text)
		_, err := endpoints(s, twoAddresses)
		if err == nil || !strings.HasPrefix(err.Error(), "malformed address \""+text+"\", given with -l: ") || !strings.Contains(err.Error(), ": write ADDRESS") {
			t.Errorf("%q: error %v", text, err)
		}
	}
	_, err := endpoints(parsed(t, "-s", "a", "-l", "nosuch.example"), noResolver)
	if err == nil || !strings.Contains(err.Error(), `"nosuch.example"`) {
		t.Errorf("a name without an address: error %v", err)
	}
}

func TestCovers(t *testing.T) {
	for address, want := range map[string]string{"10.0.0.1:1": "0.0.0.0:1", "[2001:db8::1]:1": "[::]:1", "0.0.0.0:1": "", "[::]:1": ""} {
		got := ""
		for _, e := range (endpoint{network: "tcp", address: address}).covers() {
			got += e.address
		}
		if got != want {
			t.Errorf("%s is covered by %q, want %q", address, got, want)
		}
	}
	if list := (endpoint{network: "unix", address: "/run/m"}).covers(); len(list) != 0 {
		t.Errorf("a Unix socket is covered by %v", list)
	}
}
