package main

import (
	"bufio"
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeProxy listens like a proxy that gives one answer to whatever it is asked,
// and closes the connection.
type fakeProxy struct {
	endpoint
	asked chan string // the lines that it was sent
}

func startFakeProxy(t *testing.T, network, address, answer string) *fakeProxy {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	p := &fakeProxy{endpoint: endpoint{network: network, address: l.Addr().String()}, asked: make(chan string, 10)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			p.asked <- line
			_, _ = conn.Write([]byte(answer))
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return p
}

// port is the flag that leads to the fake proxy.
func (p *fakeProxy) port(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(p.address)
	if err != nil {
		t.Fatal(err)
	}
	return "-p" + port
}

// administered runs a subcommand as the command line does.
func administered(arguments ...string) (string, error) {
	s, asked, err := parse(arguments, "/start")
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = administer(asked, s, &out)
	return out.String(), err
}

func TestExplainShowsBothCopies(t *testing.T) {
	p := startFakeProxy(t, "tcp", "127.0.0.1:0", strings.ReplaceAll(`STAT key user:42
STAT primary 10.0.0.1:11211
STAT primary:state up
STAT primary:present yes
STAT primary:size 5
STAT primary:flags 0
STAT primary:ttl 97
STAT primary:token 1234
STAT backup 10.0.0.12:11211
STAT backup:state warming
STAT backup:present yes
STAT backup:size 1
STAT backup:flags 7
STAT backup:ttl -1
STAT backup:token 9
STAT backup:journal yes
STAT same no
END
`, "\n", "\r\n"))
	out, err := administered("explain", "user:42", p.port(t))
	if err != nil {
		t.Fatal(err)
	}
	const want = `key      user:42
primary  10.0.0.1:11211   up       present  5 bytes  flags 0  expires in 97 s  token 1234
backup   10.0.0.12:11211  warming  present  1 byte   flags 7  never expires    token 9     waits to be replayed
same     no
`
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	if line := <-p.asked; line != "magent explain user:42\r\n" {
		t.Errorf("it was asked %q", line)
	}
}

func TestExplainWithLittleKnown(t *testing.T) {
	for _, c := range []struct{ answer, want string }{
		{"STAT key k\nSTAT primary a:1\nSTAT primary:state down\nSTAT primary:present unknown\n" +
			"STAT backup [::1]:11211\nSTAT backup:state up\nSTAT backup:present no\nSTAT backup:journal no\nSTAT same unknown\nEND\n",
			"key      k\nprimary  a:1          down  unknown\nbackup   [::1]:11211  up    absent\nsame     unknown\n"},
		{"STAT key k\nSTAT primary a:1\nSTAT primary:state warming\nSTAT primary:journal yes\nSTAT backup b:1\nSTAT backup:state up\nEND\n",
			"key      k\nprimary  a:1  warming  waits to be replayed\nbackup   b:1  up\nsame     unknown\n"},
		{"STAT key k\nSTAT primary a:1\nSTAT primary:state warming\nSTAT primary:journal unknown\nEND\n",
			"key      k\nprimary  a:1   warming  not known whether it is right\nbackup   none\n"},
		{"STAT key k\nSTAT primary a:1\nSTAT primary:news yes\nEND\n",
			"key      k\nprimary  a:1\nbackup   none\n"},
		{"STAT key k\nSTAT primary a\x1b[2J\nEND\n",
			"key      k\nprimary  \"a\\x1b[2J\"\nbackup   none\n"},
	} {
		p := startFakeProxy(t, "tcp", "127.0.0.1:0", c.answer)
		if out, err := administered("explain", "k", p.port(t)); err != nil || out != c.want {
			t.Errorf("%q: error %v, got\n%swant\n%s", c.answer, err, out, c.want)
		}
	}
}

func TestResyncAsks(t *testing.T) {
	p := startFakeProxy(t, "tcp", "127.0.0.1:0", "OK\r\n")
	if out, err := administered(p.port(t), "resync"); err != nil || !strings.HasPrefix(out, "the resync has begun") {
		t.Errorf("it says %q, error %v", out, err)
	}
	if line := <-p.asked; line != "magent resync\r\n" {
		t.Errorf("it was asked %q", line)
	}
	p = startFakeProxy(t, "tcp", "127.0.0.1:0", "STAT left_out b:1\r\nEND\r\n")
	if out, err := administered(p.port(t), "resync"); err != nil || !strings.HasPrefix(out, "the resync has begun; b:1 is left as it is, because a twin") {
		t.Errorf("it says %q, error %v", out, err)
	}
}

// promise: L6
func TestAnswersThatAreErrors(t *testing.T) {
	for answer, want := range map[string]string{
		"ERROR\r\n":                                "does not know this command: it is memcached or an older magent: name the magent with -l ADDRESS and -p PORT",
		"SERVER_ERROR out of connections\r\n":      "turns new clients away: out of connections: raise --max-clients",
		"SERVER_ERROR busy\r\n":                    "cannot do this now: busy: its log",
		"CLIENT_ERROR bad command\r\n":             "refuses this: bad command",
		"HTTP/1.1 400 Bad Request\r\n":             `is no magent, it answers "HTTP/1.1 400 Bad Request": name the magent`,
		"-ERR unknown\x1b command\r\n":             `is no magent, it answers "-ERR unknown\x1b command"`,
		"":                                         "closed the connection without an answer",
		"STAT key k\r\n":                           "closed the connection without an answer",
		"STAT key k":                               "closed the connection without an answer",
		"END\r\n":                                  "the answer does not name the key",
		strings.Repeat("x", adminAnswer+1):         "sends more than 1048576 bytes",
		strings.Repeat("STAT a b\r\n", 200000):     "sends more than 1048576 bytes",
		strings.Repeat("unexpected ", 99) + "\r\n": `it answers "unexpected unexpected unexpected unexpected unexpected unexp":`,
	} {
		p := startFakeProxy(t, "tcp", "127.0.0.1:0", answer)
		out, err := administered("explain", "k", p.port(t))
		if err == nil || out != "" || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%.40q: %q, error %v\nwant %s", answer, out, err, want)
		}
		if err != nil && want != "the answer does not name the key" && !strings.Contains(err.Error(), p.address) {
			t.Errorf("%.40q: the error names no address: %v", answer, err)
		}
	}
}

// promise: L6
func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	where := l.Addr().String()
	l.Close()
	for _, c := range []struct{ arguments, want string }{
		{"explain k -l " + where, "cannot connect to " + where + ": connection refused: start magent there, or name the magent with"},
		{"resync -f nothing -p 0", "cannot connect to /start/nothing: no such file or directory: start magent there"},
	} {
		if _, err := administered(strings.Fields(c.arguments)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v\nwant %s", c.arguments, err, c.want)
		}
	}
}

func TestUnknownNameToConnectTo(t *testing.T) {
	problem := &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "cache.example.net"}}
	const want = `cannot find the address of "cache.example.net": no such host: give -l an IP address, or mend the name`
	if err := (&inquiry{}).dialProblem(endpoint{}, problem); err.Error() != want {
		t.Errorf("error %v", err)
	}
}

// A program that takes the connection and says nothing.
func TestNoAnswerInTime(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	q := &inquiry{where: endpoint{network: "tcp", address: l.Addr().String()}, within: 10 * time.Millisecond}
	_, err = q.ask(ctx, []string{"magent resync"})
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "within 10ms") {
		t.Errorf("error %v", err)
	}
}

// promise: L1
func TestWhichMagentIsAsked(t *testing.T) {
	file := configured(t, "server = \"10.0.0.1\"\nlisten = [\"10.0.0.66\", \"10.0.0.67\"]\nport = 12000\nsocket = \"/run/magent.sock\"\n")
	for _, c := range []struct{ arguments, network, address string }{
		{"", "tcp", "127.0.0.1:11211"},
		{"-p12000", "tcp", "127.0.0.1:12000"},
		{"-p 12000 -l 0.0.0.0", "tcp", "127.0.0.1:12000"},
		{"--port=12000 --listen ::", "tcp", "[::1]:12000"},
		{"-l [::]:12001", "tcp", "[::1]:12001"},
		{"-l 2001:db8::10", "tcp", "[2001:db8::10]:11211"},
		{"-l [2001:db8::10]:12000", "tcp", "[2001:db8::10]:12000"},
		{"-l 10.0.0.1:12000,10.0.0.2 -l 10.0.0.3", "tcp", "10.0.0.1:12000"},
		{"-l cache.example.net -p 12000", "tcp", "cache.example.net:12000"},
		{"-f m.sock", "unix", "/start/m.sock"},
		{"-f /m.sock -p 0", "unix", "/m.sock"},
		{"-f /m.sock -p 12000", "unix", "/m.sock"},
		{"--config " + file, "unix", "/run/magent.sock"},
		{"--config " + file + " -p 0", "unix", "/run/magent.sock"},
		{"--config " + file + " -p 12001", "tcp", "10.0.0.66:12001"},
		{"--config " + file + " -l 10.0.0.9", "tcp", "10.0.0.9:12000"},
		{"--config " + file + " -f other", "unix", "/start/other"},
	} {
		s, asked, err := parse(append(strings.Fields(c.arguments), "resync"), "/start")
		if err != nil {
			t.Errorf("%s: %v", c.arguments, err)
			continue
		}
		if where, err := adminEndpoint(asked, s); err != nil || where.network != c.network || where.address != c.address {
			t.Errorf("%s: %s %s, error %v", c.arguments, where.network, where.address, err)
		}
	}
	t.Setenv("MAGENT_LISTEN", "10.0.0.8")
	t.Setenv("MAGENT_PORT", "12002")
	s, asked, err := parse([]string{"resync"}, "/start")
	if err != nil {
		t.Fatal(err)
	}
	if where, err := adminEndpoint(asked, s); err != nil || where.address != "10.0.0.8:12002" {
		t.Errorf("by the environment: %s, error %v", where.address, err)
	}
}

func TestAsksThroughSocketAndIPv6(t *testing.T) {
	p := startFakeProxy(t, "unix", filepath.Join(t.TempDir(), "s"), "OK\r\n")
	if _, err := administered("resync", "-f", p.address); err != nil {
		t.Error(err)
	}
	p = startFakeProxy(t, "tcp", "[::1]:0", "OK\r\n")
	if _, err := administered("resync", "-l", "::", p.port(t)); err != nil {
		t.Error(err)
	}
}

// promise: L6
func TestMistakesInSubcommands(t *testing.T) {
	for _, c := range []struct {
		arguments []string
		want      string
	}{
		{[]string{"explain"}, "magent explain needs a key: write magent explain KEY"},
		{[]string{"explain", "a", "b"}, `unexpected argument "b": magent explain takes one key`},
		{[]string{"explain", ""}, "the key is empty: give one of 1 to 250 bytes"},
		{[]string{"explain", "a b"}, `the key "a b" holds ' ': keys that only the binary protocol and base64 can name cannot be explained`},
		{[]string{"explain", "a\r\nflush_all"}, `the key "a\r\nflush_all" holds '\r': keys that only the binary protocol and base64 can name cannot be explained`},
		{[]string{"explain", "a\x7f"}, `the key "a\x7f" holds '\x7f': keys that only the binary protocol and base64 can name cannot be explained`},
		{[]string{"explain", strings.Repeat("k", 251)}, "the key has 251 bytes: give one of at most 250"},
		{[]string{"resync", "x"}, `unexpected argument "x": write magent resync, and flags only`},
		{[]string{"resink"}, `unexpected argument "resink": did you mean resync?`},
		{[]string{"resync", "--prot", "1"}, "unknown flag --prot: did you mean --port?"},
		{[]string{"resync", "-p", "0"}, "nothing says where magent listens: give -p its port, or -f its socket"},
		{[]string{"resync", "-p", "-1"}, "-p -1 does not say at which port magent listens: give the one that its log tells"},
		{[]string{"resync", "-l", "10.0.0.256"}, `malformed address "10.0.0.256", given with -l: neither an IP address nor a host name: write ADDRESS or ADDRESS:PORT, for example 192.0.2.10 or [2001:db8::10]:12000`},
	} {
		if _, err := administered(c.arguments...); err == nil || err.Error() != c.want {
			t.Errorf("%q: error %v\nwant %s", c.arguments, err, c.want)
		}
	}
	for _, key := range []string{"k", strings.Repeat("k", 250), "schlüssel", "a:b/c\"'%"} {
		if err := checkKey(key); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestOperandsMayLookLikeFlags(t *testing.T) {
	_, asked, err := parse([]string{"explain", "--", "-p"}, "/")
	if err != nil || len(asked.operands) != 1 || asked.operands[0] != "-p" {
		t.Errorf("operands %q, error %v", asked.operands, err)
	}
	if _, asked, err := parse([]string{"explain", "--help"}, "/"); err != nil || !asked.help {
		t.Errorf("help %v, error %v", asked.help, err)
	}
}
