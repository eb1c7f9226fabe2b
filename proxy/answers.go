package proxy

import (
	"magent/proxy/protocol"
)

const (
	linkAtLeast = 32 << 10 // a shorter value is copied: that is cheaper than a piece of its own
	longLine    = 1 << 10  // a longer line may be spread over pieces
)

var (
	lineEnd      = []byte("\r\n")
	endLine      = []byte("END\r\n")
	okLine       = []byte("OK")
	tooLargeLine = []byte("SERVER_ERROR object too large for cache")
)

// reply gives the client a line, which is written without its line end.
func (w *worker) reply(r *request, line []byte) {
	if r.w != r.home {
		r.answer = append(append(r.answer[:0], line...), lineEnd...)
		return
	}
	if s := r.session; s != nil && s.head == r {
		switch {
		case r.quiet:
		case len(line) > longLine:
			s.out.Write(&w.loop.Pool, line)
			s.out.Write(&w.loop.Pool, lineEnd)
		default:
			b := s.out.Begin(&w.loop.Pool, len(line)+len(lineEnd))
			s.out.End(&w.loop.Pool, append(append(b, line...), lineEnd...))
		}
		s.pop()
		return
	}
	r.answer = append(append(r.answer[:0], line...), lineEnd...)
	r.done = true
}

// replyFailure gives the client an error in place of a value, or as the
// answer to a write.
func (w *worker) replyFailure(r *request, line []byte) {
	r.failed = true
	if r.dialect == protocol.Binary {
		r.answer = protocol.AppendBinaryText(r.answer[:0], r.opcode, r.opaque, binaryStatus(r, line, protocol.ServerError), line)
	} else {
		r.answer = append(append(r.answer[:0], line...), lineEnd...)
	}
	if r.w == r.home {
		w.replyStored(r)
	}
}

// tokenHeader writes the header of a value with the cas token that the client
// is told.
func (w *worker) tokenHeader(r *request, h *protocol.ValueHeader) []byte {
	w.line = protocol.AppendValueHeader(w.line[:0], h.Key, h.Flags, h.Size, w.p.servers[r.at].ClientToken(h.CAS))
	return w.line
}

// replyBlock gives the client a VALUE block, or none. head is the start of it
// when the rest stands in block. keep says that block may be linked.
func (w *worker) replyBlock(r *request, head, block []byte, keep bool) {
	if r.w == r.home {
		if s := r.session; s != nil && s.head == r {
			if len(head) > 0 {
				s.writeBlock(head, false)
			}
			s.writeBlock(block, keep)
			s.endGet(r)
			s.pop()
			return
		}
	}
	if keep && head == nil {
		r.answer, r.kept = block, true
	} else {
		r.answer = append(append(r.answer[:0], head...), block...)
	}
	if r.w == r.home {
		w.keepAnswer(r)
	}
}

// keepAnswer keeps an answer that came before its turn.
func (w *worker) keepAnswer(r *request) {
	r.done = true
	if s := r.session; s != nil {
		s.stored += len(r.answer)
		r.counted = true
	}
}

// replyStored gives the client what stands in r.answer, when its turn comes.
func (w *worker) replyStored(r *request) {
	r.done = true
	if s := r.session; s != nil && s.head == r {
		s.popDone()
	}
}

// writeStored writes r.answer, r being the head.
func (s *session) writeStored(r *request) {
	if r.counted {
		s.stored -= len(r.answer)
	}
	if !isGet(r.op) || r.dialect != protocol.Text {
		if !r.quiet {
			s.writeBlock(r.answer, r.kept)
		}
		return
	}
	if r.failed {
		if s.failure == nil {
			s.failure = append([]byte(nil), r.answer...)
		}
	} else {
		s.writeBlock(r.answer, r.kept)
	}
	s.endGet(r)
}

func (s *session) writeBlock(block []byte, keep bool) {
	if keep && len(block) >= linkAtLeast {
		s.out.Link(&s.w.loop.Pool, block)
		return
	}
	s.out.Write(&s.w.loop.Pool, block)
}

// endGet ends the answer to a get behind its last key. When a key's server
// could not be asked the error stands in place of END.
func (s *session) endGet(r *request) {
	if !r.ends {
		return
	}
	if s.failure != nil {
		s.out.Write(&s.w.loop.Pool, s.failure)
		s.failure = nil
		return
	}
	s.out.Write(&s.w.loop.Pool, endLine)
}

// pop takes the head out of the order, and those behind it whose answers are
// there already.
func (s *session) pop() {
	s.popHead()
	s.popDone()
}

func (s *session) popDone() {
	for r := s.head; r != nil && r.done; r = s.head {
		s.writeStored(r)
		s.popHead()
	}
	s.wake()
}

func (s *session) popHead() {
	r := s.head
	s.head = r.after
	if s.head == nil {
		s.tail = nil
	}
	s.inFlight--
	if s.parked == r {
		s.parked = nil
	}
	if r.away {
		s.away--
	}
	if r.unsure {
		s.unsure--
	}
	r.after = nil
	r.session = nil
	r.popped = true
	if r.settled {
		s.w.release(r)
	}
}

// isGet tells whether the answer consists of VALUE blocks.
func isGet(op protocol.Op) bool { return op >= protocol.OpGet && op <= protocol.OpGats }
