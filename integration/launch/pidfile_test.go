package launch

import (
	"os"
	"syscall"
	"testing"
)

// alive is what check scripts do: it is their exit code.
func (s *site) alive() int {
	s.Helper()
	return s.runAs(nil, "sh", "-c", `kill -0 $(cat "$1") 2>/dev/null`, "sh", s.path("pid")).code
}

// promise: L8
func TestPidFile(t *testing.T) {
	s := newSite(t)
	for _, flags := range [][]string{nil, {"-u", "nobody"}} {
		pid := s.launch(flags...)
		if code := s.alive(); code != 0 {
			t.Errorf("%v: the check script answers %d while it runs", flags, code)
		}
		if info, err := os.Stat(s.path("pid")); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%v: the file is %v, error %v", flags, info.Mode(), err)
		}
		s.signal(pid, syscall.SIGTERM)
		s.ends(pid)
		if code := s.alive(); code == 0 {
			t.Errorf("%v: the check script answers 0 after the end", flags)
		}
	}
	// A file that a killed magent left is replaced.
	pid := s.launch()
	s.signal(pid, syscall.SIGKILL)
	s.ends(pid)
	if again := s.launch(); again == pid || s.alive() != 0 {
		t.Errorf("after a kill the file names %d", again)
	}
}
