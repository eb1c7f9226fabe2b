package launch

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"magent/integration/harness"
)

const (
	// commandTime bounds one run of a command; a launch takes milliseconds.
	commandTime = 30 * time.Second
	// eventTime bounds the wait for anything to happen.
	eventTime = 20 * time.Second
	// promisedTime is what a launch may take (L2).
	promisedTime = 500 * time.Millisecond
	nobody       = 65534
)

// The main goroutine keeps the main thread for itself: a test that moves its
// thread to another network namespace must not move that one, which stands for
// the whole process in /proc.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "the tests of magent's launch change users and network namespaces: run them as root")
		os.Exit(1)
	}
	os.Exit(harness.Main(m))
}

// site is one place where magent is launched: an address, a directory and a
// memcached.
type site struct {
	*testing.T
	binary string
	dir    string
	host   string
	port   int
	server *harness.Memcached
	env    []string
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := newBareSite(t)
	s.server = harness.StartMemcached(t)
	return s
}

// newBareSite is newSite without a memcached.
func newBareSite(t *testing.T) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "magent-launch-")
	must(t, err)
	s := &site{T: t, binary: harness.Binary(t), dir: dir, host: "127.0.0.1", port: harness.FreePort(t)}
	// Those who run magent as another user have to get here.
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Mkdir(s.path("race"), 0o755))
	must(t, os.Chmod(s.path("race"), 0o777))
	// Without the sleep that the race detector adds to every exit.
	s.env = []string{
		"GORACE=halt_on_error=0 exitcode=66 atexit_sleep_ms=0 log_path=" + s.path("race/report"),
		siteVariable + s.dir,
		// A loaded machine must not look like a failed server.
		"MAGENT_SERVER_TIMEOUT=10s", "MAGENT_CONNECT_TIMEOUT=5s",
	}
	t.Cleanup(s.cleanUp)
	return s
}

// cleanUp ends what was launched, as a user would, and looks for what went
// wrong unseen.
func (s *site) cleanUp() {
	for _, pid := range s.processes() {
		_ = syscall.Kill(pid, syscall.SIGCONT)
		_ = syscall.Kill(pid, syscall.SIGTERM)
		if !harness.Poll(eventTime, func() bool { return gone(pid) }) {
			s.Errorf("process %d did not end at SIGTERM", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	log := s.log()
	for _, bad := range []string{"panic:", "fatal error:", "SIGSEGV"} {
		if strings.Contains(log, bad) {
			s.Errorf("the log holds %q", bad)
		}
	}
	reports, _ := filepath.Glob(s.path("race/report*"))
	for _, path := range reports {
		text, _ := os.ReadFile(path)
		s.Errorf("the race detector reports:\n%s", text)
	}
	if s.Failed() {
		lines := strings.SplitAfter(log, "\n")
		s.Logf("the end of the log of magent:\n%s", strings.Join(lines[max(0, len(lines)-40):], ""))
	}
	_ = os.RemoveAll(s.dir)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) addr() string { return fmt.Sprintf("%s:%d", s.host, s.port) }

func (s *site) log() string {
	text, _ := os.ReadFile(s.path("log"))
	return string(text)
}

// logged waits until the log has a line with all of the words.
func (s *site) logged(words ...string) {
	s.Helper()
	harness.Eventually(s, eventTime, fmt.Sprintf("the log says %q", words), func() bool {
		return s.timesLogged(words...) > 0
	})
}

// timesLogged counts the lines of the log with all of the words.
func (s *site) timesLogged(words ...string) int {
	n := 0
	for line := range strings.Lines(s.log()) {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			n++
		}
	}
	return n
}

// args are the flags of an ordinary launch, and more.
func (s *site) args(more ...string) []string {
	args := []string{"-l", s.host, "-p", strconv.Itoa(s.port), "-P", s.path("pid"), "--log-file", s.path("log"), "--log-level", "debug"}
	if s.server != nil {
		args = append(args, "-s", s.server.Addr)
	}
	return append(args, more...)
}

// result is what a command left.
type result struct {
	code           int
	stdout, stderr string
	took           time.Duration
}

// run runs the program under test until it returns.
func (s *site) run(args ...string) result {
	s.Helper()
	return s.runAs(nil, append([]string{s.binary}, args...)...)
}

// runAs runs any command. What it leaves in the background must not keep its
// output open, or the run does not end.
func (s *site) runAs(attr *syscall.SysProcAttr, argv ...string) result {
	s.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = attr
	cmd.Env = append(os.Environ(), s.env...)
	return s.finish(cmd)
}

func (s *site) finish(cmd *exec.Cmd) result {
	s.Helper()
	r, err := finish(cmd)
	if err != nil {
		s.Fatal(err)
	}
	return r
}

// finish runs a command; it is for other goroutines than the test's too.
func finish(cmd *exec.Cmd) (result, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return result{}, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		r := result{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String(), took: time.Since(started)}
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return r, err
		}
		return r, nil
	case <-time.After(commandTime):
		_ = cmd.Process.Kill()
		return result{}, fmt.Errorf("%q did not return, or left its output open in the background", cmd.Args)
	}
}

// wants checks the exit code, and that a success says nothing.
func (r result) wants(t testing.TB, code int) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit code %d, want %d; stdout %q, stderr %q", r.code, code, r.stdout, r.stderr)
	}
	if code == 0 && (r.stdout != "" || r.stderr != "" && !isFileLimitWarning(r.stderr)) {
		t.Errorf("output of a success: stdout %q, stderr %q", r.stdout, r.stderr)
	}
	return r
}

// isFileLimitWarning recognizes the one warning that depends on the machine: a
// root who may not raise the limit on open files has it with -n 51200.
func isFileLimitWarning(stderr string) bool {
	return strings.HasPrefix(stderr, "magent: warning: the limit on open files, ") && strings.Count(stderr, "\n") == 1
}

// wantsOutput checks a success that says something.
func (r result) wantsOutput(t testing.TB, stdout string) {
	t.Helper()
	if r.code != 0 || r.stdout != stdout || r.stderr != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q; want %q", r.code, r.stdout, r.stderr, stdout)
	}
}

// launch launches magent in the background and returns its process.
func (s *site) launch(more ...string) int {
	s.Helper()
	s.run(s.args(more...)...).wants(s, 0)
	return s.pid()
}

// pid reads the pid file.
func (s *site) pid() int {
	s.Helper()
	text, err := os.ReadFile(s.path("pid"))
	must(s, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(s, err)
	return pid
}

// siteVariable marks in the environment what a site has started, whatever its
// arguments are.
const siteVariable = "TEST_OF_MAGENT_LAUNCH="

// processes returns the magents of this site.
func (s *site) processes() []int {
	var pids []int
	entries, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, entry := range entries {
		environment, err := os.ReadFile(entry)
		if err != nil || !slices.Contains(strings.Split(string(environment), "\x00"), siteVariable+s.dir) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(entry)))
		if program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && s.started(program) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// started says whether a program is the one under test, and not the shell that
// launched it. One that was replaced meanwhile is marked by the kernel.
func (s *site) started(program string) bool {
	real, err := filepath.EvalSymlinks(s.binary)
	return err == nil && strings.TrimSuffix(program, " (deleted)") == real
}

// only checks that one process serves and returns it.
func (s *site) only() int {
	s.Helper()
	pids := s.processes()
	if len(pids) != 1 {
		s.Fatalf("the processes are %v, want one", pids)
	}
	return pids[0]
}

// serves checks that a value can be stored and read back at an address. It must
// take the client at once; its servers may take a little on a loaded machine.
func (s *site) serves(addr string) {
	s.Helper()
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	var err error
	harness.Poll(eventTime, func() bool {
		err = roundTrip(network, addr)
		var answer *harness.AnswerError
		return !errors.As(err, &answer) || !strings.HasPrefix(answer.Line, "SERVER_ERROR no server ")
	})
	must(s, err)
}

func comm(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSuffix(string(text), "\n")
}

// gone says whether a process has ended; one that nobody has waited for counts.
func gone(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err != nil || strings.Contains(string(status), "State:\tZ")
}

// ends waits for the end of a process.
func (s *site) ends(pid int) {
	s.Helper()
	harness.Eventually(s, eventTime, fmt.Sprintf("process %d ends", pid), func() bool { return gone(pid) })
}

func (s *site) signal(pid int, sig syscall.Signal) {
	s.Helper()
	must(s, syscall.Kill(pid, sig))
}

// freeze stops every thread of a process and returns when they stand.
func (s *site) freeze(pid int) {
	s.Helper()
	s.signal(pid, syscall.SIGSTOP)
	harness.Eventually(s, eventTime, fmt.Sprintf("process %d stands still", pid), func() bool {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		for _, task := range tasks {
			status, err := os.ReadFile(task)
			if err == nil && !strings.Contains(string(status), "State:\tT") {
				return false
			}
		}
		return len(tasks) > 0
	})
}

// oneLine checks that an error is one line with all of the words and, where it
// concerns the usage, the short usage behind it.
func (r result) oneLine(t testing.TB, usage bool, words ...string) {
	t.Helper()
	line, rest, _ := strings.Cut(r.stderr, "\n")
	if !strings.HasPrefix(line, "magent: ") {
		t.Errorf("stderr is %q", r.stderr)
	}
	for _, word := range words {
		if !strings.Contains(line, word) {
			t.Errorf("the line %q lacks %q", line, word)
		}
	}
	if usage != strings.HasPrefix(rest, "usage: magent ") || !usage && rest != "" {
		t.Errorf("behind the first line: %q", rest)
	}
	if r.stdout != "" {
		t.Errorf("stdout is %q", r.stdout)
	}
}

// unread returns how many bytes wait on the connections that a local server has
// on a port, as /proc/net/tcp shows them.
func unread(port int) int64 {
	table, _ := os.ReadFile("/proc/net/tcp")
	local := fmt.Sprintf(":%04X", port)
	var total int64
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		const established = "01"
		if len(fields) < 5 || fields[3] != established || !strings.HasSuffix(fields[1], local) {
			continue
		}
		_, waiting, _ := strings.Cut(fields[4], ":")
		n, _ := strconv.ParseInt(waiting, 16, 64)
		total += n
	}
	return total
}
