package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// What a Client stores it reads back, whatever bytes it has.
//
// promise: C7, C8
func TestClientStoresAndReads(t *testing.T) {
	m := startMemcached(t)
	c := dialTest(t, m)
	values := map[string]string{
		"empty": "", "short": "x", "ends": "a\r\nEND\r\nVALUE short 0 1\r\n", "bytes": "\x00\xff\n\r",
		"large": strings.Repeat("0123456789abcdef", 60_000), strings.Repeat("k", 250): "long key",
	}
	keys := []string{"absent"}
	for key, value := range values {
		mustStore(t, c, "set", key, value)
		keys = append(keys, key)
	}
	found, err := c.Gets(keys...)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != len(values) {
		t.Errorf("found %d of %d keys", len(found), len(values))
	}
	for key, value := range values {
		if got := found[key]; string(got.Value) != value || got.CAS == 0 || got.Flags != 0 {
			t.Errorf("%.20q: %.40q flags %d cas %d", key, got.Value, got.Flags, got.CAS)
		}
		it, got, present, err := c.Item(key)
		if err != nil || !present || string(got) != value || it.TTL != -1 || it.Flags != 0 || it.CAS != found[key].CAS || it.Size != len(value) {
			t.Errorf("%.20q: item %+v, %.40q, %v, %v", key, it, got, present, err)
		}
	}
	if _, _, present, err := c.Item("absent"); present || err != nil {
		t.Errorf("an absent item: %v, %v", present, err)
	}

	// Flags and lifetime.
	if answer, err := c.Ask("set flagged 4294967295 1000 1\r\nx\r\n"); answer != "STORED" || err != nil {
		t.Fatal(answer, err)
	}
	it, value, present, err := c.Item("flagged")
	if err != nil || !present || string(value) != "x" || it.Flags != 1<<32-1 || it.TTL < 900 || it.TTL > 1000 {
		t.Errorf("item %+v, %q, %v, %v", it, value, present, err)
	}
	if found, err := c.Gets("flagged"); err != nil || found["flagged"].Flags != 1<<32-1 {
		t.Errorf("gets: %+v, %v", found, err)
	}
}

// Of two that add or swap at the same time one succeeds.
//
// promise: C6
func TestClientStoresIfUnchanged(t *testing.T) {
	m := startMemcached(t)
	one, two := dialTest(t, m), dialTest(t, m)
	if stored, err := one.Store("add", "k", "one"); !stored || err != nil {
		t.Fatal(stored, err)
	}
	if stored, err := two.Store("add", "k", "two"); stored || err != nil {
		t.Errorf("a second add: %v, %v", stored, err)
	}
	found, err := one.Gets("k")
	if err != nil {
		t.Fatal(err)
	}
	token := found["k"].CAS
	if swapped, err := two.Swap("k", "swapped", token); !swapped || err != nil {
		t.Errorf("swap: %v, %v", swapped, err)
	}
	if swapped, err := one.Swap("k", "late", token); swapped || err != nil {
		t.Errorf("a swap with an old token: %v, %v", swapped, err)
	}
	if swapped, err := one.Swap("absent", "late", token); swapped || err != nil {
		t.Errorf("a swap of an absent key: %v, %v", swapped, err)
	}
	if found, err := two.Gets("k"); err != nil || string(found["k"].Value) != "swapped" {
		t.Errorf("%q, %v", found["k"].Value, err)
	}
}

// promise: C6
func TestClientAsksForTheLife(t *testing.T) {
	m := startMemcached(t)
	c := dialTest(t, m)
	life, err := c.Life()
	if err != nil || life.PID != m.cmd.Process.Pid || time.Since(time.Unix(life.Start, 0)).Abs() > patience {
		t.Errorf("life %v, %v; its pid is %d", life, err, m.cmd.Process.Pid)
	}
	other := dialTest(t, startMemcached(t))
	if again, err := other.Life(); err != nil || again == life {
		t.Errorf("two processes have the lives %v and %v, %v", life, again, err)
	}
	stats, err := c.Stats()
	if err != nil || stats["pid"] != fmt.Sprint(m.cmd.Process.Pid) || stats["version"] == "" || stats["curr_items"] != "0" {
		t.Errorf("stats %v, %v", stats, err)
	}
}

// What is wrong is told apart: nobody there, no answer, the end, an answer that
// makes no sense.
//
// promise: C5, R2
func TestClientErrors(t *testing.T) {
	ask := map[string]func(c *Client) error{
		"gets":  func(c *Client) error { _, err := c.Gets("k"); return err },
		"stats": func(c *Client) error { _, err := c.Stats(); return err },
		"item":  func(c *Client) error { _, _, _, err := c.Item("k"); return err },
		"life":  func(c *Client) error { _, err := c.Life(); return err },
		"dump":  func(c *Client) error { return c.DumpKeys(DumpByHash, func([]byte, int64, int) {}) },
		"store": func(c *Client) error { _, err := c.Store("set", "k", "value"); return err },
	}
	for _, c := range []struct {
		answer string // END for the end of the connection
		asked  string
		want   error
	}{
		{"", "gets stats item life dump store", ErrTimeout},
		{"STAT pid 1", "stats life", ErrTimeout},
		{"VALUE k 0 10 1\r\nxxx", "gets", ErrTimeout},
		{"VA 10 f0 t-1 c1\r\nxxx", "item", ErrTimeout},
		{"SERVER_ERROR out of memory", "gets stats item life", ErrProtocol},
		{"HTTP/1.1 400 Bad Request", "gets stats item life", ErrProtocol},
		{"VALUE k 0 10", "gets", ErrProtocol},
		{"VALUE k x 1 1\r\nx", "gets", ErrProtocol},
		{"VALUE k 0 -1 1\r\nx", "gets", ErrProtocol},
		{"VALUE k 0 99999999999 1\r\nx", "gets", ErrProtocol},
		{"VALUE k 0 1 -1\r\nx", "gets", ErrProtocol},
		{"VA 99999999999 f0 t-1 c1\r\nx", "item", ErrProtocol},
		{"END", "life", ErrProtocol},
		{strings.Repeat("x", 100_000), "gets stats item life dump", ErrClosed},
		{"STAT pid 1\r\nkey=a exp=-1", "stats life", ErrProtocol},
	} {
		f := newFakeServer(t, "127.0.0.1:0", func(string) string { return c.answer })
		for what := range strings.FieldsSeq(c.asked) {
			limit := patience
			if errors.Is(c.want, ErrTimeout) {
				limit = shortly
			}
			client, err := DialClient(t.Context(), addressAt(f.at()), patience, limit)
			if err != nil {
				t.Fatal(err)
			}
			if err := ask[what](client); !errors.Is(err, c.want) {
				t.Errorf("%s answered %.40q: %v, want %v", what, c.answer, err, c.want)
			} else if strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
				t.Errorf("%s answered %.40q: %q is not one short line", what, c.answer, err)
			}
			client.Close()
		}
		f.close()
	}
	for name, f := range ask {
		m := startMemcached(t)
		client := dialTest(t, m)
		m.kill()
		if err := f(client); !errors.Is(err, ErrClosed) {
			t.Errorf("%s of a server that was killed: %v", name, err)
		}
	}
}

// A value that arrives slowly is no failure; each answer may take its time.
//
// promise: C5
func TestClientWaitsForEachAnswer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := DialClient(t.Context(), addressAt(listener.Addr().(*net.TCPAddr).AddrPort()), patience, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	answer := "VALUE k 0 6 9\r\nva\r\nue\r\nVALUE m 1 1 10\r\nx\r\nEND\r\n"
	go func() {
		for i := range len(answer) {
			if _, err := server.Write([]byte(answer[i : i+1])); err != nil {
				t.Errorf("the server cannot answer: %v", err)
				return
			}
		}
	}()
	found, err := client.Gets("k", "m")
	if err != nil || !bytes.Equal(found["k"].Value, []byte("va\r\nue")) || found["m"].Flags != 1 || found["m"].CAS != 10 {
		t.Errorf("found %+v, %v", found, err)
	}
}

// promise: C5
func TestDialClient(t *testing.T) {
	m := startMemcached(t)
	byName := addressAt(m.at)
	byName.Host = "localhost" // may have an address at which nobody listens
	c, err := DialClient(t.Context(), byName, patience, patience)
	if err != nil {
		t.Fatal(err)
	}
	if c.address != m.at {
		t.Errorf("connected to %v, want %v", c.address, m.at)
	}
	c.Close()
	if _, err := DialClient(t.Context(), addressAt(closedPort(t)), patience, patience); !errors.Is(err, ErrRefused) {
		t.Errorf("a closed port: %v", err)
	}
	if _, err := DialClient(t.Context(), addressAt(silentPort(t)), shortly, patience); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("a silent port: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := DialClient(ended, addressAt(m.at), patience, patience); !errors.Is(err, ErrRefused) {
		t.Errorf("a context that has ended: %v", err)
	}
}
