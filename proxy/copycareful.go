package proxy

import (
	"time"

	"magent/backend"
	"magent/proxy/protocol"
)

const (
	settleTime = 50 * time.Millisecond // in which another proxy mirrors a write
	noteWait   = 20 * time.Millisecond // between looks at what it has noted
	noteTries  = 25
)

// lookFirst begins a copy while another proxy serves the same servers, which
// knows nothing of leases. The target's item is looked at, then the source is
// asked, and the target only takes the copy when its item is still the same.
// In between lies a moment in which what the other proxy has written to the
// target arrives at the source too.
//
// If that proxy cannot reach the source it has noted so on the target, before it
// wrote there. So the record is looked at behind the item: a copy waits until all
// that stands there is known.
func (c *keyCopy) lookFirst() {
	conn := c.target()
	if conn == nil {
		c.end(false)
		return
	}
	c.step = copyToken
	c.Kind = backend.Item
	conn.End(protocol.AppendMetaLook(conn.Begin(len(c.Key)+32), c.Key))
	conn.Queue(&c.Call)
}

// looked is told the target's item, none for a miss.
func (c *keyCopy) looked(line []byte, kind protocol.Answer) {
	var it protocol.Item
	switch {
	case kind == protocol.End:
		c.token = 0
	case !protocol.ParseLook(line, &it):
		c.end(false)
		return
	default:
		c.token = it.CAS
	}
	if it.Won {
		c.giveBackLater(c.to, it.CAS)
	}
	if kind != protocol.End && !c.exact {
		c.end(true) // the target has the key
		return
	}
	c.lookAtNotes()
}

// lookAtNotes asks the target for the token of the record that tells what the
// source has missed.
func (c *keyCopy) lookAtNotes() {
	conn := c.target()
	if conn == nil {
		c.end(false)
		return
	}
	c.step = copyNotes
	c.Kind, c.Write = backend.Item, false
	name := recordKey(c.w.p.servers[c.other()].Name())
	conn.End(protocol.AppendMetaLook(conn.Begin(len(name)+32), []byte(name)))
	conn.Queue(&c.Call)
}

// other is the server of the key that is not the target.
func (c *keyCopy) other() int32 {
	primary, backup := c.w.p.pools.find(c.Key)
	if primary == c.to {
		return backup
	}
	return primary
}

// noted is told that token, 0 when there is no record.
func (c *keyCopy) noted(token uint64) {
	rc := c.w.p.recovery
	if rc.record(c.other(), c.to).mergedToken() != token {
		if c.noteTries++; c.noteTries > noteTries {
			c.end(false)
			return
		}
		rc.lookSoon(c.to)
		c.step = copyRest
		c.timer.Func = c.lookAtNotes
		c.w.loop.Arm(&c.timer, noteWait)
		return
	}
	if !c.sourceStands() {
		c.end(false)
		return
	}
	c.step = copyRest
	c.timer.Func = func() {
		if c.from == nowhere {
			c.remove()
		} else {
			c.fetch()
		}
	}
	c.w.loop.Arm(&c.timer, settleTime)
}

// sourceStands tells whether the key is still to be had from the source: it may
// have missed a write since the copy was asked for.
func (c *keyCopy) sourceStands() bool {
	from, ok := c.w.source(c.Key, c.other(), c.to)
	return ok && from == c.from
}

// fetchStanding asks the source, if the key is still to be had there.
func (c *keyCopy) fetchStanding() {
	if c.sourceStands() {
		c.fetch()
	} else {
		c.end(false)
	}
}

// verify asks the source once more: another proxy may have changed it while the
// copy was on its way. When the source cannot be asked any more the copy may be
// the only one that is left: it stays, and is looked at again when it can.
func (c *keyCopy) verify() {
	conn := c.w.conns[c.from]
	if !conn.Sync().Serves() {
		c.doubted()
		return
	}
	if conn.Asks(c.hash) {
		conn.CloseGroup()
	}
	c.step = copyVerify
	c.Kind, c.Write = backend.Item, false
	conn.End(protocol.AppendMetaLook(conn.Begin(len(c.Key)+32), c.Key))
	conn.Queue(&c.Call)
}

// verified is told whether the source still holds what was copied. If not, the
// copy is taken back, unless somebody has replaced it already.
func (c *keyCopy) verified(same bool) {
	if same {
		c.w.lookLater(c.Key, false)
		c.end(true)
		return
	}
	conn := c.target()
	if conn == nil || c.token == 0 {
		c.doubted()
		return
	}
	c.step, c.marksDue = copyUndo, false
	c.Kind, c.Write = backend.Line, true
	c.Answers = protocol.AnswersTo(protocol.OpDelete)
	conn.End(protocol.AppendMetaDelete(conn.Begin(len(c.Key)+64), c.Key, c.token))
	conn.Queue(&c.Call)
}

// doubted ends a copy that may be wrong by now: it is made once more.
func (c *keyCopy) doubted() {
	c.w.doubtKey(c.Key, 0, c.to, c.from, "a copy to it may have been overtaken")
	c.end(false)
}
