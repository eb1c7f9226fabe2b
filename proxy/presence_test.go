package proxy

import (
	"bufio"
	"fmt"
	"maps"
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
	want := func(d time.Duration, names ...string) {
		t.Helper()
		if got := slices.Sorted(maps.Keys(p.present(at(d)))); !slices.Equal(got, names) {
			t.Errorf("after %v: %q are present, want %q", d, got, names)
		}
	}
	note := func(d time.Duration, line string, server int32, stale bool) {
		t.Helper()
		name, b, ok := parseBeat(line, at(d))
		if !ok {
			t.Fatalf("%q is not read", line)
		}
		if got := p.noteBeat(name, server, b); got != stale {
			t.Errorf("after %v: the line %q on %d is stale: %v, want %v", d, line, server, got, stale)
		}
	}
	want(0)
	note(0, "z 1 60000 -", 0, false)
	want(othersFor, "z")
	want(othersFor + 1)

	// The same line again is no sign of life, whatever else it says.
	note(othersFor+1, "z 1 0 -", 0, false)
	want(othersFor + 1)
	note(4*time.Second, "z 2 100 cache:1,cache:2", 0, false)
	want(4*time.Second, "z")
	z := p.present(at(4 * time.Second))["z"]
	if !z.alive || !z.wrote.Equal(at(3900*time.Millisecond)) || !slices.Equal(z.out, []string{"cache:1", "cache:2"}) {
		t.Errorf("z is known as %+v", z)
	}
	// Each server has its own line of one proxy: an old one there does not hide
	// that the proxy lives.
	note(6*time.Second, "a 1 0 -", 0, false)
	note(6*time.Second, "a 1 0 -", 1, false)
	if p.present(at(6 * time.Second))["a"].alive {
		t.Error("lines that were seen once count as signs of life: they may be those of a dead proxy")
	}
	note(7*time.Second, "a 2 0 cache:1", 1, false)
	note(7*time.Second, "a 1 0 -", 0, false)
	want(9*time.Second, "a")
	if a := p.present(at(9 * time.Second))["a"]; !a.alive || len(a.out) != 1 {
		t.Errorf("a is known as %+v", a)
	}
	// What has not changed for long is taken out.
	note(4*time.Second+beatForget, "z 2 100 -", 0, false)
	note(4*time.Second+beatForget+1, "z 2 100 -", 0, true)

	for _, line := range []string{"", "a", "a 1 0", "a 1 0 - -", "a 1 x -", "a 1 -1 -", "a 1 99999999999 -"} {
		if name, b, ok := parseBeat(line, begin); ok {
			t.Errorf("%q is read as %q, %+v", line, name, b)
		}
	}
}

// Of several proxies exactly one sees to a server: one with clients before one
// without, then one that can use it before one that cannot.
//
// promise: C6
func TestOneProxySeesToAServer(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
	for _, c := range []struct {
		name  string
		own   bool   // this one has clients
		young bool   // this one has just begun
		other string // the line of the other one, without its count
		acts  bool
	}{
		{"alone", false, false, "", true},
		{"alone, with clients", true, false, "", true},
		{"alone, just begun", false, true, "", false},
		{"alone, just begun, with clients", true, true, "", true},
		// Neither can use the server.
		{"both idle, this one first", false, false, "z 60000 127.0.0.1:1", true},
		{"both idle, the other first", false, false, "a 60000 127.0.0.1:1", false},
		{"the other has clients", false, false, "z 5 127.0.0.1:1", false},
		{"the other has clients and is first", false, false, "a 5 127.0.0.1:1", false},
		{"this one has clients, the other is first", true, false, "a 60000 127.0.0.1:1", true},
		{"both have clients, this one is first", true, false, "z 5 127.0.0.1:1", true},
		{"both have clients, the other is first", true, false, "a 5 127.0.0.1:1", false},
		{"the clients of the other, which is first, have moved to this one", true, false, "a 700 127.0.0.1:1", true},
		// The other one can use it.
		{"this one has clients, the other can use it", true, false, "a 60000 -", true},
		{"both have clients, the other can use it", true, false, "z 5 -", false},
		{"none has clients, the other can use it", false, false, "z 60000 127.0.0.1:2", false},
	} {
		p := newTestProxy(t, o)
		rc := p.recovery
		p.started = time.Now()
		if !c.young {
			p.started = p.started.Add(-2 * settleIn)
		}
		rc.presence.name = "m"
		if c.own {
			rc.wrote.Store(time.Now().UnixNano())
		}
		hear := func(count string) {
			if name, rest, ok := strings.Cut(c.other, " "); ok {
				rc.hearBeats(1, []byte(name+" "+count+" "+rest+"\n"))
			}
			rc.judge()
		}
		rc.record(0, 1).setMarked(map[string]mark{"a": markOut, "z": markOut})
		hear("1")
		if rc.rival(0) {
			t.Errorf("%s: a line that was seen once counts as a rival: it may be the line of a dead proxy", c.name)
		}
		hear("2")
		has := c.other != "" && !strings.Contains(c.other, "60000")
		if rc.acts(0) != c.acts || rc.alone() != (c.other == "") || rc.rival(0) != has {
			t.Errorf("%s: acts %v, alone %v, rival %v; want that it acts: %v", c.name, rc.acts(0), rc.alone(), rc.rival(0), c.acts)
		}
	}
}

// A proxy that writes without a server, and has clients, is its rival; commands
// that it has under way there are waited for as long as it may be alive.
//
// promise: C6
func TestMarksOfOthers(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
	for _, c := range []struct {
		mark        mark
		lines       []string
		rival, late bool
	}{
		{markIn, []string{"a 1 0 -", "a 2 0 -"}, false, false},
		{markOut, []string{"a 1 0 127.0.0.1:1", "a 2 0 127.0.0.1:1"}, true, false},
		{markOut, []string{"a 1 5000 127.0.0.1:1", "a 2 5200 127.0.0.1:1"}, false, false},
		{markLate, []string{"a 1 0 127.0.0.1:1", "a 2 0 127.0.0.1:1"}, true, true},
		{markLate, []string{"a 1 5000 127.0.0.1:1"}, false, true},
		{markLate, []string{"b 1 0 -", "b 2 0 -"}, false, false},
		{markLate, nil, false, false},
	} {
		p := newTestProxy(t, o)
		rc := p.recovery
		for _, line := range c.lines {
			rc.hearBeats(1, []byte(line+"\n"))
		}
		rc.record(0, 1).setMarked(map[string]mark{"a": c.mark})
		rc.judge()
		if rc.rival(0) != c.rival || rc.late(0) != c.late || rc.rival(1) || rc.late(1) {
			t.Errorf("%s, %q: rival %v, late %v; want %v, %v, for the server that it tells of", c.mark, c.lines, rc.rival(0), rc.late(0), c.rival, c.late)
		}
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
	if !strings.HasPrefix(command, "add __magent__:proxies 0 0 ") || len(lines) != 1 || !strings.HasPrefix(lines[0], "m ") || !strings.HasSuffix(lines[0], " 60000 127.0.0.1:1,127.0.0.1:2") {
		t.Errorf("the first beat is %q, %q", command, lines)
	}
	rc.wrote.Store(time.Now().UnixNano())
	command, lines = beat(backend.Stored{CAS: 42, Value: []byte("m 1 60000 -\na 5 7 -\nnonsense\n\nz 6 60000 -\nx 1 2 3 4\n")})
	if !strings.HasPrefix(command, "cas __magent__:proxies 0 0 ") || !strings.HasSuffix(command, " 42") {
		t.Errorf("command %q, want a cas with the token of what was read", command)
	}
	own, ok := beat0(t, lines[0])
	if len(lines) != 3 || !ok || time.Since(own.wrote) > 10*time.Second || !slices.Equal(lines[1:], []string{"a 5 7 -", "z 6 60000 -"}) {
		t.Errorf("lines %q", lines)
	}
	if names := slices.Sorted(maps.Keys(rc.presence.present(time.Now()))); !slices.Equal(names, []string{"a", "z"}) {
		t.Errorf("%q are present", names)
	}
	// z has given no sign for long.
	place := beatPlace{"z", 1}
	old := rc.presence.beats[place]
	old.changed = old.changed.Add(-beatForget - time.Second)
	rc.presence.beats[place] = old
	if _, lines = beat(backend.Stored{CAS: 43, Value: []byte("m 1 60000 -\na 6 7 -\nz 6 60000 -\n")}); len(lines) != 2 || lines[1] != "a 6 7 -" {
		t.Errorf("lines %q, want z's taken out", lines)
	}
}

// beat0 reads this proxy's own line.
func beat0(t *testing.T, line string) (beat, bool) {
	t.Helper()
	name, b, ok := parseBeat(line, time.Now())
	return b, ok && name == "m"
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

// A proxy that cannot use a server's twin can copy nothing to it: one that can comes
// first.
//
// promise: C6
func TestUsesOf(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2", "127.0.0.1:3"}
	rc := newTestProxy(t, o).recovery
	for _, c := range []struct {
		out  []int
		want int
	}{{nil, 3}, {[]int{1}, 2}, {[]int{1, 2}, 1}, {[]int{0}, 0}, {[]int{0, 1, 2}, 0}} {
		if got := rc.usesOf(0, func(s *backend.Server) bool { return !slices.Contains(c.out, s.Index) }); got != c.want {
			t.Errorf("without %v: %d, want %d", c.out, got, c.want)
		}
	}
	if (contender{name: "a", uses: 1}).before(contender{name: "b", uses: 2}) {
		t.Error("one that cannot use the twin comes first")
	}
	if !(contender{name: "b", uses: 2}).before(contender{name: "a", uses: 1}) {
		t.Error("one that can use the twin does not come first")
	}
}
