package launch

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// promise: L6
func TestUsageErrors(t *testing.T) {
	s := newBareSite(t)
	for _, c := range []struct{ args, want string }{
		{"", "no server is given: name at least one memcached with -s, for example -s 192.0.2.1:11211"},
		{"-b 127.0.0.1", "no server is given: name at least one memcached with -s, for example -s 192.0.2.1:11211"},
		{"-s 127.0.0.1 -x", "unknown flag -x: magent --help lists them all"},
		{"-s 127.0.0.1 --prot 1", "unknown flag --prot: did you mean --port?"},
		{"-s 127.0.0.1 -p", "flag -p needs a value: write -p PORT"},
		{"-s", "flag -s needs a value: write -s HOST[:PORT[:WEIGHT]]"},
		{"-s 127.0.0.1 -p 0", "magent must listen on tcp or unix domain socket: give -p a port, or -f a path"},
		{"-s 127.0.0.1 -p abc", `invalid value "abc" for --port: give a whole number from -1 to 65535`},
		{"-s 127.0.0.1 -l 10.0.0.256", `malformed address "10.0.0.256", given with -l: neither an IP address nor a host name: write ADDRESS or ADDRESS:PORT`},
		{"-s 127.0.0.1:0", "127.0.0.1:0"},
		{"-s 127.0.0.1:x", "127.0.0.1:x"},
		{"-s 127.0.0.1:1 -b 127.0.0.1:1:y", "127.0.0.1:1:y"},
		{"-s 127.0.0.1 --distribution modula", `invalid value "modula" for --distribution: choose ketama, magent-ketama or magent-modula`},
		{"-s 127.0.0.1 12000", `unexpected argument "12000": every value belongs to a flag`},
		{"stauts -p 12000", `unexpected argument "stauts": did you mean status?`},
		{"-s 127.0.0.1 --journal-keys 0", "give a whole number from 1 to 1000000000"},
		{"--config /nonexistent/magent.toml", "config file /nonexistent/magent.toml: "},
	} {
		for _, foreground := range []bool{false, true} {
			args := strings.Fields(c.args)
			if foreground {
				args = append([]string{"-D"}, args...)
			}
			r := s.run(args...)
			if r.code != 1 {
				t.Errorf("%q: exit code %d, stderr %q", args, r.code, r.stderr)
				continue
			}
			r.oneLine(t, true, c.want)
		}
	}
}

// promise: L6
func TestMistakeInTheConfigFile(t *testing.T) {
	s := newBareSite(t)
	must(t, os.WriteFile(s.path("magent.toml"), []byte("server = \"127.0.0.1\"\nprot = 12000\n"), 0o600))
	r := s.run("--config", s.path("magent.toml")).wants(t, 1)
	r.oneLine(t, true, s.path("magent.toml"), `unknown key "prot": did you mean port?`)
}

// promise: L6
func TestHelp(t *testing.T) {
	s := newBareSite(t)
	for _, spelling := range []string{"-h", "--help", "help", "-p x -h"} {
		r := s.run(strings.Fields(spelling)...)
		if r.code != 0 || r.stderr != "" || strings.Count(r.stdout, "\n    magent ") != 3 {
			t.Errorf("%s: exit code %d, stderr %q, stdout %q", spelling, r.code, r.stderr, r.stdout)
		}
	}
}

// promise: L6
func TestSocketWhereTheUserMayNotMakeOne(t *testing.T) {
	s := newSite(t)
	r := s.runAs(asNobody(), s.binary, "-D", "-p", "0", "-f", s.path("magent.sock"), "-s", s.server.Addr)
	r.wants(t, 1).oneLine(t, false, "cannot listen on "+s.path("magent.sock")+": permission denied: choose a path with -f where this user may make files")
}

// --check says whether the settings are right and starts nothing.
// promise: L6
func TestCheck(t *testing.T) {
	s := newBareSite(t)
	s.run("--check", "-s", "127.0.0.1", "-p", fmt.Sprint(s.port)).wantsOutput(t, "magent: the settings are right\n")
	twice := s.run("--check", "-s", "127.0.0.1", "-b", "127.0.0.1", "-p", fmt.Sprint(s.port))
	if want := "magent: primary and backup are the same server: no key has a second copy; name another one with -b\n"; twice.code != 0 || twice.stderr != want {
		t.Errorf("a backup that is the primary: exit code %d, %q; want %q", twice.code, twice.stderr, want)
	}
	port := fmt.Sprint(s.port)
	for want, args := range map[string][]string{
		"127.0.0.1:x":                                                      {"-s", "127.0.0.1:x"},
		`there is no user "nosuch": give -u`:                               {"-s", "127.0.0.1", "-p", port, "-u", "nosuch"},
		`there is no group "nosuch": give -g`:                              {"-s", "127.0.0.1", "-p", port, "-g", "nosuch"},
		"cannot open the log file /nosuch/log: no":                         {"-s", "127.0.0.1", "-p", port, "--log-file", "/nosuch/log"},
		"cannot open the log file /tmp: is a dir":                          {"-s", "127.0.0.1", "-p", port, "--log-file", "/tmp"},
		"the server 127.0.0.1:" + port + " is where magent itself listens": {"-s", "127.0.0.1:" + port, "-p", port},
		"the server localhost:" + port + " is where magent itself listens": {"-s", "127.0.0.1:1", "-b", "localhost:" + port, "-l", "127.0.0.1:" + port},
	} {
		s.run(append([]string{"--check"}, args...)...).wants(t, 1).oneLine(t, true, want)
	}
	nobodys := s.runAs(asNobody(), s.binary, "--check", "-s", "127.0.0.1", "-p", port, "-u", "daemon").wants(t, 1)
	nobodys.oneLine(t, true, "only root can become another user or group")
	s.run("-s", "127.0.0.1:"+port, "-p", port).wants(t, 1).oneLine(t, true, "is where magent itself listens")
	if pids := s.processes(); len(pids) != 0 {
		t.Errorf("left running: %v", pids)
	}
}
