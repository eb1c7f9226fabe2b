package checker

import (
	"strconv"

	"magent/integration/harness"
)

// sayText runs operations in classic text (protocol.txt): one, or retrievals of
// several keys, which are one command.
func (c *client) sayText(ops []*Op) error {
	if !ops[0].reads() {
		err := c.conn.Send(c.textRequest(ops[0]))
		if err == nil {
			ops[0].Answer, err = c.conn.Line()
		}
		return err
	}
	line := string(ops[0].Kind)
	if ops[0].Kind == Gat {
		line += " " + strconv.FormatInt(c.exptime(ops[0].Expiry), 10)
	}
	for _, o := range ops {
		line += " " + o.Key
	}
	items, err := c.conn.Retrieve(line)
	if err != nil {
		return err
	}
	for _, o := range ops { // the values come in their order
		o.Answer = Miss
		if len(items) > 0 && items[0].Key == o.Key {
			o.Answer, o.GotValue, o.GotFlags, o.GotToken = Hit, string(items[0].Value), items[0].Flags, items[0].CAS
			items = items[1:]
		}
	}
	if len(items) > 0 {
		return c.nonsense("%q was answered with key %q", line, items[0].Key)
	}
	return nil
}

// textRequest is a command that is no retrieval.
func (c *client) textRequest(o *Op) []byte {
	extra := ""
	if o.NoReply {
		extra = " noreply"
	}
	switch o.Kind {
	case Flush:
		return []byte("flush_all\r\n")
	case Delete:
		return []byte("delete " + o.Key + extra + "\r\n")
	case Touch:
		return []byte("touch " + o.Key + " " + strconv.FormatInt(c.exptime(o.Expiry), 10) + extra + "\r\n")
	case Incr, Decr:
		return []byte(string(o.Kind) + " " + o.Key + " " + o.Value + extra + "\r\n")
	}
	var words []string
	if o.Kind == Cas {
		words = append(words, strconv.FormatUint(o.Token, 10))
	}
	if o.NoReply {
		words = append(words, "noreply")
	}
	return harness.Storage(string(o.Kind), o.Key, o.Flags, int(c.exptime(o.Expiry)), []byte(o.Value), words...)
}

// noReply runs a command with noreply. It is followed by a get on the same
// connection.
func (c *client) noReply(o *Op) {
	o.NoReply = true
	g := c.begin(Get, o.Key)
	o.Call = c.round.now()
	if err := c.conn.Send(c.textRequest(o)); err != nil {
		c.broken(err, o, g)
		return
	}
	c.do(g)
	if o.Return = g.Return; g.Unknown {
		o.fail(g.Answer)
		c.round.uncertain(o.Key)
	} else {
		o.Answer = "nothing"
	}
}
