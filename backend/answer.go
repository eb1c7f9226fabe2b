package backend

import (
	"bytes"

	"magent/proxy/protocol"
)

var tooMany = []byte("ERROR Too many open connections")

// consume takes whole answers from the start of in and keeps the rest. It
// returns false when the connection is no longer the one that in came from.
func (c *Conn) consume(in []byte, generation int) bool {
	for len(in) > 0 {
		var n int
		var ok bool
		switch call := c.head; {
		case c.greeting != "":
			if n, ok = c.greeted(in); ok && c.greeting == "" {
				c.unflushed = true
				c.Flush()
			}
		case c.endDue:
			n, ok = c.groupEnd(in)
		case call == nil:
			c.fail(ErrProtocol)
			return false
		case call.quiet:
			n, ok = c.runLine(in)
		case call.Kind == Value && in[0] == 'V':
			n, ok = c.value(in)
		case call.Kind == Item && in[0] == 'V':
			n, ok = c.item(in)
		case call.Kind == Number && in[0] == 'V':
			n, ok = c.number(in)
		case call.Kind == Meta && in[0] == 'V':
			n, ok = c.metaValue(in)
		default:
			n, ok = c.line(in)
		}
		if !ok || c.generation != generation {
			return false
		}
		if n == 0 {
			break
		}
		in = in[n:]
	}
	if len(in) == 0 {
		c.rest = c.rest[:0]
		return true
	}
	c.rest = append(c.rest[:0], in...)
	return true
}

// value takes a VALUE block. It returns 0 bytes when the block is not whole.
func (c *Conn) value(in []byte) (n int, ok bool) {
	h := &c.header
	switch protocol.ParseValue(in, h) {
	case protocol.Incomplete:
		return 0, true
	case protocol.Malformed:
		c.fail(ErrProtocol)
		return 0, false
	}
	return c.block(in)
}

// parseItem reads a meta header. whole is false when it has not all come, or,
// with ok false, when the connection was given up for it.
func (c *Conn) parseItem(in []byte) (it protocol.Item, whole, ok bool) {
	switch protocol.ParseItem(in, &it) {
	case protocol.Incomplete:
		return it, false, true
	case protocol.Malformed:
		c.fail(ErrProtocol)
		return it, false, false
	}
	return it, true, true
}

// item takes the answer to a meta get of one key.
func (c *Conn) item(in []byte) (n int, ok bool) {
	it, whole, ok := c.parseItem(in)
	if !whole {
		return 0, ok
	}
	c.header = protocol.ValueHeader{Key: c.head.Key, Flags: it.Flags, Size: it.Size, CAS: it.CAS, HasCAS: true, TTL: it.TTL, Len: it.Len, ItemMarks: it.ItemMarks}
	return c.block(in)
}

// metaValue takes the answer to a meta command whose flags the client reads.
func (c *Conn) metaValue(in []byte) (n int, ok bool) {
	size, length, status := protocol.ParseMetaValue(in)
	switch status {
	case protocol.Incomplete:
		return 0, true
	case protocol.Malformed:
		c.fail(ErrProtocol)
		return 0, false
	}
	c.header = protocol.ValueHeader{Key: c.head.Key, Size: size, Len: length}
	return c.block(in)
}

// number takes the answer to a meta arithmetic command.
func (c *Conn) number(in []byte) (n int, ok bool) {
	it, whole, ok := c.parseItem(in)
	if !whole {
		return 0, ok
	}
	line, n, kind, number := protocol.ParseLine(in[it.Len:])
	if n == 0 && len(in)-it.Len < it.Size+len("\r\n") {
		return 0, true
	}
	if kind != protocol.Number || len(line) != it.Size || n != it.Size+len("\r\n") {
		c.fail(ErrProtocol)
		return 0, false
	}
	generation := c.generation
	call := c.head
	call.Token = it.CAS
	c.pop()
	call.Owner.Answered(line, kind, number)
	return it.Len + n, c.generation == generation
}

// block takes a header and its value once they are whole.
func (c *Conn) block(in []byte) (n int, ok bool) {
	h := &c.header
	if h.Size > c.limits.MaxValue {
		c.fail(ErrProtocol)
		return 0, false
	}
	total := h.Len + h.Size + 2
	if len(in) < total {
		if total > restLimit {
			c.large = make([]byte, total)
			c.largeLen = copy(c.large, in)
			return len(in), true
		}
		return 0, true
	}
	return total, c.deliver(in[:total], total, false)
}

// deliver hands a whole VALUE block to the call that asked for its key. Calls
// before it were skipped by the server: it does not hold their keys.
func (c *Conn) deliver(block []byte, total int, keep bool) bool {
	h := &c.header
	if block[total-2] != '\r' || block[total-1] != '\n' {
		c.fail(ErrProtocol)
		return false
	}
	generation := c.generation
	if call := c.head; call != nil && (call.Kind == Item || call.Kind == Meta) {
		c.pop()
		call.Owner.Found(block, h, keep)
		return c.generation == generation
	}
	if keep { // the header's key aliased a buffer that is gone
		if protocol.ParseValue(block, h) != protocol.Complete {
			c.fail(ErrProtocol)
			return false
		}
	}
	for {
		call := c.head
		if call == nil || call.Kind != Value {
			c.fail(ErrProtocol)
			return false
		}
		if bytes.Equal(call.Key, h.Key) {
			c.endDue = call.last
			c.pop()
			call.Owner.Found(block, h, keep)
			return c.generation == generation
		}
		if call.last {
			c.fail(ErrProtocol)
			return false
		}
		c.pop()
		call.Owner.Missed()
		if c.generation != generation {
			return false
		}
	}
}

// line takes a line: the answer of one call, or what ends a group.
func (c *Conn) line(in []byte) (n int, ok bool) {
	line, n, kind, number, ok := c.parseLine(in)
	if n == 0 || !ok {
		return 0, ok
	}
	if kind == protocol.Error && bytes.HasPrefix(line, tooMany) {
		c.fail(ErrClosed)
		return 0, false
	}
	generation := c.generation
	for last := false; !last; {
		call := c.head
		if call == nil {
			c.fail(ErrProtocol)
			return 0, false
		}
		if !call.understands(kind) {
			c.fail(ErrProtocol) // whatever follows is not to be trusted
			return 0, false
		}
		last = call.last
		c.pop()
		if kind == protocol.End && call.Kind != Meta {
			call.Owner.Missed()
		} else {
			call.Owner.Answered(line, kind, number)
		}
		if c.generation != generation {
			return n, false
		}
	}
	return n, true
}

// understands tells whether a line of this kind can be the call's answer.
func (c *Call) understands(kind protocol.Answer) bool {
	switch kind {
	case protocol.Error, protocol.ClientError, protocol.ServerError:
		return true
	case protocol.End:
		return c.Kind == Value || c.Kind == Item || c.Kind == Meta
	case protocol.Done:
		if c.Kind == Item {
			return true
		}
	}
	if c.Kind == Meta {
		return kind.IsMetaCode() || c.Answers.Has(kind)
	}
	return (c.Kind == Line || c.Kind == Number) && c.Answers.Has(kind)
}

// groupEnd takes the line behind the last value of a group.
func (c *Conn) groupEnd(in []byte) (n int, ok bool) {
	_, n, kind, _, ok := c.parseLine(in)
	if n == 0 || !ok {
		return 0, ok
	}
	if kind != protocol.End && kind != protocol.ServerError {
		c.fail(ErrProtocol)
		return 0, false
	}
	c.endDue = false
	return n, true
}

func (c *Conn) parseLine(in []byte) (line []byte, n int, kind protocol.Answer, number uint64, ok bool) {
	line, n, kind, number = protocol.ParseLine(in)
	if kind == protocol.TooLong {
		c.fail(ErrProtocol)
		return nil, 0, 0, 0, false
	}
	if kind == protocol.ClientError && protocol.AsksForProof(line) {
		c.fail(ErrAuth) // it was started anew, and asks now
		return nil, 0, 0, 0, false
	}
	return line, n, kind, number, true
}

func (c *Conn) pop() {
	call := c.head
	c.head = call.next
	if c.head == nil {
		c.tail = nil
	}
	call.next = nil
	c.waiting--
}
