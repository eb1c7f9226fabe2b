package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// promise: L3
func TestFindHolder(t *testing.T) {
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	want := holder{listening: true, pid: os.Getpid(), comm: strings.TrimSpace(string(comm))}
	for _, at := range []string{"127.0.0.1:0", "[::1]:0", "[::]:0"} {
		listener, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		port := listener.Addr().(*net.TCPAddr).Port
		for _, address := range []string{listener.Addr().String(), fmt.Sprintf("0.0.0.0:%d", port)} {
			if got := findHolder("/proc", endpoint{network: "tcp", address: address}); got != want {
				t.Errorf("of %s: %+v, want %+v", address, got, want)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "a socket")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if got := findHolder("/proc", endpoint{network: "unix", address: path}); got != want {
		t.Errorf("of %s: %+v, want %+v", path, got, want)
	}
	listener.Close()
	if got := findHolder("/proc", endpoint{network: "unix", address: path}); got.listening {
		t.Errorf("of a closed socket: %+v", got)
	}
}

// Tables as the kernel writes them, on a little-endian machine.
func TestFindHolderInTables(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{
		"net/tcp": `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 420011AC:2EE0 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1 0 100 0 0 10 0
   1: 420011AC:2EE1 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 1002 1 0 100 0 0 10 0
`,
		"net/tcp6": `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:2EE2 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1003 1 0 100 0 0 10 0
`,
		"net/unix": `Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 1004 /run/magent.sock
0000000000000000: 00000003 00000000 00000000 0001 03 1005 /run/other.sock
`,
		"42/comm": "nginx\n",
	} {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "42/fd"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("socket:[1001]", filepath.Join(root, "42/fd/7")); err != nil {
		t.Fatal(err)
	}
	nginx, unseen, none := holder{listening: true, pid: 42, comm: "nginx"}, holder{listening: true}, holder{}
	for _, c := range []struct {
		e    endpoint
		want holder
	}{
		{endpoint{network: "tcp", address: "172.17.0.66:12000"}, nginx},
		{endpoint{network: "tcp", address: "0.0.0.0:12000"}, nginx},
		{endpoint{network: "tcp", address: "172.17.0.67:12000"}, none},
		{endpoint{network: "tcp", address: "172.17.0.66:12001"}, none}, // a connection
		{endpoint{network: "tcp", address: "[::1]:12002"}, unseen},
		{endpoint{network: "unix", address: "/run/magent.sock"}, unseen},
		{endpoint{network: "unix", address: "/run/other.sock"}, none}, // a connection
	} {
		if got := findHolder(root, c.e); got != c.want {
			t.Errorf("of %s: %+v, want %+v", c.e.address, got, c.want)
		}
	}
	if got := fmt.Sprint(nginx, " ", unseen); got != "nginx (pid 42) another program" {
		t.Error(got)
	}
}

func TestParseProcAddress(t *testing.T) {
	got, ok := parseProcAddress("B80D01200000000000000000DD000000:0050")
	if want := netip.MustParseAddrPort("[2001:db8::dd]:80"); !ok || got != want {
		t.Errorf("%v, want %v", got, want)
	}
	for _, text := range []string{"", ":", "00:0050", "0100007F", "0100007F:xyz", "zz00007F:0050"} {
		if got, ok := parseProcAddress(text); ok {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}
