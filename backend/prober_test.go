package backend

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"magent/proxy/engine"
)

// promise: C5
func TestProberBringsUp(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		f := newFakeServer(t, address, healthy)
		p := probe(t, addressAt(f.at()), 1, quickProbes, nil)
		within(t, p.first, "the first probe")
		p.awaitUp(t)
		if c := p.awaitLast(t, Up); c.From != Down || c.To != Up || !strings.Contains(c.Why, "missed nothing") {
			t.Errorf("change %+v", c)
		}
		if n := f.got("flush_all"); n != 0 || p.Flushes.Load() != 0 {
			t.Errorf("a server that has missed nothing was flushed %d times", n)
		}
		if p.Version() != "1.6.18" {
			t.Errorf("version %q", p.Version())
		}
		if to := p.address.Load(); to == nil || *to != f.at() {
			t.Errorf("connections would be made to %v, want %v", to, f.at())
		}
	}
}

// A server that is taken out comes back by itself.
//
// promise: C5, C10
func TestProberBringsUpAgain(t *testing.T) {
	f := newFakeServer(t, "127.0.0.1:0", healthy)
	p := probe(t, addressAt(f.at()), 1, quickProbes, nil)
	for i := range uint64(5) {
		p.awaitUp(t)
		p.TakeOut(false, "for the test")
		p.seeAll()
		p.awaitUp(t)
		if n := p.Outages.Load(); n != i+1 {
			t.Fatalf("%d outages, want %d", n, i+1)
		}
	}
}

// One that has missed writes is flushed while it is still out.
//
// promise: C6
func TestProberFlushesFirst(t *testing.T) {
	var upAtFlush atomic.Bool
	var p *probed
	ready := make(chan struct{})
	f := newFakeServer(t, "127.0.0.1:0", func(line string) string {
		if <-ready; line == "flush_all" && p.Serves() {
			upAtFlush.Store(true)
		}
		return healthy(line)
	})
	p = probe(t, addressAt(f.at()), 1, quickProbes, func(s *Server) { s.Miss() })
	close(ready)
	p.awaitUp(t)
	if f.got("flush_all") != 1 || p.Flushes.Load() != 1 {
		t.Errorf("flushed %d times, counted %d, want once", f.got("flush_all"), p.Flushes.Load())
	}
	if upAtFlush.Load() {
		t.Error("up before it was flushed")
	}
	if c := p.awaitLast(t, Up); c.From != Dirty || c.To != Up || !strings.Contains(c.Why, "flushed") {
		t.Errorf("change %+v", c)
	}
	if lines := f.all(); lines[0] != "version" {
		t.Errorf("the first question was %q", lines[0])
	}
}

// It misses its first write while it is being probed.
//
// promise: C6
func TestMissWhileProbed(t *testing.T) {
	var p *probed
	ready := make(chan struct{})
	var asked atomic.Int32
	f := newFakeServer(t, "127.0.0.1:0", func(line string) string {
		if <-ready; line == "version" && asked.Add(1) == 1 {
			p.Miss()
		}
		return healthy(line)
	})
	p = probe(t, addressAt(f.at()), 1, quickProbes, nil)
	close(ready)
	p.awaitUp(t)
	if n := f.got("flush_all"); n != 1 {
		t.Errorf("flushed %d times, want once", n)
	}
}

// It is not brought up before every loop has given up what it had to do with
// the server; meanwhile it has to answer.
//
// promise: C6
func TestProberWaitsForAllLoops(t *testing.T) {
	f := newFakeServer(t, "127.0.0.1:0", healthy)
	p := probe(t, addressAt(f.at()), 3, quickProbes, func(s *Server) {
		s.seen[1].Store(0)
		s.Miss()
	})
	eventually(t, "it has been asked ten times", func() bool { return f.got("version") >= 10 })
	if p.Serves() || f.got("flush_all") > 0 {
		t.Errorf("up %v, flushed %d times, although a loop may still use an old connection", p.Serves(), f.got("flush_all"))
	}
	p.seeAll()
	p.awaitUp(t)
}

// An abandoned connection may still hold a write in the server's socket
// buffer. The server works it off before it is flushed, or it would come back
// with it.
//
// promise: C4, C6
func TestProberWaitsForDrains(t *testing.T) {
	f := newFakeServer(t, "127.0.0.1:0", healthy)
	l, do := runLoop(t)
	old, stale := tcpPair(t)
	p := probe(t, addressAt(f.at()), 1, quickProbes, func(s *Server) {
		s.Miss()
		do(func() { startDrain(s, l, old, true) })
	})
	eventually(t, "it has been asked ten times", func() bool { return f.got("version") >= 10 })
	if p.Serves() || f.got("flush_all") > 0 {
		t.Errorf("up %v, flushed %d times, although an old connection is not worked off", p.Serves(), f.got("flush_all"))
	}
	stale.Close() // the server has read all, and sees the end
	p.awaitUp(t)
	if n := f.got("flush_all"); n != 1 {
		t.Errorf("flushed %d times, want once", n)
	}
}

// A connection that is dead without an end does not keep the server out for
// ever: it is reset when the server has answered for a while.
//
// promise: C5
func TestDeadDrainIsReset(t *testing.T) {
	f := newFakeServer(t, "127.0.0.1:0", healthy)
	l, do := runLoop(t)
	old, stale := tcpPair(t)
	p := probe(t, addressAt(f.at()), 1, quickProbes, func(s *Server) {
		s.Miss()
		do(func() { startDrain(s, l, old, true) })
	})
	begin := time.Now()
	eventually(t, "the prober has got an answer", func() bool { return p.answered.Load() != 0 })
	if err := stale.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if _, err := stale.Read(buf); err == nil {
		t.Error("something was sent on an abandoned connection")
	}
	p.awaitUp(t)
	if took := time.Since(begin); took < drainGrace {
		t.Errorf("the abandoned connection was given up after %v, want %v at least", took, drainGrace)
	}
	if n := len(p.Draining()); n != 0 {
		t.Errorf("%d connections are draining", n)
	}
}

// A server that has missed writes and must not be flushed stays out, and the
// reason says what to do.
//
// promise: C6
func TestProberRefusedToFlush(t *testing.T) {
	m := startMemcached(t, "-F")
	p := probe(t, addressAt(m.at), 1, quickProbes, func(s *Server) { s.Miss() })
	for range 3 {
		err := p.report(t, "flush_all", func(err error) bool { return strings.Contains(err.Error(), "flush_all") })
		for _, part := range []string{"missed writes", "CLIENT_ERROR flush_all not allowed", "-F"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", err, part)
			}
		}
	}
	if p.Serves() || p.Flushes.Load() != 0 {
		t.Errorf("up %v, %d flushes", p.Serves(), p.Flushes.Load())
	}
	// It may go on when it has missed nothing.
	clean := probe(t, addressAt(m.at), 1, quickProbes, nil)
	clean.awaitUp(t)
}

// promise: C5
func TestProberReports(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers func(line string) string
		want    error
		text    string
		missed  bool
	}{
		{"another program", func(string) string { return "HTTP/1.1 400 Bad Request" }, ErrProtocol, `"HTTP/1.1 400 Bad Request"`, false},
		{"too many connections", func(string) string { return "ERROR Too many open connections" }, ErrProtocol, "Too many open connections", false},
		{"no answer", func(string) string { return "" }, ErrTimeout, "no answer in time", false},
		{"no answer to flush_all", func(line string) string { return strings.TrimPrefix(healthy(line), "OK") }, ErrTimeout, "no answer in time", true},
		{"an endless line", func(string) string { return strings.Repeat("x", 100_000) }, ErrClosed, "buffer full", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeServer(t, "127.0.0.1:0", c.answers)
			o := quickProbes
			o.Answer = 20 * time.Millisecond
			p := probe(t, addressAt(f.at()), 1, o, func(s *Server) {
				if c.missed {
					s.Miss()
				}
			})
			within(t, p.first, "the first probe")
			t.Log(p.report(t, c.want.Error()+" and "+c.text, func(err error) bool {
				return errors.Is(err, c.want) && strings.Contains(err.Error(), c.text)
			}))
			if p.Serves() {
				t.Error("it is up")
			}
		})
	}
	p := probe(t, addressAt(closedPort(t)), 1, quickProbes, nil)
	within(t, p.first, "the first probe")
	if err := p.report(t, "refused", func(error) bool { return true }); !errors.Is(err, ErrRefused) || errors.Is(err, ErrTimeout) {
		t.Errorf("reported %v, want that it is refused", err)
	}
	o := quickProbes
	o.Connect = 20 * time.Millisecond
	silent := probe(t, addressAt(silentPort(t)), 1, o, nil)
	within(t, silent.first, "the first probe")
	if err := silent.report(t, "refused", func(error) bool { return true }); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("reported %v, want that there was no answer", err)
	}
}

// The pauses between probes double up to a limit, with a jitter of a quarter;
// after a success they begin anew. The clock is the test's.
//
// promise: C5
func TestBackoff(t *testing.T) {
	refused := closedPort(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := NewServer(addressAt(refused), 0, 1, func(*Server, Change) {})
		o := ProbeOptions{Connect: time.Hour, Answer: time.Hour, Min: 50 * time.Millisecond, Max: time.Second}
		probes := make(chan time.Time)
		first := make(chan struct{})
		prober := &Prober{Server: s, Options: o, Report: func(_ *Server, err error) {
			if !errors.Is(err, ErrRefused) {
				t.Errorf("probe: %v", err)
			}
			select {
			case probes <- time.Now():
			case <-ctx.Done():
			}
		}}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			prober.Run(ctx, func() { close(first) })
		}()
		pauses := func(round string, last time.Time) {
			var jitter []float64
			for _, ms := range []int{50, 100, 200, 400, 800, 1000, 1000, 1000} {
				want := time.Duration(ms) * time.Millisecond
				at := <-probes
				pause := at.Sub(last)
				last = at
				if pause < want*3/4 || pause > want*5/4 {
					t.Errorf("%s: a pause of %v, want %v or a quarter less or more", round, pause, want)
				}
				jitter = append(jitter, float64(pause)/float64(want))
			}
			if slices.Min(jitter) == slices.Max(jitter) {
				t.Errorf("%s: no jitter: %v", round, jitter)
			}
		}
		begin := <-probes // at once
		if !begin.Equal(time.Now()) {
			t.Error("the first probe waited")
		}
		<-first
		pauses("at the start", begin)
		// The server comes up without the prober's doing, and goes again.
		s.bringUp(s.word.Load(), Up, "")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		down := time.Now()
		s.TakeOut(false, "")
		if again := <-probes; again.Sub(down) > 0 {
			t.Errorf("the first probe after an outage waited %v", again.Sub(down))
		}
		pauses("after an outage", down)
		cancel()
		<-ended
	})
}

// The prober looks at a server that is up when a connection was lost: one that
// refuses goes out, one that accepts stays.
//
// promise: C5
func TestCheckOfAServerThatIsUp(t *testing.T) {
	f := newFakeServer(t, "127.0.0.1:0", healthy)
	p := probe(t, addressAt(f.at()), 1, quickProbes, nil)
	p.awaitUp(t)
	conns := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.conns)
	}
	before := conns()
	p.Check()
	eventually(t, "it has been looked at", func() bool { return conns() > before })
	p.Check()
	eventually(t, "it has been looked at again", func() bool { return conns() > before+1 })
	if !p.Serves() || p.Outages.Load() != 0 {
		t.Error("a server that accepts was taken out")
	}
	f.close()
	p.Check()
	eventually(t, "it is out", func() bool { return !p.Serves() })
	if c := p.awaitLast(t, Down); c.From != Up || c.To != Down || c.Why == "" {
		t.Errorf("change %+v, want that it is down and has missed nothing", c)
	}
}

// The end of the context ends a prober whatever it is doing.
func TestProberEnds(t *testing.T) {
	never := ProbeOptions{Connect: patience, Answer: time.Hour, Min: time.Hour, Max: time.Hour}
	for name, c := range map[string]struct {
		answer func(string) string
		setUp  func(s *Server)
	}{
		"between probes":  {func(string) string { return "ERROR" }, func(*Server) {}},
		"up":              {healthy, func(*Server) {}},
		"waits for loops": {healthy, func(s *Server) { s.seen[0].Store(0) }},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeServer(t, "127.0.0.1:0", c.answer)
			probe(t, addressAt(f.at()), 1, never, c.setUp)
			eventually(t, "it was asked", func() bool { return f.got("version") > 0 })
		}) // its end waits for the prober's
	}
}

// Drains on a loop: what the end of a connection means.
//
// promise: C6
func TestDrain(t *testing.T) {
	l, do := runLoop(t)
	s := newUpServer(1)
	drained := func() bool { return len(s.Draining()) == 0 }

	// The server answers what it was sent, then sees the end.
	old, there := tcpPair(t)
	do(func() { startDrain(s, l, old, true) })
	if drained() {
		t.Fatal("not counted")
	}
	if n, err := there.Read(make([]byte, 10)); n != 0 || err == nil {
		t.Errorf("read %d bytes, %v; want the end of what is sent", n, err)
	}
	for range 3 {
		if _, err := there.Write(make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		if drained() {
			t.Fatal("over before the server has closed")
		}
	}
	there.Close()
	eventually(t, "the connection is drained", drained)

	// A server that is killed resets the connection: nothing is left to run.
	old, there = tcpPair(t)
	do(func() { startDrain(s, l, old, true) })
	if err := there.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	there.Close()
	eventually(t, "the connection is drained", drained)

	// Two at a time are counted.
	one, thereOne := tcpPair(t)
	two, thereTwo := tcpPair(t)
	do(func() {
		startDrain(s, l, one, true)
		startDrain(s, l, two, true)
	})
	if n := len(s.Draining()); n != 2 {
		t.Errorf("%d are draining, want 2", n)
	}
	thereOne.Close()
	eventually(t, "one is drained", func() bool { return len(s.Draining()) == 1 })
	thereTwo.Close()
	eventually(t, "both are drained", drained)
}

// Who reads only leaves nothing behind that could take effect late.
//
// promise: C6
func TestLate(t *testing.T) {
	l, do := runLoop(t)
	s := newUpServer(1)
	reads, thereReads := tcpPair(t)
	do(func() { startDrain(s, l, reads, false) })
	if s.Late() || s.drained() {
		t.Errorf("late %v, drained %v with reads under way", s.Late(), s.drained())
	}
	writes, thereWrites := tcpPair(t)
	do(func() { startDrain(s, l, writes, true) })
	if !s.Late() {
		t.Error("writes are under way, and nothing may come late")
	}
	thereWrites.Close()
	eventually(t, "no write is under way", func() bool { return !s.Late() })
	thereReads.Close()
	eventually(t, "all is drained", s.drained)
}

// What a server has not taken in time it never gets: the kernel gives that
// connection up. A server that stands still has more in its buffers, so it is
// not trusted before it has answered for a moment.
//
// promise: C6
func TestDrainOfAServerThatTakesNothing(t *testing.T) {
	l, do := runLoop(t)
	s := newUpServer(1)
	fd, _ := tcpPair(t)
	engine.GiveUpAfter(fd, 200*time.Millisecond)
	for { // until neither side's buffer has room
		if n, err := engine.Write(fd, make([]byte, 1<<20)); n <= 0 || err != nil {
			break
		}
	}
	do(func() { startDrain(s, l, fd, true) })
	if !s.Late() {
		t.Fatal("nothing may come late although much is under way")
	}
	eventually(t, "the connection is given up", func() bool { return !s.Late() && len(s.Draining()) == 0 })
	if s.drained() {
		t.Error("a server that has not answered yet is trusted")
	}
	s.answered.Store(time.Now().UnixNano())
	eventually(t, "the server has answered for a moment", s.drained)
}

// The grace counts from the first answer that the prober got in this outage,
// not from an earlier one, and a server that does not answer has all the time
// that it needs.
//
// promise: C6
func TestDrainGrace(t *testing.T) {
	l, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newUpServer(1)
	s.answered.Store(time.Now().Add(-time.Hour).UnixNano()) // of the outage before
	s.TakeOut(true, "")
	old, there := tcpPair(t)
	startDrain(s, l, old, true)
	d := &drain{server: s, loop: l, fd: old}
	d.timer.Func = d.check
	for _, c := range []struct {
		answered time.Time
		over     bool
	}{{time.Time{}, false}, {time.Now(), false}, {time.Now().Add(-drainGrace / 2), false}, {time.Now().Add(-drainGrace - time.Second), true}} {
		if !c.answered.IsZero() {
			s.answered.Store(c.answered.UnixNano())
		}
		d.check()
		if over := d.fd < 0; over != c.over || d.timer.Armed() == over {
			t.Errorf("answered %v ago: over %v, armed %v; want over %v", time.Since(c.answered), over, d.timer.Armed(), c.over)
		}
	}
	if err := there.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := there.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("the server reads %d bytes, %v", n, err)
	}
	if _, err := there.Write([]byte("STORED\r\n")); err == nil {
		t.Error("the connection was closed and not reset: it may still be worked off")
	}
}
