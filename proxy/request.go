package proxy

import (
	"sync/atomic"

	"magent/backend"
	"magent/proxy/protocol"
)

const (
	keptBuffer   = 2 << 10  // a larger buffer is not kept with a free request
	freeRequests = 16 << 10 // kept by a worker
)

// phase is what a request waits for.
type phase uint8

const (
	atServer    phase = iota // the answer that is the client's
	mirroring                // the backup's acknowledgement of the effect
	handedOver               // another loop runs it
	returning                // it is on its way back to its client's loop
	flushingAll              // one server's answer to flush_all
	copying                  // its key is copied first
)

// request is one request of a client for one key: a get of several keys is
// several requests. It belongs to the worker w; only what is said to be the
// home worker's may be touched by that one alone.
type request struct {
	backend.Call

	w *worker

	// The home worker's: the client and its order of answers.
	home    *worker
	session *session
	after   *request // next in the session's order
	answer  []byte   // when it came before its turn
	kept    bool     // answer is nobody else's and may be linked
	counted bool     // its bytes are counted in session.stored
	done    bool     // the answer is there, or will never be asked for
	popped  bool     // the session is done with the request
	settled bool     // the servers are done with it
	later   bool     // waits for room for its answer; then it is asked again
	away    bool     // counted among the session's requests that another loop runs
	ends    bool     // the last key of a get
	quiet   bool     // noreply
	refusal []byte   // a set that failed: its key is deleted, its client told so

	gone atomic.Bool // nobody waits for the answer any more; any worker may look

	op          protocol.Op
	dialect     protocol.Dialect
	phase       phase
	onTwin      bool // runs on the backup because the primary is out
	moved       bool // a read that another loop runs
	leased      bool
	routed      bool // counted among the writes that run on the backup although the primary serves
	sent        bool // counted among the writes in flight
	failed      bool // the answer is an error of ours
	lacking     bool // its server may lack the key although the other one holds it
	unsure      bool // counted among the session's gets that may be asked again after a miss
	filled      bool // the key has been copied to its server
	cured       bool // exactly, so that its journal does not matter
	meta        bool // sent as a meta command, so its answer is one
	raw         bool // in the client's words
	tokened     bool // sent with the token that was chosen
	classic     bool // no token is chosen for it
	tell        bool // the client is told the token of what it stores
	hush        bool // meta and binary: the usual answer is kept back
	base64      bool // the key goes base64-encoded
	encoded     bool // because no classic command can name it
	compares    bool // the item has to have the token compare
	foreign     bool // has meta flags that only the server can judge
	hasInitial  bool // incr and decr: of a missing key
	created     bool // a key that was not there before
	storedStale bool // and its effect has to be
	retoken     bool // a retoken is under way behind it, which ends it
	same        bool // what the backup answered before that
	tries       uint8
	copies      uint8  // how often its key was copied for it
	again       uint8  // how often it was asked again because a write was under way
	at          int32  // the server that it runs on
	slot        int16  // see inFlight; of a write that is counted among those in flight
	confirmed   int64  // by the loop's clock, when the primary had run it
	absent      uint64 // of the entry that it made in the journal of a server that is out, 0 for none
	when        uint64 // of the key's entry in that server's journal, 0 for none
	primary     int32  // index of the server; -1: none
	backup      int32
	hash        uint64
	stripe      uint32

	flags    uint32
	expiry   int64
	number   uint64 // amount of incr and decr
	compare  uint64 // cas token, as the client was told it
	result   uint64 // what the primary answered to incr or decr
	token    uint64 // chosen for the item that it makes, 0 for none
	effect   protocol.Op
	data     []byte // key, flags of a meta request, then a value that is not large, with its line end
	keyLen   int
	wordsLen int
	large    []byte // a large value with its line end

	flush *flush

	// Meta and binary requests only.
	seen          protocol.MetaFlags
	given         uint64 // the token that the client wants stored, 0 for none
	initial       uint64
	initialExpiry int64
	opcode        byte
	opaque        uint32
	itemFlags     uint32 // what a touch was told of the item
	itemCAS       uint64
}

func (w *worker) newRequest(s *session, op protocol.Op, key []byte) *request {
	r := w.free
	if r != nil {
		w.free = r.after
		w.freeCount--
		r.after = nil
	} else {
		r = &request{}
		r.Owner = r
	}
	r.w, r.home, r.session = w, w, s
	r.op = op
	r.data = append(r.data[:0], key...)
	r.keyLen = len(key)
	r.Key = r.data
	return r
}

// release gives a request back to its home worker's free list. Only that
// worker may call it, when neither session nor server hold the request.
func (w *worker) release(r *request) {
	if cap(r.data) > keptBuffer {
		w.loop.Pool.PutBuffer(r.data)
		r.data = nil
	}
	w.held -= int64(cap(r.large))
	data, answer := r.data, r.answer
	if cap(answer) > keptBuffer || r.kept {
		answer = nil
	}
	*r = request{data: data, answer: answer[:0]}
	if w.freeCount >= freeRequests {
		return
	}
	r.Owner = r
	r.after = w.free
	w.free = r
	w.freeCount++
}

func (r *request) key() []byte { return r.data[:r.keyLen] }

// value is the value of a storage request with its line end.
func (r *request) value() []byte {
	if r.large != nil {
		return r.large
	}
	return r.data[r.keyLen+r.wordsLen:]
}

// Request writes a get that cannot travel with others (backend.Receiver).
func (r *request) Request(dst []byte) []byte {
	if !r.raw {
		return protocol.AppendMetaGet(dst, r.key())
	}
	return r.appendRaw(dst, r.w.p.servers[r.at], false)
}

// Answered is told the line that a server answered (backend.Receiver).
func (r *request) Answered(line []byte, kind protocol.Answer, number uint64) {
	w := r.w
	switch r.phase {
	case atServer:
		r.saw(len(line))
		if r.raw {
			w.answeredRaw(r, line, kind)
			return
		}
		if r.meta {
			if w.dropped(r, kind) {
				return
			}
			if r.op == protocol.OpTouch {
				kind = r.touched(line, kind)
			}
			kind = plainKind(r.op, kind)
		}
		if isGet(r.op) || r.op == protocol.OpMetaGet {
			w.stats.serverErrors++
			w.replyFailure(r, line)
			w.settle(r)
			return
		}
		w.confirmed(r, line, kind, number)
	case mirroring:
		if r.effect == protocol.OpTouch && r.meta && protocol.IsWon(line) {
			w.giveBack(r.key(), r.hash, r.backup, protocol.TokenOf(line))
		}
		w.mirrored(r, plainKind(r.effect, kind), number)
	case flushingAll:
		w.flushed(r, kind == protocol.OK)
	}
}

// touched is told what a server answered to the touch of a binary client, and
// returns its kind.
func (r *request) touched(line []byte, kind protocol.Answer) protocol.Answer {
	var it protocol.Item
	switch {
	case kind == protocol.End:
		return protocol.NotFound
	case kind == protocol.Done && !protocol.ParseTouch(line, &it):
		return protocol.Error
	}
	r.itemFlags, r.itemCAS = it.Flags, it.CAS
	if it.Won {
		r.w.giveBack(r.key(), r.hash, r.at, it.CAS)
	}
	return kind
}

// saw tells the client's session how large an answer was.
func (r *request) saw(size int) {
	if r.w == r.home && r.session != nil {
		r.session.sawAnswer(size)
	}
}

// Found is told a VALUE block (backend.Receiver).
func (r *request) Found(block []byte, header *protocol.ValueHeader, keep bool) {
	w := r.w
	if r.phase == mirroring { // a value of the backup's, which nobody wants
		w.mirrored(r, plainKind(r.effect, protocol.Done), 0)
		return
	}
	r.saw(len(block))
	won := header.Won || r.raw && protocol.IsWon(block[:header.Len-len(lineEnd)]) // nobody is told so twice
	if !won && r.w == r.home && r.session != nil && r.session.postpone(r) {
		return
	}
	if r.raw {
		w.foundRaw(r, block, header, keep)
		return
	}
	if r.op == protocol.OpTouch { // the value is for nobody
		r.itemFlags, r.itemCAS = header.Flags, header.CAS
		w.confirmed(r, nil, protocol.Touched, 0)
		return
	}
	w.stats.getHits++
	mirrored := r.Write && w.mirrorTouch(r)
	switch r.dialect {
	case protocol.Meta:
		w.answerMetaValue(r, block, header, keep)
	case protocol.Binary:
		if header.Won {
			w.giveBack(r.key(), r.hash, r.at, header.CAS)
		}
		w.answerBinaryValue(r, block, header, keep)
	default:
		var head []byte // in place of the server's
		if header.HasCAS && w.p.pools.backup != nil {
			head = w.tokenHeader(r, header)
			block = block[header.Len:]
		}
		w.replyBlock(r, head, block, keep)
	}
	if !mirrored {
		w.settle(r)
	}
}

// Missed is told that the server does not hold the key (backend.Receiver).
func (r *request) Missed() {
	w := r.w
	if r.phase == mirroring {
		w.mirrored(r, protocol.NotFound, 0)
		return
	}
	r.saw(0)
	if r.op == protocol.OpTouch {
		w.confirmed(r, nil, protocol.NotFound, 0)
		return
	}
	if w.lacked(r) {
		return
	}
	w.stats.getMisses++
	w.answerMiss(r, nil)
	w.settle(r)
}

// Uncertain is told that this set, or one sent with it, failed
// (backend.Receiver). As memcached does with a set that fails, it leaves
// nothing old behind, wherever it ran.
func (r *request) Uncertain(line []byte) {
	w := r.w
	if r.phase == mirroring {
		w.mirrored(r, protocol.ServerError, 0)
		return
	}
	r.op = protocol.OpDelete
	r.refusal = append([]byte(nil), line...)
	w.runWrite(r)
}
