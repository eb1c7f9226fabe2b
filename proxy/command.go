package proxy

import (
	"magent/backend"
	"magent/proxy/protocol"
)

// command writes r as a command of the given kind and queues it: what the client
// asked for, or the effect of it.
func (w *worker) command(c *backend.Conn, r *request, op protocol.Op) {
	if c.Asks(r.hash) {
		c.CloseGroup() // the gets of this key came first
	}
	own := r.phase == atServer
	hasMeta := c.Server.HasMeta()
	r.tokened = r.token != 0 && c.Server.TakesTokens()
	r.meta = r.tokened
	if own {
		r.raw = r.dialect == protocol.Meta && hasMeta && r.refusal == nil && !r.plainSet()
	}
	if r.dialect != protocol.Text && hasMeta {
		r.meta = r.meta || own && r.raw || r.needsMeta(op, own)
	}
	switch {
	case own && r.raw:
		w.rawCommand(c, r)
		return
	case op == protocol.OpSet && !(own && r.tell && r.meta && !r.tokened) && (own || !r.storedStale):
		c.Set(&r.Call) // perhaps with others, none of which is told its token
		return
	case isStorage(op):
		w.storageCommand(c, r, op)
		return
	}
	r.Kind = backend.Line
	r.Answers = protocol.AnswersTo(op)
	key := r.key()
	b := c.Begin(2*len(key) + r.wordsLen + 128)
	switch op {
	case protocol.OpDelete:
		if own && r.compares && r.meta {
			b = protocol.AppendMetaDelete(b, key, c.Server.ServerToken(r.compare))
		} else {
			b = protocol.AppendDelete(b, key)
		}
	case protocol.OpIncr, protocol.OpDecr:
		if r.meta {
			r.Kind = backend.Number
			if r.dialect == protocol.Meta && hasMeta { // the order of its flags counts
				b = r.appendRaw(b, c.Server, true)
			} else {
				b = protocol.AppendMetaArith(b, key, r.metaArith(c.Server, op, own))
			}
		} else {
			b = protocol.AppendArith(b, op, key, r.number)
		}
	case protocol.OpTouch:
		switch {
		case own && r.meta && !r.encoded && !c.Server.TakesTokens():
			// A meta command would take the mark of a stale item, and such a server
			// could not get it back without another token.
			r.Kind, r.meta = backend.Value, false
			b = protocol.AppendGat(b, protocol.OpGats, key, r.expiry)
		case r.meta: // tells more to the client, and takes any key
			r.Kind = backend.Meta
			b = protocol.AppendMetaTouch(b, key, r.expiry, false)
		default:
			b = protocol.AppendTouch(b, key, r.expiry)
		}
	case protocol.OpGat, protocol.OpGats:
		if r.encoded {
			r.Kind = backend.Item
			b = protocol.AppendMetaTouch(b, key, r.expiry, true)
		} else {
			r.Kind = backend.Value
			b = protocol.AppendGat(b, op, key, r.expiry)
		}
	case protocol.OpMetaGet:
		if own { // a server without meta commands
			r.Kind = backend.Value
			b = protocol.AppendGat(b, protocol.OpGats, key, r.expiry)
		} else {
			r.Kind = backend.Meta
			b = r.appendRaw(b, c.Server, true)
		}
	case protocol.OpInvalidate:
		b = r.appendRaw(b, c.Server, true)
	}
	c.End(b)
	c.Queue(&r.Call)
}

// needsMeta tells whether only a meta command can say what a request of the meta
// or binary dialect wants, or what it did.
func (r *request) needsMeta(op protocol.Op, own bool) bool {
	switch {
	case r.base64, own && r.compares && op != protocol.OpCas, op == protocol.OpInvalidate, op == protocol.OpMetaGet:
		return true
	case isArith(op):
		return r.hasInitial || own && r.tell || r.seen.Has('T')
	case isStorage(op):
		return own && (r.tell || r.compares && r.isBinarySet()) || r.hasAppendInitial(op) || !own && r.storedStale
	case op == protocol.OpTouch:
		return own
	}
	return false
}

func (r *request) metaArith(s *backend.Server, op protocol.Op, own bool) *protocol.MetaArith {
	a := &r.w.arith
	*a = protocol.MetaArith{
		Op: op, Base64: r.base64, Delta: r.number, Compare: s.ServerToken(r.compare), Compares: own && r.compares,
		HasInitial: r.hasInitial, Initial: r.initial, InitialExpiry: r.initialExpiry,
	}
	return a
}

// rawCommand queues a meta request as the client wrote it.
func (w *worker) rawCommand(c *backend.Conn, r *request) {
	r.Kind = backend.Meta
	r.Answers = protocol.AnswersTo(r.op)
	if r.wantsBefore() {
		w.askBefore(c, r)
	}
	c.End(r.appendRaw(c.Begin(2*r.keyLen+r.wordsLen+128), c.Server, false))
	if isStorage(r.op) {
		r.putValue(c)
	}
	c.Queue(&r.Call)
}

// storageCommand queues a storage command that travels alone.
func (w *worker) storageCommand(c *backend.Conn, r *request, op protocol.Op) {
	r.Kind = backend.Line
	r.Answers = protocol.AnswersTo(op)
	key := r.key()
	b := c.Begin(2*len(key) + 128)
	size := len(r.value()) - len(lineEnd)
	compare := c.Server.ServerToken(r.compare)
	if r.meta {
		b = r.metaSet(b, op, size, compare, false)
	} else {
		b = protocol.AppendStorage(b, op, key, r.flags, r.expiry, size, compare)
	}
	c.End(b)
	r.putValue(c)
	c.Queue(&r.Call)
}

func (r *request) putValue(c *backend.Conn) {
	if r.large != nil {
		c.Link(r.large)
	} else {
		c.Write(r.value())
	}
}

// SetHeader describes the request as a plain set (backend.Receiver).
func (r *request) SetHeader(dst []byte, quiet bool) []byte {
	size := len(r.value()) - len(lineEnd)
	if quiet || r.meta {
		return r.metaSet(dst, protocol.OpSet, size, 0, quiet)
	}
	return protocol.AppendStorage(dst, protocol.OpSet, r.key(), r.flags, r.expiry, size, 0)
}

// SetValue is the value with its line end (backend.Receiver).
func (r *request) SetValue() []byte { return r.value() }
