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

// token is a cas token that a client has got.
type token struct {
	value string
	cas   uint64
	at    time.Duration // when it was asked for
}

// client runs random commands, one after the other.
type client struct {
	id     int
	rng    *rand.Rand
	round  *round
	conn   *harness.Client
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
			c.conn = conn
		}
		c.command()
		c.pause(time.Duration(c.rng.Int64N(int64(2 * c.round.think))))
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
		c.line(o, []byte("flush_all\r\n"))
		return
	}
	s := c.rng.IntN(len(c.round.slots))
	key := c.round.key(s)
	n := c.rng.IntN(100)
	switch {
	case n < 25:
		c.get(c.begin(Get, key))
	case n < 33:
		c.multiGet()
	case n < 46:
		c.compareAndSwap(key, s)
	case n < 50:
		o := c.begin(Gat, key)
		o.Expiry = c.expiry()
		c.get(o)
	case n < 54:
		o := c.begin(Touch, key)
		o.Expiry = c.expiry()
		c.line(o, []byte("touch "+key+" "+c.exptime(o.Expiry)+c.quiet(o)+"\r\n"))
	case n < 61:
		o := c.begin(Delete, key)
		c.line(o, []byte("delete "+key+c.quiet(o)+"\r\n"))
	case n < 80 && isCounter(s):
		o := c.begin(Incr, key)
		if n < 67 {
			o.Kind = Decr
		}
		o.Value = strconv.Itoa(1 + c.rng.IntN(9999))
		c.line(o, []byte(string(o.Kind)+" "+key+" "+o.Value+c.quiet(o)+"\r\n"))
	case n < 80:
		o := c.begin(Append, key)
		switch {
		case n < 67:
			o.Kind = Prepend
		case n == 67:
			o.Kind, o.Value = Incr, "1"
			c.line(o, []byte("incr "+key+" 1"+c.quiet(o)+"\r\n"))
			return
		}
		o.Value = c.text()
		c.store(o)
	default:
		o := c.begin(Set, key)
		switch {
		case n < 87:
			o.Kind = Add
		case n < 92:
			o.Kind = Replace
		}
		c.newItem(o, s)
		c.store(o)
	}
}

// isCounter reports whether a slot holds numbers; the others hold lists.
func isCounter(slot int) bool { return slot%2 == 0 }

// begin starts an operation.
func (c *client) begin(kind Kind, key string) *Op {
	o := &Op{Client: c.id, Kind: kind, Key: key}
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
func (c *client) exptime(n int) string {
	switch {
	case n == Past:
		return "-1"
	case n == Never:
		return "0"
	case c.rng.IntN(2) == 0:
		return strconv.FormatInt(c.round.deadline(n).Unix(), 10)
	default:
		return strconv.Itoa(int(time.Until(c.round.deadline(n)).Round(time.Second).Seconds()))
	}
}

// quiet makes some commands noreply.
func (c *client) quiet(o *Op) string {
	if c.rng.IntN(50) > 0 {
		return ""
	}
	o.NoReply = true
	return " noreply"
}

// store sends a storage command and reads its answer.
func (c *client) store(o *Op) {
	var extra []string
	if o.Kind == Cas {
		extra = append(extra, strconv.FormatUint(o.Token, 10))
	}
	if c.quiet(o) != "" {
		extra = append(extra, "noreply")
	}
	exptime, _ := strconv.Atoi(c.exptime(o.Expiry))
	c.line(o, harness.Storage(string(o.Kind), o.Key, o.Flags, exptime, []byte(o.Value), extra...))
}

// line sends a command and reads its answer, a line. A command with noreply
// is followed by a get on the same connection.
func (c *client) line(o *Op, request []byte) {
	if o.NoReply {
		g := c.begin(Get, o.Key)
		o.Call = c.round.now()
		if err := c.conn.Send(request); err != nil {
			c.broken(err, o, g)
			return
		}
		c.get(g)
		if o.Return = g.Return; g.Unknown {
			o.fail(g.Answer)
			c.round.uncertain(o.Key)
		} else {
			o.Answer = "nothing"
		}
		return
	}
	o.Call = c.round.now()
	err := c.conn.Send(request)
	if err == nil {
		o.Answer, err = c.conn.Line()
	}
	o.Return = c.round.now()
	switch {
	case err != nil:
		c.broken(err, o)
	case strings.HasPrefix(o.Answer, "SERVER_ERROR"):
		c.refused(o.Answer, o)
	}
}

// get runs a retrieval of one key.
func (c *client) get(o *Op) {
	line := string(o.Kind) + " " + o.Key
	if o.Kind == Gat {
		line = "gat " + c.exptime(o.Expiry) + " " + o.Key
	}
	c.retrieve(line, o)
}

// multiGet fetches several keys at once, which is one operation on each.
func (c *client) multiGet() {
	var ops []*Op
	line := "get"
	for _, s := range c.rng.Perm(len(c.round.slots))[:2+c.rng.IntN(5)] {
		o := c.begin(Get, c.round.key(s))
		ops = append(ops, o)
		line += " " + o.Key
	}
	for range c.rng.IntN(3) {
		if key, ok := c.round.anyFiller(c.rng); ok {
			o := c.begin(Get, key)
			ops = append(ops, o)
			line += " " + o.Key
		}
	}
	c.retrieve(line, ops...)
}

// retrieve sends a line and reads the values, which come in the order of the
// operations.
func (c *client) retrieve(line string, ops ...*Op) {
	call := c.round.now()
	items, err := c.conn.Retrieve(line)
	end := c.round.now()
	for _, o := range ops {
		o.Call, o.Return = call, end
	}
	if err != nil {
		c.broken(err, ops...)
		return
	}
	for _, o := range ops {
		o.Answer = Miss
		if len(items) > 0 && items[0].Key == o.Key {
			o.Answer, o.GotValue, o.GotFlags, o.GotToken = Hit, string(items[0].Value), items[0].Flags, items[0].CAS
			items = items[1:]
		}
	}
	if len(items) > 0 {
		c.wrong = append(c.wrong, fmt.Sprintf("%q was answered with key %q, at %.6f", line, items[0].Key, end.Seconds()))
	}
}

// compareAndSwap runs a cas with a new token, or with one got long ago.
func (c *client) compareAndSwap(key string, slot int) {
	old, have := c.held[key]
	if !have || c.rng.IntN(3) > 0 {
		g := c.begin(Gets, key)
		c.get(g)
		if g.Unknown || g.Answer != Hit {
			return
		}
		old = token{g.GotValue, g.GotToken, g.Call}
		if c.rng.IntN(2) == 0 || !have {
			c.held[key] = old
		}
		c.pause(time.Duration(c.rng.Int64N(int64(c.round.think))))
	}
	o := c.begin(Cas, key)
	o.Token, o.Seen, o.SeenAt = old.cas, old.value, old.at
	c.newItem(o, slot)
	c.store(o)
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
