package proxy

import (
	"magent/backend"
	"magent/proxy/protocol"
)

// A request is run in the same way whatever dialect it came in. What differs is
// how it is written to a server, when only a meta command can say it, and how
// its answer is written to the client.

// adopt takes over what a request of any dialect says besides its key.
func (r *request) adopt(q *protocol.Request, s *backend.Server) {
	r.flags, r.expiry, r.number = q.Flags, q.Expiry, q.Delta
	r.compare = q.CAS
	r.compares = q.Op == protocol.OpCas
	r.dialect = q.Dialect
	if q.Dialect == protocol.Text {
		return
	}
	r.encoded = !protocol.IsTextKey(q.Key)
	r.base64 = q.Base64 || r.encoded
	r.hasInitial, r.initial, r.initialExpiry = q.HasInitial, q.Initial, q.InitialExpiry
	r.hush, r.quiet = q.Quiet, false
	if q.Dialect == protocol.Binary {
		r.compares = q.CAS != 0
		r.opcode, r.opaque = q.Opcode, q.OpaqueWord
		r.tell = !q.Quiet
		return
	}
	r.compares = q.HasCAS && q.Op != protocol.OpAdd
	r.seen, r.foreign = q.Meta, q.Foreign
	if q.HasNewCAS {
		r.given = s.GivenToken(q.NewCAS)
	}
	r.data = append(r.data, q.Words...)
	r.wordsLen = len(q.Words)
}

// plainKind is the kind of the classic answer that means the same as a meta code.
func plainKind(op protocol.Op, kind protocol.Answer) protocol.Answer {
	if kind != protocol.Done {
		return kind
	}
	switch op {
	case protocol.OpSet, protocol.OpAdd, protocol.OpReplace, protocol.OpAppend, protocol.OpPrepend, protocol.OpCas:
		return protocol.Stored
	case protocol.OpDelete, protocol.OpInvalidate:
		return protocol.Deleted
	case protocol.OpTouch:
		return protocol.Touched
	}
	return kind
}

// answer gives the client the answer to a write: the server's line and its
// kind, in classic terms.
func (w *worker) answer(r *request, line []byte, kind protocol.Answer, number uint64) {
	switch r.dialect {
	case protocol.Meta:
		w.answerMeta(r, line, kind, number)
	case protocol.Binary:
		w.answerBinary(r, line, kind, number)
	default:
		w.reply(r, classicLine(line, kind))
	}
}

// answerMiss gives the client the answer to a read that found nothing. line is
// the server's, when it has one.
func (w *worker) answerMiss(r *request, line []byte) {
	switch r.dialect {
	case protocol.Meta:
		w.answerMeta(r, line, protocol.End, 0)
	case protocol.Binary:
		w.answerBinary(r, nil, protocol.End, 0)
	default:
		w.replyBlock(r, nil, nil, false)
	}
}

// replyBytes gives the client an answer that is complete, in two parts of which
// each may be empty. keep says that the second may be linked.
func (w *worker) replyBytes(r *request, head, tail []byte, keep bool) {
	if r.w == r.home {
		if s := r.session; s != nil && s.head == r {
			if len(head) > 0 {
				s.writeBlock(head, false)
			}
			if len(tail) > 0 {
				s.writeBlock(tail, keep)
			}
			s.pop()
			return
		}
	}
	if keep && len(head) == 0 {
		r.answer, r.kept = tail, true
	} else {
		r.answer = append(append(r.answer[:0], head...), tail...)
	}
	if r.w == r.home {
		w.keepAnswer(r)
	}
}

// classicWouldDo tells whether a classic command can say a storage request.
func (r *request) classicWouldDo() bool {
	return !r.encoded && (!r.compares || r.op == protocol.OpCas)
}

// cannotSay tells whether a server is too old for what a request wants.
func (r *request) cannotSay(s *backend.Server) bool {
	if r.dialect == protocol.Text || s.HasMeta() {
		return false
	}
	if r.encoded || r.hasInitial || r.compares && r.op != protocol.OpCas {
		return true
	}
	if r.dialect == protocol.Binary {
		return false
	}
	known := "bkOqPL"
	switch r.op {
	case protocol.OpMetaGet:
		known += "vfcsuT"
	case protocol.OpSet, protocol.OpAdd, protocol.OpReplace, protocol.OpAppend, protocol.OpPrepend, protocol.OpCas:
		known += "FTMC"
	case protocol.OpIncr, protocol.OpDecr:
		known += "DMv"
	case protocol.OpDelete:
	default:
		return true
	}
	return r.foreign || !r.seen.Within(known)
}

// tooOld answers a request that its server is too old for.
func (w *worker) tooOld(r *request, s *backend.Server) {
	w.line = append(append(w.line[:0], "SERVER_ERROR this needs memcached 1.6.14 or later on "...), s.Name()...)
	w.replyFailure(r, w.line)
	w.settle(r)
}
