package proxy

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"magent/backend"
	"magent/proxy/engine"
)

const (
	mostUnclear   = 1000                   // keys of one server
	replayBatch   = 256                    // keys that are replayed at once
	recoveryPause = 20 * time.Millisecond  // before something that failed is tried again
	recoveryCheck = 200 * time.Millisecond // how often a server is looked after, without being asked
)

// recovery brings servers back to what they should hold: it decides what
// becomes of one that answers again, replays its journal, and has it resynced.
// It has a goroutine for each server; the copying itself is done by the loops.
type recovery struct {
	p       *Proxy
	twins   [][]int32     // for each server, those that hold second copies of its keys
	records []record      // of each server on each other
	lacking []atomic.Bool // keys that its twins hold, each server
	needed  []atomic.Bool // a server was found to lack keys that this one may hold
	unasked []atomic.Bool // whether a server came up before it was known what each other holds
	resyncs []resync
	told    []told        // what each server has told last of each other's keys
	cleared []atomic.Bool // the server held nothing, or was flushed, when it came back
	listing []sync.Mutex  // of a server's keys
	wakers  []chan struct{}
	lookers []chan struct{}

	presence presence
	wrote    atomic.Int64 // when a client last wrote a key, Unix nanoseconds, about
	others   atomic.Bool  // another proxy is there
	care     []care       // of each server
	idle     atomic.Bool  // this proxy sees to no server
	yielded  atomic.Bool  // which was said in the log

	elsewhere atomic.Bool // another proxy has clients, and this one has none

	awake      atomic.Int32 // workers that serve clients, or are about to
	forgetting sync.Mutex   // held while notes are forgotten

	twoJournals sync.Mutex // held to lock two of them

	flushOrder atomic.Pointer[flushOrder] // the last one that is known
	flushing   atomic.Bool                // one that was due is under way

	flushTimer atomic.Pointer[time.Timer] // has the servers looked at when it is due
}

// care is what was decided last on who sees to a server.
type care struct {
	acts  atomic.Bool // this proxy does
	rival atomic.Bool // see recovery.rival
	late  atomic.Bool // see recovery.late
	flush atomic.Bool // this proxy has taken it out to flush it

	overdue atomic.Int64 // when an order to flush was given that was due, and not run, while it was out, Unix milliseconds

	flushSeen atomic.Int64 // when the order to flush was given that the server was seen to hold last, Unix milliseconds

	conflict atomic.Int64 // see timesAreDue; Unix nanoseconds
	held     atomic.Int64 // when it was seen last that it holds more, Unix nanoseconds; see holdsMore

	mu      sync.Mutex
	unclear []string // keys of writes that were given up, and may still be run
}

// unclear notes a key until nothing is under way to its server any more: then
// its copies have to be compared. It returns false when there are too many already.
func (rc *recovery) unclear(server int32, key []byte) bool {
	c := &rc.care[server]
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.unclear) >= mostUnclear {
		return false
	}
	c.unclear = append(c.unclear, string(key))
	return true
}

// takeUnclear returns up to n of the keys that can be compared now.
func (rc *recovery) takeUnclear(server int32, n int) []string {
	if rc.p.servers[server].Late() || n <= 0 {
		return nil
	}
	c := &rc.care[server]
	c.mu.Lock()
	defer c.mu.Unlock()
	n = min(n, len(c.unclear))
	keys := slices.Clone(c.unclear[:n])
	c.unclear = slices.Delete(c.unclear, 0, n)
	return keys
}

// allUnclear returns all of them, for the next program.
func (rc *recovery) allUnclear(server int32) []string {
	c := &rc.care[server]
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.unclear)
}

// madeGood takes a key out of a server's journal, unless a write of another
// proxy may still undo that.
func (rc *recovery) madeGood(server int32, key []byte, when uint64) {
	if !rc.late(server) {
		rc.p.journals[server].remove(key, when, rc.rival(server))
	}
}

func newRecovery(p *Proxy) *recovery {
	n := len(p.servers)
	rc := &recovery{
		p: p, presence: presence{name: rand.Text(), beats: map[beatPlace]beat{}, told: map[int32]chan struct{}{}}, twins: make([][]int32, n), records: make([]record, n*n),
		lacking: make([]atomic.Bool, n), needed: make([]atomic.Bool, n), resyncs: make([]resync, n), unasked: make([]atomic.Bool, n*n), listing: make([]sync.Mutex, n), cleared: make([]atomic.Bool, n), told: make([]told, n*n), wakers: make([]chan struct{}, n), lookers: make([]chan struct{}, n), care: make([]care, n),
	}
	rc.idle.Store(true) // until it is known who else is there
	for i := range n {
		rc.wakers[i] = make(chan struct{}, 1)
		rc.lookers[i] = make(chan struct{}, 1)
		rc.resyncs[i].init()
		rc.twins[i] = p.pools.twins(int32(i))
	}
	return rc
}

// pair is the place of one server and another in a list of all pairs.
func (p *Proxy) pair(server, other int32) int { return int(server)*len(p.servers) + int(other) }

// dial connects to a server beside the loops' connections.
func (p *Proxy) dial(ctx context.Context, server int32) (*backend.Client, error) {
	o := p.options.Load()
	return p.servers[server].Dial(ctx, o.ConnectTimeout, o.ServerTimeout)
}

// record is that of one server on another.
func (rc *recovery) record(server, at int32) *record { return &rc.records[rc.p.pair(server, at)] }

// lacks tells whether a server may lack keys that its twins hold.
func (rc *recovery) lacks(server int32) bool { return rc.lacking[server].Load() }

// setLacks notes whether it does.
func (rc *recovery) setLacks(server int32, lacks bool) { rc.lacking[server].Store(lacks) }

// wake has every server looked after now.
func (rc *recovery) wake() {
	for _, c := range rc.wakers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// gone tells whether what only this server may hold counts as lost: nobody is
// there any more, or it was never there, or it is out for too long.
func (p *Proxy) gone(server int32) bool {
	s := p.servers[server]
	if s.OutFor() > p.options.Load().LostAfter {
		return true
	}
	if p.recovery.needed[server].Load() {
		return s.Refuses()
	}
	return s.Absent()
}

// Returning decides what becomes of a server that answers again
// (backend.Recovery).
func (rc *recovery) Returning(ctx context.Context, s *backend.Server, r backend.Return) backend.Verdict {
	server := int32(s.Index)
	j := rc.p.journals[server]
	state, _ := s.Load()
	if len(rc.twins[server]) == 0 {
		if state == backend.Dirty || !j.empty() {
			return backend.Verdict{Flush: true, To: backend.Up, Why: "it answers and was flushed, because it had missed flush_all"}
		}
		return backend.Verdict{To: backend.Up, Why: "it answers and has missed nothing"}
	}
	own, known := s.Life()
	first := !known
	same := known && own == r.Life
	lacking := false // what its twins hold
	partly := false  // another proxy has seen to this life, and has not ended
	for _, at := range rc.twins[server] {
		f, err := rc.readFacts(ctx, server, at)
		if err != nil {
			if first {
				rc.unasked[rc.p.pair(server, at)].Store(true)
			}
			if !first || !rc.p.servers[at].Absent() {
				lacking = true
			}
			continue
		}
		lacking = lacking || !f.empty
		if f.known {
			known = true
			if f.life == r.Life {
				same = true
				partly = partly || own != r.Life && !f.whole
			}
		}
		rc.merge(server, at, f, true)
	}
	held, err := rc.readOwnFacts(ctx, server)
	if err != nil {
		return backend.Verdict{Wait: "what it tells of its twins cannot be read: " + err.Error()}
	}
	rc.judge()
	overdue := rc.flushOverdue(server, held)
	if rc.timesAreDue(server) {
		return backend.Verdict{Wait: "another proxy has written the same keys without the server's twin, and is about to tell when"}
	}
	if first {
		rc.primarySays(server, r.Known, r.Lacking)
	}
	if r.Lacking && first {
		rc.setLacks(server, true)
		for _, at := range rc.twins[server] {
			rc.needed[at].Store(true)
		}
	}
	v := backend.Verdict{To: backend.Warming}
	switch {
	case !known && !r.Empty, same, r.Known:
		if partly || !same && known {
			rc.setLacks(server, true)
		}
		v.Why = "it answers, and what it has missed is replayed"
		if j.empty() {
			v.Why = "it answers and has missed nothing"
			if state == backend.Down && !rc.lacks(server) {
				v.To = backend.Up
			}
		}
	case r.Empty:
		rc.setLacks(server, lacking || !j.empty())
		rc.p.emptied(server)
		if state == backend.Down && !rc.lacks(server) && j.empty() {
			v.To = backend.Up
		}
		v.Why = "it is empty"
		if known {
			v.Why = "it is a new process, and empty"
		}
	default:
		v.Flush = true
		v.Why = "it is a new process, and was flushed because it held items of an earlier one"
	}
	switch {
	case overdue && !r.Empty:
		v.Flush = true
		v.Why = "it was flushed, because a flush_all was due while it was out"
	case !j.lost() || v.Flush:
	case rc.p.holdsMore(server):
		v.Why = missedMore(j) + ": it is flushed when its twin has got what only it holds"
	case rc.care[server].flush.Load() || rc.acts(server) && !rc.rival(server) && !rc.late(server):
		v.Flush = true
		v.Why = missedMore(j) + ": it was flushed"
	default:
		v.Why = missedMore(j) + ": each key is copied before it is read"
	}
	rc.cleared[server].Store(v.Flush || r.Empty)
	if v.Flush && !rc.mayFlush(ctx, server) {
		return backend.Verdict{Wait: "it has to be flushed, which another proxy sees to"}
	}
	// It serves no more. Of a write that it has run, and its twin not yet, nothing may have
	// been entered.
	if v.Flush && j.lost() && !overdue && (!rc.p.flushes.settle(ctx) || rc.p.holdsMore(server)) {
		return backend.Verdict{Wait: "it has to be flushed when its twin has got what only it holds"}
	}
	return v
}

// Restored is told that a verdict was carried out (backend.Recovery).
func (rc *recovery) Restored(s *backend.Server, v backend.Verdict) {
	rc.care[s.Index].flush.Store(false)
	rc.care[s.Index].conflict.Store(0)
	rc.tellFlush(s)
	if v.Flush && len(rc.twins[s.Index]) > 0 {
		rc.setLacks(int32(s.Index), true)
	}
	if rc.lacks(int32(s.Index)) {
		rc.resyncs[s.Index].again()
		rc.tellLacking(s)
	}
	rc.announce(int32(s.Index))
	rc.askedLater(int32(s.Index))
	if v.Flush {
		// What is entered from now on is replayed for nothing: it holds nothing. Until
		// it serves, nobody is to think that it may hold something.
		rc.p.emptied(int32(s.Index))
	}
	rc.wake()
}

// askedLater has the twins resynced that began to serve when this server could
// not be asked: it may hold keys that they lack.
func (rc *recovery) askedLater(server int32) {
	for _, twin := range rc.twins[server] {
		if !rc.unasked[rc.p.pair(twin, server)].Swap(false) || rc.cleared[server].Load() {
			continue
		}
		rc.setLacks(twin, true)
		rc.resyncs[twin].again()
		rc.p.servers[twin].Doubt("it came back before " + rc.p.servers[server].Name() + ", which may hold keys that it lacks")
	}
}

// run makes one server good, whenever there is something to do, until ctx
// ends.
func (rc *recovery) run(ctx context.Context, server int32) {
	check := time.NewTicker(recoveryCheck)
	defer check.Stop()
	lossTold := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-check.C:
			rc.leftDone()
			lossTold = rc.tellLost(server, lossTold)
		case <-rc.wakers[server]:
		}
		for rc.step(ctx, server) {
		}
	}
}

// watch looks at one server again and again until ctx ends.
func (rc *recovery) watch(ctx context.Context, server int32) {
	w := watcher{rc: rc, at: server}
	defer w.close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(recoveryCheck):
		case <-rc.lookers[server]:
		}
		if len(rc.twins[server]) == 0 {
			w.lookAlone(ctx)
			continue
		}
		w.look(ctx)
		rc.judge()
	}
}

// lookSoon has a server's watcher look now.
func (rc *recovery) lookSoon(server int32) {
	select {
	case rc.lookers[server] <- struct{}{}:
	default:
	}
}

// step does the next thing for a server. It returns false when there is
// nothing to do now.
func (rc *recovery) step(ctx context.Context, server int32) bool {
	s := rc.p.servers[server]
	state, _ := s.Load()
	if ctx.Err() != nil || !state.Serves() || len(rc.twins[server]) == 0 {
		return false
	}
	j := rc.p.journals[server]
	switch {
	case !rc.acts(server) && (!j.empty() || rc.lacks(server)), j.lost() && rc.rival(server):
		return false
	case !j.empty() && rc.late(server):
		return false // what is copied now may be overwritten
	case j.lost() && !rc.canBeFlushed(server):
		return false
	case j.lost():
		rc.care[server].flush.Store(true)
		s.TakeOut(true, missedMore(j)+": it is flushed")
		return false
	case !j.empty() && rc.rival(server) && j.onlyForeign():
		return false // who has noted it replays it; until then it is copied whenever it is asked for
	case !j.empty():
		s.Doubt("its journal is replayed")
		but := rc.p.undecidedTwins(server)
		keys := j.oldest(replayBatch, but...)
		switch {
		case len(keys) == 0:
			return len(but) == 0
		case !rc.replay(ctx, server, keys):
			return rest(ctx, recoveryPause)
		}
		return true
	case rc.lacks(server):
		return rc.resync(ctx, server)
	case state == backend.Warming:
		why := "it holds what it should"
		if s.Trust(why) && (!j.empty() || rc.lacks(server)) {
			s.Doubt("it was found to lack keys at this moment")
		}
		return true
	}
	return false
}

// rest pauses and returns false when ctx has ended.
func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// canBeFlushed tells whether a server may be flushed that has to be. Its twins first get
// what only it holds, and what it tells of that is taken back: it would be read again when
// it returns, empty. While a client's flush_all runs, that does it.
func (rc *recovery) canBeFlushed(server int32) bool {
	return !rc.holdsMore(server) && !rc.p.flushes.runs() && !slices.ContainsFunc(rc.twins[server], func(twin int32) bool {
		return rc.record(twin, server).tells() && rc.retires(twin)
	})
}

// holdsMore is Proxy.holdsMore, looked at once in a while.
func (rc *recovery) holdsMore(server int32) bool {
	c := &rc.care[server]
	now := unixNow()
	if now-c.held.Load() < int64(recoveryCheck) {
		return true
	}
	holds := rc.p.holdsMore(server)
	if holds {
		c.held.Store(now)
	}
	return holds
}

// replay copies keys that a server has missed. It returns false when none could be
// copied.
func (rc *recovery) replay(ctx context.Context, server int32, keys []string) bool {
	done := rc.copyAll(ctx, server, keys, true)
	rc.resyncs[server].replayed.Add(uint64(done))
	return done > 0
}

// copyAll has the loops copy keys to a server, and returns how many they have
// copied when all have ended.
func (rc *recovery) copyAll(ctx context.Context, server int32, keys []string, exact bool) int {
	if len(keys) == 0 {
		return 0
	}
	var good, left atomic.Int64
	left.Store(int64(len(keys)))
	ended := make(chan struct{})
	then := func(ok bool) {
		if ok {
			good.Add(1)
		}
		if left.Add(-1) == 0 {
			close(ended)
		}
	}
	for _, key := range keys {
		k := []byte(key)
		w := rc.p.workers[stripeOf(rc.p.leases.hash(k))%uint32(len(rc.p.workers))]
		w.loop.Post(&copyKey{w: w, key: k, to: server, exact: exact, then: then})
	}
	select {
	case <-ended:
	case <-ctx.Done():
	}
	return int(good.Load())
}

// startRecovery begins to look after the servers.
func (p *Proxy) startRecovery(ctx context.Context) {
	for i := range p.servers {
		p.wg.Go(func() { p.recovery.watch(ctx, int32(i)) })
		if len(p.recovery.twins[i]) > 0 {
			p.wg.Go(func() { p.recovery.run(ctx, int32(i)) })
		}
	}
}

var _ backend.Recovery = (*recovery)(nil)
var _ engine.Task = (*copyKey)(nil)
