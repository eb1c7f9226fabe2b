package proxy

import (
	"bytes"
	"hash/fnv"

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
	case header != nil && c.block != nil && bytes.Equal(value, c.value()) && header.Flags == c.item.Flags && header.Stale == c.item.Stale && sameExpiry(header.TTL, c.left()) &&
		(header.CAS == c.item.CAS || !backend.IsChosen(c.item.CAS) || !c.w.p.servers[c.to].TakesTokens()):
	case c.block == nil && c.look.sample:
		// The primary may have evicted it.
	case !c.w.differs(c.look, c.versions(value, header)):
	case c.block == nil:
		c.remove()
		return
	default:
		c.store()
		return
	}
	c.end(true)
}

// versions tell whether either copy is still the same at the next look: their
// tokens, 0 for none.
func (c *keyCopy) versions(value []byte, header *protocol.ValueHeader) (both [2]uint64) {
	if c.block != nil {
		both[0] = c.version(c.from, &c.item, c.value())
	}
	if header != nil {
		both[1] = c.version(c.to, header, value)
	}
	return both
}

// version is the token of an item, or, where it changes with each look, made of its
// value.
func (c *keyCopy) version(at int32, header *protocol.ValueHeader, value []byte) uint64 {
	if !header.Stale || c.w.p.servers[at].TakesTokens() {
		return header.CAS
	}
	h := fnv.New64a()
	_, _ = h.Write(value)
	return h.Sum64()
}
