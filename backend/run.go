package backend

import (
	"magent/proxy/protocol"
)

const (
	runLimit = 256      // sets of one run
	runValue = 2 << 10  // bytes; a larger value travels alone
	linked   = 32 << 10 // bytes; a larger value is not copied
)

// run is a batch of sets that is still open. memcached sends a packet for
// each answer, which costs it more than the set itself; in a run the sets
// answer only when they fail, and one fence behind them answers for all.
//
// A failed set does not say which it was. So the whole run counts as
// uncertain then, and the server is sent no runs any more.
type run struct {
	first, last *Call // last is not in the output yet
	count       int
}

// storedLine is the answer to a set that nobody complained of.
var storedLine = []byte("STORED")

// Set queues a call whose owner describes a plain set: with others in a run
// where the server knows such, otherwise as a command of its own.
func (c *Conn) Set(call *Call) {
	call.Kind = Line
	call.Answers = protocol.AnswersTo(protocol.OpSet)
	if !c.Server.takesRuns() || len(call.Owner.SetValue()) > runValue {
		c.closeRun()
		c.encodeSet(call, false)
		c.Queue(call)
		return
	}
	r := &c.run
	if r.count >= runLimit {
		c.closeRun()
	}
	call.next = nil
	if r.count == 0 {
		r.first = call
	} else {
		c.encodeSet(r.last, true)
		r.last.next = call
	}
	r.last = call
	r.count++
}

func (c *Conn) encodeSet(call *Call, quiet bool) {
	value := call.Owner.SetValue()
	b := c.out.Begin(&c.loop.Pool, 512)
	c.out.End(&c.loop.Pool, call.Owner.SetHeader(b, quiet))
	if len(value) > linked {
		c.out.Link(&c.loop.Pool, value)
	} else {
		c.out.Write(&c.loop.Pool, value)
	}
}

// closeRun ends the open run. Whatever is queued next comes behind it.
func (c *Conn) closeRun() {
	r := c.run
	switch r.count {
	case 0:
		return
	case 1:
		c.run = run{}
		c.encodeSet(r.first, false)
		c.Queue(r.first)
		return
	}
	c.run = run{}
	c.encodeSet(r.last, true)
	fence := c.newFence()
	b := c.out.Begin(&c.loop.Pool, 8)
	c.out.End(&c.loop.Pool, protocol.AppendFence(b))
	r.last.next = fence
	for call := r.first; call != nil; call = call.next {
		call.quiet = call != fence
		call.last = true
		call.end = c.out.Total()
	}
	c.push(r.first, fence, r.count+1)
}

// newFence returns the call behind a run. It has no owner.
func (c *Conn) newFence() *Call {
	f := c.fences
	if f == nil {
		return &Call{}
	}
	c.fences = f.next
	f.next = nil
	return f
}

// runLine takes a line while the first call is a quiet one: the complaint of
// some set of its run, or the answer to the fence.
func (c *Conn) runLine(in []byte) (n int, ok bool) {
	line, n, kind, _, ok := c.parseLine(in)
	if n == 0 || !ok {
		return 0, ok
	}
	if string(line) != protocol.FenceLine {
		if kind != protocol.ServerError && kind != protocol.ClientError && kind != protocol.Error {
			c.fail(ErrProtocol)
			return 0, false
		}
		if c.complaint == nil {
			c.complaint = append([]byte(nil), line...)
		}
		return n, true
	}
	complaint := c.complaint
	c.complaint = nil
	if complaint != nil {
		c.Server.noRuns.Store(true)
	}
	generation := c.generation
	for {
		call := c.head
		quiet := call.quiet
		c.pop()
		if !quiet {
			call.next = c.fences
			c.fences = call
			return n, true
		}
		call.quiet = false
		if complaint != nil {
			call.Owner.Uncertain(complaint)
		} else {
			call.Owner.Answered(storedLine, protocol.Stored, 0)
		}
		if c.generation != generation {
			return n, false
		}
	}
}

// withoutFences takes the fences out of a list of calls.
func withoutFences(calls *Call) *Call {
	first := calls
	for link := &first; *link != nil; {
		if (*link).Owner == nil {
			*link = (*link).next
			continue
		}
		(*link).quiet = false
		link = &(*link).next
	}
	return first
}
