package launch

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// ids returns the lines Uid, Gid and Groups of every thread of a process,
// without duplicates.
func ids(t *testing.T, pid int) string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	must(t, err)
	var seen string
	for _, file := range files {
		status, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		var lines []string
		for line := range strings.Lines(string(status)) {
			name, rest, _ := strings.Cut(line, ":")
			if name == "Uid" || name == "Gid" || name == "Groups" {
				lines = append(lines, strings.Join(strings.Fields(rest), " "))
			}
		}
		one := strings.Join(lines, ", ")
		if seen != "" && seen != one {
			t.Errorf("threads differ: %s and %s", seen, one)
		}
		seen = one
	}
	return seen
}

// promise: L5
func TestUsers(t *testing.T) {
	for _, c := range []struct{ flags, want string }{
		{"-u nobody", "65534 65534 65534 65534, 65534 65534 65534 65534, 65534"},
		{"-u 65534", "65534 65534 65534 65534, 65534 65534 65534 65534, 65534"},
		{"-u nobody -g daemon", "65534 65534 65534 65534, 1 1 1 1, 1"},
		{"-u 4242 -g 4243", "4242 4242 4242 4242, 4243 4243 4243 4243, 4243"},
		{"-u 4242", "4242 4242 4242 4242, 4242 4242 4242 4242, 4242"},
		{"-u root -g daemon", "0 0 0 0, 1 1 1 1, 1"},
	} {
		t.Run(c.flags, func(t *testing.T) {
			s := newSite(t)
			pid := s.launch(strings.Fields(c.flags)...)
			if got := ids(t, pid); got != c.want {
				t.Errorf("it runs as %s, want %s", got, c.want)
			}
			s.serves(s.addr())
			// It may not remove the pid file from root's directory, but empties it.
			s.signal(pid, syscall.SIGTERM)
			s.ends(pid)
			if text, err := os.ReadFile(s.path("pid")); err == nil && len(text) != 0 {
				t.Errorf("the pid file holds %q", text)
			}
		})
	}
}

// promise: L5
func TestUserRootIsNoChange(t *testing.T) {
	before := ids(t, os.Getpid())
	for _, user := range []string{"root", "0"} {
		s := newSite(t)
		if got := ids(t, s.launch("-u", user)); got != before {
			t.Errorf("-u %s: it runs as %s, want %s", user, got, before)
		}
	}
}

// promise: L5
func TestUserRootWithoutBeingRootIsAWarning(t *testing.T) {
	s := newSite(t)
	r := s.runAs(asNobody(), s.binary, "-u", "root", "-l", s.host, "-p", fmt.Sprint(s.port), "-s", s.server.Addr)
	const want = "magent: warning: cannot become root (-u root) without being root: going on as the present user\n"
	if r.code != 0 || r.stderr != want || r.stdout != "" {
		t.Errorf("exit code %d, stderr %q, stdout %q", r.code, r.stderr, r.stdout)
	}
	if got := ids(t, s.only()); !strings.HasPrefix(got, "65534 65534 65534 65534, ") {
		t.Errorf("it runs as %s", got)
	}
	s.serves(s.addr())
}

// promise: L5
func TestUserThatCannotBeAssumed(t *testing.T) {
	s := newSite(t)
	args := []string{"-l", s.host, "-p", fmt.Sprint(s.port), "-s", s.server.Addr}
	r := s.runAs(asNobody(), append([]string{s.binary, "-u", "daemon"}, args...)...).wants(t, 1)
	r.oneLine(t, false, "cannot become", "operation not permitted", "start magent as root")
	r = s.run(append(args, "-u", "nosuchuser")...).wants(t, 1)
	r.oneLine(t, true, `there is no user "nosuchuser"`, "-u")
	r = s.run(append(args, "-g", "nosuchgroup")...).wants(t, 1)
	r.oneLine(t, true, `there is no group "nosuchgroup"`, "-g")
	if pids := s.processes(); len(pids) != 0 {
		t.Errorf("left running: %v", pids)
	}
	// One's own name is no change.
	s.runAs(asNobody(), append([]string{s.binary, "-u", "nobody"}, args...)...).wants(t, 0)
	s.only()
}

// Privileges go after listening, not before: a port below 1024 is root's.
// promise: L5
func TestLowPortAndOtherUser(t *testing.T) {
	s := newSite(t)
	s.host = "127.66.77.88" // an address of loopback that nobody else uses
	for port := 600; ; port++ {
		listener, err := net.Listen("tcp", fmt.Sprintf("%s:%d", s.host, port))
		if err == nil {
			listener.Close()
			s.port = port
			break
		}
		if port == 1023 {
			t.Fatal("all ports below 1024 are in use")
		}
	}
	pid := s.launch("-u", "nobody")
	if got := ids(t, pid); !strings.HasPrefix(got, "65534 ") {
		t.Errorf("it runs as %s", got)
	}
	s.serves(s.addr())
}

// A Unix socket belongs to the user who serves on it.
// promise: L5
func TestSocketBelongsToTheUser(t *testing.T) {
	s := newSite(t)
	socket := s.path("magent.sock")
	s.launch("-f", socket, "-u", "nobody")
	info, err := os.Stat(socket)
	must(t, err)
	if owner := info.Sys().(*syscall.Stat_t); owner.Uid != nobody || owner.Gid != nobody || info.Mode().Perm() != 0o700 {
		t.Errorf("it belongs to %d:%d with %v", owner.Uid, owner.Gid, info.Mode())
	}
}

// More clients than the limit on open files allows are no reason to fail.
// promise: L1
func TestFileLimitTooLow(t *testing.T) {
	s := newSite(t)
	script := `ulimit -n 1000; exec "$@"`
	r := s.runAs(asNobody(), "sh", "-c", script, "sh", s.binary, "-n", "51200", "-l", s.host, "-p", fmt.Sprint(s.port), "-s", s.server.Addr)
	if r.code != 0 || !isFileLimitWarning(r.stderr) || !strings.Contains(r.stderr, "1000, is too low for 51200 clients") {
		t.Errorf("exit code %d, stderr %q", r.code, r.stderr)
	}
	s.serves(s.addr())
}
