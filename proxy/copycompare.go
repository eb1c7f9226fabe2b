package proxy

import (
	"bytes"

	"magent/backend"
	"magent/proxy/protocol"
)

// lookAtTarget asks for what the target holds.
func (c *keyCopy) lookAtTarget() {
	conn := c.target()
	if conn == nil {
		c.end(false)
		return
	}
	c.step = copyLook
	c.Kind = backend.Item
	conn.End(protocol.AppendMetaCopy(conn.Begin(2*len(c.Key)+32), c.Key))
	conn.Queue(&c.Call)
}

// compareWith is told what the target holds, nothing when header is nil.
func (c *keyCopy) compareWith(value []byte, header *protocol.ValueHeader) {
	switch {
	case header == nil && c.block == nil:
	case header != nil && c.block != nil && bytes.Equal(value, c.value()) && header.Flags == c.item.Flags && header.Stale == c.item.Stale && sameExpiry(header.TTL, c.item.TTL) &&
		(header.CAS == c.item.CAS || !backend.IsChosen(c.item.CAS) || !c.w.p.servers[c.to].TakesTokens()):
	case c.block == nil && c.look.sample:
		// The primary may have evicted it.
	case !c.w.differs(c.look, [2]uint64{c.item.CAS, tokenOf(header)}):
	case c.block == nil:
		c.remove()
		return
	default:
		c.store()
		return
	}
	c.end(true)
}

// tokenOf is the token of an item, 0 for none.
func tokenOf(header *protocol.ValueHeader) uint64 {
	if header == nil {
		return 0
	}
	return header.CAS
}

// sameExpiry compares what two items have left, in seconds. Each server rounds
// for itself.
func sameExpiry(a, b int64) bool {
	if a < 0 || b < 0 {
		return a < 0 && b < 0
	}
	return max(a-b, b-a) <= 2
}
