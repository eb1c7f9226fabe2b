package proxy

import (
	"time"

	"golang.org/x/sys/unix"

	"magent/proxy/engine"
)

const (
	turnedAwayMost = 256         // at once; more are closed without ado
	turnedAwayTime = time.Second // until the client must have read why
)

var tooManyLine = []byte("SERVER_ERROR out of connections\r\n")

// turnedAway is a connection above the limit. It has been told so and is read
// to its end: to close it with input unread would reset it, and the client
// would not see why.
type turnedAway struct {
	a     *acceptor
	fd    int
	since int64
}

// turnAway refuses a connection.
func (a *acceptor) turnAway(fd int) {
	_, _ = unix.SendmsgN(fd, tooManyLine, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	engine.CloseWrite(fd)
	t := &turnedAway{a: a, fd: fd, since: a.loop.Now()}
	if len(a.away) >= turnedAwayMost || a.loop.Register(fd, t) != nil {
		engine.Close(fd)
		return
	}
	a.away = append(a.away, t)
	if !a.sweep.Armed() {
		a.loop.Arm(&a.sweep, turnedAwayTime)
	}
}

// Ready is called by the loop.
func (t *turnedAway) Ready(engine.Events) {
	for t.fd >= 0 {
		n, errno := engine.Recv(t.fd, t.a.loop.Scratch())
		if errno == unix.EAGAIN {
			return
		}
		if n == 0 || errno != 0 {
			t.end()
		}
	}
}

func (t *turnedAway) end() {
	if t.fd < 0 {
		return
	}
	t.a.loop.Unregister(t.fd)
	engine.Close(t.fd)
	t.fd = -1
}

// sweepAway closes those that have had their time.
func (a *acceptor) sweepAway() {
	still := a.away[:0]
	for _, t := range a.away {
		if t.fd >= 0 && a.loop.Now()-t.since >= int64(turnedAwayTime) {
			t.end()
		}
		if t.fd >= 0 {
			still = append(still, t)
		}
	}
	clear(a.away[len(still):])
	a.away = still
	if len(still) > 0 {
		a.loop.Arm(&a.sweep, turnedAwayTime)
	}
}
