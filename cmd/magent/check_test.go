package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// statsOf makes the answers to stats, stats settings and stats servers. Each
// server is "name role state" and what is so with it besides: overflow or flush, it has
// missed more than is known; refused, or unreached.
func statsOf(servers ...string) string {
	var b strings.Builder
	b.WriteString("STAT pid 7\nSTAT uptime 90061\nSTAT magent_version 1.2.3\nSTAT curr_connections 3\nSTAT max_connections 50\n" +
		"STAT magent_requests 10\nSTAT get_hits 3\nSTAT get_misses 1\nEND\n" +
		"STAT maxconns 50\nSTAT listen 127.0.0.1:12000\nSTAT listen /run/m.sock\nEND\n")
	for _, s := range servers {
		f := strings.Fields(s)
		fmt.Fprintf(&b, "STAT %s:state %s\nSTAT %s:role %s\nSTAT %s:complete yes\nSTAT %s:journal_keys 12\n", f[0], f[2], f[0], f[1], f[0], f[0])
		for _, word := range f[3:] {
			b.WriteString(map[string]string{
				"overflow":  "STAT " + f[0] + ":journal_overflow yes\n",
				"flush":     "STAT " + f[0] + ":journal_overflow yes\nSTAT " + f[0] + ":journal_overflow_why flush_all\n",
				"refused":   "STAT " + f[0] + ":out_why connection refused\n",
				"unreached": "STAT " + f[0] + ":version unknown\n",
			}[word])
		}
		fmt.Fprintf(&b, "STAT %s:out_s 65\nSTAT %s:resync_done 41\nSTAT %s:resync_total 100\nSTAT %s:resync_eta_s 59\n", f[0], f[0], f[0], f[0])
	}
	b.WriteString("END\n")
	return strings.ReplaceAll(b.String(), "\n", "\r\n")
}

func TestCheckTellsWhatIsServed(t *testing.T) {
	for _, c := range []struct {
		servers string
		out     string // on success
		problem string
	}{
		{"a:1 primary up,b:1 backup up", "serves, 2 of 2 servers up", ""},
		{"a:1 primary warming,b:1 backup up", "serves, 1 of 2 servers up, 1 warming", ""},
		{"a:1 primary dirty,b:1 backup warming", "serves, 0 of 2 servers up, 1 warming, 1 dirty", ""},
		{"a:1 primary up,b:1 backup down", "serves, 1 of 2 servers up, 1 down", ""},
		{"a:1 primary down,b:1 backup dirty", "", "a:1 is down and b:1 is dirty: start memcached there"},
		{"a:1 primary up", "serves, 1 of 1 server up", ""},
		{"a:1 primary down", "", "a:1 is down and has no backup: start memcached there"},
		{"a:1 primary up,b:1 primary down", "", "b:1 is down and has no backup"},
		{"a:1 both down", "", "a:1 is down and has no backup"},
		{"a:1 both down,b:1 both up", "serves, 1 of 2 servers up, 1 down", ""},
		{"a:1 both down,b:1 both down", "", "a:1 is down and b:1 is down"},
		// Every primary may share keys with every backup.
		{"a:1 primary down,b:1 primary up,c:1 backup up,d:1 backup up", "serves, 3 of 4 servers up, 1 down", ""},
		{"a:1 primary down,b:1 primary up,c:1 backup up,d:1 backup down", "", "a:1 is down and d:1 is down"},
		{"a:1 primary down,b:1 primary down,c:1 backup up", "serves, 1 of 3 servers up, 2 down", ""},
		{"a:1 primary up,c:1 backup down,d:1 backup down", "serves, 1 of 3 servers up, 2 down", ""},
		{"a:1 primary down,b:1 primary down,c:1 backup down,d:1 backup down", "", "a:1 is down, b:1 is down and 2 more servers are out"},
		{"[::1]:11211 primary down,b:1 backup down", "", "[::1]:11211 is down and b:1 is down"},
	} {
		p := startFakeProxy(t, "tcp", "127.0.0.1:0", statsOf(strings.Split(c.servers, ",")...))
		out, err := administered("check", "--timeout", "10s", p.port(t))
		if c.problem == "" {
			if want := "magent at " + p.address + " " + c.out + "\n"; err != nil || out != want {
				t.Errorf("%s: %q, error %v; want %q", c.servers, out, err, want)
			}
			continue
		}
		if err == nil || out != "" || !strings.Contains(err.Error(), "the magent at "+p.address+" cannot serve every key: "+c.problem) {
			t.Errorf("%s: %q, error %v\nwant %s", c.servers, out, err, c.problem)
		}
	}
}

func TestCheckOfWhatIsNoMagent(t *testing.T) {
	for _, answer := range []string{"STAT pid 7\nSTAT version 1.6.38\nEND\nEND\nEND\n", "STAT magent_version 1\nEND\nEND\nEND\n"} {
		p := startFakeProxy(t, "tcp", "127.0.0.1:0", answer)
		if out, err := administered("check", p.port(t), "--timeout", "10s"); err == nil || out != "" || !strings.Contains(err.Error(), "no magent") {
			t.Errorf("%q: %q, error %v", answer, out, err)
		}
	}
}

// keepalived gives a script two seconds.
func TestCheckIsQuick(t *testing.T) {
	s, asked, err := parse([]string{"check"}, "/")
	if err != nil || asked.subcommand.timeout != time.Second || s.timeout != 0 {
		t.Errorf("the limit is %v, set to %v, error %v", asked.subcommand.timeout, s.timeout, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := administered("check", "-l", l.Addr().String(), "--timeout", "20ms"); err == nil || !strings.Contains(err.Error(), "within 20ms") {
		t.Errorf("error %v", err)
	}
}

// The command line of a launch serves for check too.
// promise: L1
func TestCheckTakesTheFlagsOfALaunch(t *testing.T) {
	p := startFakeProxy(t, "tcp", "127.0.0.1:0", statsOf("a:1 primary up", "b:1 backup up"))
	if out, err := administered("check", "-u", "root", "-n", "51200", "-l", "127.0.0.1", p.port(t), "-s", "a:1", "-b", "b:1", "-kDv", "--timeout", "10s"); err != nil || out == "" {
		t.Errorf("%q, error %v", out, err)
	}
}

// promise: L6
func TestFlagsOfSubcommandsOnly(t *testing.T) {
	for _, c := range []struct{ arguments, want string }{
		{"-s a --timeout 1s", "--timeout is for a command that asks a running magent, such as magent check: leave it out"},
		{"-s a --json", "--json is for magent status: leave it out"},
		{"check --json", "--json is for magent status: leave it out"},
		{"check --timeout 1", `invalid value "1" for flag --timeout: give a time with its unit from 10ms to 10s, for example 250ms or 2s`},
		{"check --timeout 11s", `invalid value "11s" for flag --timeout: give a time with its unit from 10ms to 10s, for example 250ms or 2s`},
		{"check x", `unexpected argument "x": write magent check, and flags only`},
		{"status x", `unexpected argument "x": write magent status, and flags only`},
	} {
		if _, _, err := parse(strings.Fields(c.arguments), "/"); err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "for --", "for flag --"), c.want) {
			t.Errorf("%s: error %v\nwant %s", c.arguments, err, c.want)
		}
	}
}

// absent is an address that no machine has (RFC 5737).
const absent = "192.0.2.66"

// answersFrom answers each question like the magents of startFakeProxy.
func answersFrom(text string) answerer {
	answers := map[string]string{}
	for i, question := range []string{"stats", "stats settings", "stats servers"} {
		answers[question] = strings.SplitAfterN(text, "END\r\n", 3)[i]
	}
	return func(_ context.Context, question string) ([]byte, error) {
		if answer := answers[question]; answer != "" {
			return []byte(answer), nil
		}
		return []byte("OK\r\n"), nil
	}
}

// promise: L4
func TestAbsentAddressIsAskedOnItsLock(t *testing.T) {
	port := lastPort(t)
	for _, holder := range []string{absent, "0.0.0.0"} {
		l, _, err := claimOnce([]endpoint{{network: "tcp", address: holder + ":" + port}}, patient())
		if err != nil || l == nil {
			t.Fatal(err)
		}
		l.serve(answersFrom(statsOf("a:1 primary up", "b:1 backup up")))
		out, err := administered("check", "-l", absent, "-p", port, "--timeout", "10s")
		if want := "magent at " + absent + ":" + port + " serves, 2 of 2 servers up\n"; err != nil || out != want {
			t.Errorf("held by %s: %q, error %v", holder, out, err)
		}
		if out, err := administered("status", "-l", absent, "-p", port); err != nil || !strings.Contains(out, "a:1") {
			t.Errorf("%q, error %v", out, err)
		}
		if out, err := administered("resync", "-l", absent, "-p", port); err != nil || !strings.HasPrefix(out, "the resync has begun") {
			t.Errorf("%q, error %v", out, err)
		}
		l.close()
	}
	// Whoever has the address, it is not asked.
	if out, err := administered("check", "-l", absent, "-p", port, "--timeout", "10s"); err == nil || out != "" || !strings.Contains(err.Error(), "no magent on this machine listens at "+absent+":"+port) {
		t.Errorf("%q, error %v", out, err)
	}
}

// lastPort returns a port on which this test may take locks: one that it holds.
func lastPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// promise: L4
func TestLockHolderThatIsSilent(t *testing.T) {
	port := lastPort(t)
	e := endpoint{network: "tcp", address: absent + ":" + port}
	l := claimed(t, e) // and does not serve
	if _, err := administered("check", "-l", absent, "-p", port, "--timeout", "20ms"); err == nil ||
		!strings.Contains(err.Error(), fmt.Sprintf("pid %d, has not answered within 20ms: it hangs, or is only starting", os.Getpid())) {
		t.Errorf("error %v", err)
	}
	// One that closes the connection, as an older magent does.
	l.serve(nil)
	if _, err := administered("check", "-l", absent, "-p", port, "--timeout", "10s"); err == nil || !strings.Contains(err.Error(), "closed the connection without an answer") {
		t.Errorf("error %v", err)
	}
}

// Who does not let magent in is named, with the way to mend it, while its twin serves.
func TestCheckNamesTheServerThatRefuses(t *testing.T) {
	const problem = "it asks for a user and a password: give --server-auth-file"
	stats := statsOf("a:1 primary up", "b:1 backup down")
	end := strings.LastIndex(stats, "END")
	p := startFakeProxy(t, "tcp", "127.0.0.1:0", stats[:end]+"STAT b:1:problem "+problem+"\r\n"+stats[end:])
	out, err := administered("check", p.port(t), "--timeout", "10s")
	want := "magent at " + p.address + " serves, 1 of 2 servers up, 1 down; b:1 is down: " + problem + "\n"
	if err != nil || out != want {
		t.Errorf("%q, error %v; want %q", out, err, want)
	}
}

// A magent that takes no more clients is asked on its lock.
func TestCheckOfAFullMagent(t *testing.T) {
	p := startFakeProxy(t, "tcp", "127.0.0.1:0", "SERVER_ERROR out of connections\r\n")
	claimed(t, p.endpoint).serve(answersFrom(statsOf("a:1 primary up", "b:1 backup up")))
	out, err := administered("check", p.port(t), "--timeout", "10s")
	want := "magent at " + p.address + " serves, 2 of 2 servers up; it turns new clients away: all 50 connections are in use, raise --max-clients\n"
	if err != nil || out != want {
		t.Errorf("%q, error %v", out, err)
	}
}

// promise: R2
func TestLockHasFewGuests(t *testing.T) {
	e := endpoint{network: "tcp", address: absent + ":" + lastPort(t)}
	l, _, err := claimOnce([]endpoint{e}, patient())
	if err != nil || l == nil {
		t.Fatal(err)
	}
	l.serve(answersFrom(statsOf()))
	dial := func() net.Conn {
		conn, err := net.Dial("unix", e.lockName())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := readLine(conn.(*net.UnixConn), time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	for range lockGuests {
		dial()
	}
	// One more is told that it serves, and then closed; launches go on.
	if _, err := readLine(dial().(*net.UnixConn), time.Now().Add(time.Minute)); err == nil {
		t.Error("one guest too many is answered")
	}
	if o := ask(e, patient()); o == nil || o.silent {
		t.Errorf("a launch finds %+v", o)
	}
	l.close() // does not wait for guests who say nothing
}

// promise: R2
func TestQuestionsAreBounded(t *testing.T) {
	e := endpoint{network: "tcp", address: absent + ":" + lastPort(t)}
	claimed(t, e).serve(answersFrom(statsOf()))
	q := &inquiry{within: time.Minute}
	ctx, cancel := context.WithTimeout(t.Context(), q.within)
	defer cancel()
	if _, err := q.tryLock(ctx, e, "", []string{strings.Repeat("x", longestQuestion)}); !errors.Is(err, errClosed) {
		t.Errorf("error %v", err)
	}
}

// The permissions of a Unix socket are not gone around.
func TestLockOfASocketAnswersNoQuestions(t *testing.T) {
	e := someEndpoint(t)
	claimed(t, e).serve(answersFrom(statsOf()))
	q := &inquiry{within: time.Minute}
	ctx, cancel := context.WithTimeout(t.Context(), q.within)
	defer cancel()
	if _, err := q.tryLock(ctx, e, "", []string{"stats"}); !errors.Is(err, errClosed) {
		t.Errorf("error %v", err)
	}
}

func TestIsHere(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, absent + ":1": false, "[2001:db8::66]:1": false, "name:1": false,
	} {
		if got := isHere(endpoint{network: "tcp", address: address}); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range own {
		ip := a.(*net.IPNet).IP
		if e := (endpoint{network: "tcp", address: net.JoinHostPort(ip.String(), "1")}); !isHere(e) {
			t.Errorf("%s is not here", ip)
		}
	}
}
