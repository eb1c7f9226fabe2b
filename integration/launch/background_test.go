package launch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"magent/integration/harness"
)

// As keepalived runs its scripts: umask 0177, a signal at the death of the
// parent, and descriptors that nobody closed.
// promise: L2
func TestBackground(t *testing.T) {
	s := newSite(t)
	s.binary = harness.PlainBinary(t)
	inherited, err := os.Create(s.path("inherited"))
	must(t, err)
	defer inherited.Close()
	args := s.args("-n", "100")
	// The script ends as soon as magent has returned, and with it the process
	// whose death is signalled.
	script := `umask 0177; setpriv --pdeathsig TERM "$@"`
	cmd := exec.Command("setpriv", append([]string{"--pdeathsig", "TERM", "sh", "-c", script, "sh", s.binary}, args...)...)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.ExtraFiles = []*os.File{inherited, inherited, inherited}
	s.finish(cmd).wants(t, 0)

	pid := s.only()
	if pid != s.pid() {
		t.Errorf("process %d runs and the pid file says %d", pid, s.pid())
	}
	proc := func(name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }
	if got := comm(pid); got != "magent" {
		t.Errorf("its comm is %q", got)
	}
	line, err := os.ReadFile(proc("cmdline"))
	must(t, err)
	if got := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00"); !slices.Equal(got, append([]string{s.binary}, args...)) {
		t.Errorf("its arguments are %q", got)
	}
	// Behind the name: state, parent, process group, session, terminal.
	stat, err := os.ReadFile(proc("stat"))
	must(t, err)
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if own := strconv.Itoa(pid); fields[2] != own || fields[3] != own || fields[4] != "0" {
		t.Errorf("process group %s, session %s, terminal %s, of process %s", fields[2], fields[3], fields[4], own)
	}
	if link, err := os.Readlink(proc("cwd")); err != nil || link != "/" {
		t.Errorf("its directory is %q, error %v", link, err)
	}
	status, err := os.ReadFile(proc("status"))
	must(t, err)
	if !strings.Contains(string(status), "\nUmask:\t0022\n") {
		t.Errorf("its umask is not 0022:\n%s", status)
	}
	if environment, err := os.ReadFile(proc("environ")); err != nil || !strings.Contains(string(environment), "PATH=") {
		t.Errorf("its environment is %q, error %v", environment, err)
	}
	harness.Eventually(t, 10*time.Second, "it lets go of what it was started with", func() bool {
		link, err := os.Readlink(proc("fd/2"))
		return err == nil && link == "/dev/null"
	})
	files, err := filepath.Glob(proc("fd/*"))
	must(t, err)
	for _, file := range files {
		link, err := os.Readlink(file)
		if err != nil {
			continue // closed meanwhile
		}
		switch filepath.Base(file) {
		case "0", "1", "2":
			if link != "/dev/null" {
				t.Errorf("descriptor %s is %s", filepath.Base(file), link)
			}
		default:
			if link == inherited.Name() || strings.HasPrefix(link, "pipe:") {
				t.Errorf("descriptor %s is inherited: %s", filepath.Base(file), link)
			}
		}
	}
	s.serves(s.addr())
	if pid != s.only() {
		t.Error("it ended with the script")
	}
	s.found("pidof", "magent")
	s.found("pgrep", "-x", "magent")
	if out, err := exec.Command("ps", "-o", "comm=", "-p", strconv.Itoa(pid)).Output(); err != nil || string(out) != "magent\n" {
		t.Errorf("ps says %q, error %v", out, err)
	}
}

// found checks that a program prints the number of the process among others.
func (s *site) found(argv ...string) {
	s.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).Output()
	if err != nil || !slices.Contains(strings.Fields(string(out)), strconv.Itoa(s.only())) {
		s.Errorf("%v prints %q, error %v", argv, out, err)
	}
}

// promise: L2
func TestBackgroundUnderAnotherName(t *testing.T) {
	s := newSite(t)
	must(t, os.Symlink(s.binary, s.path("cache-proxy-1.0")))
	s.binary = s.path("cache-proxy-1.0")
	pid := s.launch()
	if got := comm(pid); got != "magent" {
		t.Errorf("its comm is %q", got)
	}
}

// Both the launch that starts magent and the one that finds it there are quick.
// promise: L2
func TestLaunchTakesLittleTime(t *testing.T) {
	s := newSite(t)
	s.binary = harness.PlainBinary(t)
	// The quickest of a few: what disturbs a busy machine only makes it slower.
	first, again := commandTime, commandTime
	for range 5 {
		r := s.run(s.args()...).wants(t, 0)
		first = min(first, r.took)
		pid := s.pid()
		again = min(again, s.run(s.args()...).wants(t, 0).took)
		s.signal(pid, syscall.SIGTERM)
		s.ends(pid)
	}
	t.Logf("the first launch takes %v, another %v", first, again)
	if first > promisedTime || again > promisedTime {
		t.Errorf("the first launch takes %v and another %v, want less than %v", first, again, promisedTime)
	}
}

// What goes wrong in the background still reaches whoever launched it.
// promise: L2, L6
func TestErrorsOfTheBackgroundReachTheCaller(t *testing.T) {
	s := newSite(t)
	r := s.run(s.args("-P", s.path("missing/pid"))...).wants(t, 1)
	r.oneLine(t, false, "cannot write the pid file", s.path("missing/pid"), "no such file or directory", "-P")
	r = s.run(s.args("--log-file", s.path("missing/log"))...).wants(t, 1)
	r.oneLine(t, false, "cannot open the log file", s.path("missing/log"), "--log-file")
	if pids := s.processes(); len(pids) != 0 {
		t.Errorf("left running: %v", pids)
	}
}

// The launch that a signal ends midway leaves a whole magent or none, and the
// next one works.
// promise: L2, L3
func TestLaunchIsInterrupted(t *testing.T) {
	s := newSite(t)
	for range 10 {
		cmd := exec.Command(s.binary, s.args()...)
		cmd.Env = append(os.Environ(), s.env...)
		must(t, cmd.Start())
		harness.Eventually(t, eventTime, "a process of the launch is there", func() bool { return len(s.processes()) > 0 })
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	s.run(s.args()...).wants(t, 0)
	harness.Eventually(t, eventTime, "one process serves", func() bool { return len(s.processes()) == 1 })
	s.serves(s.addr())
}
