package backend

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/proxy/engine"
	"magent/proxy/protocol"
)

// rig is a Conn on a loop that is not run: the test plays the server at the
// other end of a socket pair and calls what the loop would call, so that
// nothing happens by chance.
type rig struct {
	t      testing.TB
	loop   *engine.Loop
	server *Server
	conn   *Conn
	limits Limits
	peer   int
	log    []string // what owner and receivers were told
	errs   []error  // why the connection failed
	failed func()   // called inside ConnFailed
	anyCAS bool     // the server adds and omits cas tokens as it likes
}

func newRig(t testing.TB) *rig {
	t.Helper()
	loop, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, loop: loop, peer: -1}
	r.limits = Limits{Connect: time.Second, Answer: time.Second, Failures: 3, MaxValue: 1 << 20}
	r.server = newUpServer(1)
	r.conn = NewConn(r.server, loop, 0, r, &r.limits)
	r.attach()
	t.Cleanup(r.finish)
	return r
}

// newUpServer returns a server that is up.
func newUpServer(loops int) *Server {
	s := NewServer(Address{Host: "127.0.0.1", Port: 11211, Weight: 1}, 0, loops, func(*Server, Change) {})
	s.bringUp(s.word.Load(), Up, "")
	return s
}

// attach makes the connection.
func (r *rig) attach() {
	r.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	r.closePeer()
	r.conn.fd, r.peer = fds[0], fds[1]
	r.conn.connected = true
	r.conn.generation++
	if err := r.loop.Register(r.conn.fd, r.conn); err != nil {
		r.t.Fatal(err)
	}
}

// finish ends everything and checks that nothing is left over.
func (r *rig) finish() {
	if r.loop == nil {
		return
	}
	if r.conn.Waiting() > 0 {
		r.conn.fail(errors.New("the test is over"))
	}
	r.conn.Close()
	r.closePeer()
	// The drains see the end of their connections.
	deadline := time.Now().Add(patience)
	r.loop.Run(endTurn(func() time.Duration {
		if len(r.server.Draining()) == 0 || time.Now().After(deadline) {
			r.loop.Stop()
		}
		return time.Millisecond
	}))
	if n := len(r.server.Draining()); n != 0 {
		r.t.Errorf("%d connections are still draining, their other ends are closed", n)
	}
	if r.loop.Pool.Held != 0 || r.conn.waiting != 0 || r.conn.head != nil || r.conn.fd != -1 {
		r.t.Errorf("left over: %d bytes, %d calls, descriptor %d", r.loop.Pool.Held, r.conn.waiting, r.conn.fd)
	}
	r.loop = nil
}

type endTurn func() time.Duration

func (f endTurn) EndTurn() time.Duration { return f() }

func (r *rig) closePeer() {
	if r.peer >= 0 {
		unix.Close(r.peer)
		r.peer = -1
	}
}

// ConnFailed notes the calls that were not answered (Owner).
func (r *rig) ConnFailed(_ *Conn, calls *Call, why error) {
	for call := calls; call != nil; {
		next := call.Next()
		r.note("%s failed", call.Owner.(interface{ called() string }).called())
		call = next
	}
	r.errs = append(r.errs, why)
	if r.failed != nil {
		r.failed()
	}
}

func (r *rig) note(format string, args ...any) { r.log = append(r.log, fmt.Sprintf(format, args...)) }

// told returns what was noted since the last time.
func (r *rig) told() string {
	s := strings.Join(r.log, "; ")
	r.log = nil
	return s
}

func (r *rig) want(told string) {
	r.t.Helper()
	if got := r.told(); got != told {
		r.t.Errorf("told  %q\nwant  %q", got, told)
	}
}

// wantErr checks why the connection failed last.
func (r *rig) wantErr(want error) {
	r.t.Helper()
	if len(r.errs) == 0 || !errors.Is(r.errs[len(r.errs)-1], want) {
		r.t.Errorf("failures %v, want %v", r.errs, want)
	}
}

// testCall is a call that notes what it is told.
type testCall struct {
	Call
	r    *rig
	name string
	then func()
	data []byte // of a set: the value with its line end
}

func (c *testCall) called() string { return c.name }

func (c *testCall) told(format string, args ...any) {
	c.r.note("%s "+format, append([]any{c.name}, args...)...)
	if c.then != nil {
		c.then()
	}
}

// Answered is told a line (Receiver).
func (c *testCall) Answered(line []byte, kind protocol.Answer, number uint64) {
	if kind == protocol.Number {
		c.told("= %d", number)
		return
	}
	c.told("< %.60s", line)
}

// Found is told a VALUE block (Receiver).
func (c *testCall) Found(block []byte, h *protocol.ValueHeader, keep bool) {
	if string(h.Key) != string(c.Key) || len(block) != h.Len+h.Size+2 || !strings.HasPrefix(string(block), "VALUE "+string(c.Key)+" ") ||
		!strings.HasSuffix(string(block), "\r\n") ||
		!c.r.anyCAS && h.HasCAS != strings.HasPrefix(c.name, "gets") {
		c.r.t.Errorf("%s was given %.60q, header %+v", c.name, block, *h)
	}
	value := block[h.Len : len(block)-2]
	if len(value) > 60 {
		sum := 0
		for _, b := range value {
			sum = sum*31 + int(b)
		}
		c.told("found %d bytes %x, kept %v", len(value), uint32(sum), keep)
		return
	}
	c.told("found %q flags %d cas %d", value, h.Flags, h.CAS)
}

// Missed is told that there is no such key (Receiver).
func (c *testCall) Missed() { c.told("missed") }

// SetHeader writes the line of a set (Receiver).
func (c *testCall) Request(dst []byte) []byte { return dst }

func (c *testCall) SetHeader(dst []byte, quiet bool) []byte {
	if quiet {
		return protocol.AppendQuietSet(dst, c.Key, 0, 0, len(c.data)-2)
	}
	return protocol.AppendStorage(dst, protocol.OpSet, c.Key, 0, 0, len(c.data)-2, 0)
}

// SetValue is the value of a set (Receiver).
func (c *testCall) SetValue() []byte { return c.data }

// Uncertain is told that some set of its run failed (Receiver).
func (c *testCall) Uncertain(line []byte) { c.told("uncertain: %.60s", line) }

// set queues a set in the way that the server is known to understand.
func (r *rig) set(name, key, value string) *testCall {
	c := &testCall{r: r, name: name, data: []byte(value + "\r\n")}
	c.Owner, c.Write, c.Key = c, true, []byte(key)
	r.conn.Set(&c.Call)
	return c
}

// hashOf is the hash of a key for Get and Asks.
func hashOf(key string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(key))
	return h.Sum64()
}

// get queues a get, or a gets when the name begins so.
func (r *rig) get(name, key string) *testCall {
	c := &testCall{r: r, name: name}
	c.Owner, c.Kind, c.Key = c, Value, []byte(key)
	verb := protocol.OpGet
	if strings.HasPrefix(name, "gets") {
		verb = protocol.OpGets
	}
	r.conn.Get(&c.Call, verb, hashOf(key))
	return c
}

// send queues a request whose answer is one line, behind all gets so far.
func (r *rig) send(name, request string) *testCall {
	r.conn.CloseGroup()
	return r.queue(name, request)
}

// operations are the names of requests whose answer is not that of a set.
var operations = map[string]protocol.Op{
	"delete": protocol.OpDelete, "incr": protocol.OpIncr, "touch": protocol.OpTouch, "flush": protocol.OpFlushAll,
}

// queue queues a request whose answer is one line; an open group may be sent
// later.
func (r *rig) queue(name, request string) *testCall {
	c := &testCall{r: r, name: name}
	c.Owner, c.Kind, c.Write = c, Line, true
	c.Answers = protocol.AnswersTo(operations[strings.TrimRight(name, "#0123456789")])
	if c.Answers == 0 {
		c.Answers = protocol.AnswersTo(protocol.OpSet)
	}
	r.conn.End(append(r.conn.Begin(len(request)), request...))
	r.conn.Queue(&c.Call)
	return c
}

// gat queues a request whose answer is a value, and that is no part of a group.
func (r *rig) gat(name, key string) *testCall {
	c := &testCall{r: r, name: name}
	c.Owner, c.Kind, c.Write, c.Key = c, Value, true, []byte(key)
	r.conn.End(append(r.conn.Begin(len(key)+8), "gat 0 "+key+"\r\n"...))
	r.conn.Queue(&c.Call)
	return c
}

// requests flushes and returns what the server has got.
func (r *rig) requests() string {
	r.t.Helper()
	r.conn.Flush()
	var all []byte
	for buf := make([]byte, 64<<10); ; {
		n, errno := engine.Recv(r.peer, buf)
		if n == 0 || errno != 0 {
			return string(all)
		}
		all = append(all, buf[:n]...)
		if r.conn.out.Len() > 0 {
			r.conn.Ready(engine.Events(unix.EPOLLOUT))
		}
	}
}

// answer has the server send bytes and the Conn read them.
func (r *rig) answer(s string) {
	r.t.Helper()
	for len(s) > 0 && r.conn.fd >= 0 {
		n, err := unix.Write(r.peer, []byte(s))
		if err != nil && err != unix.EAGAIN {
			r.t.Fatal(err)
		}
		s = s[max(n, 0):]
		r.conn.Ready(engine.Events(unix.EPOLLIN))
	}
}

// end has the server close.
func (r *rig) end() {
	if err := unix.Shutdown(r.peer, unix.SHUT_RDWR); err != nil {
		r.t.Fatal(err)
	}
	if r.conn.fd >= 0 {
		r.conn.Ready(engine.Events(unix.EPOLLIN | unix.EPOLLRDHUP))
	}
}

// age lets time pass: the server has done nothing for so much longer.
func (r *rig) age(d time.Duration) { r.conn.progress -= int64(d) }
