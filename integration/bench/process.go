package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	stopTime  = 3 * time.Second // usual time from TERM to KILL
	tailBytes = 2000            // of what a process writes, for error messages
)

// process is a running child. Its owner calls stop.
type process struct {
	name   string
	pid    int
	handle *os.Process
	ended  chan struct{} // closed when it has ended
	wait   error         // how; only after ended
	said   *tail
	grace  time.Duration // from TERM to KILL
	killed bool          // by kill
}

// start runs a program on one core. Its output is kept for error messages
// only, unless change, which may be nil, connects the command otherwise.
func start(name string, core int, change func(*exec.Cmd), path string, args ...string) (*process, error) {
	said := new(tail)
	cmd := pinned(core, path, args...)
	cmd.Stdout, cmd.Stderr = said, said
	if change != nil {
		change(cmd)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, pid: cmd.Process.Pid, handle: cmd.Process, ended: make(chan struct{}), said: said, grace: stopTime}
	go func() { // ends with the process
		p.wait = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// pinned is the command that runs a program on one core. taskset replaces
// itself by the program, so the pid is the program's. The child has its own
// process group, so that Ctrl-C reaches only bench, which then ends the child.
func pinned(core int, path string, args ...string) *exec.Cmd {
	cmd := exec.Command("taskset", append([]string{"-c", strconv.Itoa(core), path}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// stop ends the process and waits until it has ended. It returns an error when
// the process had to be killed or had ended before.
func (p *process) stop() error {
	select {
	case <-p.ended:
		if p.killed {
			return nil
		}
		return p.died()
	default:
	}
	_ = p.handle.Signal(syscall.SIGTERM) // harmless when it has just ended
	select {
	case <-p.ended:
		return nil
	case <-time.After(p.grace):
	}
	_ = p.handle.Kill()
	<-p.ended
	return fmt.Errorf("%s did not end within %v of TERM and was killed", p.name, p.grace)
}

// kill ends the process at once. stop then says nothing.
func (p *process) kill() error {
	err := p.handle.Kill()
	<-p.ended
	p.killed = true
	return err
}

// died describes a process that ended by itself.
func (p *process) died() error {
	why := "exit status 0"
	if p.wait != nil {
		why = p.wait.Error()
	}
	return fmt.Errorf("%s ended by itself: %s; it said: %s", p.name, why, p.said)
}

// tail keeps the last bytes written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - tailBytes; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := strings.TrimSpace(string(t.text)); s != "" {
		return strings.ReplaceAll(s, "\n", " | ")
	}
	return "nothing"
}

// firstPort and lastPort bound the ports that are used: they lie below the
// ports that the kernel gives to outgoing connections, so that none of those
// is in the way.
const firstPort, lastPort = 20000, 32000

// ports hands out free ports, each once.
type ports struct{ next int }

// newPorts starts at a place that depends on the process, so that two runs at
// the same time do not try the same ones.
func newPorts() *ports {
	return &ports{next: firstPort + os.Getpid()*97%(lastPort-firstPort)}
}

// free is a port of 127.0.0.1 on which nobody listens.
func (p *ports) free() (int, error) {
	for range lastPort - firstPort {
		port := p.next
		if p.next++; p.next >= lastPort {
			p.next = firstPort
		}
		l, err := net.Listen("tcp", local(port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port from %d to %d", firstPort, lastPort)
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
