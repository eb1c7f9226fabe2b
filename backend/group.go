package backend

import (
	"magent/proxy/protocol"
)

// group is a get that is still open: keys of any clients join it until it is
// sent, so that the server answers many of them with one packet.
type group struct {
	first, last *Call
	count       int
	verb        protocol.Op
	opened      uint64
}

// Get puts a call for call.Key into the open group. verb is OpGet or OpGets.
// now is a number that grows with every call of Get on this loop; GroupSince
// compares with it.
func (c *Conn) Get(call *Call, verb protocol.Op, now uint64) {
	g := &c.group
	if g.count > 0 && (g.verb != verb || g.count >= groupLimit) {
		c.CloseGroup()
	}
	call.next = nil
	if g.count == 0 {
		g.first, g.verb, g.opened = call, verb, now
	} else {
		g.last.next = call
	}
	g.last = call
	g.count++
}

// GroupSince tells whether the open group may hold a call that joined when
// Get was given the number joined.
func (c *Conn) GroupSince(joined uint64) bool { return c.group.count > 0 && joined >= c.group.opened }

// CloseGroup turns the open group into a request behind all others. A write
// of a client that has a key in the group must come after it.
func (c *Conn) CloseGroup() {
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
