package backend

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"magent/proxy/engine"
)

const (
	drainCheck = 100 * time.Millisecond
	drainGrace = time.Second
	keepAsking = time.Second // how often the other side's machine is asked whether it is there
)

// drain is a connection that was given up while its server may still have
// requests of it in its socket buffer: a stopped server works them off when
// it goes on, long after they were run elsewhere. It is closed for writing and
// read to its end; the end says that nothing of it is left to run. A prober
// does not bring the server back before that.
//
// A connection can also be dead without an end, when the network between has
// forgotten it. Then the server answers probes for a while and this connection
// stays silent: it is reset, which throws away what our side has not sent.
//
// When the network takes nothing for twice the time limit of an answer, our own side
// gives the connection up: what the server has not got by then it never will.
// The drain has to wait all the same, until the server answers: it may be one
// that stands still, with its buffers full.
type drain struct {
	server *Server
	loop   *engine.Loop
	fd     int // -1: our side has given it up
	writes bool
	timer  engine.Timer
}

// startDrain takes over the descriptor. writes tells whether anything of what
// the server may still run is a write.
func startDrain(s *Server, loop *engine.Loop, fd int, writes bool) {
	d := &drain{server: s, loop: loop, fd: fd, writes: writes}
	d.timer.Func = d.check
	engine.CloseWrite(fd)
	engine.KeepAsking(fd, keepAsking)
	if err := loop.Register(fd, d); err != nil {
		engine.Reset(fd)
		return
	}
	s.drains.add(d)
	loop.Arm(&d.timer, drainCheck)
}

// AdoptWait goes on waiting until a server answers, for a connection that the
// program before an upgrade had given up.
func AdoptWait(s *Server, loop *engine.Loop) {
	d := &drain{server: s, loop: loop, fd: -1}
	d.timer.Func = d.check
	s.drains.add(d)
	loop.Arm(&d.timer, drainCheck)
}

// Ready is called by the loop.
func (d *drain) Ready(engine.Events) {
	for d.fd >= 0 {
		n, errno := engine.Recv(d.fd, d.loop.Scratch())
		switch {
		case errno == unix.EAGAIN:
			return
		case n == 0 && errno == 0, errno == unix.ECONNRESET, errno == unix.EPIPE:
			d.close(engine.Close)
			d.end()
		case errno != 0: // our side has given it up
			d.close(engine.Close)
		}
	}
}

func (d *drain) check() {
	at := d.server.answered.Load()
	switch waited := time.Since(time.Unix(0, at)); {
	case at == 0:
	case d.fd < 0 && waited > drainCheck:
		d.end()
		return
	case waited > drainGrace:
		d.close(engine.Reset)
		d.end()
		return
	}
	d.loop.Arm(&d.timer, drainCheck)
}

// close closes the descriptor, if it is open.
func (d *drain) close(close func(int)) {
	if d.fd < 0 {
		return
	}
	fd := d.fd
	d.loop.Unregister(fd)
	d.server.drains.closed(d)
	close(fd)
}

func (d *drain) end() {
	d.loop.Disarm(&d.timer)
	d.server.drains.remove(d)
}

// Draining returns the descriptors of the connections that are read to their
// end. They are not the caller's.
func (s *Server) Draining() []int { return s.drains.open() }

// Awaited tells whether the server has to answer for a moment before it is
// trusted, because a connection to it was given up.
func (s *Server) Awaited() bool { return s.drains.given() }

// drained tells whether nothing is left that the server may still run.
func (s *Server) drained() bool { return s.drains.empty() }

// Late tells whether the server may still run writes that it was sent before it
// was given up.
func (s *Server) Late() bool { return s.drains.late() }

// AdoptDrain goes on reading a connection that the program before an upgrade
// had begun to read to its end. The descriptor is the loop's from now on. One
// that has ended meanwhile is left alone.
func AdoptDrain(s *Server, loop *engine.Loop, fd int) {
	if engine.Peer(fd).IsValid() {
		startDrain(s, loop, fd, true)
	}
}

// drains are those of one server, on any loop.
type drains struct {
	mu  sync.Mutex
	all []*drain
}

func (d *drains) add(one *drain) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, one)
}

func (d *drains) remove(one *drain) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = slices.DeleteFunc(d.all, func(other *drain) bool { return other == one })
}

// closed notes that a drain's descriptor is about to be closed.
func (d *drains) closed(one *drain) {
	d.mu.Lock()
	defer d.mu.Unlock()
	one.fd = -1
}

func (d *drains) open() (fds []int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, one := range d.all {
		if one.fd >= 0 {
			fds = append(fds, one.fd)
		}
	}
	return fds
}

func (d *drains) empty() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.all) == 0
}

func (d *drains) given() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.all, func(one *drain) bool { return one.fd < 0 })
}

func (d *drains) late() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.all, func(one *drain) bool { return one.fd >= 0 && one.writes })
}
