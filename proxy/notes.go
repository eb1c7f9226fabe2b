package proxy

import (
	"magent/backend"
	"magent/proxy/protocol"
)

// Notes for other proxies go on the connection of the write that they tell of,
// ahead of it: no write is on one server alone before that is noted there.

// markOf is what this proxy has to say of itself in the record of a server.
func (rc *recovery) markOf(server int32) mark {
	switch s := rc.p.servers[server]; {
	case rc.care[server].flush.Load():
		return markFlush
	case s.Serves():
		return markIn
	case s.Late():
		return markLate
	}
	return markOut
}

// notes are what one worker has told of a record: the first line, its mark, and
// the loss of all keys. Each worker tells them on its own connection.
type notes struct {
	generation uint64
	epoch      uint64 // of the server's state when the mark was told
	mark       mark
	begun      bool
	lost       bool
}

// note tells other proxies that a server has missed a key. It goes to the twin
// that has got the write, or will get it behind the note.
func (w *worker) note(key []byte, at int64, server int32, how added, twin *backend.Conn) {
	rec := w.p.recovery.record(server, int32(twin.Server.Index))
	if !twin.Sync().Serves() {
		w.p.journals[server].setUntold(key)
		rec.noteAgain() // when it is back
		return
	}
	rec.miss(unixMilliNow())
	own := w.notesOf(server, twin)
	w.noteMark(server, twin, own)
	if how == addedKnown || own.lost {
		return
	}
	line := missedKey{string(key), at}
	if how == addedLost || rec.size.Add(int64(len(line.text()))) > recordMost {
		w.noteLoss(server, twin)
		return
	}
	rec.noteMine(line.name)
	w.append(server, twin, own, line.text())
}

// noteMark tells what is so with this proxy, before the first key that a server
// misses since it went out.
func (w *worker) noteMark(server int32, twin *backend.Conn, own *notes) {
	m := w.p.recovery.markOf(server)
	_, epoch := w.p.servers[server].Load()
	if m == markIn || own.mark == m && own.epoch == epoch {
		return
	}
	own.mark, own.epoch = m, epoch
	w.append(server, twin, own, markText(w.p.recovery.presence.name, m))
}

// noteUncertain tells other proxies that nobody knows whether a server has got a
// write that nobody waits for.
func (w *worker) noteUncertain(key []byte, server int32, twin *backend.Conn) {
	if twin.Sync().Serves() {
		own := w.notesOf(server, twin)
		w.append(server, twin, own, markText(w.p.recovery.presence.name, mark(markUncertain+nameOf(string(key)))))
	}
}

// notesOf is what this worker has told of a record in its present generation.
func (w *worker) notesOf(server int32, twin *backend.Conn) *notes {
	at := int32(twin.Server.Index)
	own := &w.notes[w.p.pair(server, at)]
	if generation := w.p.recovery.record(server, at).generation.Load(); own.generation != generation {
		*own = notes{generation: generation}
	}
	return own
}

// append appends to a record.
func (w *worker) append(server int32, twin *backend.Conn, own *notes, line string) {
	name := recordKey(w.p.servers[server].Name())
	if !own.begun {
		own.begun = true
		w.tell(twin, protocol.OpAdd, name, recordText(own.generation, nil), nil)
	}
	rec := w.p.recovery.record(server, int32(twin.Server.Index))
	w.tell(twin, protocol.OpAppend, name, line, func(stored bool) {
		switch {
		case stored:
			rec.kept.Store(true)
		case rec.kept.Load():
			w.noteLoss(server, twin) // the record is gone: evicted, or flushed
		default: // nothing of this proxy was in it
			w.tell(twin, protocol.OpAdd, name, recordText(own.generation, nil), nil)
			w.tell(twin, protocol.OpAppend, name, line, func(stored bool) {
				if !stored {
					w.noteLoss(server, twin)
				}
			})
		}
	})
}

// noteLoss tells other proxies that a server has missed more keys than are
// noted.
func (w *worker) noteLoss(server int32, twin *backend.Conn) {
	rec := w.p.recovery.record(server, int32(twin.Server.Index))
	own := &w.notes[w.p.pair(server, int32(twin.Server.Index))]
	own.lost = true
	name := recordKey(w.p.servers[server].Name())
	w.tell(twin, protocol.OpAdd, name, recordText(rec.generation.Load(), nil), nil)
	now := unixMilliNow()
	rec.miss(now)
	rec.tellMissed(now)
	marks := markText(w.p.recovery.presence.name, markLost) + missedText(w.p.recovery.presence.name, now)
	if m := w.p.recovery.markOf(server); m != markIn {
		marks += markText(w.p.recovery.presence.name, m)
	}
	w.tell(twin, protocol.OpAppend, name, marks, nil)
}

// noteFlush tells other proxies which servers have missed a flush_all that has
// just been queued to the others, and that it was carried out, and writes anew what it
// removes. One with a delay removes nothing yet.
func (w *worker) noteFlush(fl *flush) {
	if w.p.pools.backup == nil || fl.delay > 0 {
		return
	}
	for at, twin := range w.conns {
		if !twin.Sync().Serves() {
			continue
		}
		if life, ok := twin.Server.Life(); ok {
			w.tell(twin, protocol.OpSet, backend.LifeKey, life.String(), nil)
		}
		if w.p.recovery.delaysFlush(int32(at)) {
			w.tell(twin, protocol.OpSet, flushKey, fl.order.text(), nil)
		}
		for _, server := range w.p.recovery.twins[at] {
			if !w.p.servers[server].Serves() {
				w.noteLoss(server, twin)
			} else {
				w.p.recovery.record(server, int32(at)).kept.Store(false)
			}
		}
	}
}

// tell queues a storage command of magent's own. then, which may be nil, is told
// whether it was stored.
func (w *worker) tell(c *backend.Conn, op protocol.Op, key, value string, then func(stored bool)) {
	w.queueTelling(c, &telling{then: then}, op, key, value)
}

func (w *worker) queueTelling(c *backend.Conn, t *telling, op protocol.Op, key, value string) {
	t.Owner = t
	t.Kind, t.Write = backend.Line, true
	t.Answers = protocol.AnswersTo(op)
	c.CloseGroup()
	b := c.Begin(len(key) + 96)
	c.End(protocol.AppendStorage(b, op, []byte(key), 0, 0, len(value), 0))
	c.Write([]byte(value))
	c.Write(lineEnd)
	c.Queue(&t.Call)
}

// tellDue has a server hold an order to flush later, which is answered for when it does.
func (w *worker) tellDue(c *backend.Conn, fl *flush) {
	fl.parts++
	t := &telling{then: func(stored bool) {
		if stored {
			fl.done++
		}
		w.flushPart(fl)
	}}
	t.gone = func() { t.then(false) }
	w.queueTelling(c, t, protocol.OpSet, flushKey, fl.order.text())
}

// telling is a command of magent's own whose answer hardly matters.
type telling struct {
	backend.Call
	lineOnly
	then func(stored bool)
	gone func() // there is no answer; may be nil
}

// failed is told that the connection has failed.
func (t *telling) failed() {
	if t.gone != nil {
		t.gone()
	}
}

// Answered is told a line (backend.Receiver).
func (t *telling) Answered(_ []byte, kind protocol.Answer, _ uint64) {
	if t.then != nil {
		t.then(kind == protocol.Stored)
	}
}
