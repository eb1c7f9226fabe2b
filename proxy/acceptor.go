package proxy

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"magent/conntrack"
	"magent/proxy/engine"
)

const (
	acceptsPerTurn = 64
	acceptPause    = 20 * time.Millisecond // when descriptors have run out
)

// acceptor takes new clients on a loop of its own and hands them to the
// workers in turn, so that each has its share.
type acceptor struct {
	p    *Proxy
	loop *engine.Loop

	listeners []*listener
	next      int
	open      bool
	pause     engine.Timer
	again     bool
	away      []*turnedAway
	sweep     engine.Timer
}

type listener struct {
	a     *acceptor
	fd    int
	ready bool
}

func newAcceptor(p *Proxy, fds []int) (*acceptor, error) {
	loop, err := engine.New()
	if err != nil {
		return nil, err
	}
	a := &acceptor{p: p, loop: loop}
	a.pause.Func = a.acceptAll
	a.sweep.Func = a.sweepAway
	for _, fd := range fds {
		l := &listener{a: a, fd: fd}
		if err := loop.Register(fd, l); err != nil {
			loop.Close()
			return nil, err
		}
		a.listeners = append(a.listeners, l)
	}
	return a, nil
}

func (a *acceptor) run(wg *sync.WaitGroup) {
	defer wg.Done()
	a.loop.Run(a)
}

// EndTurn is called by the loop (engine.Owner).
func (a *acceptor) EndTurn() time.Duration {
	if a.again {
		a.again = false
		a.acceptAll()
	}
	if a.again {
		return 0
	}
	return -1
}

// Ready is called by the loop.
func (l *listener) Ready(engine.Events) {
	l.ready = true
	l.a.accept(l)
}

// setOpen begins to accept, or stops. It runs on the loop.
func (a *acceptor) setOpen(open bool) {
	a.open = open
	a.acceptAll()
}

// shut closes the listeners and ends the loop.
func (a *acceptor) shut(closeListeners bool) {
	a.open = false
	for _, l := range a.listeners {
		a.loop.Unregister(l.fd)
		if closeListeners {
			engine.Close(l.fd)
		}
	}
	a.listeners = nil
	for _, t := range a.away {
		t.end()
	}
	a.loop.Stop()
}

func (a *acceptor) acceptAll() {
	for _, l := range a.listeners {
		a.accept(l)
	}
}

func (a *acceptor) accept(l *listener) {
	for range acceptsPerTurn {
		if !a.open || !l.ready || a.pause.Armed() {
			return
		}
		fd, from, err := engine.Accept(l.fd)
		switch {
		case errors.Is(err, unix.EAGAIN):
			l.ready = false
			return
		case err != nil:
			a.p.warnings.warn(a.p.log.Warn().Err(err), "accept",
				"cannot accept a client; raise the limit of open files or lower --max-clients")
			a.loop.Arm(&a.pause, acceptPause)
			return
		}
		id, ok := a.p.clients.Enter()
		if !ok {
			a.p.warnings.warn(a.p.log.Warn().Stringer("client", from).Int64("most", a.p.clients.Most()), "limit",
				"turned a client away: too many connections (see --max-clients)")
			a.turnAway(fd)
			continue
		}
		if from.IsValid() {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		}
		w := a.p.workers[a.next%len(a.p.workers)]
		a.next++
		w.loop.Post(&newClient{w: w, fd: fd, client: conntrack.Client{ID: id, From: from}})
	}
	a.again = true
}
