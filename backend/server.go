package backend

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"magent/proxy/protocol"
)

// flushLasts is for how many seconds behind its time a flush_all may be seen, until
// magent has written its notes anew.
const flushLasts = 3

// State is what may be asked of a server.
type State uint8

// The states of a server.
const (
	Down    State = iota // not reachable; it has missed nothing
	Dirty                // not reachable, and writes were made without it
	Warming              // serves, but may lack keys, or hold keys that were written without it
	Up                   // serves, and holds what it should
)

func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Warming:
		return "warming"
	case Dirty:
		return "dirty"
	}
	return "down"
}

// Serves tells whether the server is sent reads and writes.
func (s State) Serves() bool { return s >= Warming }

// Server is one memcached process, named by its address. All loops share it.
type Server struct {
	Address
	Index int // place in the proxy's list of servers

	word     atomic.Uint64 // epoch<<8 | state
	address  atomic.Pointer[netip.AddrPort]
	version  atomic.Pointer[string]
	seen     []atomic.Uint64 // per loop, the last epoch that its Conn has seen
	drains   drains          // abandoned connections that may still be worked off
	answered atomic.Int64    // when the prober last got an answer since it went down, Unix nanoseconds
	modern   atomic.Bool     // its version has quiet meta sets
	noFlush  atomic.Bool     // it refuses flush_all
	tokens   atomic.Bool     // it takes cas tokens that are chosen for it
	flush    atomic.Int64    // Unix seconds of a flush_all with a delay, 0 for none
	itemMax  atomic.Int64    // bytes of its largest item, while it takes tokens
	noRuns   atomic.Bool     // a set in a run failed
	failures atomic.Int32    // unanswered reads in a row
	since    atomic.Int64    // when it went out, Unix nanoseconds
	life     atomic.Pointer[Life]
	greeting atomic.Pointer[string]         // what a connection to this life is answered first; see Greeting
	tag      atomic.Uint64                  // marks this life's cas tokens
	clock    atomic.Int64                   // nanoseconds that its clock is ahead of ours
	login    atomic.Pointer[protocol.Login] // what is proved to it when it asks; see Dial
	asks     atomic.Bool                    // it asked when it was last dialled
	problem  atomic.Pointer[string]         // why it does not let magent in
	binary   atomic.Bool                    // it answered in the binary protocol, when that was tried last
	binaryAt atomic.Int64                   // when that was, Unix nanoseconds
	outWhy   atomic.Pointer[string]         // why it did not serve last
	refused  atomic.Bool                    // the last probe found nobody there
	probed   atomic.Bool                    // a probe has failed
	changed  func(*Server, Change)
	kick     chan struct{}

	Outages atomic.Uint64 // times it was taken out
	Flushes atomic.Uint64 // times it was flushed before it came back
}

// Change is one change of a server's state.
type Change struct {
	From, To State
	Why      string
}

// NewServer returns a server that is down until its Prober has reached it.
// loops is the number of loops that hold a Conn to it. changed is called
// after each change of state, from any goroutine, and must not block.
func NewServer(a Address, index, loops int, changed func(*Server, Change)) *Server {
	s := &Server{Address: a, Index: index, changed: changed, kick: make(chan struct{}, 1)}
	s.seen = make([]atomic.Uint64, loops)
	s.word.Store(1<<8 | uint64(Down))
	s.since.Store(time.Now().UnixNano())
	return s
}

// Load returns the state and its epoch.
func (s *Server) Load() (State, uint64) {
	w := s.word.Load()
	return State(w), w >> 8
}

// Serves tells whether the server is sent reads and writes.
func (s *Server) Serves() bool { return State(s.word.Load()).Serves() }

// OutFor is how long the server has not served, 0 when it does.
func (s *Server) OutFor() time.Duration {
	if s.Serves() {
		return 0
	}
	return time.Since(time.Unix(0, s.since.Load()))
}

// OutWhy says in one line why the server does not serve, as far as was seen last; ""
// when it does, or nothing is known yet.
func (s *Server) OutWhy() string {
	if why := s.outWhy.Load(); why != nil && !s.Serves() {
		return *why
	}
	return ""
}

// Absent tells whether nobody is there at the server's address, or has not
// been since the program began: as far as one can see from here.
func (s *Server) Absent() bool {
	return s.Refuses() || !s.Serves() && s.life.Load() == nil && s.probed.Load()
}

// Refuses tells whether nobody is there at the server's address.
func (s *Server) Refuses() bool { return !s.Serves() && s.refused.Load() }

// FlushesAt notes when the server is flushed by a flush_all with a delay, in Unix
// seconds; 0 is never.
func (s *Server) FlushesAt(at int64) { s.flush.Store(at) }

// flushesNow tells whether such a flush_all may be under way. memcached carries it
// out by its own clock, a second early, and hides what is stored in that second.
func (s *Server) flushesNow() bool {
	at := s.flush.Load()
	if at == 0 {
		return false
	}
	since := s.Clock() - at
	return since >= -2 && since <= flushLasts
}

// HasMeta tells whether the server can tell an item's lifetime and be sent
// meta commands (memcached 1.6.14 and later).
func (s *Server) HasMeta() bool { return s.modern.Load() }

// HasOldMeta tells whether the server is older than memcached 1.6.27, which knows
// more meta flags than those before. It is not while its version is not known.
func (s *Server) HasOldMeta() bool { return s.Version() != "" && !s.since16(27) }

// Version is the version that the server told last, "" before the first time.
func (s *Server) Version() string {
	if v := s.version.Load(); v != nil {
		return *v
	}
	return ""
}

// setVersion notes what the server told.
func (s *Server) setVersion(version string) {
	s.version.Store(&version)
	s.modern.Store(s.since16(14))
}

// since16 tells whether the server is memcached 1.6.<patch> or later.
func (s *Server) since16(patch int) bool {
	var v [3]int
	_, err := fmt.Sscanf(s.Version(), "%d.%d.%d", &v[0], &v[1], &v[2])
	return err == nil && slices.Compare(v[:], []int{1, 6, patch}) >= 0
}

// takesRuns tells whether sets may be sent in runs; see run.
func (s *Server) takesRuns() bool { return s.modern.Load() && !s.noRuns.Load() }

// TakeOut makes a server that serves down, or dirty when it may have missed a
// write. One that is down already becomes dirty when missed is true. The
// caller must not run a write without the server before TakeOut or Miss has
// returned: only then does no loop read from it any more.
func (s *Server) TakeOut(missed bool, why string) {
	for {
		w := s.word.Load()
		switch State(w) {
		case Up, Warming:
			to := Down
			if missed {
				to = Dirty
			}
			s.since.Store(time.Now().UnixNano())
			if !s.word.CompareAndSwap(w, (w>>8+1)<<8|uint64(to)) {
				continue
			}
			s.outWhy.Store(&why)
			s.Outages.Add(1)
			s.answered.Store(0)
			s.changed(s, Change{State(w), to, why})
			s.Check()
			return
		case Down:
			if !missed {
				return
			}
			if s.Miss() {
				return
			}
		default:
			return
		}
	}
}

// Miss notes that a write is about to be made without this server. It
// returns false when the server serves, so that the write must not go without
// it after all.
func (s *Server) Miss() bool {
	for {
		w := s.word.Load()
		switch State(w) {
		case Up, Warming:
			return false
		case Dirty:
			return true
		case Down:
			if s.word.CompareAndSwap(w, w&^0xff|uint64(Dirty)) {
				s.changed(s, Change{Down, Dirty, "writes are made without it"})
				return true
			}
		}
	}
}

// Doubt makes a server that is up warming, because it may hold a key that has
// to be replayed.
func (s *Server) Doubt(why string) {
	for {
		w := s.word.Load()
		if State(w) != Up {
			return
		}
		if s.word.CompareAndSwap(w, w&^0xff|uint64(Warming)) {
			s.changed(s, Change{Up, Warming, why})
			return
		}
	}
}

// Trust makes a server that is warming up: it holds what it should.
func (s *Server) Trust(why string) bool {
	w := s.word.Load()
	if State(w) != Warming || !s.word.CompareAndSwap(w, w&^0xff|uint64(Up)) {
		return false
	}
	s.changed(s, Change{Warming, Up, why})
	return true
}

// bringUp makes the server serve if it is still in the state and epoch of
// word.
func (s *Server) bringUp(word uint64, to State, why string) bool {
	if !s.word.CompareAndSwap(word, (word>>8+1)<<8|uint64(to)) {
		return false
	}
	s.failures.Store(0)
	s.problem.Store(nil)
	s.binary.Store(false)
	s.noRuns.Store(false)
	s.changed(s, Change{State(word), to, why})
	return true
}

// seenByAll tells whether every loop has given up its connections of before
// the epoch.
func (s *Server) seenByAll(epoch uint64) bool {
	for i := range s.seen {
		if s.seen[i].Load() < epoch {
			return false
		}
	}
	return true
}

// Check asks the prober to look at the server now.
func (s *Server) Check() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}
