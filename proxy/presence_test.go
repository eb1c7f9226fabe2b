package proxy

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/backend"
)

// Others count as present for a while after their last sign, and a line that
// does not change any more is taken out.
//
// promise: C6
func TestPresence(t *testing.T) {
	begin := time.Now()
	p := &presence{name: "m", beats: map[beatPlace]beat{}}
	at := func(d time.Duration) time.Time { return begin.Add(d) }
	want := func(d time.Duration, others, active, first bool) {
		t.Helper()
		if o, a, _, f := p.look(at(d)); o != others || a != active || f != first {
			t.Errorf("after %v: others %v, active %v, first %v; want %v, %v, %v", d, o, a, f, others, active, first)
		}
	}
	note := func(d time.Duration, name string, server int32, count string, active, stale bool) {
		t.Helper()
		if got := p.noteBeat(name, server, count, active, at(d)); got != stale {
			t.Errorf("after %v: the line of %s on %d is stale: %v, want %v", d, name, server, got, stale)
		}
	}
	want(0, false, false, true)

	// An idle one whose name comes later.
	note(0, "z", 0, "1", false, false)
	want(0, true, false, true)
	want(othersFor, true, false, true)
	want(othersFor+1, false, false, true)

	// The same line again is no sign of life.
	note(othersFor+1, "z", 0, "1", true, false)
	want(othersFor+1, false, false, true)
	note(4*time.Second, "z", 0, "2", true, false)
	want(4*time.Second, true, true, true)

	// One whose name comes first, on another server.
	note(5*time.Second, "a", 1, "1", false, false)
	want(5*time.Second, true, true, false)

	// Each server has its own line of one proxy: an old one there does not hide
	// that the proxy lives.
	note(6*time.Second, "a", 0, "1", false, false)
	note(7*time.Second, "a", 1, "2", true, false)
	note(7*time.Second, "a", 0, "1", false, false)
	want(9*time.Second, true, true, false)

	// What has not changed for long is taken out.
	note(4*time.Second+beatForget, "z", 0, "2", true, false)
	note(4*time.Second+beatForget+1, "z", 0, "2", true, true)
	want(4*time.Second+beatForget, false, false, true)
}

// Of several proxies one at most sees to the servers, and one at least when
// none of them has clients, or one.
//
// promise: C6
func TestOneProxySeesToTheServers(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
	for _, c := range []struct {
		name                  string
		ahead, active, others bool // the other one: its name comes first; has clients; is there
		own                   bool // this one has clients
		young                 bool // this one has just begun
		acts                  bool
	}{
		{"alone", false, false, false, false, false, true},
		{"alone, with clients", false, false, false, true, false, true},
		{"alone, just begun", false, false, false, false, true, false},
		{"alone, just begun, with clients", false, false, false, true, true, true},
		{"both idle, this one first", false, false, true, false, false, true},
		{"both idle, the other first", true, false, true, false, false, false},
		{"the other has clients", false, true, true, false, false, false},
		{"the other has clients and is first", true, true, true, false, false, false},
		{"this one has clients, the other is first", true, false, true, true, false, true},
	} {
		p := newTestProxy(t, o)
		rc := p.recovery
		p.started = time.Now()
		if !c.young {
			p.started = p.started.Add(-2 * settleIn)
		}
		rc.presence.name = "m"
		if c.others {
			name := "z"
			if c.ahead {
				name = "a"
			}
			rc.presence.noteBeat(name, 0, "1", c.active, time.Now())
		}
		if c.own {
			rc.asked.Store(time.Now().UnixNano())
		}
		rc.judge()
		if rc.rival.Load() {
			t.Errorf("%s: a line that was seen once counts as a rival: it may be the line of a dead proxy", c.name)
		}
		if c.others {
			for place, b := range rc.presence.beats {
				rc.presence.noteBeat(place.name, place.at, "2", b.active, time.Now())
			}
			rc.judge()
		}
		if rc.acts() != c.acts || rc.alone() == c.others || rc.rival.Load() != (c.others && c.active) {
			t.Errorf("%s: acts %v, alone %v, rival %v; want that it acts: %v", c.name, rc.acts(), rc.alone(), rc.rival.Load(), c.acts)
		}
	}
	// A client comes: what it asks for cannot wait for the next look.
	p := newTestProxy(t, o)
	p.recovery.presence.noteBeat("a", 0, "1", true, time.Now())
	p.recovery.judge()
	if p.recovery.acts() {
		t.Fatal("an idle proxy acts beside one with clients")
	}
	p.recovery.asked.Store(time.Now().UnixNano())
	if !p.recovery.acts() {
		t.Error("a proxy with clients does not act")
	}
}

// A proxy writes its own line anew and keeps the others', but for those that
// make no sense.
//
// promise: C6, R2
func TestBeat(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
	p := newTestProxy(t, o)
	rc := p.recovery
	rc.presence.name = "m"
	server, requests := fakeStore(t)
	client, err := backend.DialClient(t.Context(), server, time.Second, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	w := &watcher{rc: rc, at: 1, client: client}

	beat := func(held backend.Stored) (command string, lines []string) {
		t.Helper()
		if err := w.beat(held); err != nil {
			t.Fatal(err)
		}
		command, text := (<-requests), (<-requests)
		return command, strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	}
	command, lines := beat(backend.Stored{})
	if !strings.HasPrefix(command, "add __magent__:proxies 0 0 ") || len(lines) != 1 || !strings.HasPrefix(lines[0], "m ") || !strings.HasSuffix(lines[0], " idle") {
		t.Errorf("the first beat is %q, %q", command, lines)
	}
	rc.asked.Store(time.Now().UnixNano())
	command, lines = beat(backend.Stored{CAS: 42, Value: []byte("m 1 idle\na 5 active\nnonsense\n\nz 6 idle\nx 1 2 3\n")})
	if !strings.HasPrefix(command, "cas __magent__:proxies 0 0 ") || !strings.HasSuffix(command, " 42") {
		t.Errorf("command %q, want a cas with the token of what was read", command)
	}
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "m ") || !strings.HasSuffix(lines[0], " active") || !slices.Equal(lines[1:], []string{"a 5 active", "z 6 idle"}) {
		t.Errorf("lines %q", lines)
	}
	if others, active, _, first := rc.presence.look(time.Now()); !others || !active || first {
		t.Errorf("others %v, active %v, first %v", others, active, first)
	}
	// z has given no sign for long.
	rc.presence.beats[beatPlace{"z", 1}] = beat0(rc.presence.beats[beatPlace{"z", 1}])
	if _, lines = beat(backend.Stored{CAS: 43, Value: []byte("m 1 idle\na 6 active\nz 6 idle\n")}); len(lines) != 2 || lines[1] != "a 6 active" {
		t.Errorf("lines %q, want z's taken out", lines)
	}
}

func beat0(b beat) beat {
	b.changed = b.changed.Add(-beatForget - time.Second)
	return b
}

// fakeStore is a server that stores whatever it gets. Of each request it tells
// the line and the value.
func fakeStore(t *testing.T) (backend.Address, <-chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	requests := make(chan string, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for in := bufio.NewReader(conn); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			var verb, key string
			var flags, expiry, size int
			if _, err := fmt.Sscan(line, &verb, &key, &flags, &expiry, &size); err != nil {
				t.Errorf("the server was sent %q", line)
				return
			}
			value := make([]byte, size+2)
			for n := 0; n < len(value); {
				more, err := in.Read(value[n:])
				if err != nil {
					return
				}
				n += more
			}
			requests <- strings.TrimSpace(line)
			requests <- string(value[:size])
			fmt.Fprint(conn, "STORED\r\n")
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-ended
	})
	at := listener.Addr().(*net.TCPAddr)
	return backend.Address{Host: "127.0.0.1", Port: at.Port, Weight: 1}, requests
}

// A server's keys can be copied from the servers of the other pool, whatever
// role it has in which pool, and never from itself.
//
// promise: C7, K4
func TestTwins(t *testing.T) {
	for _, c := range []struct {
		primaries, backups string
		twins              string // of each server, in the order in which they are named
	}{
		{"1", "", "[]"},
		{"1", "2", "[1] [0]"},
		{"1", "1", "[]"},
		{"1 2", "3", "[2] [2] [0 1]"},
		{"1 2", "3 4", "[2 3] [2 3] [0 1] [0 1]"},
		{"1 2", "2 1", "[1] [0]"},
		{"1 2 3", "3 2 1", "[2 1] [2 0] [1 0]"},
		{"1 2", "2 3", "[1 2] [2 0] [0 1]"},
	} {
		o := Defaults()
		name := func(pool string) (names []string) {
			for port := range strings.FieldsSeq(pool) {
				names = append(names, "127.0.0.1:"+port)
			}
			return names
		}
		o.Primaries, o.Backups = name(c.primaries), name(c.backups)
		p := newTestProxy(t, o)
		var twins []string
		for i := range p.servers {
			twins = append(twins, fmt.Sprint(p.pools.twins(int32(i))))
		}
		if got := strings.Join(twins, " "); got != c.twins {
			t.Errorf("-s %s -b %s: %s, want %s", c.primaries, c.backups, got, c.twins)
		}
		// Wherever a key has two servers, each is the other's twin.
		for i := range 300 {
			primary, backup := p.pools.find(fmt.Appendf(nil, "key%d", i))
			if backup >= 0 && (!slices.Contains(p.pools.twins(primary), backup) || !slices.Contains(p.pools.twins(backup), primary)) {
				t.Fatalf("-s %s -b %s: key%d is on %d and %d, twins %s", c.primaries, c.backups, i, primary, backup, twins)
			}
		}
	}
}
