package proxy

import (
	"golang.org/x/sys/unix"

	"magent/backend"
	"magent/conntrack"
	"magent/proxy/engine"
	"magent/proxy/protocol"
)

const (
	windowBytes  = 1 << 20                   // answers that one client may have under way, by their usual size
	windowLeast  = 4                         // requests
	windowMost   = 128                       // requests
	windowStart  = windowBytes / windowLeast // bytes that an answer is taken to have before the first came
	outputLimit  = 256 << 10
	ownBuffer    = 32 << 10 // a request longer than this is read into a buffer of its own
	inputPerTurn = 1 << 20  // bytes that one client may send before others get their turn
)

// protocolSpoken is what a connection has begun to speak.
type protocolSpoken uint8

const (
	unknownProtocol protocolSpoken = iota
	textProtocol                   // classic and meta commands, mixed
	binaryProtocol
)

// session is one client: what it sent, in what order it will be answered, and
// what it has not been sent yet. It belongs to one worker. While it is idle it
// holds no buffer.
type session struct {
	conntrack.Client

	w  *worker
	fd int

	in       []byte // what is read and not yet parsed
	need     int    // length of the request at the start of in, once known
	searched int    // bytes of in that hold no line end
	skip     int64  // bytes to throw away
	keys     int    // bytes of keys at the start of the input: a get goes on
	behind   int    // bytes behind those keys that belong to their line
	getOp    protocol.Op
	getExp   int64

	head, tail *request
	inFlight   int
	parked     *request // nothing behind it is begun before it is answered
	turn       *request // goes to another loop once it is the head
	away       int      // reads that another loop runs
	unsure     int      // gets that may be asked again after a miss
	failure    []byte   // of a key of the get that is being answered
	usual      int      // bytes of an answer
	stored     int      // bytes of answers that came before their turn
	postponed  int      // gets to ask again when there is room for the answer

	out engine.Output

	readable bool // the socket may hold more
	ending   bool // the client has closed, or closes: read on to see it
	ended    bool // nothing more will come
	leaving  bool // close when all is answered
	speaks   protocolSpoken
	// It has proved itself, or need not.
	authenticated bool
	queued        bool // in the worker's list of sessions to go on with
	closed        bool
	homeless      bool          // its address has left this machine: reset it when all is answered
	waitRoom      *backend.Conn // waits until this server takes more
}

// Ready is called by the loop.
func (s *session) Ready(ev engine.Events) {
	if ev.Failed() && !s.w.p.recovery.alone() {
		// The client may ask another proxy by now. What it has sent here and nobody
		// has answered must not be run behind that, whatever this one waits for.
		s.close()
		return
	}
	if ev.Readable() {
		s.readable = true
		s.ending = s.ending || ev.Ended()
		s.advance()
	}
	if !s.closed {
		s.wake() // flush and go on at the end of the turn
	}
}

// wake has the worker look after the session before the turn ends.
func (s *session) wake() {
	if !s.queued && !s.closed {
		s.queued = true
		s.w.queued = append(s.w.queued, s)
	}
}

// blocked tells whether the client must wait before more of it is read.
func (s *session) blocked() bool {
	if s.inFlight >= windowLeast {
		if s.inFlight >= windowMost || s.inFlight*s.usual >= windowBytes {
			return true
		}
	}
	return s.closed || s.leaving || s.parked != nil || s.away > 0 || s.postponed > 0 || s.out.Len() >= outputLimit || s.waitRoom != nil ||
		(s.w.frozen || s.w.asleep) && s.keys == 0 // a get that has begun is ended
}

// sawAnswer learns how large this client's answers are.
func (s *session) sawAnswer(size int) {
	if size > s.usual {
		s.usual = size
	} else {
		s.usual = max(size, s.usual/2)
	}
}

// advance parses what has been read, and reads on, until the client is
// blocked or has sent no more.
func (s *session) advance() {
	if s.w.asleep && (len(s.in) > 0 || s.readable) {
		s.w.wakeUp()
	}
	budget := inputPerTurn
	for !s.blocked() {
		if len(s.in) > 0 && !s.incomplete() {
			data := s.in // a large value may take the buffer over
			s.keep(data, s.parse(data))
			if len(s.in) != len(data) {
				continue
			}
		}
		if !s.readable || s.ended {
			return
		}
		if budget <= 0 {
			s.w.again = true // others first
			s.wake()
			return
		}
		budget -= s.read()
	}
}

// incomplete tells whether the input is known to be too short to parse.
func (s *session) incomplete() bool {
	return (s.need > 0 && len(s.in) < s.need) || (s.searched > 0 && s.searched == len(s.in))
}

// read reads once and parses. It returns the number of bytes read.
func (s *session) read() int {
	own := s.need > ownBuffer || len(s.in) > ownBuffer
	var data []byte
	var n, room int
	var errno unix.Errno
	if own {
		s.grow()
		free := s.in[len(s.in):cap(s.in)]
		room = len(free)
		n, errno = engine.Recv(s.fd, free)
		data = s.in[:len(s.in)+max(n, 0)]
	} else {
		buf := s.w.loop.Scratch()
		k := copy(buf, s.in)
		room = len(buf) - k
		n, errno = engine.Recv(s.fd, buf[k:])
		data = buf[:k+n]
	}
	switch {
	case errno == unix.EAGAIN:
		s.readable = false
		return 0
	case errno != 0:
		s.close()
		return 0
	case n == 0:
		s.ended = true
		s.readable = false
		return 0
	}
	if n < room && !s.ending {
		s.readable = false
	}
	s.Active = s.w.loop.Now()
	s.BytesIn += uint64(n)
	s.w.stats.bytesIn += uint64(n)
	if own {
		s.in = data
	}
	if s.need > 0 && len(data) < s.need {
		if !own {
			s.keep(data, 0)
		}
		return n
	}
	s.keep(data, s.parse(data))
	return n
}

// grow makes room in the session's own buffer: exactly what the request needs
// when that is known, otherwise twice as much as there is.
func (s *session) grow() {
	if len(s.in) < cap(s.in) && (s.need == 0 || cap(s.in) >= s.need) {
		return
	}
	size := max(s.need, 2*len(s.in))
	s.w.held += int64(size - cap(s.in))
	larger := make([]byte, len(s.in), size)
	copy(larger, s.in)
	s.w.loop.Pool.PutBuffer(s.in)
	s.in = larger
}

// keep holds on to the input behind the first used bytes.
func (s *session) keep(data []byte, used int) {
	if s.closed {
		return
	}
	rest := data[used:]
	own := len(s.in) > 0 && len(data) > 0 && &s.in[0] == &data[0]
	switch {
	case len(rest) == 0:
		s.dropInput()
	case own && used == 0:
		s.in = data
	case own && cap(s.in) > ownBuffer && len(rest) > cap(s.in)/4:
		s.in = s.in[:copy(s.in, rest)]
	default:
		old := s.in
		s.in = append(s.w.loop.Pool.Buffer(max(len(rest), 1)), rest...)
		s.w.held += int64(cap(s.in))
		s.freeInput(old)
	}
}

func (s *session) dropInput() {
	old := s.in
	s.in = nil
	s.freeInput(old)
}

func (s *session) freeInput(b []byte) {
	if b == nil {
		return
	}
	s.w.held -= int64(cap(b))
	s.w.loop.Pool.PutBuffer(b[:0])
}

// close ends the session at once. Its requests go on without it.
func (s *session) close() { s.closeBy(engine.Close) }

// reset closes the connection at once: the client sees a reset.
func (s *session) reset() { s.closeBy(engine.Reset) }

func (s *session) closeBy(closeSocket func(fd int)) {
	if s.closed {
		return
	}
	s.closed = true
	s.w.loop.Unregister(s.fd)
	closeSocket(s.fd)
	s.forget()
}

// forget lets go of everything but the descriptor.
func (s *session) forget() {
	w := s.w
	s.out.Drop(&w.loop.Pool)
	s.dropInput()
	for r := s.head; r != nil; {
		next := r.after
		r.gone.Store(true)
		r.after, r.session = nil, nil
		r.popped = true
		if r.settled {
			w.release(r)
		}
		r = next
	}
	if s.turn != nil {
		w.release(s.turn) // no server was ever sent it
	}
	s.head, s.tail, s.parked, s.turn = nil, nil, nil, nil
	w.sessions.Remove(s)
	w.p.clients.Leave()
}

// finish is called at the end of a turn: it flushes, and closes when the
// client has left and everything is answered.
func (s *session) finish() {
	if s.closed {
		return
	}
	if s.out.Len() > 0 {
		sent, errno := s.w.loop.Send(s.fd, &s.out)
		s.BytesOut += uint64(sent)
		s.w.stats.bytesOut += uint64(sent)
		if errno != 0 {
			s.close()
			return
		}
	}
	if s.postponed > 0 {
		s.askAgain()
	}
	if s.turn != nil && s.turn == s.head {
		s.wake()
		return
	}
	if !s.blocked() && (s.readable && !s.ended || len(s.in) > 0 && !s.incomplete()) {
		s.wake() // there is room again
		return
	}
	if s.inFlight > 0 {
		return
	}
	if s.homeless {
		s.reset()
		return
	}
	if s.out.Len() > 0 {
		return
	}
	if s.leaving || s.ended && (len(s.in) == 0 || !s.blocked()) {
		s.close()
	}
}
