package proxy

import (
	"bytes"

	"magent/proxy/protocol"
)

// A binary request is run as a classic one, or as a meta command where a classic
// one cannot say it, and what the server answers is put into binary form. So the
// servers need not speak the binary protocol.

// answerBinary gives a client of the binary protocol its answer: the kind of
// the server's, in classic terms.
func (w *worker) answerBinary(r *request, line []byte, kind protocol.Answer, number uint64) {
	status := binaryStatus(r, line, kind)
	if protocol.QuietSilences(r.opcode, status) {
		w.replyBytes(r, nil, nil, false)
		return
	}
	b := w.line[:0]
	switch {
	case status == protocol.StatusOK && kind == protocol.Number:
		b = protocol.AppendBinaryNumber(b, r.opcode, r.opaque, w.tokenToTell(r, r.Token), number)
	case status == protocol.StatusOK && r.op == protocol.OpTouch:
		b = protocol.AppendBinaryTouched(b, r.opcode, r.opaque, w.tokenToTell(r, r.itemCAS), r.itemFlags)
	case status == protocol.StatusOK && isStorage(r.op):
		b = protocol.AppendBinaryOK(b, r.opcode, r.opaque, w.tokenToTell(r, protocol.ParseToken(line)))
	case status == protocol.StatusOK:
		b = protocol.AppendBinaryOK(b, r.opcode, r.opaque, 0)
	case kind == protocol.End || r.op == protocol.OpTouch && status == protocol.StatusNotFound:
		b = protocol.AppendBinaryMiss(b, r.opcode, r.opaque, r.key())
	case status == protocol.StatusInternal:
		b = protocol.AppendBinaryText(b, r.opcode, r.opaque, status, line)
	default:
		b = protocol.AppendBinaryError(b, r.opcode, r.opaque, status)
	}
	w.line = b
	w.replyBytes(r, b, nil, false)
}

// tokenToTell is the cas token that a client is told for an item, 0 when nobody
// knows it.
func (w *worker) tokenToTell(r *request, token uint64) uint64 {
	switch {
	case r.tokened && !isArith(r.op):
		return r.token
	case token == 0 || w.p.pools.backup == nil:
		return token
	}
	return w.p.servers[r.at].ClientToken(token)
}

// binaryStatus is what memcached answers in binary where it answers a line of a
// kind in text (complete_update_bin and the others of proto_bin.c).
func binaryStatus(r *request, line []byte, kind protocol.Answer) protocol.BinaryStatus {
	switch kind {
	case protocol.NotStored:
		switch r.op {
		case protocol.OpAdd:
			return protocol.StatusExists
		case protocol.OpReplace:
			return protocol.StatusNotFound
		}
		return protocol.StatusNotStored
	case protocol.Exists:
		return protocol.StatusExists
	case protocol.NotFound, protocol.End:
		return protocol.StatusNotFound
	case protocol.ClientError:
		if isArith(r.op) {
			return protocol.StatusNonNumeric
		}
		return protocol.StatusInvalid
	case protocol.ServerError, protocol.Error:
		switch {
		case bytes.HasPrefix(line, []byte("SERVER_ERROR object too large")):
			return protocol.StatusTooLarge
		case bytes.HasPrefix(line, []byte("SERVER_ERROR out of memory")):
			return protocol.StatusOutOfMemory
		}
		return protocol.StatusInternal
	}
	return protocol.StatusOK
}

// answerBinaryValue answers a get that found its key.
func (w *worker) answerBinaryValue(r *request, block []byte, h *protocol.ValueHeader, keep bool) {
	token := h.CAS
	if w.p.pools.backup != nil {
		token = w.p.servers[r.at].ClientToken(token)
	}
	value := block[h.Len : h.Len+h.Size]
	w.line = protocol.AppendBinaryHit(w.line[:0], r.opcode, r.opaque, token, h.Flags, r.key(), h.Size)
	w.replyBytes(r, w.line, value, keep)
}

// localBinary handles what needs no key and has an answer of its own form. It
// returns false for what is left to local.
func (s *session) localBinary(r *protocol.Request) (done bool) {
	b := s.w.line[:0]
	switch r.Op {
	case protocol.OpNoop:
		b = protocol.AppendBinaryOK(b, r.Opcode, r.OpaqueWord, 0)
	case protocol.OpVersion:
		b = protocol.AppendBinaryVersion(b, r.Opcode, r.OpaqueWord, s.w.p.serverVersion())
	case protocol.OpSaslList, protocol.OpSaslAuth, protocol.OpSaslStep:
		b = s.sasl(b, r)
	case protocol.OpQuit:
		r.Close = true
		if !r.Quiet {
			b = protocol.AppendBinaryOK(b, r.Opcode, r.OpaqueWord, 0)
		}
	default:
		return false
	}
	s.w.line = b
	r.Reply = b
	s.answerNow(r)
	return true
}

// binaryStats puts the lines of an answer to stats into binary form. What is no
// such answer is an unknown one (process_bin_stat of memcached).
func binaryStats(text []byte, r *request) []byte {
	if !bytes.HasPrefix(text, []byte("STAT ")) && !bytes.HasPrefix(text, endLine) && !bytes.HasPrefix(text, []byte("RESET")) {
		return protocol.AppendBinaryError(nil, r.opcode, r.opaque, protocol.StatusNotFound)
	}
	var b []byte
	for line := range bytes.Lines(text) {
		entry, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r\n"), []byte("STAT "))
		if name, value, _ := bytes.Cut(entry, []byte(" ")); ok && len(name) > 0 {
			b = protocol.AppendBinaryStat(b, r.opaque, name, value)
		}
	}
	return protocol.AppendBinaryStatEnd(b, r.opaque)
}

// isBinarySet tells whether a binary set is refused with the old item dropped,
// whatever token it compares (process_bin_update of memcached).
func (r *request) isBinarySet() bool {
	const set, setQuietly = 0x01, 0x11
	return r.dialect == protocol.Binary && (r.opcode == set || r.opcode == setQuietly)
}
