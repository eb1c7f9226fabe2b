package proxy

import (
	"slices"
	"time"

	"magent/backend"
	"magent/proxy/engine"
	"magent/proxy/protocol"
)

// nowhere is the source of a copy that only deletes.
const nowhere = -1

// copyLimit is how often a request has a key copied before it is given up.
const copyLimit = 8

// keyCopy makes one server hold of one key what another holds: value, flags
// and expiry. It has the lease of the key's stripe, begins when the writes of
// the stripe that are under way have ended, and later writes of the key wait
// for it: so it never overwrites what is newer, and a write that races it wins.
//
// There are two kinds. An exact copy overwrites what the target holds, and
// deletes it when the source holds nothing. Any other only adds what the
// target lacks.
type keyCopy struct {
	backend.Call
	noSet

	w         *worker
	hash      uint64
	stripe    uint32
	from, to  int32 // servers; from may be nowhere
	exact     bool
	careful   bool   // another proxy may write the key; see lookFirst
	direct    bool   // nothing is stored; see onlyGets
	token     uint64 // careful: of the target's item, 0 when it had none
	noteTries uint8
	timer     engine.Timer
	compare   bool // exact, but nothing is sent to a target that holds the same
	look      secondLook
	when      uint64 // of the target's journal entry when the copy began
	step      copyStep
	block     []byte // the item as it came, with its line end
	item      protocol.ValueHeader
	fetched   time.Time // when it came
	refused   bool      // the target did not take it
	replaced  bool      // what the target held is gone
	marksDue  bool      // the copy has not got its source's marks yet
	wonFrom   uint64    // token of an item whose W is to be given back when the copy ends; see giveBackLater
	wonTo     uint64

	waiting []*request      // go on when it has ended
	then    []func(ok bool) // told how it ended
}

// copyStep is what a copy waits for.
type copyStep uint8

const (
	copyWait   copyStep = iota // the end of writes under way
	copyFetch                  // the source's item
	copyLook                   // the target's, to compare it
	copyToken                  // the target's token
	copyNotes                  // what is noted there of the source
	copyRest                   // a moment
	copyVerify                 // the source's token, when the copy is there
	copyUndo                   // the target's answer to the delete of a copy that is wrong by now
	copyStore                  // the target's answer to it
	copyDelete                 // the target's answer to a delete
)

// startCopy begins a copy of a key, or joins the one that runs. r goes on when
// it has ended, and then is told how; both may be nil. The caller has made
// sure that no other loop has the lease of the key's stripe.
func (w *worker) startCopy(key []byte, hash uint64, from, to int32, exact bool, r *request, then func(ok bool)) *keyCopy {
	c := w.copies[string(key)]
	running := c != nil
	if !running {
		c = &keyCopy{w: w, hash: hash, stripe: stripeOf(hash), from: from, to: to, exact: exact}
		c.Key = append([]byte(nil), key...)
		c.Owner = c
		if !w.p.leases.take(c.stripe, w.index) {
			panic("a copy without a lease")
		}
		w.copies[string(c.Key)] = c
		w.writes++
		c.when, _ = w.p.journals[to].find(c.Key)
	}
	if r != nil {
		c.wait(r)
	}
	if then != nil {
		c.then = append(c.then, then)
	}
	if !running {
		w.idle[c.stripe]++
		w.pending = append(w.pending, c)
	}
	w.beginCopies(c.stripe)
	return c
}

// wait has a request wait until the copy has ended.
func (c *keyCopy) wait(r *request) {
	r.phase = copying
	c.waiting = append(c.waiting, r)
	if r.leased {
		c.w.idle[c.stripe]++
	}
}

// beginCopies begins the copies whose stripe has no write under way. A lease
// that a copy has, or a request that waits for one, is not under way.
func (w *worker) beginCopies(stripe uint32) {
	for i := 0; i < len(w.pending); i++ {
		c := w.pending[i]
		if c.stripe != stripe || w.p.leases.count(stripe) > w.idle[stripe] {
			continue
		}
		w.pending = slices.Delete(w.pending, i, i+1)
		i = -1 // what follows may have changed the list
		now, missed := w.p.missed(c.to, c.other(), c.Key)
		plain := !w.p.servers[c.to].HasMeta() // it can be told to delete, and no more
		switch c.careful = !w.p.recovery.alone() && !plain; {
		case plain && !protocol.IsTextKey(c.Key):
			c.end(true) // it cannot be told of the key, and is never asked for it
		case plain && (c.exact || c.from == nowhere):
			c.remove()
		case plain:
			c.end(true)
		case c.when != 0 && (!missed || now != c.when):
			c.end(false) // who waits for it looks again what is to be done
		case c.careful && c.from != nowhere && c.onlyGets() && !w.p.recovery.acts(c.to):
			c.direct = true
			c.fetchStanding()
		case c.careful && c.from != nowhere && c.onlyGets() && c.exact && w.p.recovery.late(c.to):
			c.direct = true
			c.lookAtNotes()
		case c.careful:
			c.lookFirst()
		case c.from == nowhere:
			c.remove()
		default:
			c.fetch()
		}
	}
}

// noLongerIdle takes back one lease that was not under way.
func (w *worker) noLongerIdle(stripe uint32) {
	if w.idle[stripe]--; w.idle[stripe] == 0 {
		delete(w.idle, stripe)
	}
}

// fetch asks the source.
func (c *keyCopy) fetch() {
	conn := c.w.conns[c.from]
	if !conn.Sync().Serves() || !conn.Server.HasMeta() {
		c.end(false)
		return
	}
	if conn.Asks(c.hash) {
		conn.CloseGroup()
	}
	c.step = copyFetch
	c.Kind = backend.Item
	conn.End(protocol.AppendMetaCopy(conn.Begin(2*len(c.Key)+32), c.Key))
	conn.Queue(&c.Call)
}

// target returns the connection to the target, nil when it is out.
func (c *keyCopy) target() *backend.Conn {
	conn := c.w.conns[c.to]
	if !conn.Sync().Serves() {
		return nil
	}
	if conn.Asks(c.hash) {
		conn.CloseGroup()
	}
	return conn
}

// Found is told the source's item, or the target's to compare it with
// (backend.Receiver).
func (c *keyCopy) Found(block []byte, header *protocol.ValueHeader, keep bool) {
	if c.step == copyLook {
		if header.Won {
			c.giveBackLater(c.to, header.CAS)
		}
		c.compareWith(block[header.Len:], header)
		return
	}
	if header.Won {
		c.giveBackLater(c.from, header.CAS)
	}
	if !keep {
		block = append([]byte(nil), block...)
	}
	c.block, c.item, c.fetched = block, *header, time.Now()
	c.w.held += int64(len(block))
	if c.compare {
		c.lookAtTarget()
		return
	}
	if !c.exact || c.direct {
		c.answerGets()
	}
	if c.direct {
		c.end(false)
		return
	}
	c.store()
}

// onlyGets tells whether nothing but gets waits for the copy. Beside a proxy that
// sees to the target they are answered from the source, and nothing is stored:
// that proxy copies in order with its clients' writes. So are they while what another
// proxy has sent to the target may still be run there, after the copy: the key would
// have to be copied for each get.
func (c *keyCopy) onlyGets() bool {
	for _, r := range c.waiting {
		if r.op != protocol.OpGet {
			return false
		}
	}
	return len(c.then) == 0 && !c.compare
}

// answerGets answers the gets that wait, with what the key's other server
// holds: they need not wait for the copy.
func (c *keyCopy) answerGets() {
	c.takeGets(func(r *request) {
		if r.w == r.home && r.session != nil && r.session.postpone(r) {
			return // it is asked for again
		}
		c.w.answerCopy(r, c)
	})
}

// missGets answers the gets that wait: the key's other server, which holds what
// is right, does not hold it.
func (c *keyCopy) missGets() {
	c.takeGets(func(r *request) {
		c.w.stats.getMisses++
		c.w.replyBlock(r, nil, nil, false)
		c.w.settle(r)
	})
}

// takeGets has the gets answered that wait. What came behind another command
// goes on waiting with it.
func (c *keyCopy) takeGets(answer func(r *request)) {
	left := c.waiting[:0]
	for i, r := range c.waiting {
		if r.op != protocol.OpGet {
			left = append(left, c.waiting[i:]...)
			break
		}
		answer(r)
	}
	clear(c.waiting[len(left):])
	c.waiting = left
}

// store sends the source's item to the target.
func (c *keyCopy) store() {
	conn := c.target()
	if conn == nil {
		c.end(false)
		return
	}
	left := c.left()
	if left == 0 { // its last second
		c.remove()
		return
	}
	set := protocol.MetaSet{Op: protocol.OpAdd, Base64: c.item.Base64 || !protocol.IsTextKey(c.Key), Flags: c.item.Flags, Expiry: expiryOf(left, c.w.p.servers[c.from], conn.Server), Size: c.item.Size}
	if c.exact {
		set.Op = protocol.OpSet
	}
	if c.careful {
		set.Op = protocol.OpAdd
		if c.token != 0 {
			set.Op, set.Compare = protocol.OpCas, c.token
		}
	}
	set.Tell = c.careful || c.item.Stale || c.item.Sent
	set.Token = c.tokenAt(conn.Server)
	c.step = copyStore
	c.Kind, c.Write = backend.Line, true
	c.Answers = protocol.AnswersTo(protocol.OpSet)
	conn.End(protocol.AppendMetaSet(conn.Begin(len(c.Key)+128), c.Key, &set))
	conn.Link(c.value())
	conn.Queue(&c.Call)
}

// value is the item's value with its line end.
func (c *keyCopy) value() []byte { return c.block[c.item.Len:] }

// Missed is told that the source holds nothing (backend.Receiver).
func (c *keyCopy) Missed() {
	switch {
	case c.step == copyToken:
		c.looked(nil, protocol.End)
	case c.step == copyNotes:
		c.noted(0)
	case c.step == copyVerify:
		c.verified(false)
	case c.step == copyLook:
		c.compareWith(nil, nil)
	case c.compare:
		c.lookAtTarget()
	case c.exact && c.w.undecided(c.Key, c.to, c.from):
		c.end(true) // the target's copy is the only one
	case c.direct && c.exact:
		c.missGets()
		c.end(false)
	case c.exact:
		c.remove()
	default:
		c.end(true)
	}
}

// remove deletes the key on the target.
func (c *keyCopy) remove() {
	if !c.exact {
		c.end(true)
		return
	}
	conn := c.target()
	if conn == nil {
		c.end(false)
		return
	}
	if c.careful && c.token == 0 {
		c.end(true) // it has none
		return
	}
	c.step = copyDelete
	c.Kind, c.Write = backend.Line, true
	c.Answers = protocol.AnswersTo(protocol.OpDelete)
	if c.careful {
		conn.End(protocol.AppendMetaDelete(conn.Begin(len(c.Key)+64), c.Key, c.token))
	} else {
		conn.End(protocol.AppendDelete(conn.Begin(len(c.Key)+32), c.Key))
	}
	conn.Queue(&c.Call)
}

// Answered is told a line (backend.Receiver).
func (c *keyCopy) Answered(line []byte, kind protocol.Answer, _ uint64) {
	switch {
	case c.step == copyToken:
		c.looked(line, kind)
	case c.step == copyNotes:
		var it protocol.Item
		if !protocol.ParseLook(line, &it) {
			c.end(false)
			return
		}
		c.noted(it.CAS)
	case c.step == copyVerify:
		var it protocol.Item
		found := protocol.ParseLook(line, &it)
		if it.Won {
			c.giveBackLater(c.from, it.CAS)
		}
		c.verified(found && it.CAS == c.item.CAS)
	case c.step == copyUndo:
		c.end(false) // once more, with what the source holds now
	case c.step == copyDelete:
		c.end(kind == protocol.Deleted || kind == protocol.Done || kind == protocol.NotFound)
	case c.step == copyFetch, c.step == copyLook: // an error
		c.end(false)
	case kind == protocol.Done, kind == protocol.NotStored && !c.exact:
		if kind == protocol.Done {
			c.replaced = true
			c.w.stats.copied++
			token := protocol.ParseToken(line)
			if !c.careful {
				c.markTarget(token)
				c.end(true)
				return
			}
			c.token = token
			if c.w.p.servers[c.to].TakesTokens() {
				c.markTarget(token)
			} else {
				c.marksDue = true // they would change the token
			}
			c.verify()
			return
		}
		c.end(true)
	case c.careful && c.exact && (kind == protocol.Exists || kind == protocol.NotFound || kind == protocol.NotStored):
		c.end(false) // another proxy was faster: once more
	default:
		c.refused = true
		c.w.stats.copiesRefused++
		if c.exact {
			c.remove()
			return
		}
		c.end(true)
	}
}

// Uncertain is never called (backend.Receiver).
func (c *keyCopy) Uncertain([]byte) { c.end(false) }

// failed is told that the connection was lost. What was to be copied may run
// late, or not at all.
func (c *keyCopy) failed() {
	switch c.step {
	case copyStore, copyDelete, copyVerify, copyUndo:
		c.doubted()
	default:
		c.end(false)
	}
}

// end lets what waited for the copy go on.
func (c *keyCopy) end(ok bool) {
	w := c.w
	delete(w.copies, string(c.Key))
	w.held -= int64(len(c.block))
	if c.marksDue {
		c.markTarget(c.token)
	}
	c.giveBack()
	if ok && c.exact {
		w.p.recovery.madeGood(c.to, c.Key, c.when)
	}
	w.noLongerIdle(c.stripe)
	w.p.leases.give(c.stripe)
	for _, r := range c.waiting {
		if r.leased {
			w.noLongerIdle(c.stripe)
		}
	}
	for _, r := range c.waiting {
		r.copies++
		// The server may have been emptied since the copy before this one.
		r.filled = ok && c.to == r.at
		r.cured = ok && c.exact && c.to == r.at
		switch {
		case ok && c.refused && r.op == protocol.OpGet && c.block != nil:
			w.answerCopy(r, c)
		case !r.Write:
			w.read(r)
		case r.sent:
			w.runWrite(r)
		case w.pausing:
			if r.leased { // what the pause waits for may need the stripe
				r.leased = false
				w.p.leases.give(r.stripe)
			}
			w.delayed = append(w.delayed, r)
		default:
			w.writeRouted(r)
		}
	}
	for _, f := range c.then {
		f(ok)
	}
	w.beginCopies(c.stripe)
	w.writeEnded()
}

// answerCopy answers a get with what its key's other server holds, when the
// one that should answer does not take it.
func (w *worker) answerCopy(r *request, c *keyCopy) {
	head := protocol.AppendPlainValueHeader(nil, r.key(), c.item.Flags, c.item.Size)
	w.stats.getHits++
	w.replyBlock(r, head, c.value(), true)
	w.settle(r)
}
