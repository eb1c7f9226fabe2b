package main

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	clientsPerSource = 20000 // below the number of local ports of one address
	spareFiles       = 64
	idleAnswerTime   = 10 * time.Second
)

// holdIdle opens count connections, says "ready" on stdout and holds them. The
// line "get" on stdin makes each of them do one get, after which it says
// "done"; any other line ends, and so does stop. Only the last connection opened
// does a get before "ready": connections are accepted in order, so its answer
// proves that all were accepted.
func holdIdle(t target, w *workload, count int, stdin io.Reader, stdout io.Writer, stop *atomic.Bool) error {
	if err := raiseFileLimit(count); err != nil {
		return err
	}
	fds := make([]int, 0, count)
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for i := range count {
		if stop.Load() {
			return nil
		}
		fd, err := connect(t, sourceOf(t, i))
		if err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, count, err)
		}
		fds = append(fds, fd)
	}
	if err := getAll(fds[count-1:], w); err != nil {
		return fmt.Errorf("last of %d connections: %w", count, err)
	}
	fmt.Fprintf(stdout, "ready %d\n", count)

	lines := make(chan string)
	go func() { // ends with stdin or with the process
		for s := bufio.NewScanner(stdin); s.Scan(); {
			lines <- s.Text()
		}
	}()
	for !stop.Load() {
		select {
		case line := <-lines:
			if line != "get" {
				return nil
			}
			if err := getAll(fds, w); err != nil {
				return err
			}
			fmt.Fprintln(stdout, "done")
		case <-time.After(100 * time.Millisecond): // to see stop
		}
	}
	return nil
}

// sourceOf spreads the connections over 127.0.0.1, 127.0.0.2 and so on, because
// one address has too few ports. It leaves other networks to the kernel.
func sourceOf(t target, i int) netip.Addr {
	if !t.ip.Is4() || !t.ip.IsLoopback() {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i/clientsPerSource)})
}

// getAll does one get on each connection, all of them at the same time: the
// other side has to hold them all.
func getAll(fds []int, w *workload) error {
	for i, fd := range fds {
		if err := sendGet(fd, w, uint32(i%w.keys)); err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, len(fds), err)
		}
	}
	for i, fd := range fds {
		if err := awaitGet(fd, w, uint32(i%w.keys)); err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, len(fds), err)
		}
	}
	return nil
}

func sendGet(fd int, w *workload, k uint32) error {
	n, errno := send(fd, w.getLine[int(k)*w.getStride:(int(k)+1)*w.getStride])
	if errno != 0 {
		return fmt.Errorf("get %s: send: %w", w.key(k), errno)
	}
	if n != w.getStride {
		return fmt.Errorf("get %s: only %d bytes could be sent", w.key(k), n)
	}
	return nil
}

// awaitGet reads the answer to a get from a non-blocking descriptor and checks it.
func awaitGet(fd int, w *workload, k uint32) error {
	var (
		buffer [4096]byte
		answer []byte
		count  counters
		r      = request{first: k, keys: 1}
	)
	for deadline := time.Now().Add(idleAnswerTime); ; {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, 100); err != nil && err != unix.EINTR {
			return fmt.Errorf("poll: %w", err)
		}
		n, errno := receive(fd, buffer[:])
		switch {
		case errno == unix.EAGAIN || errno == unix.EINTR:
			if time.Now().After(deadline) {
				return fmt.Errorf("get %s: no answer in %v", w.key(k), idleAnswerTime)
			}
			continue
		case errno != 0:
			return fmt.Errorf("get %s: %w", w.key(k), errno)
		case n == 0:
			return fmt.Errorf("get %s: closed by the other side after %.80q", w.key(k), answer)
		}
		answer = append(answer, buffer[:n]...)
		for rest := answer; len(rest) > 0; {
			taken, done, err := w.answer(&r, rest, &count)
			if err != nil || count.errors+count.wrong > 0 {
				return fmt.Errorf("%s", count.firstError)
			}
			if done {
				return nil
			}
			if taken == 0 {
				break
			}
			rest, answer = rest[taken:], rest[taken:]
		}
	}
}

// raiseFileLimit makes room for so many connections.
func raiseFileLimit(connections int) error {
	need := uint64(connections + spareFiles)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	if limit.Cur >= need {
		return nil
	}
	raised := syscall.Rlimit{Cur: need, Max: max(need, limit.Max)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
		return fmt.Errorf("%d connections need %d open files, the limit is %d: %w; raise it with ulimit -Hn",
			connections, need, limit.Max, err)
	}
	return nil
}
