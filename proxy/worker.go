package proxy

import (
	"math"
	"time"

	"github.com/rs/zerolog"

	"magent/backend"
	"magent/conntrack"
	"magent/proxy/engine"
	"magent/proxy/protocol"
)

const (
	roomLimit     = 8 << 20 // bytes that a server may leave waiting before its clients wait
	settleRounds  = 8       // of answers that make more requests, in one turn
	shedPause     = int64(10 * time.Millisecond)
	idleSweep     = time.Second      // how often silent clients are looked for
	arrivalWeight = 8                // of the past, in the mean time between requests
	holdRatio     = 3                // requests that a hold must promise to gather
	longestGap    = int64(time.Hour) // between requests, so that the mean stays sane
)

// worker is one event loop: its sessions, and a connection to each server.
// All that hangs on it runs on its loop.
type worker struct {
	p     *Proxy
	index int
	loop  *engine.Loop
	log   zerolog.Logger

	conns    []*backend.Conn // by index of the server
	sessions conntrack.Set[*session]
	queued   []*session // to flush, or to go on with, before the turn ends
	spare    []*session
	askList  []*request // see session.askAgain
	waiting  []*session // wait until a server takes more
	again    bool       // somebody has more to read

	free      *request
	freeCount int
	request   protocol.Request   // being parsed
	line      []byte             // an answer being made
	arith     protocol.MetaArith // a command being made

	clockZero int64 // Unix nanoseconds of the loop's clock at its 0
	tokens    tokens
	retokens  *retoken // free ones

	writes   int // in flight, until mirrored
	inFlight inFlight
	pausing  bool          // a flush_all lets writes end
	delayed  []engine.Task // writes and copies held back by it
	flush    *flush

	copies  map[string]*keyCopy // under way, by key
	pending []*keyCopy          // those that wait for writes to end
	idle    map[uint32]int      // by stripe, leases that copies have, or requests that wait for one
	onTwins map[uint32]int      // by stripe, writes that runOnTwin has begun
	notes   []notes             // for each server, what it told of each other
	looks   secondLooks

	held     int64 // bytes of input and of large values
	lastShed int64

	arrived     int   // requests in this turn
	gap         int64 // mean nanoseconds between requests
	lastArrival int64
	holdSince   int64 // when the oldest request that is held back came; 0: none

	sweep      engine.Timer
	homeless   engine.Timer // see resetHomeless
	asked      int64        // when a client last asked for a key
	wrote      int64        // when a client last wrote one
	asleep     bool         // clients wait until it is known what other proxies have done
	waking     bool
	woken      int64 // when they last went on
	frozen     bool  // a binary upgrade is under way: nothing new is begun
	draining   bool
	drainLater bool   // when clients are served again
	quiet      func() // called once when nothing is in flight
	stats      counters
}

func newWorker(p *Proxy, index int) (*worker, error) {
	loop, err := engine.New()
	if err != nil {
		return nil, err
	}
	w := &worker{p: p, index: index, loop: loop, log: p.log, gap: longestGap, lastArrival: loop.Now()}
	for _, s := range p.servers {
		w.conns = append(w.conns, backend.NewConn(s, loop, index, w, &p.limits))
	}
	w.copies, w.idle, w.onTwins = map[string]*keyCopy{}, map[uint32]int{}, map[uint32]int{}
	w.notes = make([]notes, len(p.servers)*len(p.servers))
	w.asked, w.wrote = math.MinInt64/2, math.MinInt64/2
	w.asleep = p.pools.backup != nil
	w.clockZero = unixNow() - loop.Now()
	w.tokens = newTokens(p.tokenIDs+uint64(index), w.clockZero)
	w.looks.known = map[string]bool{}
	w.looks.timer.Func = w.lookNow
	w.sweep.Func = w.sweepIdle
	w.homeless.Func = w.resetHomeless
	return w, nil
}

// run serves the loop until it is stopped.
func (w *worker) run() {
	w.loop.Arm(&w.sweep, idleSweep)
	if w.p.pools.backup != nil {
		w.loop.Arm(&w.looks.timer, lookTick)
	}
	w.loop.Run(w)
	for _, c := range w.conns {
		c.Close()
	}
}

// EndTurn flushes what the turn produced: every server once, then every
// client once (engine.Owner).
func (w *worker) EndTurn() time.Duration {
	w.measure()
	holding := false
	for range settleRounds {
		w.goOn()
		if holding = w.hold(); holding {
			break
		}
		w.flushServersOnce()
		if !w.unsent() && !w.moreToDo() {
			break
		}
	}
	w.makeRoom()
	w.flushSessions()
	if w.Held() > w.p.memoryPerWorker.Load() && w.loop.Now()-w.lastShed > shedPause {
		w.lastShed = w.loop.Now()
		w.shed()
	}
	if w.quiet != nil {
		w.checkQuiet()
	}
	switch {
	case w.again || len(w.queued) > 0 || !holding && w.unsent():
		w.again = false
		return 0
	case holding:
		return time.Duration(max(w.holdSince+int64(w.p.hold)-w.loop.Now(), 0))
	}
	return -1
}

// goOn lets clients go on that were blocked.
func (w *worker) goOn() {
	for i := 0; i < len(w.queued); i++ {
		s := w.queued[i]
		if s.closed {
			continue
		}
		s.goOn()
		if len(s.in) > 0 || s.readable {
			s.advance()
		}
	}
}

// moreToDo tells whether a session could go on by now.
func (w *worker) moreToDo() bool {
	for _, s := range w.queued {
		if !s.closed && len(s.in) > 0 && !s.blocked() && !s.incomplete() {
			return true
		}
	}
	return false
}

// measure keeps the mean time between requests.
func (w *worker) measure() {
	if w.arrived == 0 {
		return
	}
	now := w.loop.Now()
	gap := min((now-w.lastArrival)/int64(w.arrived), longestGap)
	w.gap += (gap - w.gap) / arrivalWeight
	w.lastArrival = now
	w.arrived = 0
}

// hold tells whether the servers should be sent nothing yet, because more
// requests are about to come and would fill the same packet. A lone client
// never waits.
func (w *worker) hold() bool {
	if w.p.hold <= 0 || w.gap*holdRatio > int64(w.p.hold) || !w.loop.CanHold() || w.frozen {
		w.holdSince = 0
		return false
	}
	if !w.unsent() {
		w.holdSince = 0
		return false
	}
	now := w.loop.Now()
	if w.holdSince == 0 {
		w.holdSince = now
		return true
	}
	if now-w.holdSince < int64(w.p.hold) {
		return true
	}
	w.holdSince = 0
	return false
}

// unsent tells whether a server has not been sent all of its requests.
func (w *worker) unsent() bool {
	for _, c := range w.conns {
		if c.Unflushed() {
			return true
		}
	}
	return false
}

// crowd makes a client wait that sends more than a server takes.
func (w *worker) crowd(r *request, c *backend.Conn) {
	if c.Unsent() < roomLimit || r.w != r.home || r.session == nil || r.session.waitRoom != nil {
		return
	}
	r.session.waitRoom = c
	w.waiting = append(w.waiting, r.session)
}

// makeRoom lets clients go on whose server has taken its requests.
func (w *worker) makeRoom() {
	still := w.waiting[:0]
	for _, s := range w.waiting {
		if s.closed {
			continue
		}
		if s.waitRoom.Unsent() >= roomLimit/2 {
			still = append(still, s)
			continue
		}
		s.waitRoom = nil
		s.wake()
	}
	clear(w.waiting[len(still):])
	w.waiting = still
}

func (w *worker) flushServersOnce() {
	for _, c := range w.conns {
		c.Flush()
	}
}

func (w *worker) flushSessions() {
	queued := w.queued
	w.queued = w.spare[:0]
	for i, s := range queued {
		queued[i] = nil
		s.queued = false
		s.finish()
	}
	w.spare = queued[:0]
}

// addSession begins to serve a client whose descriptor is the worker's now.
func (w *worker) addSession(fd int, c conntrack.Client) *session {
	s := &session{Client: c, w: w, fd: fd, usual: windowStart, authenticated: !w.p.Guarded()}
	s.Since, s.Active = w.loop.Now(), w.loop.Now()
	w.sessions.Add(s)
	if err := w.loop.Register(fd, s); err != nil {
		w.log.Error().Err(err).Msg("cannot serve a client")
		engine.Close(fd)
		s.closed = true
		s.forget()
	}
	return s
}

// newClient is a connection on its way from the acceptor to a worker.
type newClient struct {
	w      *worker
	fd     int
	client conntrack.Client
}

// Run is called on the worker's loop (engine.Task).
func (n *newClient) Run() {
	if n.w.draining {
		engine.Close(n.fd)
		n.w.p.clients.Leave()
		return
	}
	n.w.addSession(n.fd, n.client)
}

// sweepIdle closes clients that were silent for too long.
func (w *worker) sweepIdle() {
	w.loop.Arm(&w.sweep, idleSweep)
	limit := w.p.idle.Load()
	if limit == 0 {
		return
	}
	w.sessions.Silent(w.loop.Now()-limit, func(s *session) {
		if s.inFlight == 0 && s.out.Len() == 0 {
			w.stats.idleKicks++
			s.close()
		}
	})
}

// Held is the number of bytes that wait in this worker.
func (w *worker) Held() int64 { return w.held + w.loop.Pool.Held }

// shed closes the client that holds most when all together hold too much.
func (w *worker) shed() {
	var most *session
	size := 0
	w.sessions.Each(func(s *session) {
		if n := s.out.Len() + cap(s.in); n > size {
			most, size = s, n
		}
	})
	if most == nil || size < outputLimit {
		return
	}
	w.stats.shed++
	w.p.warnings.warn(w.log.Warn().Stringer("client", most.From).Int("bytes", size), "memory", // R5
		"too much waits for clients that do not read; closed the one that holds most (see --max-memory)")
	most.close()
}

// whenQuiet has f called on this loop as soon as no request is in flight and
// nothing waits to be sent to a client.
func (w *worker) whenQuiet(f func()) {
	w.quiet = f
	w.checkQuiet()
}

func (w *worker) checkQuiet() {
	if w.writes > 0 || len(w.delayed) > 0 || w.quiet == nil || w.drainLater {
		return
	}
	busy := false
	w.sessions.Each(func(s *session) {
		// An upgrade hands on what a client has not read.
		busy = busy || s.inFlight > 0 || s.keys > 0 || s.out.Len() > 0 && !w.frozen
	})
	if busy {
		return
	}
	f := w.quiet
	w.quiet = nil
	f()
}

// drain lets every client finish what it has sent, and closes it then.
func (w *worker) drain() {
	w.draining = true
	if w.asleep {
		w.drainLater = true
		w.wakeUp()
		return
	}
	w.sessions.Each(func(s *session) {
		s.advance() // what the client has sent so far
		s.ended = true
		s.wake()
	})
}
