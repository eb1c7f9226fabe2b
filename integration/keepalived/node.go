package keepalived

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/integration/harness"
)

const (
	// nodeEnv names the directory of the node whose init a process is to be.
	nodeEnv = "MAGENT_TEST_NODE"
	// commandTime bounds one command on a node.
	commandTime = 30 * time.Second
	// eventTime bounds the wait for anything to happen.
	eventTime = 30 * time.Second
)

// places are the directories of a node that are its own, and the directory in
// the test's one in which they are.
var places = map[string]string{
	"/opt":            "opt",
	"/etc/keepalived": "keepalived",
	"/usr/local/bin":  "bin", // goes before /usr/bin
	"/var/log":        "log",
	"/run":            "run",
}

// hosts are the names by which the guides call their machines.
const hosts = "127.0.0.1 localhost\n192.168.68.41 T1\n192.168.68.42 T2\n"

// node is one machine.
type node struct {
	testing.TB
	name string
	dir  string
	init *exec.Cmd
	net  int // its network namespace
}

// newNode starts a machine without a network.
func newNode(t testing.TB, name string) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "magent-node-")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	n := &node{TB: t, name: name, dir: dir, net: -1}
	t.Cleanup(n.end)
	for _, place := range places {
		must(t, os.Mkdir(n.path(place), 0o755))
	}
	n.install("bin/magent", program(t))
	n.write("hosts", hosts)
	n.init = exec.Command("/proc/self/exe")
	n.init.Env = append(os.Environ(), nodeEnv+"="+dir, "MAGENT_TEST_NODE_NAME="+name)
	n.init.Stderr = os.Stderr
	n.init.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL, // and all that runs in the node ends with its init
	}
	ready, err := n.init.StdoutPipe()
	must(t, err)
	startLocked(t, n.init)
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatalf("node %s does not start: %v", name, err)
	}
	n.net, err = unix.Open(fmt.Sprintf("/proc/%d/ns/net", n.init.Process.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	n.sh("ip link set lo up")
	return n
}

// program is the magent that runs on the nodes: built with the race detector, but
// not where time is measured.
func program(t testing.TB) string {
	t.Helper()
	if _, measured := t.(*testing.B); measured {
		return harness.PlainBinary(t)
	}
	return harness.Binary(t)
}

// startLocked starts a command from a thread that stays as long as the test
// process: PDEATHSIG is sent when the thread ends.
func startLocked(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(started)
	}()
	if err := <-started; err != nil {
		t.Fatalf("cannot make a node: %v: run the tests as root, in a container with CAP_SYS_ADMIN", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		for range started {
		}
	})
}

// runInit is the life of a node's first process: it makes the node's directories
// its own, and waits for orphans, as an init does.
func runInit(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	for place, name := range places {
		if err := unix.Mount(filepath.Join(dir, name), place, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", place, err)
		}
	}
	if err := unix.Mount("shm", "/dev/shm", "tmpfs", 0, ""); err != nil {
		return err
	}
	if err := unix.Mount(filepath.Join(dir, "hosts"), "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(os.Getenv("MAGENT_TEST_NODE_NAME"))); err != nil {
		return err
	}
	orphans := make(chan os.Signal, 1)
	signal.Notify(orphans, syscall.SIGCHLD)
	if _, err := os.Stdout.WriteString("+"); err != nil {
		return err
	}
	for range orphans {
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
	return nil
}

// end shows what the node's programs said when the test has failed. The node has
// ended by then.
func (n *node) end() {
	if n.net >= 0 {
		_ = unix.Close(n.net)
	}
	logs, _ := filepath.Glob(n.path("log/*"))
	for _, name := range logs {
		text, _ := os.ReadFile(name)
		for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
			if bytes.Contains(text, []byte(bad)) {
				n.Errorf("%s on %s holds %q", filepath.Base(name), n.name, bad)
			}
		}
		if n.Failed() {
			n.Logf("--- the end of %s on %s:\n%s", filepath.Base(name), n.name, text[max(0, len(text)-6000):])
		}
	}
	_ = os.RemoveAll(n.dir)
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

// install copies a program or a script to a place of the node.
func (n *node) install(name, from string) {
	n.Helper()
	text, err := os.ReadFile(from)
	must(n, err)
	n.write(name, string(text))
	must(n, os.Chmod(n.path(name), 0o755))
}

// write writes a file of the node.
func (n *node) write(name, text string) {
	n.Helper()
	must(n, os.MkdirAll(filepath.Dir(n.path(name)), 0o755))
	must(n, os.WriteFile(n.path(name), []byte(text), 0o644))
}

// command is a program that will run on the node.
func (n *node) command(argv ...string) *exec.Cmd {
	enter := []string{"--target", strconv.Itoa(n.init.Process.Pid), "--net", "--mount", "--pid", "--uts", "--"}
	cmd := exec.Command("nsenter", append(enter, argv...)...)
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C",
		// Where the magent that a script launches tells what it sees.
		"MAGENT_LOG_FILE=/var/log/magent.log", "MAGENT_LOG_LEVEL=debug",
		"GORACE=halt_on_error=0 exitcode=66 atexit_sleep_ms=0 log_path=/var/log/race",
	}
	return cmd
}

// try runs a shell command and returns what it wrote and how it ended.
func (n *node) try(line string) (out string, err error) {
	cmd := n.command("sh", "-c", line)
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Start(); err != nil {
		return "", err
	}
	timer := time.AfterFunc(commandTime, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err = cmd.Wait()
	return text.String(), err
}

// sh runs a shell command that must succeed, and returns what it wrote.
func (n *node) sh(line string) string {
	n.Helper()
	out, err := n.try(line)
	if err != nil {
		n.Fatalf("%s: %s: %v\n%s", n.name, line, err, out)
	}
	return out
}

// start starts a program in the foreground that runs as long as the node, or
// until it is ended by a command on the node. Its output goes to a log there.
func (n *node) start(name string, argv ...string) {
	n.Helper()
	file, err := os.OpenFile(n.path("log/"+name+".out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(n, err)
	defer func() { _ = file.Close() }()
	cmd := n.command(argv...)
	cmd.Stdout, cmd.Stderr = file, file
	must(n, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	n.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
}

// pids are the processes of a name on the node, by their numbers there.
func (n *node) pids(name string) []string {
	out, _ := n.try("pgrep -x " + name)
	return strings.Fields(out)
}

// has tells whether the node has an address.
func (n *node) has(addr string) bool {
	n.Helper()
	return strings.Contains(n.sh("ip -o address show to "+addr), addr+"/")
}

// dial connects from the node.
func (n *node) dial(addr string, within time.Duration) (conn net.Conn, err error) {
	here, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(here) }()
	// A socket stays where it was made. Dialling an address needs no other thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Setns(n.net, unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	conn, err = net.DialTimeout("tcp", addr, within)
	if back := unix.Setns(here, unix.CLONE_NEWNET); back != nil {
		return nil, errors.Join(err, back)
	}
	return conn, err
}

// connect is dial for a test that needs the connection.
func (n *node) connect(addr string) *harness.Client {
	n.Helper()
	conn, err := n.dial(addr, eventTime)
	if err != nil {
		n.Fatalf("%s: %v", n.name, err)
	}
	c := harness.NewClient(conn)
	n.Cleanup(func() { _ = c.Close() })
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
