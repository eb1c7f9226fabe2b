package backend

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/proxy/engine"
	"magent/proxy/protocol"
)

// runLoop runs a loop until the test ends. do runs a function on it and waits.
func runLoop(t testing.TB) (l *engine.Loop, do func(func())) {
	t.Helper()
	l, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	return l, startLoop(t, l, func() {})
}

func startLoop(t testing.TB, l *engine.Loop, flush func()) (do func(func())) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(endTurn(func() time.Duration {
			flush()
			return -1
		}))
	}()
	t.Cleanup(func() {
		l.Post(engine.TaskFunc(l.Stop))
		within(t, ended, "the end of the loop")
	})
	return func(f func()) {
		t.Helper()
		done := make(chan struct{})
		l.Post(engine.TaskFunc(func() {
			f()
			close(done)
		}))
		within(t, done, "a task")
	}
}

// tcpPair returns a connection of which the near end is for a loop.
func tcpPair(t testing.TB) (here int, there *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	here, err = engine.Connect(listener.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return here, conn.(*net.TCPConn)
}

// live is a Conn on a running loop. What its calls are told comes through
// channels.
type live struct {
	t      *testing.T
	loop   *engine.Loop
	do     func(func())
	server *Server
	conn   *Conn
	limits Limits
	failed chan error
	told   chan string
	lost   chan int // calls in a failure
}

func newLive(t *testing.T, s *Server, limits Limits) *live {
	t.Helper()
	loop, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	v := &live{t: t, loop: loop, server: s, limits: limits, failed: make(chan error, 100), told: make(chan string, 10_000), lost: make(chan int, 100)}
	v.conn = NewConn(s, loop, 0, v, &v.limits)
	v.do = startLoop(t, loop, v.conn.Flush)
	t.Cleanup(func() { v.do(v.conn.Close) })
	return v
}

// ConnFailed passes the failure on (Owner).
func (v *live) ConnFailed(_ *Conn, calls *Call, why error) {
	n := 0
	for ; calls != nil; calls = calls.Next() {
		n++
	}
	v.lost <- n
	v.failed <- why
}

type liveCall struct {
	Call
	v    *live
	data []byte
}

// Answered passes a line on (Receiver).
func (c *liveCall) Answered(line []byte, _ protocol.Answer, _ uint64) { c.v.told <- string(line) }

// Found passes a value on (Receiver).
func (c *liveCall) Found(block []byte, h *protocol.ValueHeader, _ bool) {
	c.v.told <- string(block[h.Len : len(block)-2])
}

// Missed passes a miss on (Receiver).
func (c *liveCall) Missed() { c.v.told <- "miss" }

// SetHeader writes the line of a set (Receiver).
func (c *liveCall) Request(dst []byte) []byte { return dst }

func (c *liveCall) SetHeader(dst []byte, quiet bool) []byte {
	if quiet {
		return protocol.AppendQuietSet(dst, c.Key, 0, 0, len(c.data)-2)
	}
	return protocol.AppendStorage(dst, protocol.OpSet, c.Key, 0, 0, len(c.data)-2, 0)
}

// SetValue is the value of a set (Receiver).
func (c *liveCall) SetValue() []byte { return c.data }

// Uncertain passes a complaint on (Receiver).
func (c *liveCall) Uncertain(line []byte) { c.v.told <- "uncertain: " + string(line) }

// get asks for keys; it runs on the loop.
func (v *live) get(keys ...string) {
	v.conn.Sync() // as whoever asks a server does
	for _, key := range keys {
		c := &liveCall{v: v}
		c.Owner, c.Kind, c.Key = c, Value, []byte(key)
		v.conn.Get(&c.Call, protocol.OpGet, hashOf(key))
	}
}

// set sets a key; it runs on the loop.
func (v *live) set(key, value string) {
	c := &liveCall{v: v, data: []byte(value + "\r\n")}
	c.Owner, c.Write, c.Key = c, true, []byte(key)
	v.conn.Set(&c.Call)
}

// line sends a request with an answer of one line; it runs on the loop.
func (v *live) line(op protocol.Op, request string) {
	c := &liveCall{v: v}
	c.Owner, c.Write, c.Answers = c, true, protocol.AnswersTo(op)
	v.conn.End(append(v.conn.Begin(len(request)), request...))
	v.conn.Queue(&c.Call)
}

// impatient queues requests that get no answer, waits for that no longer than
// shortly, and returns why the connection failed and how many calls with it.
// Everything else has all the time that it needs: the machine may be busy.
func (v *live) impatient(f func()) (calls int, why error) {
	v.t.Helper()
	limit := func(d time.Duration) {
		v.loop.Disarm(&v.conn.timer)
		v.limits.Answer = d
	}
	v.do(func() {
		limit(shortly)
		f()
	})
	why = within(v.t, v.failed, "the failure")
	v.do(func() { limit(patience) })
	return <-v.lost, why
}

const shortly = 50 * time.Millisecond

func (v *live) wantTold(want ...string) {
	v.t.Helper()
	for _, w := range want {
		if got := within(v.t, v.told, "an answer"); got != w {
			v.t.Errorf("told %.60q, want %.60q", got, w)
		}
	}
}

var patient = Limits{Connect: patience, Answer: patience, Failures: 3, MaxValue: 1 << 30}

// promise: C5
func TestConnectRefused(t *testing.T) {
	s := newUpServer(1)
	to := closedPort(t)
	s.address.Store(&to)
	v := newLive(t, s, patient)
	v.do(func() { v.get("a"); v.set("b", "1") })
	err := within(t, v.failed, "the failure")
	if !errors.Is(err, ErrRefused) || errors.Is(err, ErrTimeout) || !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("failed with %v", err)
	}
	if n := <-v.lost; n != 2 {
		t.Errorf("%d calls failed, want 2", n)
	}
	if n := len(s.Draining()); n != 0 {
		t.Errorf("%d connections are draining", n)
	}
}

// promise: C5
func TestConnectNeverAnswered(t *testing.T) {
	s := newUpServer(1)
	to := silentPort(t)
	s.address.Store(&to)
	limits := patient
	limits.Connect = 60 * time.Millisecond
	v := newLive(t, s, limits)
	begin := time.Now()
	v.do(func() { v.get("a") })
	err := within(t, v.failed, "the failure")
	if !errors.Is(err, ErrRefused) || !errors.Is(err, ErrTimeout) {
		t.Errorf("failed with %v", err)
	}
	if took := time.Since(begin); took < limits.Connect {
		t.Errorf("failed after %v, before the limit of %v", took, limits.Connect)
	}
}

// A server whose name was never resolved.
//
// promise: R3
func TestConnectWithoutAnAddress(t *testing.T) {
	s := newUpServer(1)
	s.Host = "cache.example"
	v := newLive(t, s, patient)
	v.do(func() { v.get("a") })
	if err := within(t, v.failed, "the failure"); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "cache.example") {
		t.Errorf("failed with %v", err)
	}
}

// The server accepts and says nothing.
//
// promise: C5
func TestNoAnswer(t *testing.T) {
	f := newFakeServer(t, "127.0.0.1:0", func(line string) string {
		if line == "get first" {
			return "END"
		}
		return ""
	})
	s := newUpServer(1)
	to := f.at()
	s.address.Store(&to)
	v := newLive(t, s, patient)
	v.do(func() { v.get("first") })
	v.wantTold("miss")
	for range 2 {
		begin := time.Now()
		n, err := v.impatient(func() { v.get("a", "b") })
		if !errors.Is(err, ErrTimeout) || errors.Is(err, ErrRefused) {
			t.Errorf("failed with %v", err)
		}
		if took := time.Since(begin); took < shortly {
			t.Errorf("failed after %v, before the limit of %v", took, shortly)
		}
		if n != 2 {
			t.Errorf("%d calls failed, want 2", n)
		}
	}
	// What was abandoned is read to its end; then nothing is left.
	f.close()
	eventually(t, "the abandoned connections are drained", func() bool { return len(s.Draining()) == 0 })
}

// Requests queued before the connection stands are sent when it does.
func TestRequestsBeforeTheConnection(t *testing.T) {
	f := newFakeServer(t, "127.0.0.1:0", func(line string) string {
		if strings.HasPrefix(line, "get") {
			return "END"
		}
		return "STORED"
	})
	s := newUpServer(1)
	to := f.at()
	s.address.Store(&to)
	v := newLive(t, s, patient)
	v.do(func() {
		v.get("a")
		v.conn.Flush() // begins to connect
		v.get("b")
		v.conn.Flush()
		v.line(protocol.OpSet, "x\r\n")
	})
	v.wantTold("miss", "miss", "STORED")
	if got := strings.Join(f.all(), "|"); got != "get a|get b|x" {
		t.Errorf("the server got %q", got)
	}
}
