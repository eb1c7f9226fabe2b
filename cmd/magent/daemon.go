package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// detachedVariable marks the process that goes on in the background.
	detachedVariable = "MAGENT_DETACHED"
	// detachWait bounds the wait for it to serve.
	detachWait = 10 * time.Second
	// readyByte is what it writes, after any warnings, once it serves.
	readyByte = 0
	// processName is what ps, pgrep and pidof find, whatever the file is called.
	processName = "magent"
)

// errReported says that the process in the background has failed and that what
// it had to say has been passed on.
var errReported = errors.New("magent did not start")

// detach starts this program again in the background and waits until it
// serves, fails, or finds that there is nothing to do. What it writes until
// then goes to stderr. The new process has a session of its own, no descriptor
// of this one's but the pipe, and, as fork(2) clears it, no signal for the
// death of its parent.
func detach(executable string, stderr io.Writer) error {
	closeOnExec()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot go to the background: %w: use -D", err)
	}
	defer null.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot go to the background: %w", err)
	}
	defer reader.Close()
	pid, err := syscall.ForkExec(executable, os.Args, &syscall.ProcAttr{
		Env:   append(os.Environ(), detachedVariable+"=1"),
		Files: []uintptr{null.Fd(), null.Fd(), writer.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	writer.Close()
	if err != nil {
		return fmt.Errorf("cannot go to the background: start %s: %w", executable, err)
	}
	ready, err := passOn(stderr, reader, time.Now().Add(detachWait))
	if ready {
		return nil
	}
	if err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		err = fmt.Errorf("the process in the background, pid %d, did not serve within %s and was ended: use -D to see why", pid, detachWait)
	}
	status, waitErr := wait(pid)
	switch {
	case err != nil:
		return err
	case waitErr != nil:
		return fmt.Errorf("lost the process in the background, pid %d: %w", pid, waitErr)
	case status.Exited() && status.ExitStatus() == 0:
		return nil
	case status.Signaled():
		return fmt.Errorf("the process in the background, pid %d, was ended by signal %s", pid, unix.SignalName(status.Signal()))
	}
	return errReported
}

func wait(pid int) (syscall.WaitStatus, error) {
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(pid, &status, 0, nil)
		if !errors.Is(err, syscall.EINTR) {
			return status, err
		}
	}
}

// passOn copies from the pipe to w until the ready byte, which it reports, the
// end, or the deadline, which is an error.
func passOn(w io.Writer, pipe *os.File, deadline time.Time) (ready bool, err error) {
	if err := pipe.SetReadDeadline(deadline); err != nil {
		return false, err
	}
	buffer := make([]byte, 4096)
	for {
		n, err := pipe.Read(buffer)
		text, _, ready := bytes.Cut(buffer[:n], []byte{readyByte})
		if len(text) > 0 {
			if _, err := w.Write(text); err != nil {
				w = io.Discard // whoever started us does not listen
			}
		}
		if ready {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// takeDetachedMark says whether this process is the one in the background, and
// removes the mark from the environment of whatever it may start.
func takeDetachedMark() bool {
	if os.Getenv(detachedVariable) == "" {
		return false
	}
	os.Unsetenv(detachedVariable)
	return true
}

// settle gives the process in the background its umask and directory, which
// were those of whoever launched it.
func settle() error {
	syscall.Umask(0o022)
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("cannot go to the directory /: %w", err)
	}
	return nil
}

// reportReady tells the launching process that this one serves and gives up
// the pipe to it.
func reportReady() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	// An error means that the launching process is gone, which changes nothing.
	_, _ = os.Stderr.Write([]byte{readyByte})
	return unix.Dup3(int(null.Fd()), int(os.Stderr.Fd()), 0)
}

// nameProcess sets the name that ps shows. A program that is started by another
// name, such as that of a link, would keep that. Those who look for the name
// look in /proc, so that an error there means that nobody does.
func nameProcess() {
	_ = os.WriteFile("/proc/self/comm", []byte(processName), 0)
}

// closeOnExec marks every descriptor but standard input, output and error, so
// that no program started from here inherits it.
func closeOnExec() {
	const first = 3
	if unix.CloseRange(first, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	// Linux before 5.11.
	last := 1 << 16
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		last = int(min(limit.Cur, 1<<20))
	}
	if names, err := os.ReadDir("/proc/self/fd"); err == nil {
		last = 0
		for _, name := range names {
			if fd, err := strconv.Atoi(name.Name()); err == nil {
				last = max(last, fd+1)
			}
		}
	}
	for fd := first; fd < last; fd++ {
		syscall.CloseOnExec(fd)
	}
}

// programPath returns the file of this program by the path under which it was
// started, so that an upgrade finds the program that a link then points to,
// and by its real path where that leads elsewhere.
func programPath(directory string) (string, error) {
	real, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find this program's own file: %w: start magent by its full path", err)
	}
	started := os.Args[0]
	if filepath.Base(started) == started {
		if started, err = exec.LookPath(started); err != nil {
			return real, nil
		}
	}
	if !filepath.IsAbs(started) {
		started = filepath.Join(directory, started)
	}
	a, errA := os.Stat(started)
	b, errB := os.Stat(real)
	if errA == nil && errB == nil && os.SameFile(a, b) {
		return started, nil
	}
	return real, nil
}
