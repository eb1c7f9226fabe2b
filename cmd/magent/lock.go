package main

import (
	"bufio"
	"context"
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
	// questionTime bounds the wait for a question on a lock, and for its answer
	// to be read.
	questionTime = time.Second
	// lockGuests is the most who may ask questions on a lock at once; more are
	// told that magent serves, and nothing else.
	lockGuests = 16
	// longestQuestion is the most bytes of one: a key and the words around it.
	longestQuestion = 512
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

// lock is what keeps two magents from one endpoint: abstract Unix sockets, one
// for each endpoint, which belong to the serving process while it lives.
type lock struct {
	held      []heldName
	serving   chan struct{} // closed by serve
	stopped   chan struct{} // closed by close
	questions answerer      // set by serve; nil: none are answered
	gate      gatekeeper    // set by guard; nil: all are answered
	guests    chan struct{} // one place for each who asks questions
	loops     sync.WaitGroup
}

// answerer answers a question about the proxy that serves, with whole lines.
type answerer func(ctx context.Context, question string) ([]byte, error)

func newLock() *lock {
	return &lock{serving: make(chan struct{}), stopped: make(chan struct{}), guests: make(chan struct{}, lockGuests)}
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
	l := newLock()
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
	l.loops.Go(func() { l.answer(name, listener) })
}

// answer tells each who connects, once this process serves, that it does, and
// then answers questions. Until then they wait in the queue of the socket.
func (l *lock) answer(name string, listener *net.UnixListener) {
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
		l.receive(name, conn)
	}
}

// receive takes the questions of one who has connected, if there are any. It
// does not wait for them.
func (l *lock) receive(name string, conn net.Conn) {
	// A Unix socket has permissions, which the lock would go around.
	if l.questions == nil || !strings.HasPrefix(name, tcpLocks) {
		conn.Close()
		return
	}
	select {
	case l.guests <- struct{}{}:
		l.loops.Go(func() {
			l.converse(conn)
			<-l.guests
		})
	default:
		conn.Close()
	}
}

// converse answers questions, a line each, until the other side has no more.
func (l *lock) converse(conn net.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	go func() {
		select {
		case <-l.stopped:
			cancel()
		case <-ctx.Done():
		}
		conn.Close() // which ends what is being read or written
	}()
	admitted := l.gate == nil || mayAsk(conn)
	lines := bufio.NewReaderSize(conn, longestQuestion)
	for {
		_ = conn.SetDeadline(time.Now().Add(questionTime))
		line, err := lines.ReadSlice('\n') // fails for a longer one
		if err != nil {
			return
		}
		question := strings.TrimRight(string(line), "\r\n")
		var answer []byte
		if l.gate != nil && (!admitted || strings.HasPrefix(question, authQuestion)) {
			var text string
			text, admitted = l.gate.admit(question)
			answer = []byte(text)
		} else if answer, err = l.questions(ctx, question); err != nil {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(questionTime))
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// guard has the lock answer those alone who prove themselves. It comes before
// serve.
func (l *lock) guard(g gatekeeper) { l.gate = g }

// serve lets the lock say that this process serves, and answer questions.
func (l *lock) serve(questions answerer) {
	l.questions = questions
	close(l.serving)
}

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
	l := newLock()
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
