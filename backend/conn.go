package backend

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"magent/proxy/engine"
	"magent/proxy/protocol"
)

const greetingRequest = "get " + LifeKey + "\r\n"

const (
	groupLimit = 64       // keys of one get: more make the server's answer late
	restLimit  = 32 << 10 // a longer answer gets a buffer of its own
)

// Limits are the bounds that every connection keeps to.
type Limits struct {
	Connect  time.Duration // to reach the server
	Answer   time.Duration // until the first byte of an answer
	Failures int           // unanswered reads in a row that take the server out
	MaxValue int           // bytes of the largest value believed
}

// Conn is one loop's connection to a server. It connects by itself when there
// is something to send.
type Conn struct {
	Server *Server

	loop   *engine.Loop
	index  int // of the loop
	owner  Owner
	limits *Limits
	epoch  uint64

	fd         int // -1: none
	connected  bool
	greeting   string // what the server has to answer before anything else, "" when it has
	generation int    // counts connections

	out       engine.Output
	group     group
	run       run
	unflushed bool // something was queued since the last Flush

	head, tail *Call // no answer yet, in the order of their requests
	waiting    int

	rest      []byte // of an answer that is not whole
	large     []byte // a large answer, read straight into its buffer
	largeLen  int
	header    protocol.ValueHeader
	complaint []byte // of a set in the run that is being answered
	fences    *Call  // free ones
	endDue    bool   // the values of a group are here, its END is not

	progress int64 // when the server last did what it should
	timer    engine.Timer
}

// NewConn returns a connection that is not made yet. index is the place of
// the loop among the proxy's loops.
func NewConn(s *Server, loop *engine.Loop, index int, owner Owner, limits *Limits) *Conn {
	c := &Conn{Server: s, loop: loop, index: index, owner: owner, limits: limits, fd: -1}
	c.timer.Func = c.checkProgress
	_, c.epoch = s.Load()
	s.seen[index].Store(c.epoch)
	return c
}

// Waiting is the number of calls that have no answer yet.
func (c *Conn) Waiting() int { return c.waiting + c.group.count + c.run.count }

// Unsent is the number of bytes that the server has not taken.
func (c *Conn) Unsent() int { return c.out.Len() }

// Unflushed tells whether something was queued since the last Flush.
func (c *Conn) Unflushed() bool { return c.unflushed || c.group.count > 0 || c.run.count > 0 }

// Sync gives the connection up if the server was taken out since it was made,
// and returns the server's present state. It comes before every decision that
// rests on the state.
func (c *Conn) Sync() State {
	state, epoch := c.Server.Load()
	if epoch != c.epoch {
		c.epoch = epoch
		if c.fd >= 0 || c.Waiting() > 0 {
			c.fail(ErrTakenOut)
		}
		c.Server.seen[c.index].Store(epoch)
	}
	return state
}

// Begin and End add the bytes of a request, behind all that was queued; see
// engine.Output. Queue follows.
func (c *Conn) Begin(need int) []byte {
	c.closeRun()
	return c.out.Begin(&c.loop.Pool, need)
}

// End takes over what was appended to the slice of Begin.
func (c *Conn) End(b []byte) { c.out.End(&c.loop.Pool, b) }

// Write adds a copy of b to the request.
func (c *Conn) Write(b []byte) { c.out.Write(&c.loop.Pool, b) }

// Link adds b itself to the request. It must not change until the answer.
func (c *Conn) Link(b []byte) { c.out.Link(&c.loop.Pool, b) }

// Queue puts a call behind all others, its request having been added.
func (c *Conn) Queue(call *Call) {
	call.next = nil
	call.last = true
	call.end = c.out.Total()
	c.push(call, call, 1)
}

func (c *Conn) push(first, last *Call, count int) {
	if c.head == nil {
		c.head = first
		c.progress = c.loop.Now()
	} else {
		c.tail.next = first
	}
	c.tail = last
	c.waiting += count
	c.unflushed = true
}

// Flush sends what has been queued, connecting first if need be.
func (c *Conn) Flush() {
	if !c.Unflushed() {
		return
	}
	c.CloseGroup()
	c.unflushed = false
	if c.head == nil {
		return
	}
	if c.fd < 0 {
		c.connect()
		return
	}
	if !c.timer.Armed() {
		c.loop.Arm(&c.timer, c.limits.Answer)
	}
	if c.mayTell() && c.out.Len() > 0 {
		c.send()
	}
}

// mayTell tells whether the server is known to be the one that it was: until it has
// answered the greeting it is sent nothing else. One that was started anew would run
// it, and hold what nobody knows of.
func (c *Conn) mayTell() bool { return c.connected && c.greeting == "" }

func (c *Conn) send() {
	headUnsent := c.head != nil && c.head.end > c.out.Sent()
	sent, errno := c.loop.Send(c.fd, &c.out)
	if errno != 0 {
		c.fail(fmt.Errorf("%w: %w", ErrClosed, errno))
		return
	}
	if sent > 0 && headUnsent {
		c.progress = c.loop.Now()
	}
}

func (c *Conn) connect() {
	to := c.Server.address.Load()
	if to == nil {
		c.fail(fmt.Errorf("%w: the name %s has no address yet", ErrRefused, c.Server.Host))
		return
	}
	fd, err := engine.Connect(*to)
	if err != nil {
		c.Server.refused.Store(errors.Is(err, unix.ECONNREFUSED))
		c.fail(fmt.Errorf("%w: %w", ErrRefused, err))
		return
	}
	if err := c.loop.Register(fd, c); err != nil {
		engine.Close(fd)
		c.fail(fmt.Errorf("%w: %w", ErrRefused, err))
		return
	}
	engine.GiveUpAfter(fd, 2*c.limits.Answer)
	c.fd = fd
	c.generation++
	c.progress = c.loop.Now()
	c.loop.Arm(&c.timer, c.limits.Connect)
}

// Ready is called by the loop.
func (c *Conn) Ready(ev engine.Events) {
	if c.Sync(); c.fd < 0 {
		return
	}
	if !c.connected {
		if !ev.Writable() {
			return
		}
		if err := engine.SocketError(c.fd); err != nil {
			c.Server.refused.Store(errors.Is(err, unix.ECONNREFUSED))
			c.fail(fmt.Errorf("%w: %w", ErrRefused, err))
			return
		}
		c.connected = true
		if !c.greet() {
			return
		}
		c.progress = c.loop.Now()
		c.loop.Arm(&c.timer, c.limits.Answer)
		c.unflushed = true
		c.Flush()
		if c.fd < 0 {
			return
		}
	}
	if ev.Readable() {
		c.receive(ev.Ended())
	}
	if c.fd >= 0 && ev.Writable() && c.mayTell() && c.out.Len() > 0 {
		c.send()
	}
}

// greet proves who magent is to a new connection's server, where that asks, and
// asks for the note of its life, ahead of all that is queued: nothing that
// another life answers is believed.
func (c *Conn) greet() bool {
	var request []byte
	if login := c.Server.login.Load(); login != nil && c.Server.asks.Load() {
		c.greeting = authStored
		request = protocol.AppendAuth(request, AuthKey, *login)
	}
	if want := c.Server.greeting.Load(); want != nil {
		c.greeting += *want
		request = append(request, greetingRequest...)
	}
	if request == nil {
		return true
	}
	if n, err := engine.Write(c.fd, request); err != nil || n != len(request) {
		c.fail(fmt.Errorf("%w: %d bytes sent: %w", ErrClosed, n, err))
		return false
	}
	return true
}

// noNote is the answer to greet of a server that holds no note.
const noNote = "END\r\n"

// greeted takes the answer to greet from the start of in. It returns 0 bytes
// when the answer is not whole.
func (c *Conn) greeted(in []byte) (n int, ok bool) {
	n = min(len(in), len(c.greeting))
	switch {
	case string(in[:n]) != c.greeting[:n] && c.Server.flushesNow():
		// The note is gone with all other items, and what is stored in this second is.
		if n := min(len(in), len(noNote)); string(in[:n]) != noNote[:n] {
			c.fail(ErrNewLife)
			return 0, false
		} else if n < len(noNote) {
			return 0, true
		}
		c.greeting = ""
		return len(noNote), true
	case string(in[:n]) != c.greeting[:n]:
		switch n := min(len(in), len(tooMany)); {
		case !bytes.Equal(in[:n], tooMany[:n]):
			c.fail(c.unwelcome(in))
		case n < len(tooMany):
			return 0, true
		default:
			c.fail(ErrClosed)
		}
		return 0, false
	case n < len(c.greeting):
		return 0, true
	}
	c.greeting = ""
	return n, true
}

// unwelcome is why the greeting is not answered as it should be.
func (c *Conn) unwelcome(in []byte) error {
	switch {
	case strings.HasPrefix(c.greeting, authStored) && !bytes.HasPrefix(in, []byte(authStored)),
		bytes.HasPrefix(in, []byte(protocol.Unauthenticated)):
		return ErrAuth
	}
	return ErrNewLife
}

// receive reads until the socket is empty. toEnd says that a short read is
// not the end of it.
func (c *Conn) receive(toEnd bool) {
	generation := c.generation
	for c.fd >= 0 && c.generation == generation {
		buf := c.loop.Scratch()
		offset := 0
		if c.large != nil {
			buf = c.large[c.largeLen:]
		} else {
			offset = copy(buf, c.rest)
		}
		n, errno := engine.Recv(c.fd, buf[offset:])
		if errno == unix.EAGAIN {
			return
		}
		if errno != 0 {
			c.fail(fmt.Errorf("%w: %w", ErrClosed, errno))
			return
		}
		if n == 0 {
			c.fail(ErrClosed)
			return
		}
		full := n == len(buf)-offset
		c.progressed()
		if c.large != nil {
			if c.largeLen += n; c.largeLen == len(c.large) {
				block := c.large
				c.large, c.largeLen = nil, 0
				if !c.deliver(block, len(block), true) {
					return
				}
			}
		} else if !c.consume(buf[:offset+n], generation) {
			return
		}
		if !full && !toEnd {
			return
		}
	}
}

func (c *Conn) progressed() {
	c.progress = c.loop.Now()
	if c.Server.failures.Load() != 0 {
		c.Server.failures.Store(0)
	}
}

// checkProgress is the timer's: a connection whose server has done nothing
// for too long is given up.
func (c *Conn) checkProgress() {
	if c.fd < 0 || c.head == nil {
		return
	}
	limit := c.limits.Answer
	if !c.connected {
		limit = c.limits.Connect
	}
	idle := time.Duration(c.loop.Now() - c.progress)
	if idle < limit {
		c.loop.Arm(&c.timer, limit-idle)
		return
	}
	if !c.connected {
		c.fail(fmt.Errorf("%w: %w within %v", ErrRefused, ErrTimeout, limit))
		return
	}
	c.fail(fmt.Errorf("%w: nothing for %v", ErrTimeout, limit))
}

// fail gives the connection up and hands its calls to the owner.
func (c *Conn) fail(why error) {
	c.CloseGroup()
	calls := withoutFences(c.head)
	c.head, c.tail, c.waiting = nil, nil, 0
	sent := c.out.Sent()
	c.unflushed = false
	c.out.Drop(&c.loop.Pool)
	c.out = engine.Output{}
	c.rest, c.large, c.largeLen, c.endDue, c.complaint = nil, nil, 0, false, nil
	c.loop.Disarm(&c.timer)
	if c.fd >= 0 {
		c.loop.Unregister(c.fd)
		if c.connected && sent > 0 && calls != nil {
			startDrain(c.Server, c.loop, c.fd, writes(calls))
		} else {
			engine.Close(c.fd)
		}
		c.fd, c.connected, c.greeting = -1, false, ""
		c.generation++
	}
	c.owner.ConnFailed(c, calls, why)
}

// writes tells whether one of the calls is a write.
func writes(calls *Call) bool {
	for call := calls; call != nil; call = call.next {
		if call.Write {
			return true
		}
	}
	return false
}

// Failed counts calls that got no answer in time and tells whether the server
// has to be taken out for it.
func (c *Conn) Failed(calls int) bool {
	return int(c.Server.failures.Add(int32(calls))) >= c.limits.Failures
}

// Close ends the connection. It must have no calls.
func (c *Conn) Close() {
	c.loop.Disarm(&c.timer)
	if c.fd >= 0 {
		c.loop.Unregister(c.fd)
		engine.Close(c.fd)
		c.fd, c.connected = -1, false
	}
}
