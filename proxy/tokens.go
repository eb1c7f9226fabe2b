package proxy

import (
	"magent/backend"
	"magent/proxy/protocol"
)

// Where both servers of a key take cas tokens (backend.Server.TakesTokens), they
// hold an item under the same one, and what a client got from one holds on the
// other. A write that stores a value brings a token of its own; a number keeps
// the one that the primary gives it, and the backup is told it. Such writes
// travel as meta commands, and their answers are turned back into those of the
// classic ones. touch and gat change no token.
//
// Where one of the two takes none, each chooses its own, and they hold on it
// alone. So do those of values that are too large for the server and are
// written otherwise than by set: see wantsToken.

// tokens makes the tokens of one worker. No two of them are alike, nor are
// those of two workers: below backend.ChosenToken stands the time in ticks, then
// the number of the worker. A proxy numbers its workers from a random number on,
// so that two proxies that write one key in the same tick give it the same token
// only by a rare chance.
type tokens struct {
	id   uint64
	zero int64  // Unix nanoseconds of the loop's clock at its 0
	last uint64 // tick of the last token
}

const (
	tokenIDBits = 13
	tokenTick   = 12         // bits: a tick has 4096 nanoseconds, and 49 bits of them last 73 years
	tokenEpoch  = 1735689600 // Unix seconds; the year 2025 begins
)

func newTokens(id uint64, zero int64) tokens {
	return tokens{id: id & (1<<tokenIDBits - 1), zero: zero - tokenEpoch*1e9}
}

// next returns a token for the time by the loop's clock. When they are asked
// for faster than the time goes, it runs ahead.
func (t *tokens) next(now int64) uint64 {
	t.last = max(t.last+1, uint64(max(t.zero+now, 0))>>tokenTick)
	return backend.ChosenToken | (t.last<<tokenIDBits|t.id)&(backend.ChosenToken-1)
}

// chooseToken gives a write that is about to be sent to a server its token. One
// that runs again keeps it.
func (w *worker) chooseToken(c *backend.Conn, r *request) {
	if !w.wantsToken(c.Server, r) {
		r.token = 0
		return
	}
	if r.given != 0 {
		r.token = r.given
	}
	if r.token == 0 {
		r.token = w.tokens.next(w.loop.Now())
	}
}

func (w *worker) wantsToken(s *backend.Server, r *request) bool {
	if r.backup < 0 || !w.p.servers[r.primary].TakesTokens() || !w.p.servers[r.backup].TakesTokens() || r.classic {
		return false
	}
	switch r.op {
	case protocol.OpSet, protocol.OpIncr, protocol.OpDecr:
		return true
	case protocol.OpInvalidate:
		return r.seen.Has('I') // flag x alone leaves the item its token
	case protocol.OpMetaGet:
		return r.seen.Has('N')
	case protocol.OpAdd, protocol.OpReplace, protocol.OpAppend, protocol.OpPrepend, protocol.OpCas:
		// A meta command for too large a value drops the old item. A classic one
		// keeps it.
		return r.dialect == protocol.Meta || s.HasRoomFor(r.keyLen+len(r.value()))
	}
	return false
}

// oldestToken is older than that of any item but perhaps a server's first.
const oldestToken = 1

// metaSet writes the line of a storage request as a meta command.
func (r *request) metaSet(dst []byte, op protocol.Op, size int, compare uint64, quiet bool) []byte {
	set := protocol.MetaSet{Op: op, Base64: r.base64, Flags: r.flags, Expiry: r.expiry, Size: size, Compare: compare, Compares: r.compares && r.phase == atServer, Quiet: quiet}
	if r.tokened {
		set.Token = r.token
	} else {
		set.Tell = r.tell && r.phase == atServer && !quiet
	}
	if r.storedStale && r.phase == mirroring {
		set.Op, set.Compare, set.Compares, set.Stale = protocol.OpCas, oldestToken, true, true
	}
	if r.hasAppendInitial(op) {
		set.Create, set.Expiry = true, r.initialExpiry
	}
	return protocol.AppendMetaSet(dst, r.key(), &set)
}

var (
	storedLine    = []byte("STORED")
	notStoredLine = []byte("NOT_STORED")
	existsLine    = []byte("EXISTS")
	notFoundLine  = []byte("NOT_FOUND")
	deletedLine   = []byte("DELETED")
)

// hasAppendInitial tells whether an append creates a missing key (meta flag N).
func (r *request) hasAppendInitial(op protocol.Op) bool {
	return (op == protocol.OpAppend || op == protocol.OpPrepend) && r.seen.Has('N')
}

// classicLine is what the classic command would have been answered. Numbers
// and errors are the same in both.
func classicLine(line []byte, kind protocol.Answer) []byte {
	switch kind {
	case protocol.Stored:
		return storedLine
	case protocol.NotStored:
		return notStoredLine
	case protocol.Exists:
		return existsLine
	case protocol.NotFound:
		return notFoundLine
	case protocol.Deleted:
		return deletedLine
	}
	return line
}

// dropped sees to a meta command that failed for want of memory. Unlike a
// classic one it has dropped the old item, whatever the operation: what the
// other server still holds is put back, and the classic command runs behind
// that. It returns false when there is nothing to put back.
func (w *worker) dropped(r *request, kind protocol.Answer) bool {
	switch r.op {
	case protocol.OpAdd, protocol.OpReplace, protocol.OpAppend, protocol.OpPrepend, protocol.OpCas:
	default:
		return false
	}
	if kind != protocol.ServerError || r.dialect == protocol.Meta || r.isBinarySet() || r.classic || r.encoded || r.compares && r.op != protocol.OpCas {
		return false // no classic command can follow
	}
	at, other := r.primary, r.backup
	if r.onTwin {
		at, other = other, at
	}
	from, ok := w.source(r.key(), other, at)
	if !ok || from == nowhere {
		return false
	}
	r.classic, r.meta, r.tokened, r.tell = true, false, false, false
	w.startCopy(r.key(), r.hash, from, at, false, r, nil)
	return true
}

// tokenAt is the token under which a server is to hold a copy, 0 when it has to
// choose one itself.
func (c *keyCopy) tokenAt(target *backend.Server) uint64 {
	source := c.w.p.servers[c.from]
	if !source.TakesTokens() || !target.TakesTokens() {
		return 0
	}
	return target.ServerToken(source.ClientToken(c.item.CAS))
}

// retoken is the command behind an incr or decr on the backup: it has the backup
// hold the new number under the token that the primary gave it. Nothing may come
// between the two, so they are sent together, and the request ends with this
// one's answer.
type retoken struct {
	backend.Call
	lineOnly

	r    *request
	next *retoken // free
}

// retoken queues one behind the command of r.
func (w *worker) retoken(c *backend.Conn, r *request) {
	t := w.retokens
	if t != nil {
		w.retokens = t.next
	} else {
		t = &retoken{}
		t.Owner, t.Kind, t.Write = t, backend.Line, true
		t.Answers = protocol.AnswersTo(protocol.OpAppend)
	}
	t.r = r
	r.retoken = true
	c.End(protocol.AppendRetoken(c.Begin(len(r.key())+64), r.key(), c.Server.ServerToken(r.token)))
	c.Queue(&t.Call)
}

// done gives the command back and returns its request.
func (t *retoken) done() *request {
	r := t.r
	t.r, t.next = nil, r.w.retokens
	r.w.retokens = t
	r.retoken = false
	return r
}

// Answered is told a line (backend.Receiver).
func (t *retoken) Answered(_ []byte, kind protocol.Answer, _ uint64) {
	r := t.done()
	r.w.mirrorEnded(r, r.same && kind == protocol.Done)
}

// failed is told that the connection was lost, and so was perhaps the command
// before this one.
func (t *retoken) failed(why error) {
	r := t.done()
	r.w.doubt(r, r.backup, why.Error())
	r.w.settle(r)
}
