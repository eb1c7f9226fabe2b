package proxy

import (
	"bytes"
	"strconv"
	"unsafe"

	"magent/backend"
	"magent/proxy/protocol"
)

const reservedText = "keys that begin with " + backend.Prefix + " are magent's own; use another key"

var (
	longKeyText    = "a key that holds a space, a line end or a zero byte may have " + strconv.Itoa(protocol.MaxEncodedKey) + " bytes here"
	noDebugLine    = []byte("SERVER_ERROR memcached cannot tell this of a key that holds a line end\r\n")
	reservedPrefix = []byte(backend.Prefix)
	reservedLine   = []byte("CLIENT_ERROR " + reservedText + "\r\n")
)

// parse takes requests from the start of data until the client is blocked or
// no whole request is left, and returns the number of bytes that are done
// with.
func (s *session) parse(data []byte) (used int) {
	s.need = 0
	searched := s.searched
	s.searched = 0
	r := &s.w.request
	for !s.blocked() {
		if s.skip > 0 {
			k := min(s.skip, int64(len(data)-used))
			used += int(k)
			if s.skip -= k; s.skip > 0 {
				return used
			}
		}
		if s.keys > 0 {
			used += s.moreKeys(data[used:])
			continue
		}
		if used == len(data) {
			return used
		}
		if s.speaks == unknownProtocol {
			s.speaks = textProtocol
			if data[used] == protocol.BinaryRequest {
				s.speaks = binaryProtocol
			}
		}
		if !s.authenticated && s.speaks == textProtocol {
			n := s.prove(data[used:])
			if searched = 0; n == 0 {
				return used
			}
			used += n
			continue
		}
		n, need := s.parseOne(data[used:], searched, r)
		searched = 0
		if n == 0 {
			if need > 0 && !s.authenticated {
				if protocol.PeekBinary(data[used:], r); isStorage(r.Op) {
					s.refuseBinary(r) // its value is not waited for
					return used
				}
			}
			if need > 0 {
				s.need = need
			} else {
				s.searched = len(data) - used
			}
			return used
		}
		start := used
		used += n
		if !s.authenticated && !s.allowed(r) {
			s.refuseBinary(r)
			return used
		}
		if s.take(r, data, used) {
			continue
		}
		// A get whose keys follow one by one.
		used = offset(data, r.Keys)
		s.keys = len(r.Keys)
		s.behind = start + n - used - s.keys
		s.getOp, s.getExp = r.Op, r.Expiry
	}
	return used
}

// parseOne parses one request. The first byte of a connection has told whether it
// speaks the binary protocol, which mixes with no other (try_read_command of
// memcached).
func (s *session) parseOne(data []byte, searched int, r *protocol.Request) (n, need int) {
	if s.speaks == binaryProtocol {
		return s.w.p.parser.Load().ParseBinary(data, r)
	}
	return s.w.p.parser.Load().ParseFrom(data, searched, r)
}

// offset is the place of part in whole.
func offset(whole, part []byte) int {
	return int(uintptr(unsafe.Pointer(unsafe.SliceData(part))) - uintptr(unsafe.Pointer(unsafe.SliceData(whole))))
}

// moreKeys goes on with a get and returns the number of bytes that it took.
func (s *session) moreKeys(data []byte) (used int) {
	for s.keys > 0 && !s.blocked() {
		key, rest := protocol.NextKey(data[used : used+s.keys])
		used += s.keys - len(rest)
		s.keys = len(rest)
		if next, _ := protocol.NextKey(rest); next == nil {
			used += s.keys
			s.keys = 0
		}
		s.get(s.getOp, key, s.getExp, s.keys == 0)
	}
	if s.keys == 0 {
		used += s.behind
		s.behind = 0
	}
	return used
}

// take begins one request, which ends at data[end]. It returns false for a
// get of several keys of which only the first is under way.
func (s *session) take(r *protocol.Request, data []byte, end int) bool {
	w := s.w
	s.Requests++
	w.stats.requests++
	w.arrived++
	if s.unnamable(r) {
		return true
	}
	switch r.Op {
	case protocol.OpGet, protocol.OpGets, protocol.OpGat, protocol.OpGats:
		if r.Dialect == protocol.Binary {
			s.binaryGet(r)
			return true
		}
		more, _ := protocol.NextKey(r.Keys)
		s.get(r.Op, r.Key, r.Expiry, more == nil)
		return more == nil
	case protocol.OpSet, protocol.OpAdd, protocol.OpReplace, protocol.OpAppend, protocol.OpPrepend, protocol.OpCas:
		if s.reserved(r, r.Key) {
			return true
		}
		s.store(r, data, end)
	case protocol.OpDelete, protocol.OpIncr, protocol.OpDecr, protocol.OpTouch, protocol.OpInvalidate:
		if s.reserved(r, r.Key) {
			return true
		}
		w.write(s.order(r, r.Key))
	case protocol.OpMetaGet, protocol.OpMetaDebug:
		s.metaGet(r)
	case protocol.OpTooLarge:
		s.tooLarge(r)
	default:
		s.local(r)
	}
	return true
}

// isReserved tells whether a key is magent's own.
func isReserved(key []byte) bool {
	return len(key) > 0 && key[0] == reservedPrefix[0] && bytes.HasPrefix(key, reservedPrefix)
}

// reserved tells whether a write is refused because its key is magent's own.
func (s *session) reserved(r *protocol.Request, key []byte) bool {
	if s.w.p.pools.backup == nil || !isReserved(key) {
		return false
	}
	s.w.stats.invalid++
	quiet := r.Quiet && r.Dialect == protocol.Text
	reply := reservedLine
	if r.Dialect == protocol.Binary {
		reply = protocol.AppendBinaryText(nil, r.Opcode, r.OpaqueWord, protocol.StatusInvalid, reservedText)
	}
	*r = protocol.Request{Op: protocol.OpInvalid, Reply: reply, Skip: r.Skip}
	if quiet {
		r.Reply = nil
	}
	s.answerNow(r)
	return true
}

// isUnnamable tells whether no command can name a key to a server. Only binary
// clients have such keys.
func isUnnamable(key []byte) bool {
	return len(key) > protocol.MaxEncodedKey && !protocol.IsTextKey(key)
}

// unnamable tells whether a request is refused because of its key.
func (s *session) unnamable(r *protocol.Request) bool {
	if r.Dialect != protocol.Binary || !isUnnamable(r.Key) {
		return false
	}
	s.w.stats.invalid++
	reply := protocol.AppendBinaryText(nil, r.Opcode, r.OpaqueWord, protocol.StatusInvalid, longKeyText)
	s.answerNow(&protocol.Request{Op: protocol.OpInvalid, Reply: reply, Skip: r.Skip})
	return true
}

// order puts a new request of this client behind its others.
func (s *session) order(r *protocol.Request, key []byte) *request {
	q := s.w.newRequest(s, r.Op, key)
	q.quiet = r.Quiet
	q.adopt(r, s.w.p.servers[0])
	s.enqueue(q)
	return q
}

func (s *session) enqueue(q *request) {
	if s.head == nil {
		s.head = q
	} else {
		s.tail.after = q
	}
	s.tail = q
	s.inFlight++
}

func (s *session) get(op protocol.Op, key []byte, expiry int64, ends bool) {
	w := s.w
	q := w.newRequest(s, op, key)
	q.Kind = backend.Value
	q.ends = ends
	s.enqueue(q)
	w.stats.getKeys++
	if (op == protocol.OpGat || op == protocol.OpGats) && !bytes.HasPrefix(key, reservedPrefix) {
		w.stats.touches++
		q.expiry = expiry
		w.write(q)
		return
	}
	if op == protocol.OpGat || op == protocol.OpGats {
		q.op -= protocol.OpGat - protocol.OpGet // magent's own items keep their expiry
	}
	w.route(q)
	w.read(q)
}

func (s *session) store(r *protocol.Request, data []byte, end int) {
	w := s.w
	w.stats.sets++
	q := s.order(r, r.Key)
	size := len(r.Value) + len(lineEnd)
	if r.Dialect == protocol.Binary {
		s.storeBinary(q, r.Value)
		return
	}
	value := data[end-size : end]
	switch {
	case size > ownBuffer && end == len(data) && len(s.in) == len(data) && &s.in[0] == &data[0]:
		q.large = value // the buffer is the request's now
		s.in = nil
		w.held -= int64(cap(data))
	case size > ownBuffer:
		q.large = append(make([]byte, 0, size), value...)
	default:
		q.makeRoom(size)
		q.data = append(q.data, value...)
	}
	q.Key = q.key()
	w.held += int64(cap(q.large))
	w.write(q)
}

// makeRoom makes room for a value behind what a request holds.
func (r *request) makeRoom(size int) {
	need := len(r.data) + size
	if need > cap(r.data) && need > keptBuffer {
		r.data = append(r.w.loop.Pool.Buffer(need), r.data...)
	}
}

// storeBinary goes on with a storage request whose value has no line end.
func (s *session) storeBinary(q *request, value []byte) {
	size := len(value) + len(lineEnd)
	if size > ownBuffer {
		q.large = append(append(make([]byte, 0, size), value...), lineEnd...)
	} else {
		q.makeRoom(size)
		q.data = append(append(q.data, value...), lineEnd...)
	}
	q.Key = q.key()
	s.w.held += int64(cap(q.large))
	s.w.write(q)
}

// metaGet begins a meta get. One that changes an item is a write.
func (s *session) metaGet(r *protocol.Request) {
	w := s.w
	writes := r.Op == protocol.OpMetaGet && r.Meta.HasAny("TN")
	if writes && s.reserved(r, r.Key) {
		return
	}
	if r.Op == protocol.OpMetaDebug && bytes.IndexByte(r.Key, '\n') >= 0 {
		// memcached would answer more than one line.
		s.answerNow(&protocol.Request{Op: protocol.OpInvalid, Reply: noDebugLine})
		return
	}
	q := s.order(r, r.Key)
	w.stats.getKeys++
	if writes {
		w.write(q)
		return
	}
	w.route(q)
	w.read(q)
}

// binaryGet begins a get or gat of the binary protocol.
func (s *session) binaryGet(r *protocol.Request) {
	w := s.w
	if r.Op == protocol.OpGats && s.reserved(r, r.Key) {
		return
	}
	q := s.order(r, r.Key)
	w.stats.getKeys++
	if r.Op == protocol.OpGats {
		w.stats.touches++
		w.write(q)
		return
	}
	w.route(q)
	w.read(q)
}

// tooLarge refuses a storage request as memcached does: the value is thrown
// away, and a set leaves nothing old behind.
func (s *session) tooLarge(r *protocol.Request) {
	if s.reserved(r, r.Key) {
		return
	}
	s.skip = r.Skip
	if r.Refused != protocol.OpSet {
		s.answerNow(r)
		return
	}
	q := s.order(r, r.Key)
	q.op = protocol.OpDelete
	q.refusal = tooLargeLine
	q.quiet = len(r.Reply) == 0
	q.compares = false // it is dropped whatever its token
	s.w.write(q)
}

// answerNow queues an answer that needs no server.
func (s *session) answerNow(r *protocol.Request) {
	s.skip = r.Skip
	q := s.order(r, nil)
	q.quiet = false // what is to be answered stands in Reply
	q.settled = true
	q.answer = append(q.answer[:0], r.Reply...)
	s.w.replyStored(q)
	if r.Close {
		s.leaving = true
	}
}
