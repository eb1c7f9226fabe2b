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
type drain struct {
	server *Server
	loop   *engine.Loop
	fd     int
	timer  engine.Timer
}

// startDrain takes over the descriptor.
func startDrain(s *Server, loop *engine.Loop, fd int) {
	d := &drain{server: s, loop: loop, fd: fd}
	d.timer.Func = d.check
	s.drains.add(fd)
	engine.CloseWrite(fd)
	if err := loop.Register(fd, d); err != nil {
		d.fd = -1
		s.drains.remove(fd)
		engine.Reset(fd)
		return
	}
	loop.Arm(&d.timer, drainCheck)
}

// Ready is called by the loop.
func (d *drain) Ready(engine.Events) {
	for d.fd >= 0 {
		n, errno := engine.Recv(d.fd, d.loop.Scratch())
		if errno == unix.EAGAIN {
			return
		}
		if n == 0 || errno != 0 {
			d.end(engine.Close)
		}
	}
}

func (d *drain) check() {
	if at := d.server.answered.Load(); at != 0 && time.Since(time.Unix(0, at)) > drainGrace {
		d.end(engine.Reset)
		return
	}
	d.loop.Arm(&d.timer, drainCheck)
}

func (d *drain) end(close func(int)) {
	d.loop.Disarm(&d.timer)
	d.loop.Unregister(d.fd)
	d.server.drains.remove(d.fd)
	close(d.fd)
	d.fd = -1
}

// Draining returns the descriptors of the connections that are read to their
// end. They are not the caller's.
func (s *Server) Draining() []int { return s.drains.list() }

// AdoptDrain goes on reading a connection that the program before an upgrade
// had begun to read to its end. The descriptor is the loop's from now on. One
// that has ended meanwhile is left alone.
func AdoptDrain(s *Server, loop *engine.Loop, fd int) {
	if engine.Peer(fd).IsValid() {
		startDrain(s, loop, fd)
	}
}

// drains are the descriptors that are read to their end, on any loop.
type drains struct {
	mu  sync.Mutex
	fds []int
}

func (d *drains) add(fd int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fds = append(d.fds, fd)
}

func (d *drains) remove(fd int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fds = slices.DeleteFunc(d.fds, func(other int) bool { return other == fd })
}

func (d *drains) list() []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.fds)
}
