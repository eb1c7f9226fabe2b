package engine

import (
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second // far more than anything here takes

// newLoop makes a loop that is not run: the test calls its parts itself.
func newLoop(t testing.TB) *Loop {
	t.Helper()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// ownerFunc makes an Owner of a function.
type ownerFunc func() time.Duration

func (f ownerFunc) EndTurn() time.Duration { return f() }

// untilWoken is an Owner that has nothing to flush.
var untilWoken = ownerFunc(func() time.Duration { return -1 })

// runLoop runs a loop until the test ends. The function that it returns runs
// another one on the loop and waits for it.
func runLoop(t testing.TB, owner Owner) (l *Loop, do func(func())) {
	t.Helper()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return l, startLoop(t, l, owner)
}

func startLoop(t testing.TB, l *Loop, owner Owner) (do func(func())) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(owner)
	}()
	t.Cleanup(func() {
		l.Post(TaskFunc(l.Stop))
		within(t, ended, "the end of the loop")
	})
	return func(f func()) {
		t.Helper()
		done := make(chan struct{})
		l.Post(TaskFunc(func() {
			f()
			close(done)
		}))
		within(t, done, "a task")
	}
}

// within waits for a channel to be closed or to have something.
func within[T any](t testing.TB, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("waited %v for %s in vain", patience, what)
	}
	return v
}

// socketPair returns two connected non-blocking sockets.
func socketPair(t testing.TB) (here, there int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	return fds[0], fds[1]
}

// handlerFunc makes a Handler of a function.
type handlerFunc func(Events)

func (f handlerFunc) Ready(ev Events) { f(ev) }

func write(t testing.TB, fd int, s string) {
	t.Helper()
	if n, err := unix.Write(fd, []byte(s)); err != nil || n != len(s) {
		t.Fatalf("wrote %d bytes of %d: %v", n, len(s), err)
	}
}
