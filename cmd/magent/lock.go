package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lockRetry is the pause before a lock is tried again whose holder ended.
	lockRetry = 2 * time.Millisecond
	// lockAnswerTime bounds the time for which one who asks is waited for.
	lockAnswerTime = 100 * time.Millisecond
)

// patience says how long a launch waits for a magent that holds a lock to say
// that it serves.
type patience struct {
	answer time.Time // for one that listens: if it does not answer, it hangs
	start  time.Time // for one that does not listen yet
}

// newPatience is what a launch has from now on. keepalived takes a script that
// runs for two seconds for failed, and a script may do more than launch magent.
func newPatience() patience {
	now := time.Now()
	return patience{answer: now.Add(time.Second), start: now.Add(4 * time.Second)}
}

// occupant is the magent that holds the lock of an endpoint.
type occupant struct {
	endpoint endpoint
	pid      int
	silent   bool // holds the lock but did not answer in time
}

// lock is what keeps two magents from one endpoint: abstract Unix sockets, one
// for each endpoint, which belong to the serving process while it lives.
type lock struct {
	held    []heldName
	serving chan struct{} // closed by serve
	stopped chan struct{} // closed by close
	loops   sync.WaitGroup
}

type heldName struct {
	name     string
	listener *net.UnixListener
}

// claim takes the locks of all endpoints, in their order. Endpoints that
// another magent has, or is about to have, are returned instead; then nothing
// is held.
func claim(endpoints []endpoint, p patience) (*lock, []occupant, error) {
	for {
		l, taken, err := claimOnce(endpoints, p)
		if len(taken) == 0 || len(taken) == len(endpoints) || time.Now().After(p.answer) {
			return l, taken, err
		}
		// One that has some of them only may just be ending.
		time.Sleep(lockRetry)
	}
}

func claimOnce(endpoints []endpoint, p patience) (*lock, []occupant, error) {
	l := &lock{serving: make(chan struct{}), stopped: make(chan struct{})}
	var taken []occupant
	for _, e := range endpoints {
		if e.lockName() == "" {
			continue
		}
		o, err := l.add(e, p)
		if err != nil {
			l.close()
			return nil, nil, err
		}
		if o != nil {
			taken = append(taken, *o)
		}
	}
	if len(taken) > 0 {
		l.close()
		return nil, taken, nil
	}
	return l, nil, nil
}

// add takes the lock of one endpoint, or returns who has it.
func (l *lock) add(e endpoint, p patience) (*occupant, error) {
	name := e.lockName()
	for {
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		if err == nil {
			l.hold(name, listener)
			return nil, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("cannot take the lock %s: %w", name, err)
		}
		if o := ask(e, p); o != nil {
			return o, nil
		}
		if time.Now().After(p.start) {
			return nil, fmt.Errorf("cannot take the lock %s: another program keeps taking and leaving it: stop that program", name)
		}
		time.Sleep(lockRetry)
	}
}

// hold keeps a lock and starts to answer on it.
func (l *lock) hold(name string, listener *net.UnixListener) {
	l.held = append(l.held, heldName{name, listener})
	l.loops.Go(func() { l.answer(listener) })
}

// answer tells each who connects, once this process serves, that it does.
// Until then they wait in the queue of the socket.
func (l *lock) answer(listener *net.UnixListener) {
	select {
	case <-l.serving:
	case <-l.stopped:
		return
	}
	line := fmt.Sprintf("magent %s pid %d serving\n", version, os.Getpid())
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors: those who ask wait in the queue.
			select {
			case <-l.stopped:
				return
			case <-time.After(lockAnswerTime):
				continue
			}
		}
		// One who does not read it has room for it in the socket.
		if conn.SetWriteDeadline(time.Now().Add(lockAnswerTime)) == nil {
			_, _ = conn.Write([]byte(line))
		}
		conn.Close()
	}
}

// serve lets the lock say that this process serves.
func (l *lock) serve() { close(l.serving) }

// close gives the locks back and waits for those who answer on them. The last
// goes first: whoever gets the first finds the others free.
func (l *lock) close() {
	close(l.stopped)
	for _, h := range slices.Backward(l.held) {
		h.listener.Close()
	}
	l.loops.Wait()
}

// handOver returns the names held and their descriptors, which stay the lock's.
func (l *lock) handOver() (names []string, fds []int, err error) {
	for _, h := range l.held {
		raw, err := h.listener.SyscallConn()
		if err != nil {
			return nil, nil, err
		}
		if err := raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
			return nil, nil, err
		}
		names = append(names, h.name)
	}
	return names, fds, nil
}

// adoptLock is claim for a program that got the descriptors from the one whose
// place it takes.
func adoptLock(names []string, fds []int) (*lock, error) {
	l := &lock{serving: make(chan struct{}), stopped: make(chan struct{})}
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), names[i])
		listener, err := net.FileListener(file)
		file.Close() // FileListener has its own copy
		if err != nil {
			l.close()
			return nil, fmt.Errorf("cannot take over the lock %s: %w", names[i], err)
		}
		l.hold(names[i], listener.(*net.UnixListener))
	}
	return l, nil
}

// survey asks who serves each endpoint already, itself or by listening on all
// addresses. It holds nothing meanwhile: of one that just starts or ends it may
// find some endpoints only, and claim has to find out.
func survey(endpoints []endpoint, p patience) []occupant {
	var taken []occupant
	for _, e := range endpoints {
		if o := askFor(e, p); o != nil {
			taken = append(taken, *o)
		}
	}
	return taken
}

func askFor(e endpoint, p patience) *occupant {
	if e.lockName() == "" {
		return nil
	}
	if o := ask(e, p); o != nil {
		return o
	}
	for _, wider := range e.covers() {
		if o := ask(wider, p); o != nil {
			o.endpoint = e
			return o
		}
	}
	return nil
}

// ask connects to the lock of an endpoint and waits for the answer of its
// holder. It returns nil when nobody holds it, or whoever held it is gone.
func ask(e endpoint, p patience) *occupant {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: e.lockName(), Net: "unix"})
	if err != nil {
		if errors.Is(err, unix.EAGAIN) {
			// So many ask that the queue is full: the holder does not answer.
			return &occupant{endpoint: e, silent: true}
		}
		return nil
	}
	defer conn.Close()
	o := &occupant{endpoint: e, pid: peer(conn)}
	line, err := readLine(conn, p.answer)
	if errors.Is(err, os.ErrDeadlineExceeded) && !listens(e) {
		line, err = readLine(conn, p.start)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		o.silent = true
	case err != nil:
		return nil
	case !strings.HasPrefix(line, "magent ") || !strings.HasSuffix(line, " serving\n"):
		o.silent = true
	}
	return o
}

// readLine reads one line, which comes in one piece if it comes.
func readLine(conn *net.UnixConn, deadline time.Time) (string, error) {
	if err := conn.SetReadDeadline(deadline); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

// peer returns the process that bound the socket at the other end, 0 when that
// cannot be learnt.
func peer(conn *net.UnixConn) int {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	if err != nil {
		return 0
	}
	return pid
}
