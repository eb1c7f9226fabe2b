package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeRecovery decides what a test wants.
type fakeRecovery struct {
	decide func(s *Server, r Return) Verdict

	mu       sync.Mutex
	returns  []Return
	restored []Verdict
	served   bool // the server served before it was restored
}

// Returning notes the return and decides (Recovery).
func (f *fakeRecovery) Returning(_ context.Context, s *Server, r Return) Verdict {
	f.mu.Lock()
	f.returns = append(f.returns, r)
	f.served = f.served || s.Serves()
	f.mu.Unlock()
	return f.decide(s, r)
}

// Restored notes the verdict (Recovery).
func (f *fakeRecovery) Restored(s *Server, v Verdict) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.restored = append(f.restored, v)
	f.served = f.served || s.Serves()
	if life, ok := s.Life(); !ok || life != f.returns[len(f.returns)-1].Life {
		f.served = true
	}
}

func (f *fakeRecovery) seen() (returns []Return, restored []Verdict, served bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.returns), slices.Clone(f.restored), f.served
}

// probeWith is probe with a Recovery.
func probeWith(t *testing.T, a Address, recovery *fakeRecovery, before func(*Server)) *probed {
	t.Helper()
	p := &probed{first: make(chan struct{}), reports: make(chan error, 1000)}
	p.Server = NewServer(a, 0, 1, func(_ *Server, c Change) {
		p.mu.Lock()
		p.changes = append(p.changes, c)
		p.mu.Unlock()
	})
	p.seeAll()
	if before != nil {
		before(p.Server)
	}
	prober := &Prober{Server: p.Server, Options: quickProbes, Recovery: recovery, Report: func(_ *Server, err error) {
		select {
		case p.reports <- err:
		default:
		}
	}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		prober.Run(ctx, func() { close(p.first) })
	}()
	t.Cleanup(func() {
		cancel()
		within(t, ended, "the prober's end")
	})
	return p
}

// getsNotes asks for what proxies note on a server of itself.
const getsNotes = "gets " + LifeKey + " " + LackingKey

// lifeServer answers as a memcached in one life does to a prober.
type lifeServer struct {
	mu    sync.Mutex
	life  Life
	items int    // of clients
	note  string // under LifeKey
	lacks bool   // it holds LackingKey
	value bool   // the next line is one
	store string // the answer to a set
	seen  func(line string)
}

func (l *lifeServer) answer(line string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen != nil {
		l.seen(line)
	}
	if l.value {
		l.value = false
		if l.store != "" {
			return l.store
		}
		l.note = line
		return "STORED"
	}
	switch {
	case line == "stats":
		held := l.items
		if l.note != "" {
			held++
		}
		if l.lacks {
			held++
		}
		return fmt.Sprintf("STAT pid %d\r\nSTAT uptime 50\r\nSTAT time %d\r\nSTAT version 1.6.18\r\nSTAT curr_items %d\r\nEND", l.life.PID, l.life.Start+50, held)
	case line == getsNotes:
		answer := ""
		if l.note != "" {
			answer = fmt.Sprintf("VALUE %s 0 %d 5\r\n%s\r\n", LifeKey, len(l.note), l.note)
		}
		if l.lacks {
			answer += fmt.Sprintf("VALUE %s 0 1 6\r\nx\r\n", LackingKey)
		}
		return answer + "END"
	case strings.HasPrefix(line, "set "+LifeKey+" 0 0 "):
		l.value = true
		return ""
	case strings.HasPrefix(line, "flush_all"):
		if line == "flush_all" {
			l.note, l.items = "", 0
		}
		return "OK"
	}
	return healthy(line)
}

// What was decided is carried out, in an order in which nothing is lost: first
// flushed, then the note of the life is set, and only then does the server
// serve.
//
// promise: C6, C7, C11
func TestVerdicts(t *testing.T) {
	const set = "set __magent__:life 0 0 15|4711-1700000000"
	for _, c := range []struct {
		name    string
		dirty   bool
		v       Verdict
		lines   string // sent behind the questions
		flushes uint64
	}{
		{"nothing was missed", false, Verdict{To: Up, Why: "it has all"}, set, 0},
		{"keys were missed", true, Verdict{To: Warming, Why: "it is replayed"}, set, 0},
		{"it is empty", false, Verdict{To: Warming, Why: "it is empty"}, set, 0},
		{"it must be flushed", true, Verdict{Flush: true, To: Warming, Why: "flushed"}, "flush_all|" + set, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p *probed
			ready := make(chan struct{})
			early := false
			l := &lifeServer{life: testLife, items: 3, seen: func(string) {
				<-ready
				early = early || p.Serves()
			}}
			f := newFakeServer(t, "127.0.0.1:0", l.answer)
			recovery := &fakeRecovery{decide: func(*Server, Return) Verdict { return c.v }}
			p = probeWith(t, addressAt(f.at()), recovery, func(s *Server) {
				if c.dirty {
					s.Miss()
				}
			})
			close(ready)
			p.awaitUp(t)
			returns, restored, served := recovery.seen()
			if early || served {
				t.Error("it served before it was what it should be")
			}
			if len(returns) != 1 || returns[0] != (Return{Life: testLife}) {
				t.Errorf("returned %+v", returns)
			}
			if len(restored) != 1 || restored[0] != c.v {
				t.Errorf("restored %+v, want %+v once", restored, c.v)
			}
			lines := slices.DeleteFunc(f.all(), func(line string) bool { return line == "stats settings" })
			if got := strings.Join(lines[max(slices.Index(lines, getsNotes), 0):], "|"); got != getsNotes+"|"+c.lines {
				t.Errorf("the server got %q, want %q", lines, c.lines)
			}
			state, _ := p.Load()
			if state != c.v.To || p.awaitLast(t, c.v.To).Why != c.v.Why || p.Flushes.Load() != c.flushes {
				t.Errorf("%v, %+v, %d flushes; want %+v", state, p.last(), p.Flushes.Load(), c.v)
			}
			if life, ok := p.Life(); !ok || life != testLife {
				t.Errorf("life %v, %v", life, ok)
			}
			if clock := testLife.Start + 50; p.Clock()-clock > int64(patience/time.Second) || p.Clock() < clock-1 {
				t.Errorf("its clock is %d, want %d", p.Clock(), clock)
			}
		})
	}
}

// A server that must wait is asked nothing that changes it, and the decision
// is made anew each time.
//
// promise: C6
func TestVerdictToWait(t *testing.T) {
	l := &lifeServer{life: testLife}
	f := newFakeServer(t, "127.0.0.1:0", l.answer)
	asked := 0
	recovery := &fakeRecovery{decide: func(*Server, Return) Verdict {
		if asked++; asked <= 3 {
			return Verdict{Flush: true, To: Up, Wait: fmt.Sprintf("reason %d", asked)}
		}
		return Verdict{To: Up, Why: "now it may"}
	}}
	p := probeWith(t, addressAt(f.at()), recovery, func(s *Server) { s.Miss() })
	for i := range 3 {
		err := p.report(t, "wait", func(error) bool { return true })
		if !errors.Is(err, ErrNotYet) || !strings.Contains(err.Error(), fmt.Sprintf("reason %d", i+1)) {
			t.Errorf("report %d: %v", i, err)
		}
	}
	p.awaitUp(t)
	if n := f.got("flush_all") + f.got("flush_all 5"); n > 0 {
		t.Errorf("flushed %d times while it had to wait", n)
	}
	if _, restored, _ := recovery.seen(); len(restored) != 1 {
		t.Errorf("restored %+v, want once", restored)
	}
}

// What becomes known while a verdict is carried out makes it void: it is
// decided anew before the server serves.
//
// promise: C6
func TestAMissMakesTheVerdictVoid(t *testing.T) {
	l := &lifeServer{life: testLife}
	f := newFakeServer(t, "127.0.0.1:0", l.answer)
	asked := 0
	recovery := &fakeRecovery{decide: func(s *Server, _ Return) Verdict {
		state, _ := s.Load()
		if asked++; asked == 1 {
			s.Miss() // the first write without it, just now
			return Verdict{To: Up, Why: "it has missed nothing"}
		}
		if state != Dirty {
			t.Errorf("decided anew for a server that is %v", state)
		}
		return Verdict{To: Warming, Why: "it has missed a write"}
	}}
	p := probeWith(t, addressAt(f.at()), recovery, nil)
	p.awaitUp(t)
	if state, _ := p.Load(); state != Warming {
		t.Errorf("%v: %+v", state, p.last())
	}
	if returns, _, _ := recovery.seen(); len(returns) != 2 {
		t.Errorf("decided %d times, want twice", len(returns))
	}
}

// A server that takes no note of its life must not serve: a restart would not
// be noticed.
//
// promise: C6
func TestLifeThatCannotBeNoted(t *testing.T) {
	for answer, part := range map[string]string{
		"SERVER_ERROR out of memory storing object": LifeKey,
		"NOT_STORED": LifeKey,
	} {
		l := &lifeServer{life: testLife, store: answer}
		f := newFakeServer(t, "127.0.0.1:0", l.answer)
		recovery := &fakeRecovery{decide: func(*Server, Return) Verdict { return Verdict{To: Up} }}
		p := probeWith(t, addressAt(f.at()), recovery, nil)
		_ = p.report(t, part, func(err error) bool { return strings.Contains(err.Error(), part) })
		if _, restored, _ := recovery.seen(); p.Serves() || len(restored) > 0 {
			t.Errorf("%s: it serves: %v, restored %v", answer, p.Serves(), restored)
		}
	}
}

// A server whose life cannot be told does not serve.
//
// promise: C6
func TestLifeThatIsNotTold(t *testing.T) {
	for name, answer := range map[string]string{
		"no pid": "STAT uptime 1\r\nSTAT time 5\r\nEND", "an error": "SERVER_ERROR out of memory", "nothing": "END", "another program": "HTTP/1.1 400 Bad Request",
	} {
		f := newFakeServer(t, "127.0.0.1:0", func(line string) string {
			if line == "stats" {
				return answer
			}
			return healthy(line)
		})
		recovery := &fakeRecovery{decide: func(*Server, Return) Verdict { return Verdict{To: Up} }}
		p := probeWith(t, addressAt(f.at()), recovery, nil)
		_ = p.report(t, ErrProtocol.Error(), func(err error) bool { return errors.Is(err, ErrProtocol) })
		if returns, _, _ := recovery.seen(); p.Serves() || len(returns) > 0 {
			t.Errorf("%s: it serves: %v, decided %v", name, p.Serves(), returns)
		}
	}
}

// A refused flush keeps the server out, whatever else was decided.
//
// promise: C6
func TestFlushThatIsRefused(t *testing.T) {
	m := startMemcached(t, "-F")
	recovery := &fakeRecovery{decide: func(*Server, Return) Verdict { return Verdict{Flush: true, To: Warming} }}
	p := probeWith(t, addressAt(m.at), recovery, nil)
	_ = p.report(t, "-F", func(err error) bool { return strings.Contains(err.Error(), "-F") })
	if _, restored, _ := recovery.seen(); p.Serves() || len(restored) > 0 || p.Flushes.Load() > 0 {
		t.Errorf("it serves: %v, restored %v, %d flushes", p.Serves(), restored, p.Flushes.Load())
	}
}

// What a real memcached returns with: empty or not, known or not, and in which
// life.
//
// promise: C6, C7
func TestReturns(t *testing.T) {
	m := startMemcached(t)
	recovery := &fakeRecovery{decide: func(*Server, Return) Verdict { return Verdict{To: Up} }}
	p := probeWith(t, addressAt(m.at), recovery, nil)
	again := func() Return {
		t.Helper()
		before, _, _ := recovery.seen()
		p.TakeOut(false, "for the test")
		p.seeAll()
		p.awaitUp(t)
		now, _, _ := recovery.seen()
		if len(now) == len(before) {
			t.Fatal("it was not decided anew")
		}
		return now[len(now)-1]
	}
	p.awaitUp(t)
	returns, _, _ := recovery.seen()
	life := returns[0].Life
	if returns[0] != (Return{Life: life, Empty: true}) || life.PID != m.cmd.Process.Pid {
		t.Errorf("a new server returned as %+v", returns[0])
	}
	c := dialTest(t, m)
	found, err := c.Gets(LifeKey)
	if err != nil || string(found[LifeKey].Value) != life.String() {
		t.Errorf("the note of its life is %q, %v; want %v", found[LifeKey].Value, err, life)
	}
	if it, _, present, err := c.Item(LifeKey); err != nil || !present || it.TTL != -1 {
		t.Errorf("the note is %+v, %v, %v; want it for ever", it, present, err)
	}
	if r := again(); r != (Return{Life: life, Empty: true, Known: true}) {
		t.Errorf("with nothing but the note it returned as %+v", r)
	}
	mustStore(t, c, "set", "k", "x")
	if r := again(); r != (Return{Life: life, Known: true}) {
		t.Errorf("with an item it returned as %+v", r)
	}
	mustStore(t, c, "set", LackingKey, "x")
	if r := again(); r != (Return{Life: life, Known: true, Lacking: true}) {
		t.Errorf("with the note that it lacks keys it returned as %+v", r)
	}
	if answer := m.ask(t, "delete "+LackingKey); answer != "DELETED" {
		t.Fatal(answer)
	}
	mustStore(t, c, "set", LifeKey, "1-1")
	if r := again(); r != (Return{Life: life}) {
		t.Errorf("with the note of another life it returned as %+v", r)
	}
	if answer := m.ask(t, "delete "+LifeKey); answer != "DELETED" {
		t.Fatal(answer)
	}
	if r := again(); r != (Return{Life: life}) {
		t.Errorf("without the note it returned as %+v", r)
	}
	if answer := m.ask(t, "flush_all"); answer != "OK" {
		t.Fatal(answer)
	}
	// memcached counts what was flushed until it is looked at.
	if _, err := c.Gets("k", LifeKey); err != nil {
		t.Fatal(err)
	}
	if r := again(); r != (Return{Life: life, Empty: true}) {
		t.Errorf("flushed it returned as %+v", r)
	}
}

// The flush of a real memcached leaves the note that follows it at once.
//
// promise: C6
func TestTheNoteOutlivesTheFlush(t *testing.T) {
	m := startMemcached(t)
	c := dialTest(t, m)
	mustStore(t, c, "set", "k", "x")
	recovery := &fakeRecovery{decide: func(*Server, Return) Verdict { return Verdict{Flush: true, To: Warming} }}
	p := probeWith(t, addressAt(m.at), recovery, nil)
	p.awaitUp(t)
	life, _ := p.Life()
	found, err := c.Gets("k", LifeKey)
	if err != nil || len(found) != 1 || string(found[LifeKey].Value) != life.String() {
		t.Errorf("after the flush it holds %v, %v", found, err)
	}
}

// A server that was started anew while nobody asked it is noticed when a
// connection is lost: it goes out and comes back in its new life.
//
// promise: C6, C7
func TestANewLifeIsNoticed(t *testing.T) {
	l := &lifeServer{life: testLife}
	f := newFakeServer(t, "127.0.0.1:0", l.answer)
	recovery := &fakeRecovery{decide: func(*Server, Return) Verdict { return Verdict{To: Up} }}
	p := probeWith(t, addressAt(f.at()), recovery, nil)
	p.awaitUp(t)
	stats := f.got("stats")
	p.Check()
	eventually(t, "its life was asked for", func() bool { return f.got("stats") > stats })
	p.Check()
	eventually(t, "and once more", func() bool { return f.got("stats") > stats+1 })
	if p.Outages.Load() != 0 {
		t.Fatal("the same life was taken out")
	}
	l.mu.Lock()
	l.life, l.note = Life{PID: 4712, Start: testLife.Start}, ""
	l.mu.Unlock()
	p.Check()
	eventually(t, "it was taken out", func() bool { return p.Outages.Load() == 1 })
	p.seeAll()
	p.awaitUp(t)
	returns, _, _ := recovery.seen()
	if r := returns[len(returns)-1]; len(returns) != 2 || r != (Return{Life: Life{4712, testLife.Start}, Empty: true}) {
		t.Errorf("returned %+v", returns)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.changes[1]; c.From != Up || c.To != Down || !strings.Contains(c.Why, ErrNewLife.Error()) {
		t.Errorf("change %+v", c)
	}
}
