package checker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"magent/integration/harness"
)

// clientTimeout is how long a client waits for bytes of an answer. It is far
// above all time limits of magent, so that it is never reached.
const clientTimeout = 10 * time.Second

// errorPause is how long a client waits after an error, so that the number of
// commands with an unknown outcome stays small.
const errorPause = 30 * time.Millisecond

// oneConnection is for how many commands a client keeps a connection, on
// average, if nothing happens to it.
const oneConnection = 300

// token is a cas token that a client has got.
type token struct {
	value string
	cas   uint64
	at    time.Duration // when it was asked for
	blind bool          // the value is not known
}

// client runs random commands, one after the other.
type client struct {
	id     int
	rng    *rand.Rand
	round  *round
	conn   *harness.Client
	spoken []Dialect // on the connection
	opaque uint32    // the last one that was used
	serial int

	ops   []*Op
	held  map[string]token // the last token of each key, however old
	wrong []string         // answers that no server gives
	hangs int
	said  map[string]int // what was answered in place of an answer
}

func newClient(id int, seed uint64, r *round) *client {
	return &client{
		id: id, rng: rand.New(rand.NewPCG(seed, uint64(id)+100)), round: r,
		held: make(map[string]token), said: make(map[string]int),
	}
}

// run works until the round is over.
func (c *client) run() {
	for !c.round.over.Load() {
		if c.conn == nil {
			conn, err := c.round.service.dial()
			if err != nil {
				c.pause(errorPause)
				continue
			}
			c.conn, c.spoken = conn, onOneConnection(c.rng, c.round.dialects)
		}
		c.command()
		c.pause(time.Duration(c.rng.Int64N(int64(2 * c.round.think))))
		if c.rng.IntN(oneConnection) == 0 {
			c.hangUp()
		}
	}
	c.hangUp()
}

// pause waits, as a client that has other things to do.
func (c *client) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.round.ended:
	}
}

func (c *client) hangUp() {
	if c.conn != nil {
		c.round.service.hangUp(c.conn)
		c.conn = nil
	}
}

// command runs one random command.
func (c *client) command() {
	if c.id == 0 && c.rng.IntN(c.round.flushEvery) == 0 {
		o := c.begin(Flush, "")
		if o.Dialect == Meta {
			o.Dialect = Text // there is no meta command for it
		}
		c.do(o)
		return
	}
	s := c.rng.IntN(len(c.round.slots))
	key := c.round.key(s)
	n := c.rng.IntN(100)
	switch {
	case n < 25:
		c.do(c.begin(Get, key))
	case n < 33:
		c.multiGet()
	case n < 46:
		c.compareAndSwap(key, s)
	case n < 50:
		o := c.begin(Gat, key)
		o.Expiry = c.expiry()
		c.do(o)
	case n < 54:
		o := c.begin(Touch, key)
		o.Expiry = c.expiry()
		c.write(o)
	case n < 61:
		o := c.begin(Delete, key)
		c.invalidate(o, s)
		c.write(o)
	case n < 80 && isCounter(s):
		o := c.begin(Incr, key)
		if n < 67 {
			o.Kind = Decr
		}
		o.Value = strconv.Itoa(1 + c.rng.IntN(9999))
		c.create(o)
		c.write(o)
	case n < 80:
		o := c.begin(Append, key)
		switch {
		case n < 67:
			o.Kind = Prepend
		case n == 67:
			o.Kind, o.Value = Incr, "1"
			c.write(o)
			return
		}
		o.Value = c.text()
		c.write(o)
	default:
		o := c.begin(Set, key)
		switch {
		case n < 87:
			o.Kind = Add
		case n < 92:
			o.Kind = Replace
		}
		c.newItem(o, s)
		c.write(o)
	}
}

// invalidate makes some deletes in meta one that leaves the item there, stale.
// Not numbers: whether an incr takes the mark away depends on the number of
// digits (memcached.c, do_add_delta).
func (c *client) invalidate(o *Op, slot int) {
	if o.Dialect == Meta && !isCounter(slot) && c.rng.IntN(2) == 0 {
		o.Kind, o.Expiry = Invalidate, c.expiry()
	}
}

// create lets some incr and decr make a key that is missing, which classic text
// cannot.
func (c *client) create(o *Op) {
	if o.Dialect != Text && c.rng.IntN(3) == 0 {
		o.Initial, o.Expiry = strconv.Itoa(1e6+c.rng.IntN(9e8)), c.expiry()
	}
}

// isCounter reports whether a slot holds numbers; the others hold lists.
func isCounter(slot int) bool { return slot%2 == 0 }

// begin starts an operation, in a dialect that the connection speaks.
func (c *client) begin(kind Kind, key string) *Op {
	o := &Op{Client: c.id, Kind: kind, Key: key, Dialect: c.spoken[c.rng.IntN(len(c.spoken))]}
	c.ops = append(c.ops, o)
	return o
}

// newItem chooses what to store.
func (c *client) newItem(o *Op, slot int) {
	o.Flags, o.Expiry = c.rng.Uint32N(1<<16), c.expiry()
	if isCounter(slot) {
		o.Value = strconv.Itoa(1e6 + c.rng.IntN(9e8))
	} else {
		o.Value = c.text()
	}
}

// text is a value that is written once.
func (c *client) text() string {
	c.serial++
	return fmt.Sprintf("<%d.%d>", c.id, c.serial)
}

func (c *client) expiry() int {
	switch n := c.rng.IntN(20); {
	case n == 0:
		return Past
	case n < 8:
		return 1 + c.rng.IntN(9)
	default:
		return Never
	}
}

// exptime is an expiry as a command has it: absolute or relative.
func (c *client) exptime(n int) int64 {
	switch {
	case n == Past:
		return -1
	case n == Never:
		return 0
	case c.rng.IntN(2) == 0:
		return c.round.deadline(n).Unix()
	default:
		return int64(time.Until(c.round.deadline(n)).Round(time.Second).Seconds())
	}
}

// write runs a command that may change something. Some have noreply.
func (c *client) write(o *Op) {
	if o.Dialect == Text && c.rng.IntN(50) == 0 {
		c.noReply(o)
		return
	}
	c.do(o)
}

// do runs operations in their dialect: one, or retrievals of several keys. If
// not all keys could be fetched, each operation tells for itself.
func (c *client) do(ops ...*Op) {
	call := c.round.now()
	var err error
	switch ops[0].Dialect {
	case Text:
		err = c.sayText(ops)
	case Meta:
		err = c.sayMeta(ops)
	case Binary:
		err = c.sayBinary(ops)
	}
	end := c.round.now()
	for _, o := range ops {
		o.Call, o.Return = call, end
	}
	if err != nil {
		c.broken(err, ops...)
		return
	}
	for _, o := range ops {
		if strings.HasPrefix(o.Answer, "SERVER_ERROR") {
			c.refused(o.Answer, o)
		} else {
			c.keepToken(o)
		}
	}
}

// keepToken may remember the token that came with an answer to a write, for a
// later cas.
func (c *client) keepToken(o *Op) {
	if o.GotToken == 0 || o.reads() || o.Kind == Touch || o.Expiry == Past || c.rng.IntN(2) == 0 {
		return
	}
	t := token{value: o.Value, cas: o.GotToken, at: o.Call}
	switch o.Kind {
	case Incr, Decr:
		t.value = o.Answer
	case Append, Prepend:
		t.value, t.blind = "", true
	}
	c.held[o.Key] = t
}

// multiGet fetches several keys at once, which is one operation on each.
func (c *client) multiGet() {
	var ops []*Op
	add := func(key string) {
		o := c.begin(Get, key)
		if len(ops) > 0 {
			o.Dialect = ops[0].Dialect
		}
		ops = append(ops, o)
	}
	for _, s := range c.rng.Perm(len(c.round.slots))[:2+c.rng.IntN(5)] {
		add(c.round.key(s))
	}
	for range c.rng.IntN(3) {
		if key, ok := c.round.anyFiller(c.rng); ok {
			add(key)
		}
	}
	c.do(ops...)
}

// compareAndSwap runs a cas, or something else that is for one version only,
// with a new token, or with one got long ago.
func (c *client) compareAndSwap(key string, slot int) {
	old, have := c.held[key]
	if !have || c.rng.IntN(3) > 0 {
		g := c.begin(Gets, key)
		c.do(g)
		if g.Unknown || g.Answer != Hit {
			return
		}
		old = token{value: g.GotValue, cas: g.GotToken, at: g.Call}
		if c.rng.IntN(2) == 0 || !have {
			c.held[key] = old
		}
		c.pause(time.Duration(c.rng.Int64N(int64(c.round.think))))
	}
	o := c.begin(Cas, key)
	o.Token, o.Seen, o.SeenAt, o.Blind = old.cas, old.value, old.at, old.blind
	if o.Dialect != Text { // which has no other command with a token
		switch n := c.rng.IntN(10); {
		case n == 0:
			o.Kind = Delete
			c.invalidate(o, slot)
		case n == 1 && isCounter(slot):
			o.Kind, o.Value = Incr, strconv.Itoa(1+c.rng.IntN(9999))
			c.create(o)
		case n == 1:
			o.Kind, o.Value = Append, c.text()
		case n == 2 && !isCounter(slot):
			o.Kind, o.Value = Prepend, c.text()
		}
	}
	if o.Kind == Cas {
		c.newItem(o, slot)
	}
	c.write(o)
}

// broken notes that the connection cannot be used any more.
func (c *client) broken(err error, ops ...*Op) {
	var timeout net.Error
	var answer *harness.AnswerError
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		c.hangs++
	case errors.As(err, &answer):
		c.refused(answer.Line, ops...)
		c.hangUp()
		return
	}
	c.fail("connection: "+err.Error(), ops...)
	c.hangUp()
}

// refused notes an error that magent answered.
func (c *client) refused(line string, ops ...*Op) {
	c.said[line]++
	c.fail(line, ops...)
}

func (c *client) fail(why string, ops ...*Op) {
	for _, o := range ops {
		o.fail(why)
		if o.writes() {
			c.round.uncertain(o.Key)
		}
	}
	c.pause(errorPause)
}
