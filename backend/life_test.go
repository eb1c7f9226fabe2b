package backend

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// promise: C6
func TestLifeAsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		life := Life{PID: rapid.IntRange(0, 1<<30).Draw(t, "pid"), Start: rapid.Int64Range(-5, 1<<40).Draw(t, "start")}
		if got, ok := ParseLife(life.String()); !ok || got != life {
			t.Fatalf("%q is read as %v, %v", life, got, ok)
		}
	})
	for _, text := range []string{"", "-", "1", "1-", "-1", "x-1", "1-x", "1-2-x", "1-2 whole", " 1-2", "1-99999999999999999999", "1.0-2"} {
		if life, ok := ParseLife(text); ok {
			t.Errorf("%q is read as %v", text, life)
		}
	}
}

// What stats tell of a server. Its start does not depend on when it is asked.
//
// promise: C6, C8
func TestFactsOfStats(t *testing.T) {
	const ahead = 1000 // seconds
	const soon = ahead*time.Second - patience
	now := time.Now().Unix()
	stats := func(uptime, items int64) map[string]string {
		return map[string]string{"pid": "77", "uptime": fmt.Sprint(uptime), "time": fmt.Sprint(now + ahead + uptime), "curr_items": fmt.Sprint(items)}
	}
	for _, uptime := range []int64{0, 1, 3600} {
		f, err := readFacts(stats(uptime, 5))
		if err != nil || f.life != (Life{77, now + ahead}) || f.items != 5 {
			t.Errorf("up for %d s: %+v, %v", uptime, f, err)
		}
	}
	f, err := readFacts(stats(0, 0))
	if by := time.Duration(f.clock); err != nil || f.items != 0 || by < soon || by > ahead*time.Second {
		t.Errorf("its clock is %v ahead, want %d s; %v", by, ahead, err)
	}
	for _, name := range []string{"pid", "uptime", "time"} {
		for _, value := range []string{"", "x", "-1"} {
			s := stats(1, 1)
			if s[name] = value; value == "" {
				delete(s, name)
			}
			if f, err := readFacts(s); !errors.Is(err, ErrProtocol) {
				t.Errorf("%s is %q: %+v, %v", name, value, f, err)
			}
		}
	}
	s := stats(1, 1)
	delete(s, "curr_items")
	if f, err := readFacts(s); err != nil || f.items != 0 {
		t.Errorf("without curr_items: %+v, %v", f, err)
	}
}

// What another program has seen is known, and only what is known is asked for.
//
// promise: C6
func TestKnownLife(t *testing.T) {
	s := newUpServer(1)
	if life, ok := s.Life(); ok {
		t.Errorf("a server that was never seen is in life %v", life)
	}
	s.KnowLife(testLife)
	if life, ok := s.Life(); !ok || life != testLife {
		t.Errorf("life %v, %v", life, ok)
	}
	if s.greeting.Load() != nil {
		t.Error("a life that was only heard of is asked for")
	}
	s.setLife(Life{1, 2})
	if life, _ := s.Life(); life != (Life{1, 2}) || s.greeting.Load() == nil {
		t.Errorf("life %v, greeting %v", life, s.greeting.Load())
	}
}

// A token that memcached counted up in one life of one server is good there
// and nowhere else.
//
// promise: C9
func TestTokensOfLives(t *testing.T) {
	server := func(port int, life Life) *Server {
		s := NewServer(Address{Host: "127.0.0.1", Port: port, Weight: 1}, 0, 1, func(*Server, Change) {})
		s.setLife(life)
		return s
	}
	own := server(11211, Life{7, 100})
	again := server(11211, Life{7, 100})
	others := []*Server{server(11212, Life{7, 100}), server(11211, Life{8, 100}), server(11211, Life{7, 101})}
	rapid.Check(t, func(t *rapid.T) {
		token := rapid.Uint64Range(0, 1<<48-1).Draw(t, "token")
		told := own.ClientToken(token)
		if told >= 1<<63 {
			t.Fatalf("token %d is told as %d, which clients read as a negative number", token, told)
		}
		if got := own.ServerToken(told); got != token {
			t.Fatalf("token %d is told as %d and comes back as %d", token, told, got)
		}
		if got := again.ServerToken(told); got != token {
			t.Fatalf("another proxy takes token %d as %d", token, got)
		}
		for _, other := range others {
			// memcached counts from 1; a mark of another life is beyond all counts.
			if got := other.ServerToken(told); got < 1<<48 {
				t.Fatalf("token %d of %s %v means %d to %s %v", token, own.Name(), *own.life.Load(), got, other.Name(), *other.life.Load())
			}
			if other.ClientToken(token) == told {
				t.Fatalf("two lives tell token %d as %d", token, told)
			}
		}
		// A token that nobody was told.
		if got := own.ServerToken(token); got < 1<<48 {
			t.Fatalf("token %d, which nobody was told, is sent as %d", token, got)
		}
	})
}

// A server that is up and may hold something wrong is warming, without a new
// epoch: its connections stay.
//
// promise: C6
func TestDoubtAndTrust(t *testing.T) {
	var changes []Change
	s := NewServer(Address{Host: "127.0.0.1", Port: 1, Weight: 1}, 0, 1, func(_ *Server, c Change) { changes = append(changes, c) })
	want := func(what string, state State, told ...Change) {
		t.Helper()
		got, _ := s.Load()
		if got != state || fmt.Sprint(changes) != fmt.Sprint(told) {
			t.Errorf("%s: %v after %v, want %v after %v", what, got, changes, state, told)
		}
		changes = nil
	}
	s.Doubt("x")
	if s.Trust("x") {
		t.Error("a server that is out is trusted")
	}
	want("out", Down)
	s.bringUp(s.word.Load(), Up, "up")
	want("brought up", Up, Change{Down, Up, "up"})
	_, epoch := s.Load()
	if s.Trust("x") {
		t.Error("a server that is up was trusted once more")
	}
	s.Doubt("doubt")
	s.Doubt("again")
	want("doubted", Warming, Change{Up, Warming, "doubt"})
	if !s.Serves() || s.Miss() {
		t.Error("a server that is warming does not serve, or a write may go without it")
	}
	want("a write", Warming)
	if !s.Trust("trust") || s.Trust("again") {
		t.Error("trusted not once")
	}
	want("trusted", Up, Change{Warming, Up, "trust"})
	if _, now := s.Load(); now != epoch {
		t.Errorf("epoch %d after doubt and trust, was %d", now, epoch)
	}
	s.Doubt("doubt")
	s.TakeOut(true, "out")
	s.Doubt("x")
	if s.Trust("x") {
		t.Error("a dirty server is trusted")
	}
	want("taken out", Dirty, Change{Up, Warming, "doubt"}, Change{Warming, Dirty, "out"})
}

// How long a server is out counts from its start, or from when it was taken
// out, and ends when it serves again.
//
// promise: C7
func TestOutFor(t *testing.T) {
	s := NewServer(Address{Host: "127.0.0.1", Port: 1, Weight: 1}, 0, 1, func(*Server, Change) {})
	s.since.Store(time.Now().Add(-time.Hour).UnixNano())
	if d := s.OutFor(); d < time.Hour || d > time.Hour+patience {
		t.Errorf("out for %v, want an hour", d)
	}
	s.bringUp(s.word.Load(), Warming, "")
	if d := s.OutFor(); d != 0 {
		t.Errorf("out for %v although it serves", d)
	}
	s.TakeOut(false, "")
	if d := s.OutFor(); d < 0 || d > patience {
		t.Errorf("out for %v, want hardly any time", d)
	}
	before := s.since.Load()
	s.Miss()
	s.TakeOut(true, "")
	if s.since.Load() != before {
		t.Error("the outage began anew when it missed a write")
	}
}

// Nobody counts as there when the last connection was refused, or when nobody
// was reached since the program began.
//
// promise: C7
func TestAbsent(t *testing.T) {
	silentProbes := quickProbes
	silentProbes.Connect = shortly
	for _, c := range []struct {
		name   string
		o      ProbeOptions
		at     func() Address
		known  bool
		absent bool
	}{
		{"refused, never seen", quickProbes, func() Address { return addressAt(closedPort(t)) }, false, true},
		{"refused, seen before", quickProbes, func() Address { return addressAt(closedPort(t)) }, true, true},
		{"silent, never seen", silentProbes, func() Address { return addressAt(silentPort(t)) }, false, true},
		{"silent, seen before", silentProbes, func() Address { return addressAt(silentPort(t)) }, true, false},
	} {
		s := NewServer(c.at(), 0, 0, func(*Server, Change) {})
		if c.known {
			s.KnowLife(testLife)
		}
		if s.Absent() {
			t.Errorf("%s: absent before it was asked", c.name)
		}
		prober := &Prober{Server: s, Options: c.o, Report: func(*Server, error) {}}
		prober.attempt(t.Context())
		if s.Absent() != c.absent {
			t.Errorf("%s: absent %v, want %v", c.name, s.Absent(), c.absent)
		}
		s.bringUp(s.word.Load(), Up, "")
		if s.Absent() {
			t.Errorf("%s: absent although it serves", c.name)
		}
	}
}
