package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	eventsPerTurn   = 512
	turnMillis      = 50 // longest sleep of a turn, so that the phases end in time
	receiveBuffer   = 256 << 10
	reconnectPause  = 100 * time.Millisecond
	unreachableTime = 10 * time.Second // no client connected for so long ends the run
)

// errUnreachable says that no client could connect for unreachableTime.
var errUnreachable = errors.New("cannot be reached any more")

// client is one connection. The loop owns it and its slices.
type client struct {
	fd      int // -1 while it is not connected
	out     []byte
	sent    int       // bytes of out that are sent
	waiting []request // the batch, in the order in which it was sent
	next    int       // the first of them without a complete answer
	sentAt  int64     // when the batch was sent, in nanoseconds since the start
	rest    []byte    // the beginning of an answer whose end has not come
	writing bool      // the socket was full: EPOLLOUT is awaited
}

func (c *client) unanswered() int { return len(c.waiting) - c.next }

// plan says how long to run.
type plan struct {
	clients, pipeline int
	warmup, measure   time.Duration
	operations        uint64        // when not 0: stop after so many instead of after measure
	finish            time.Duration // most time for the last answers when the run is over
	watch             []watched
}

// outcome is what was measured between the end of the warm-up and the end of
// the run.
type outcome struct {
	elapsed       time.Duration
	count         counters
	latency       *histogram
	unanswered    uint64
	before, after cpuSample
}

// loop is one epoll and its clients. It must stay on one thread.
type loop struct {
	target  target
	work    *workload
	plan    plan
	epoll   int
	clients []client
	down    []int32 // clients that have to be connected again
	buffer  []byte
	events  []unix.EpollEvent

	start    time.Time
	retryAt  int64
	aliveAt  int64 // when a client was last connected
	ending   bool  // no new batches
	count    counters
	latency  histogram
	progress io.Writer
	stop     *atomic.Bool
}

// newLoop connects the clients. The caller closes the loop. progress gets one
// line each second; stop, set from anywhere, ends the run early.
func newLoop(t target, w *workload, p plan, progress io.Writer, stop *atomic.Bool) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	l := &loop{
		target: t, work: w, plan: p, epoll: epoll, progress: progress, stop: stop,
		clients: make([]client, p.clients),
		buffer:  make([]byte, receiveBuffer+2*w.hitSize()),
		events:  make([]unix.EpollEvent, eventsPerTurn),
		start:   time.Now(),
	}
	for i := range l.clients {
		l.clients[i].fd = -1
	}
	for i := range l.clients {
		if err := l.connect(int32(i)); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

func (l *loop) close() {
	for i := range l.clients {
		if l.clients[i].fd >= 0 {
			_ = unix.Close(l.clients[i].fd)
		}
	}
	_ = unix.Close(l.epoll)
}

func (l *loop) now() int64 { return int64(time.Since(l.start)) }

// connect gives client i a connection.
func (l *loop) connect(i int32) error {
	fd, err := connect(l.target, netip.Addr{})
	if err != nil {
		return err
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: i}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	l.clients[i].fd = fd
	l.aliveAt = l.now()
	return nil
}

// run starts all clients, warms up, measures, and waits for the last answers.
func (l *loop) run() (*outcome, error) {
	var last *outcome
	err := l.runWindows(1, func(o *outcome) error {
		last = o
		return nil
	})
	return last, err
}

// runWindows is run with so many measurements, one after the other without a
// pause, or, if windows is 0, as many as there is time for until stop is set.
// each is given every one of them, and an error from it ends the run.
func (l *loop) runWindows(windows int, each func(*outcome) error) error {
	for i := range l.clients {
		l.sendBatch(int32(i), l.now())
	}
	if err := l.phase(l.plan.warmup, 0); err != nil {
		return err
	}
	for n := 1; ; n++ {
		o, err := l.measure(func() bool { return n == windows || l.stop.Load() })
		if err == nil {
			err = each(o)
		}
		if err != nil || l.ending {
			return err
		}
	}
}

// measure is one measurement. If isLast says so at its end, it waits for the
// last answers.
func (l *loop) measure(isLast func() bool) (*outcome, error) {
	var o outcome
	var err error
	if o.before, err = sampleCPU(l.plan.watch); err != nil {
		return nil, err
	}
	l.count = counters{}
	l.latency.reset()
	begin := l.now()
	if err := l.phase(l.plan.measure, l.plan.operations); err != nil {
		return nil, err
	}
	o.elapsed = time.Duration(l.now() - begin)
	measured, latency := l.count, l.latency
	if o.after, err = sampleCPU(l.plan.watch); err != nil {
		return nil, err
	}
	if isLast() {
		o.unanswered = l.finish()
	}
	// The last answers do not belong to the measured time, their faults do.
	measured.errors, measured.wrong = l.count.errors, l.count.wrong
	measured.disconnects, measured.firstError = l.count.disconnects, l.count.firstError
	o.count, o.latency = measured, &latency
	return &o, nil
}

// phase runs the loop for a time, or until so many operations are counted.
func (l *loop) phase(length time.Duration, operations uint64) error {
	now := l.now()
	end := now + int64(length)
	line := progressLine{at: now + int64(time.Second), since: now}
	for !l.stop.Load() {
		now = l.now()
		if operations == 0 && now >= end || operations > 0 && l.count.operations >= operations {
			return nil
		}
		if now >= line.at {
			line.print(l, now)
		}
		if err := l.turn(now); err != nil {
			return err
		}
	}
	return nil
}

// progressLine prints what happened since it last did.
type progressLine struct {
	at, since int64
	before    uint64
}

func (p *progressLine) print(l *loop, now int64) {
	rate := float64(l.count.operations-p.before) / float64(now-p.since) * 1e6
	fmt.Fprintf(l.progress, "loadgen: %5.1f s  %8.1f thousand operations/s  %d misses  %d errors  %d wrong\n",
		float64(now)/1e9, rate, l.count.misses, l.count.errors, l.count.wrong)
	p.before, p.since = l.count.operations, now
	p.at += int64(time.Second)
}

// finish sends nothing new and waits for the answers still due. It returns the
// number of requests that got none.
func (l *loop) finish() (unanswered uint64) {
	l.ending = true
	for end := l.now() + int64(l.plan.finish); l.now() < end; {
		unanswered = 0
		for i := range l.clients {
			unanswered += uint64(l.clients[i].unanswered())
		}
		if unanswered == 0 || l.stop.Load() {
			return 0
		}
		if l.turn(l.now()) != nil {
			break
		}
	}
	return unanswered
}

// turn waits for ready sockets and serves each of them once.
func (l *loop) turn(now int64) error {
	if len(l.down) > 0 && !l.ending {
		if err := l.reconnect(now); err != nil {
			return err
		}
	}
	n, errno := epollWait(l.epoll, l.events, turnMillis)
	if errno != 0 && errno != unix.EINTR {
		return fmt.Errorf("epoll_pwait: %w", errno)
	}
	for i := range n {
		event := &l.events[i]
		if event.Events&unix.EPOLLOUT != 0 {
			l.flush(event.Fd)
		}
		if event.Events&^unix.EPOLLOUT != 0 {
			l.receive(event.Fd)
		}
	}
	return nil
}

// reconnect tries again for the clients that lost their connection.
func (l *loop) reconnect(now int64) error {
	if now < l.retryAt {
		return nil
	}
	l.retryAt = now + int64(reconnectPause)
	if len(l.down) < len(l.clients) {
		l.aliveAt = now
	} else if now-l.aliveAt > int64(unreachableTime) {
		return fmt.Errorf("%s %w: %s", l.target.text, errUnreachable, l.count.firstError)
	}
	down := l.down
	l.down = nil
	for n, i := range down {
		if l.connect(i) != nil {
			l.down = append(l.down, down[n:]...)
			break
		}
		l.sendBatch(i, l.now())
	}
	return nil
}

// receive reads once from a client's socket and takes the answers in it. When
// the batch is answered the next one is sent.
func (l *loop) receive(i int32) {
	c := &l.clients[i]
	if c.fd < 0 {
		return // lost earlier in this turn
	}
	kept := copy(l.buffer, c.rest)
	n, errno := receive(c.fd, l.buffer[kept:])
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return
	}
	if n <= 0 {
		l.lost(i, errno)
		return
	}
	now := l.now()
	data := l.buffer[:kept+n]
	for len(data) > 0 && c.next < len(c.waiting) {
		r := &c.waiting[c.next]
		taken, done, err := l.work.answer(r, data, &l.count)
		if err != nil {
			l.lost(i, 0)
			return
		}
		data = data[taken:]
		if done {
			l.latency.record(now - c.sentAt)
			l.count.operations++
			l.count.keysAsked += uint64(r.keys)
			c.next++
		} else if taken == 0 {
			break
		}
	}
	c.rest = append(c.rest[:0], data...)
	if c.next < len(c.waiting) {
		return
	}
	if len(data) > 0 {
		_ = unreadable(data, &l.count)
		l.lost(i, 0)
		return
	}
	if !l.ending {
		l.sendBatch(i, now)
	}
}

// sendBatch prepares a batch and sends it.
func (l *loop) sendBatch(i int32, now int64) {
	c := &l.clients[i]
	c.out, c.sent = c.out[:0], 0
	c.waiting, c.next = c.waiting[:0], 0
	for range l.plan.pipeline {
		var r request
		c.out, r = l.work.next(c.out)
		c.waiting = append(c.waiting, r)
	}
	c.sentAt = now
	l.flush(i)
}

// flush sends what the socket takes, and asks for EPOLLOUT while there is more.
func (l *loop) flush(i int32) {
	c := &l.clients[i]
	for c.fd >= 0 && c.sent < len(c.out) {
		n, errno := send(c.fd, c.out[c.sent:])
		switch errno {
		case 0:
			c.sent += n
		case unix.EINTR:
		case unix.EAGAIN:
			l.awaitWritable(i, true)
			return
		default:
			l.lost(i, errno)
			return
		}
	}
	if c.fd >= 0 && c.writing {
		l.awaitWritable(i, false)
	}
}

func (l *loop) awaitWritable(i int32, on bool) {
	c := &l.clients[i]
	if c.writing == on {
		return
	}
	c.writing = on
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: i}
	if on {
		event.Events |= unix.EPOLLOUT
	}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, c.fd, &event); err != nil {
		l.count.fault("epoll_ctl: %v", err)
		l.lost(i, 0)
	}
}

// lost closes a client's connection and counts what it left unanswered.
func (l *loop) lost(i int32, errno syscall.Errno) {
	c := &l.clients[i]
	l.count.disconnects++
	l.count.errors += uint64(c.unanswered())
	why := "closed by the other side"
	if errno != 0 {
		why = errno.Error()
	}
	l.count.fault("connection %d with %d unanswered requests: %s", i, c.unanswered(), why)
	_ = unix.Close(c.fd)
	c.fd, c.writing = -1, false
	c.waiting, c.next = c.waiting[:0], 0
	c.out, c.sent, c.rest = c.out[:0], 0, c.rest[:0]
	l.down = append(l.down, i)
}
