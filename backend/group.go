package backend

import (
	"magent/proxy/protocol"
)

// group is a get that is still open: keys of any clients join it until it is
// sent, so that the server answers many of them with one packet. Writes of
// other keys may pass it.
type group struct {
	first, last *Call
	count       int
	verb        protocol.Op
	filter      [filterWords]uint64 // which keys may be in it, by their hashes
}

const filterWords = 32

// Get puts a call for call.Key, whose hash is given, into the open group. verb
// is OpGet or OpGets.
func (c *Conn) Get(call *Call, verb protocol.Op, hash uint64) {
	g := &c.group
	if g.count > 0 && (g.verb != verb || g.count >= groupLimit) {
		c.CloseGroup()
	}
	g.filter[hash>>6%filterWords] |= 1 << (hash % 64)
	call.next = nil
	if g.count == 0 {
		g.first, g.verb = call, verb
	} else {
		g.last.next = call
	}
	g.last = call
	g.count++
}

// Asks tells whether the open group may hold a key with this hash. A write of
// that key comes after CloseGroup.
func (c *Conn) Asks(hash uint64) bool {
	return c.group.count > 0 && c.group.filter[hash>>6%filterWords]&(1<<(hash%64)) != 0
}

// CloseGroup turns the open group into a request behind all others, the open
// run of sets included.
func (c *Conn) CloseGroup() {
	c.closeRun()
	g := &c.group
	if g.count == 0 {
		return
	}
	b := c.out.Begin(&c.loop.Pool, 512)
	b = protocol.AppendGetStart(b, g.verb)
	for call := g.first; call != nil; call = call.next {
		if cap(b)-len(b) < len(call.Key)+3 {
			c.out.End(&c.loop.Pool, b)
			b = c.out.Begin(&c.loop.Pool, 512)
		}
		b = protocol.AppendKey(b, call.Key)
		call.last = false
	}
	b = protocol.AppendGetEnd(b)
	c.out.End(&c.loop.Pool, b)
	g.last.last = true
	end := c.out.Total()
	for call := g.first; call != nil; call = call.next {
		call.end = end
	}
	first, last, count := g.first, g.last, g.count
	*g = group{}
	c.push(first, last, count)
}
