package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// oldMemcached is the address of a memcached that looks as old as 1.4.25: it
// says so, and knows no meta commands.
func oldMemcached(t *testing.T) string {
	t.Helper()
	real := harness.StartMemcached(t)
	return harness.NewMock(t, func(conn net.Conn) {
		server, err := net.Dial("tcp", real.Addr)
		if err != nil {
			t.Error(err)
			return
		}
		answers := make(chan struct{})
		go func() {
			defer close(answers)
			defer func() { _ = conn.Close() }()
			in := bufio.NewReader(server)
			for {
				line, err := in.ReadString('\n')
				if strings.HasPrefix(line, "VERSION ") {
					line = "VERSION 1.4.25\r\n"
				}
				if _, werr := io.WriteString(conn, line); err != nil || werr != nil {
					return
				}
			}
		}()
		in := bufio.NewReader(conn)
		for {
			line, err := in.ReadString('\n')
			if len(line) > 3 && line[0] == 'm' && line[2] == ' ' {
				t.Errorf("an old server was sent %q", line)
			}
			if _, werr := io.WriteString(server, line); err != nil || werr != nil {
				break
			}
		}
		_ = server.Close()
		<-answers
	})
}

// Servers that know no meta commands are sent classic ones, as far as those can
// say it. The rest is refused, clearly, and the connection goes on.
//
// promise: W2, W3, R3
func TestOldServersAreSentClassicCommands(t *testing.T) {
	t.Parallel()
	primary, backup := oldMemcached(t), oldMemcached(t)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{primary}, Backups: []string{backup}, Args: patient})
	c := harness.MustDial(t, m.Addr)
	refusal := "SERVER_ERROR this needs memcached 1.6.14 or later on " + primary
	for _, step := range []struct{ send, want string }{
		{"ms k 3 F5 T100 O1 k\r\nabc\r\n", "HD O1 kk"},
		{"mg k v f s k O2\r\n", "VA 3 f5 s3 kk O2|abc"},
		{"mg k\r\n", "HD"},
		{"mg k T100\r\n", "HD"},
		{"mg none k O3\r\n", "EN knone O3"},
		{"mg none q\r\nmn\r\n", "MN"},
		{"ms k 1 ME\r\nx\r\n", "NS"},
		{"ms k 2 MA\r\nde\r\n", "HD"},
		{"ms k 1 MP q\r\n-\r\nmn\r\n", "MN"},
		{"mg k v\r\n", "VA 6|-abcde"},
		{"ms n 1\r\n7\r\n", "HD"},
		{"ma n v D3\r\n", "VA 2|10"},
		{"ma n MD\r\n", "HD"},
		{"md n k\r\n", "HD kn"},
		{"md n\r\n", "NF"},
		{"mg k t\r\n", refusal},
		{"ma new N0 J1\r\n", refusal},
		{"md k I\r\n", refusal},
		{"me k\r\n", refusal},
		{"ms YSBi 1 b\r\nx\r\n", refusal},
		{"get k\r\n", "VALUE k 5 6|-abcde|END"},
	} {
		if err := c.Send([]byte(step.send)); err != nil {
			t.Fatal(err)
		}
		for _, want := range strings.Split(step.want, "|") {
			line, err := c.Line()
			if err != nil || line != want {
				t.Fatalf("%q is answered %q, %v, want %q", step.send, line, err, want)
			}
		}
	}
	// The same with the binary protocol: tokens of what was stored are not known.
	b, err := net.Dial("tcp", m.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	if err := b.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ send, want string }{
		{binaryRequest(0x01, "\x00\x00\x00\x07\x00\x00\x00\x00", "b", "10"), "status 0 extras 0 body \"\""},
		{binaryRequest(0x00, "", "b", ""), "status 0 extras 4 body \"\\x00\\x00\\x00\\a10\""},
		{binaryRequest(0x05, "\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff", "b", ""), "status 0 extras 0 body \"\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x0f\""},
		{binaryRequest(0x04, "", "b", ""), "status 0 extras 0 body \"\""},
		{binaryRequest(0x00, "", "a b", ""), fmt.Sprintf("status 132 extras 0 body %q", refusal)},
		{binaryRequest(0x0a, "", "", ""), "status 0 extras 0 body \"\""},
	} {
		if _, err := io.WriteString(b, step.send); err != nil {
			t.Fatal(err)
		}
		header := make([]byte, 24)
		if _, err := io.ReadFull(b, header); err != nil {
			t.Fatalf("%q: %v", step.send, err)
		}
		body := make([]byte, int(header[10])<<8|int(header[11]))
		if _, err := io.ReadFull(b, body); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("status %d extras %d body %q", int(header[6])<<8|int(header[7]), header[4], body); got != step.want {
			t.Errorf("%q is answered %s, want %s", step.send, got, step.want)
		}
	}
}

// binaryRequest is a request of the binary protocol.
func binaryRequest(opcode byte, extras, key, value string) string {
	body := len(extras) + len(key) + len(value)
	header := []byte{0x80, opcode, 0, byte(len(key)), byte(len(extras)), 0, 0, 0, 0, 0, byte(body >> 8), byte(body), 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	return string(header) + extras + key + value
}
