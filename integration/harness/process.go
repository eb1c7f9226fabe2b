package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shownOutput is how many bytes of a program's output a failed test shows,
// from its end.
const shownOutput = 12 << 10

// Process is one run of one program. Its output goes to a file and is shown
// when the test fails.
type Process struct {
	Name string

	tb      testing.TB
	cmd     *exec.Cmd
	logPath string
	ended   chan struct{} // closed when the process has been waited for
}

// StartProcess starts a program. It is killed at the end of the test, or with
// the test process, if it still runs then.
func StartProcess(tb testing.TB, name string, env []string, argv ...string) *Process {
	tb.Helper()
	file, err := os.CreateTemp(tb.TempDir(), filepath.Base(name)+"-*.log")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = file.Close() }()

	p := &Process{Name: name, tb: tb, logPath: file.Name(), ended: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = file, file
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	started := make(chan error)
	go func() {
		// PDEATHSIG is sent when the thread that forked ends, so that thread
		// has to stay until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // the status is read from ProcessState
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		tb.Fatalf("cannot start %s: %v", name, err)
	}
	tb.Cleanup(func() {
		p.Kill()
		if tb.Failed() {
			tb.Logf("--- %s (pid %d, %s): %s\n%s", name, p.PID(), p.cmd.ProcessState,
				strings.Join(argv, " "), tail(p.Output(), shownOutput))
		}
	})
	return p
}

// PID returns the process number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Running reports whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Signal sends a signal to the process. One that has ended gets none.
func (p *Process) Signal(sig syscall.Signal) {
	if p.Running() {
		_ = p.cmd.Process.Signal(sig)
	}
}

// Kill ends the process with SIGKILL, frozen or not, and waits until it is gone.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.ended
}

// WaitEnd waits until the process has ended by itself or by a signal and
// returns its state; false when it still runs after the given time.
func (p *Process) WaitEnd(within time.Duration) (*os.ProcessState, bool) {
	select {
	case <-p.ended:
		return p.cmd.ProcessState, true
	case <-time.After(within):
		return nil, false
	}
}

// Freeze stops every thread of the process with SIGSTOP and returns when they stand.
func (p *Process) Freeze() {
	p.tb.Helper()
	p.Signal(syscall.SIGSTOP)
	Eventually(p.tb, 10*time.Second, p.Name+" stands still", func() bool {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.PID()))
		for _, task := range tasks {
			stat, err := os.ReadFile(task)
			if err != nil {
				continue // this thread has just ended
			}
			if f := statFields(stat); len(f) == 0 || f[0] != "T" {
				return false
			}
		}
		return len(tasks) > 0
	})
}

// Thaw lets a frozen process go on.
func (p *Process) Thaw() { p.Signal(syscall.SIGCONT) }

// Output returns what the program has written so far.
func (p *Process) Output() string {
	out, err := os.ReadFile(p.logPath)
	if err != nil {
		return fmt.Sprintf("(output lost: %v)", err)
	}
	return string(out)
}

// CPUTime returns the processor time that the process has used so far, in
// user and in system mode together.
func (p *Process) CPUTime() time.Duration {
	p.tb.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		p.tb.Fatal(err)
	}
	f := statFields(stat)
	if len(f) < 13 {
		p.tb.Fatalf("cannot read the processor time from %q", stat)
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on Linux
}

// RSS returns how many bytes of memory the process has resident.
func (p *Process) RSS() int64 {
	p.tb.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		p.tb.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	p.tb.Fatalf("no VmRSS for %s", p.Name)
	return 0
}

// statFields returns the fields of a /proc stat line from the state on, which
// is the first one behind the name in parentheses (see proc(5)).
func statFields(stat []byte) []string {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return nil
	}
	return strings.Fields(string(stat[i+1:]))
}

// tail returns the last n bytes of s, from the start of a line.
func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[len(s)-n:]
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		s = s[i+1:]
	}
	return "[…]\n" + s
}
