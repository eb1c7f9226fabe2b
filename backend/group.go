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

const (
	filterWords = 32
	metaRoom    = 192 // bytes of most meta requests besides their key
)

// Get puts a call for call.Key, whose hash is given, into the open group. verb
// is OpGet or OpGets, or OpMetaGet for a call whose owner writes the request
// itself: those are sent together too, but each is answered by itself.
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
	if g.verb == protocol.OpMetaGet {
		c.closeMetaGroup()
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

// closeMetaGroup sends the open group, each request by itself.
func (c *Conn) closeMetaGroup() {
	first, last, count := c.group.first, c.group.last, c.group.count
	c.group = group{}
	for call := first; call != nil; call = call.next {
		b := c.out.Begin(&c.loop.Pool, len(call.Key)+metaRoom)
		c.out.End(&c.loop.Pool, call.Owner.Request(b))
		call.last = true
		call.end = c.out.Total()
	}
	c.push(first, last, count)
}
