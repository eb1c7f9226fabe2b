package proxy

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"magent/backend"
	"magent/proxy/engine"
	"magent/proxy/protocol"
)

// flushes runs one flush_all at a time. Every loop first lets its writes in
// flight end and holds new ones back; then all servers are flushed, so that on
// primary and backup the same writes come before it and the same come after.
type flushes struct {
	workers []*worker

	mu      sync.Mutex
	running bool
	waiting []*flush
}

// flush is one flush_all on its way.
type flush struct {
	home    *worker  // runs it
	request *request // the client's, nil for one that was due
	delay   int64    // seconds, 0 for now
	then    func()   // in its place, see flushes.settle; nil for a flush
	order   flushOrder

	unpaused atomic.Int32 // workers whose writes have not ended yet
	parts    int          // servers that have not answered yet
	done     int          // servers that were flushed
}

// forbidsFlush tells whether a server was started with -F. It is refused then as that server
// refuses it, before another one has run it: the pair would no longer hold the same.
func (p *Proxy) forbidsFlush() bool {
	return slices.ContainsFunc(p.servers, (*backend.Server).ForbidsFlush)
}

// refuseFlush answers a client as a memcached with -F (process_flush_all_command,
// process_bin_flush).
func (s *session) refuseFlush(r *protocol.Request) {
	b := s.w.line[:0]
	switch {
	case r.Dialect == protocol.Binary:
		b = protocol.AppendBinaryError(b, r.Opcode, r.OpaqueWord, protocol.StatusAuthError)
	case !r.Quiet:
		b = append(b, "CLIENT_ERROR flush_all not allowed\r\n"...)
	}
	s.w.line, r.Reply = b, b
	s.answerNow(r)
}

// begin starts a flush, or queues it behind the one that runs.
func (f *flushes) begin(fl *flush) {
	f.mu.Lock()
	if f.running {
		f.waiting = append(f.waiting, fl)
		f.mu.Unlock()
		return
	}
	f.running = true
	f.mu.Unlock()
	f.pause(fl)
}

func (f *flushes) pause(fl *flush) {
	fl.unpaused.Store(int32(len(f.workers)))
	for _, w := range f.workers {
		w.loop.Post(engine.TaskFunc(func() { w.pause(fl) }))
	}
}

// settle waits until the writes in flight have ended: what a server alone has got of them is
// in its twin's journal then. It returns false when ctx ends before.
func (f *flushes) settle(ctx context.Context) bool {
	settled := make(chan struct{})
	f.begin(&flush{home: f.workers[0], then: func() { close(settled) }})
	select {
	case <-settled:
		return true
	case <-ctx.Done():
		return false
	}
}

// runs tells whether a flush runs. What servers have missed and hold is about to change
// then, and settled when it has ended.
func (f *flushes) runs() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.running
}

// end lets writes go on and starts the next flush.
func (f *flushes) end() {
	for _, w := range f.workers {
		w.loop.Post(engine.TaskFunc(w.unpause))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 {
		f.running = false
		return
	}
	next := f.waiting[0]
	f.waiting = f.waiting[1:]
	f.pause(next)
}

// pause holds new writes of this worker back.
func (w *worker) pause(fl *flush) {
	w.pausing = true
	w.flush = fl
	if w.writes == 0 {
		w.paused()
	}
}

// paused is called when the last write in flight has ended.
func (w *worker) paused() {
	fl := w.flush
	if fl == nil {
		return
	}
	w.flush = nil
	if fl.unpaused.Add(-1) == 0 {
		fl.home.loop.Post(engine.TaskFunc(func() { fl.home.flushServers(fl) }))
	}
}

func (w *worker) unpause() {
	w.pausing = false
	delayed := w.delayed
	w.delayed = nil
	for _, task := range delayed {
		task.Run() // the next pause comes with a later task
	}
}

// flushServers sends the command to every server. One that is out misses it, unless
// all are: then it fails, and must not be made up for when what others have
// written since is there.
func (w *worker) flushServers(fl *flush) {
	if fl.then != nil {
		fl.then()
		w.p.flushes.end()
		return
	}
	fl.parts = 1
	if !slices.ContainsFunc(w.conns, func(c *backend.Conn) bool { return c.Sync().Serves() }) {
		w.flushPart(fl)
		return
	}
	fl.order = w.p.recovery.orderFlush(fl.delay)
	for i, c := range w.conns {
		if server := int32(i); !w.missesFlush(fl, server, c) {
			w.sendFlush(fl, server, c)
		}
	}
	w.noteFlush(fl)
	w.flushPart(fl)
}

// missesFlush tells whether a server is not sent the command, and sees to it that it is
// flushed all the same: when it is back, or when a delayed one is due.
func (w *worker) missesFlush(fl *flush, server int32, c *backend.Conn) bool {
	if fl.delay > 0 && w.p.recovery.delaysFlush(server) {
		if c.Sync().Serves() {
			w.tellDue(c, fl)
		}
		return true
	}
	for !c.Sync().Serves() {
		w.missFlush(server)
		if c.Server.Miss() {
			return true
		}
	}
	if w.p.journals[server].lost() {
		w.missFlush(server) // nothing of before is right
	}
	return false
}

// missFlush notes that a server may not have run the command. One without twins is
// flushed whenever it has missed anything.
func (w *worker) missFlush(server int32) {
	if len(w.p.recovery.twins[server]) > 0 {
		w.p.journals[server].lose(lostByFlush)
	}
}

func (w *worker) sendFlush(fl *flush, server int32, c *backend.Conn) {
	r := w.newRequest(nil, protocol.OpFlushAll, nil)
	r.popped = true
	r.Write = true
	r.Kind = backend.Line
	r.Answers = protocol.AnswersTo(protocol.OpFlushAll)
	r.phase = flushingAll
	r.primary, r.backup = server, -1
	r.flush = fl
	fl.parts++
	c.CloseGroup() // the gets came first
	b := c.Begin(64)
	b = protocol.AppendFlushAll(b, fl.delay)
	c.End(b)
	c.Queue(&r.Call)
}

// flushed is told what one server answered. One that refused has missed it.
func (w *worker) flushed(r *request, ok bool) {
	fl, server := r.flush, r.primary
	if ok {
		fl.done++
		if fl.delay == 0 && w.p.journals[server].lost() && w.p.recovery.alone() {
			w.p.emptied(server) // nothing has been written since the command was sent
		}
	} else {
		w.missFlush(server)
		w.p.servers[server].TakeOut(true, "it did not run flush_all")
		for _, at := range w.p.recovery.twins[server] {
			if twin := w.conns[at]; twin.Sync().Serves() {
				w.noteLoss(server, twin)
			}
		}
	}
	w.settle(r)
	w.flushPart(fl)
}

func (w *worker) flushPart(fl *flush) {
	if fl.parts--; fl.parts > 0 {
		return
	}
	w.p.flushes.end()
	r := fl.request
	if r == nil {
		w.p.recovery.flushing.Store(false)
		return
	}
	if fl.done > 0 {
		w.answer(r, okLine, protocol.OK, 0)
	} else {
		if fl.order.due > 0 {
			w.p.recovery.orderFlush(0) // nobody holds it
		}
		w.line = append(append(w.line[:0], "SERVER_ERROR no server is reachable to flush "...), w.p.servers[0].Name()...)
		w.replyFailure(r, w.line)
	}
	w.settle(r)
}
