package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestStatusForPeople(t *testing.T) {
	p := startFakeProxy(t, "tcp", "127.0.0.1:0", statsOf("10.0.0.1:11211 primary warming", "10.0.0.12:11211 backup dirty"))
	out, err := administered("status", p.port(t))
	if err != nil {
		t.Fatal(err)
	}
	const want = `magent 1.2.3, pid 7, up for 1 d 1 h
listens at  127.0.0.1:12000
            /run/m.sock
clients     3 of at most 50
requests    10
hit rate    75.0 % of 4 keys read

SERVER           ROLE     STATE    COMPLETE  MISSED  COPIED      WAITING
10.0.0.1:11211   primary  warming  yes       12      41 %, 59 s  0
10.0.0.12:11211  backup   dirty    yes       12                  0

10.0.0.1:11211 is warming: it serves, but may lack keys, and no twin of it
serves. What it does not hold is answered SERVER_ERROR until a twin is back, or
counts as gone (--lost-after).
10.0.0.12:11211 is dirty: it has been out of reach for 1 min 5 s and has missed
writes. Its twins answer for it where they serve. It is tried again at least
once a second, and when it answers it gets what it has missed from its twins
before anything old is read.
`
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}

func TestStatusSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		servers string
		want    []string
	}{
		{"a:1 primary up,b:1 backup up", []string{"All is well: every write goes to two servers."}},
		{"a:1 primary up", []string{"All servers are up. Not every key has a backup"}},
		{"a:1 both up,b:1 primary up", []string{"Not every key has a backup"}},
		{"a:1 primary down,b:1 backup up", []string{"a:1 is down: it has been out of reach for 1 min 5 s and has missed nothing", "Its twins answer for it"}},
		{"a:1 primary down,b:1 backup down", []string{"answered SERVER_ERROR: a:1 is down and b:1 is down: start memcached there"}},
		{"a:1 primary dirty overflow,b:1 backup up", []string{"a:1 primary dirty yes too many 0", "when it answers it is flushed and filled from its twins before"}},
		{"a:1 primary warming overflow,b:1 backup up", []string{"a:1 primary warming yes too many", "a:1 is warming: it has missed more writes than are known"}},
		{"a:1 primary dirty flush,b:1 backup up", []string{"a:1 primary dirty yes flush_all 0", "has missed more writes than are known (flush_all). Its twins"}},
		{"a:1 primary down refused,b:1 backup up", []string{"a:1 is down: connection refused. It has been out of reach for 1 min 5 s", "Its twins answer for it"}},
		{"a:1 primary down unreached,b:1 backup up", []string{"a:1 is down: it has not been reached since magent started 1 min 5 s ago. Its twins"}},
		{"a:1 primary warming,b:1 backup up", []string{"what it lacks is copied from its twins: 41 of 100 keys so far, the rest in about 59 s. It is up when"}},
		{"a:1 primary warming,b:1 backup dirty", []string{"a:1 is warming: it serves, but may lack keys"}},
		{"a:1 primary dirty", []string{"flushed when it answers"}},
		{"a:1 primary new\x1bword,b:1 backup up", []string{`"new\x1bword"`}},
	} {
		p := startFakeProxy(t, "tcp", "127.0.0.1:0", statsOf(strings.Split(c.servers, ",")...))
		out, err := administered("status", p.port(t))
		if err != nil {
			t.Errorf("%s: %v", c.servers, err)
		}
		for _, want := range c.want {
			if joined := strings.Join(strings.Fields(out), " "); !strings.Contains(joined, want) {
				t.Errorf("%s: it lacks %q:\n%s", c.servers, want, out)
			}
		}
	}
}

func TestStatusFitsATerminal(t *testing.T) {
	var servers []string
	for i, state := range []string{"up", "warming", "dirty", "down"} {
		servers = append(servers, fmt.Sprintf("192.168.100.10%d:11211 primary %s", i, state))
	}
	p := startFakeProxy(t, "tcp", "127.0.0.1:0", statsOf(servers...))
	out, err := administered("status", p.port(t))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if len(strings.TrimSuffix(line, "\n")) > 80 {
			t.Errorf("%d characters: %s", len(line), line)
		}
	}
}

func TestStatusForPrograms(t *testing.T) {
	p := startFakeProxy(t, "tcp", "127.0.0.1:0", statsOf("a:1 primary up", "[::1]:2 backup down"))
	out, err := administered("status", "--json", p.port(t))
	if err != nil {
		t.Fatal(err)
	}
	var got report
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&got); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	if got.PID != 7 || got.UptimeS != 90061 || !got.Serves || !got.ThisMachine || got.HitRate == nil || *got.HitRate != 0.75 ||
		len(got.Listen) != 2 || len(got.Servers) != 2 || got.Servers[1].Name != "[::1]:2" || got.Servers[1].State != "down" || got.Servers[1].MissedKeys != 12 {
		t.Errorf("%s", out)
	}
}

func TestLongTime(t *testing.T) {
	for seconds, want := range map[int64]string{0: "0 s", 59: "59 s", 60: "1 min 0 s", 3661: "1 h 1 min", 90061: "1 d 1 h", -1: "0 s"} {
		if got := longTime(seconds); got != want {
			t.Errorf("%d: %s", seconds, got)
		}
	}
}
