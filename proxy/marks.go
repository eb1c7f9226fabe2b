package proxy

import (
	"math"
	"strconv"

	"magent/backend"
	"magent/proxy/engine"
	"magent/proxy/protocol"
)

// An item may be marked: as stale, which readers are told, and that one of them
// has been told to fetch it anew, which only the first is (protocol.txt, "Meta
// Get", W, X and Z). Whoever asks with a meta command counts as a reader. So a
// copy brings the marks to where it is made, and what it was told in a client's
// place it gives back.

// itemMark is a command that only changes the marks of an item. Nobody waits for its
// answer. It has the lease of its key's stripe, so that it comes neither before
// nor behind a write that it should not.
type itemMark struct {
	backend.Call
	noSet

	w      *worker
	stripe uint32
	leased bool
}

// markItem queues the command that request appends behind all others on a server. The
// caller has the lease, or nobody has; otherwise nothing is sent.
func (w *worker) markItem(key []byte, hash uint64, at int32, request func(dst []byte, s *backend.Server) []byte) {
	c := w.conns[at]
	if w.frozen && w.writes == 0 {
		return // nothing new is begun
	}
	if !c.Sync().Serves() || !c.Server.HasMeta() {
		return
	}
	stripe := stripeOf(hash)
	if !w.p.leases.take(stripe, w.index) {
		// Behind the writes of the loop that has it.
		holder := w.holder(stripe)
		if holder == w {
			return // it was free in this very moment, and is not any more
		}
		key, command := append([]byte(nil), key...), request(nil, c.Server)
		holder.loop.Post(engine.TaskFunc(func() {
			holder.markItem(key, hash, at, func(dst []byte, _ *backend.Server) []byte { return append(dst, command...) })
		}))
		return
	}
	m := &itemMark{w: w, stripe: stripe, leased: true}
	m.Owner, m.Kind, m.Write = m, backend.Meta, true
	m.Answers = protocol.AnswersTo(protocol.OpDelete)
	m.Key = append([]byte(nil), key...)
	w.writes++
	if c.Asks(hash) {
		c.CloseGroup()
	}
	c.End(request(c.Begin(2*len(key)+128), c.Server))
	c.Queue(&m.Call)
}

// giveBack marks an item as stale once more whose W came to this proxy: the next
// client is told it. token is the item's, which it keeps where the server can.
func (w *worker) giveBack(key []byte, hash uint64, at int32, token uint64) {
	w.markItem(key, hash, at, func(dst []byte, s *backend.Server) []byte {
		keep := token
		if !s.TakesTokens() {
			keep = 0
		}
		return protocol.AppendMetaInvalidate(dst, key, token, keep)
	})
}

// giveBackLater gives back what a copy was told of an item. Where that changes the
// item's token, which the copy goes by, it has to wait for the copy's end.
func (c *keyCopy) giveBackLater(at int32, token uint64) {
	switch {
	case c.w.p.servers[at].TakesTokens(), token == 0: // none at all with -C
		c.w.giveBack(c.Key, c.hash, at, token)
	case at == c.to:
		c.wonTo = token
	default:
		c.wonFrom = token
	}
}

// markTarget gives the copy the marks of its source.
func (c *keyCopy) markTarget(token uint64) {
	c.w.markLike(c.Key, c.hash, c.to, token, c.item.ItemMarks)
}

// giveBack does so when the copy has ended.
func (c *keyCopy) giveBack() {
	if c.wonFrom != 0 {
		c.w.giveBack(c.Key, c.hash, c.from, c.wonFrom)
	}
	taken := c.item.Sent && !c.item.Won // a client has been told so by the other server meanwhile
	if c.wonTo != 0 && !c.replaced && !taken {
		c.w.giveBack(c.Key, c.hash, c.to, c.wonTo)
	}
}

// markLike gives an item that was just copied the marks of its source.
func (w *worker) markLike(key []byte, hash uint64, at int32, token uint64, marks protocol.ItemMarks) {
	sent := marks.Sent && !marks.Won
	if marks.Stale {
		w.giveBack(key, hash, at, token)
	}
	if !sent {
		return
	}
	w.markItem(key, hash, at, func(dst []byte, _ *backend.Server) []byte {
		dst = protocol.AppendMetaStart(dst, "mg ", key)
		if !marks.Stale { // whoever fetches it before it ends is told so
			dst = strconv.AppendInt(append(dst, " R"...), math.MaxInt32, 10)
		}
		return append(dst, lineEnd...)
	})
}

// won has the backup told that a client of the primary is to fetch an item anew,
// so that it tells no other one.
func (w *worker) won(r *request, line []byte) {
	if r.Write || r.backup < 0 || r.at != r.primary || !protocol.IsWon(line) {
		return
	}
	w.markItem(r.key(), r.hash, r.backup, func(dst []byte, s *backend.Server) []byte { return r.appendRaw(dst, s, true) })
}

func (m *itemMark) done() {
	if !m.leased {
		return
	}
	m.leased = false
	m.w.p.leases.give(m.stripe)
	m.w.beginCopies(m.stripe)
	m.w.writeEnded()
}

// Answered is told a line (backend.Receiver).
func (m *itemMark) Answered([]byte, protocol.Answer, uint64) { m.done() }

// Found is told a value (backend.Receiver).
func (m *itemMark) Found([]byte, *protocol.ValueHeader, bool) { m.done() }

// Missed says that there is no such item (backend.Receiver).
func (m *itemMark) Missed() { m.done() }
