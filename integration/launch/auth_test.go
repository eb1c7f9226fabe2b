package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"magent/integration/harness"
)

// users writes a file of users that the user alone who runs the test can read.
func (s *site) users(name, text string) string {
	s.Helper()
	must(s, os.WriteFile(s.path(name), []byte(text), 0o600))
	return s.path(name)
}

// proven connects and proves to be alice.
func (s *site) proven(network, addr string) *harness.Client {
	s.Helper()
	c, err := dial(network, addr)
	must(s, err)
	s.Cleanup(func() { _ = c.Close() })
	if answer, err := c.Store("set", "auth", 0, 0, []byte("alice secret")); err != nil || answer != "STORED" {
		s.Fatalf("the proof is answered %q, %v", answer, err)
	}
	return c
}

// A mistake in a file of users is found at the start, in the foreground, in the
// background and by --check, and nothing in the message is secret.
//
// promise: L6
func TestMistakesInAFileOfUsers(t *testing.T) {
	s := newSite(t)
	for text, want := range map[string]string{
		"":                                       "it names no user: write a line user:password",
		"hunter2\n":                              "line 1 has no colon: write user:password",
		"alice:hunter2\n\n":                      "line 2 is empty: take it out",
		strings.Repeat("alice:hunter2\n", 9):     "line 9 is one too many",
		"alice:" + strings.Repeat("hunter2", 40): "line 1 has 286 bytes",
	} {
		file := s.users("users", text)
		for _, flag := range []string{"--auth-file", "--server-auth-file"} {
			for _, how := range []string{"--check", "-D", "-d"} {
				r := s.run(s.args(how, flag, file)...).wants(t, 1)
				r.oneLine(t, true, flag+": "+file+": ", want)
				if strings.Contains(r.stderr, "hunter2") {
					t.Errorf("a password is shown: %q", r.stderr)
				}
			}
		}
	}
	s.run(s.args("--check", "-Y", s.path("nowhere"))...).wants(t, 1).oneLine(t, true, "--auth-file: cannot open "+s.path("nowhere")+": no such file or directory: mend the path")
	s.run(s.args("--check", "-Y", s.users("users", "alice:secret\n"))...).wantsOutput(t, "magent: the settings are right\n")
}

// A relative path is taken from where magent was launched, also after HUP.
//
// promise: L7
func TestFileOfUsersIsReadAnewInTheBackground(t *testing.T) {
	s := newSite(t)
	file := s.users("users", "alice:secret\n")
	here, err := os.Getwd()
	must(t, err)
	relative, err := filepath.Rel(here, file)
	must(t, err)
	pid := s.launch("-Y", relative)
	must(t, s.proven("tcp", s.addr()).Set("k", "v"))
	s.users("users", "bob:hunter2 \nalice\n")
	s.signal(pid, syscall.SIGHUP)
	s.logged("settings stay the same", file+": line 2 has no colon")
	must(t, s.proven("tcp", s.addr()).Set("k", "v"))
	must(t, os.Remove(file))
	s.signal(pid, syscall.SIGHUP)
	s.logged("settings stay the same", "cannot open "+file)
	s.users("users", "bob:x\nalice:secret\n")
	s.signal(pid, syscall.SIGHUP)
	s.logged("settings read")
	must(t, s.proven("tcp", s.addr()).Set("k", "v"))
	if strings.Contains(s.log(), "hunter2") || strings.Contains(s.log(), "secret") {
		t.Error("the log holds a password")
	}
}

// The user that magent becomes may not read what root could: that is said at once.
//
// promise: L7
func TestFileOfUsersThatTheUserCannotRead(t *testing.T) {
	s := newSite(t)
	file := s.users("users", "alice:secret\n")
	if r := s.run(s.args("-u", "nobody", "-Y", file)...); r.code != 0 || !strings.Contains(r.stderr, "warning: HUP will not read "+file) {
		t.Fatalf("exit code %d, %q", r.code, r.stderr)
	}
	s.logged("HUP will not read " + file + " anew: permission denied: let the user that magent runs as read it")
	must(t, s.proven("tcp", s.addr()).Set("k", "v"))
}

// A client that has proved itself has not to do it again behind an upgrade; one
// that was about to goes on with it; the others still have to.
//
// promise: L7
func TestUpgradeKeepsWhoIsProven(t *testing.T) {
	s := newSite(t)
	pid := s.launch("-Y", s.users("users", "alice:secret\n"), "--threads", "2")
	friend := s.proven("tcp", s.addr())
	must(t, friend.Set("k", "v"))
	half, err := dial("tcp", s.addr())
	must(t, err)
	defer half.Close()
	stranger, err := dial("tcp", s.addr())
	must(t, err)
	defer stranger.Close()
	for _, c := range []*harness.Client{half, stranger} {
		if answer, err := c.Command("get k"); err != nil || answer != "CLIENT_ERROR unauthenticated" {
			t.Fatalf("%q, %v", answer, err)
		}
	}
	must(t, half.Send([]byte("set auth 0 0 12\r\nalice s")))
	harness.Eventually(t, eventTime, "magent has read it", func() bool { return unread(s.port) == 0 })
	for i := range 2 {
		s.signal(pid, syscall.SIGUSR2)
		harness.Eventually(t, eventTime, "the next program serves", func() bool { return s.timesLogged(`"message":"serving"`) == 2+i })
		if value, _, err := friend.Value("k"); err != nil || value != "v" {
			t.Errorf("who has proved himself gets %q, %v", value, err)
		}
		if answer, err := stranger.Command("get k"); err != nil || answer != "CLIENT_ERROR unauthenticated" {
			t.Errorf("who has not gets %q, %v", answer, err)
		}
	}
	must(t, half.Send([]byte("ecret\r\nget k\r\n")))
	if answer, err := half.Line(); err != nil || answer != "STORED" {
		t.Errorf("the proof in two parts: %q, %v", answer, err)
	}
	if items, err := half.Values(); err != nil || len(items) != 1 {
		t.Errorf("behind it: %v, %v", items, err)
	}
	if s.only() != pid {
		t.Error("another process took its place")
	}
}

// Who was never asked has to prove himself when an upgrade brings --auth-file.
//
// promise: L7
func TestUpgradeThatBeginsToAsk(t *testing.T) {
	s := newSite(t)
	file := s.users("users", "alice:secret\n")
	must(t, os.WriteFile(s.path("magent.toml"), []byte("max-clients = 100\n"), 0o600))
	pid := s.launch("--config", s.path("magent.toml"))
	c, err := dial("tcp", s.addr())
	must(t, err)
	defer c.Close()
	must(t, c.Set("k", "v"))
	must(t, os.WriteFile(s.path("magent.toml"), fmt.Appendf(nil, "auth-file = %q\n", file), 0o600))
	s.signal(pid, syscall.SIGHUP)
	s.logged("these settings change with a restart only", "auth-file")
	must(t, c.Set("k", "v"))
	s.signal(pid, syscall.SIGUSR2)
	harness.Eventually(t, eventTime, "the next program serves", func() bool { return s.timesLogged(`"message":"serving"`) == 2 })
	if answer, err := c.Command("get k"); err != nil || answer != "CLIENT_ERROR unauthenticated" {
		t.Errorf("%q, %v", answer, err)
	}
	must(t, s.proven("tcp", s.addr()).Set("k", "w"))
}

// The commands that ask a running magent go on: root and magent's own user are
// known by the kernel, others give the file.
//
// promise: L5
func TestCommandsWhereMagentAsks(t *testing.T) {
	s := newSite(t)
	file, socket := s.users("users", "bob:a word\nalice:secret\n"), s.path("magent.sock")
	s.launch("-Y", file, "-f", socket)
	serves := "magent at " + s.addr() + " serves, 1 of 1 server up\n"
	harness.Eventually(t, eventTime, "it serves", func() bool { return s.run(s.checkArgs("check")...).stdout == serves })
	for _, command := range [][]string{{"status"}, {"explain", "k"}, {"check"}} {
		for _, more := range [][]string{nil, {"-Y", file}} {
			args := append(append(append([]string{}, command...), "--timeout", "10s"), append(s.args(), more...)...)
			if r := s.run(args...); r.code != 0 || r.stderr != "" {
				t.Errorf("%q: status %d, %q", args, r.code, r.stderr)
			}
		}
	}
	// Its Unix socket has no lock that answers.
	s.run("check", "--timeout", "10s", "-p", "0", "-f", socket, "-Y", file).wantsOutput(t, "magent at "+socket+" serves, 1 of 1 server up\n")
	s.run("check", "--timeout", "10s", "-p", "0", "-f", socket).wants(t, 1).oneLine(t, false, "the magent at "+socket+" answers only who proves itself", "give its --auth-file here too")
	// Another user has to have the file, and to be able to read it.
	s.asKeepalived(s.checkArgs("check")...).wants(t, 1).oneLine(t, false, "the magent at "+s.addr()+" answers only who proves itself", "give its --auth-file here too, or run this as root")
	s.asKeepalived(append(s.checkArgs("check"), "-Y", file)...).wants(t, 1).oneLine(t, false, "answers only who proves itself", "cannot open "+file+": permission denied")
	must(t, os.Chmod(file, 0o644))
	s.asKeepalived(append(s.checkArgs("check"), "-Y", file)...).wantsOutput(t, serves)
	other := s.path("others")
	must(t, os.WriteFile(other, []byte("alice:wrong\n"), 0o644))
	s.asKeepalived(append(s.checkArgs("check"), "-Y", other)...).wants(t, 1).oneLine(t, false, "does not know the user and password of "+other)
	if s.timesLogged("panic") > 0 || strings.Contains(s.log(), "secret") {
		t.Error("the log holds a password")
	}
}

// The file of --auth-file is of no harm where magent does not ask: nothing is
// stored.
//
// promise: W4
func TestCommandsWithAFileWhereMagentDoesNotAsk(t *testing.T) {
	s := newSite(t)
	s.launch()
	harness.Eventually(t, eventTime, "it serves", func() bool {
		return s.run(append(s.checkArgs("check"), "-Y", s.users("users", "alice:secret\n"))...).code == 0
	})
	if n := s.server.Stat("cmd_set"); n != 0 {
		t.Errorf("%d values were stored", n)
	}
}

// On the node that stands by a magent is asked on its lock, which asks too.
//
// promise: L4
func TestLockAsksWhereTheAddressIsNot(t *testing.T) {
	s := newNamespaceSite(t)
	file := s.users("users", "alice:secret\n")
	s.launch("-Y", file)
	serves := "magent at " + s.addr() + " serves, 1 of 1 server up\n"
	harness.Eventually(t, eventTime, "root is answered", func() bool { return s.run(s.checkArgs("check")...).stdout == serves })
	s.asKeepalived(s.checkArgs("check")...).wants(t, 1).oneLine(t, false, "the magent at "+s.addr()+" answers only who proves itself")
	must(t, os.Chmod(file, 0o644))
	s.asKeepalived(append(s.checkArgs("check"), "-Y", file)...).wantsOutput(t, serves)
}
