package engine

import (
	"fmt"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Events says what a socket is ready for.
type Events uint32

// Readable tells whether there may be something to read, the end of the
// stream and errors included.
func (e Events) Readable() bool {
	return e&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
}

// Writable tells whether there may be room to write.
func (e Events) Writable() bool { return e&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 }

// Ended tells whether the other side has closed, or the socket has failed. A
// reader must go on until it sees the end, even after a short read.
func (e Events) Ended() bool { return e&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 }

// Failed tells whether the socket has failed, as when the other side has reset it.
func (e Events) Failed() bool { return e&unix.EPOLLERR != 0 }

// Handler is told when its socket is ready.
type Handler interface{ Ready(ev Events) }

// Task is work that another goroutine hands to a loop.
type Task interface{ Run() }

// TaskFunc makes a Task of a function.
type TaskFunc func()

// Run calls the function.
func (f TaskFunc) Run() { f() }

// Owner is asked at the end of every turn to flush what the turn produced.
type Owner interface {
	// EndTurn returns how long the loop may wait for the next event: a
	// negative value for as long as it takes, 0 when there is more to do.
	EndTurn() time.Duration
}

const (
	eventsPerTurn = 256
	readSize      = 256 << 10
)

type registration struct {
	handler    Handler
	generation int32
}

// Loop is one event loop. New makes it, Run serves it until Stop.
type Loop struct {
	Pool Pool // chunks for the outputs of this loop

	epoll    int
	wake     int // eventfd
	base     time.Time
	now      int64
	sockets  []registration // by descriptor
	events   [eventsPerTurn]unix.EpollEvent
	vectors  [vectorsPerSend]unix.Iovec
	scratch  []byte
	timers   timerHeap
	noNanos  bool // the kernel has no epoll_pwait2
	stopping bool

	mu     sync.Mutex
	inbox  []Task
	closed bool
	spare  []Task // the loop's alone
}

// New makes a loop. The error names the system call that failed.
func New() (*Loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	l := &Loop{epoll: epoll, wake: wake, base: time.Now(), scratch: make([]byte, readSize)}
	l.now = 1 // 0 stands for "never" with those who keep times
	if err := l.Register(wake, nil); err != nil {
		l.closeDescriptors()
		return nil, err
	}
	return l, nil
}

// Close frees a loop that was never run. Run does it for one that was.
func (l *Loop) Close() { l.closeDescriptors() }

func (l *Loop) closeDescriptors() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true // from here on their numbers may be somebody else's
	l.inbox = nil
	_ = unix.Close(l.epoll)
	_ = unix.Close(l.wake)
}

// Now is the time of the current turn: nanoseconds on a clock of the loop's
// own that never jumps. It is never 0.
func (l *Loop) Now() int64 { return l.now }

// Scratch is the loop's one read buffer. Its content is valid until the
// handler that filled it returns.
func (l *Loop) Scratch() []byte { return l.scratch }

// CanHold tells whether the loop can wait for less than a millisecond.
func (l *Loop) CanHold() bool { return !l.noNanos }

// Register begins to report the events of a non-blocking socket, edge
// triggered, to h. The loop does not own the descriptor.
func (l *Loop) Register(fd int, h Handler) error {
	for fd >= len(l.sockets) {
		l.sockets = append(l.sockets, make([]registration, len(l.sockets)/2+64)...)
	}
	s := &l.sockets[fd]
	s.generation++
	s.handler = h
	ev := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | uint32(unix.EPOLLET&0xffffffff),
		Fd:     int32(fd),
		Pad:    s.generation,
	}
	if h == nil {
		ev.Events = unix.EPOLLIN // the eventfd
	}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		s.handler = nil
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// Unregister ends the reports. Events of this socket that were already
// collected are dropped. It must come before the descriptor is closed.
func (l *Loop) Unregister(fd int) {
	s := &l.sockets[fd]
	s.handler = nil
	s.generation++
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, fd, nil)
}

// Post hands a task to the loop, which runs it in one of its next turns, in
// the order of the calls. Any goroutine may call it. Tasks that are posted
// after the loop has stopped are not run.
func (l *Loop) Post(t Task) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.inbox = append(l.inbox, t)
	if len(l.inbox) == 1 {
		one := uint64(1)
		_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(l.wake), uintptr(unsafe.Pointer(&one)), 8)
	}
}

// Stop ends Run at the end of the current turn. Only the loop itself may
// call it.
func (l *Loop) Stop() { l.stopping = true }

// Run serves the loop on a thread of its own until Stop, then frees it.
func (l *Loop) Run(owner Owner) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	wait := time.Duration(0)
	for !l.stopping {
		n := l.poll(wait)
		l.now = int64(time.Since(l.base)) + 1
		for i := range n {
			ev := &l.events[i]
			if int(ev.Fd) == l.wake {
				l.drainWake()
				continue
			}
			s := &l.sockets[ev.Fd]
			if s.handler != nil && s.generation == ev.Pad {
				s.handler.Ready(Events(ev.Events))
			}
		}
		l.runInbox()
		l.runTimers()
		wait = l.shorten(owner.EndTurn())
	}
	l.closeDescriptors()
}

func (l *Loop) drainWake() {
	var count uint64
	_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(l.wake), uintptr(unsafe.Pointer(&count)), 8)
}

func (l *Loop) runInbox() {
	l.mu.Lock()
	tasks := l.inbox
	l.inbox = l.spare
	l.mu.Unlock()
	for i, t := range tasks {
		tasks[i] = nil
		t.Run()
	}
	if cap(tasks) > 4096 {
		tasks = nil // a burst; do not keep its memory
	}
	l.spare = tasks[:0]
}

// poll waits for events and returns how many there are.
func (l *Loop) poll(wait time.Duration) int {
	var n uintptr
	var errno unix.Errno
	events := uintptr(unsafe.Pointer(&l.events[0]))
	if !l.noNanos {
		var limit *unix.Timespec
		if wait >= 0 {
			ts := unix.NsecToTimespec(int64(wait))
			limit = &ts
		}
		n, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(l.epoll), events, eventsPerTurn,
			uintptr(unsafe.Pointer(limit)), 0, 0)
		if errno != unix.ENOSYS {
			return countEvents(n, errno)
		}
		l.noNanos = true // before Linux 5.11: whole milliseconds only
	}
	ms := -1
	if wait >= 0 {
		ms = int((wait + time.Millisecond - 1) / time.Millisecond)
	}
	n, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), events, eventsPerTurn, uintptr(ms), 0, 0)
	return countEvents(n, errno)
}

func countEvents(n uintptr, errno unix.Errno) int {
	if errno != 0 {
		return 0 // EINTR; nothing else can come of a valid descriptor
	}
	return int(n)
}
