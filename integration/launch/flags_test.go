package launch

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"magent/integration/harness"
)

// Every spelling that getopt takes, with the C program's letters.
// promise: L1
func TestSpellings(t *testing.T) {
	for _, spelling := range []string{
		// The one in the guides.
		"-u root -n 51200 -l 127.0.0.1 -p PORT -s SERVER -b BACKUP",
		"-uroot -n51200 -l127.0.0.1 -pPORT -sSERVER -bBACKUP",
		"-ku root -i 20 -g root -l 127.0.0.1 -p PORT -s SERVER -s BACKUP",
		"-p PORT -l 127.0.0.1 -s SERVER,BACKUP --",
		"--port=PORT --listen 127.0.0.1 --server=SERVER --backup BACKUP --ketama",
		"-l localhost -p PORT -s SERVER",
		"-s SERVER -p PORT", // all addresses
		"-p 1 -l 127.0.0.1:PORT -s SERVER",
		"-d -c 100 -t 2 -I 2m -l 127.0.0.1 -p PORT -s SERVER",
	} {
		t.Run(spelling, func(t *testing.T) {
			s := newSite(t)
			backup := harness.StartMemcached(t)
			line := strings.NewReplacer("PORT", strconv.Itoa(s.port), "SERVER", s.server.Addr, "BACKUP", backup.Addr).Replace(spelling)
			s.run(strings.Fields(line)...).wants(t, 0)
			s.only()
			s.serves(s.addr())
		})
	}
}

// promise: L1
func TestIPv6(t *testing.T) {
	s := newSite(t)
	s.host = "::1"
	s.launch()
	s.serves(fmt.Sprintf("[::1]:%d", s.port))
}

// Relative paths mean files where magent was launched, wherever it goes.
// promise: L1
func TestConfigFile(t *testing.T) {
	s := newSite(t)
	config := fmt.Sprintf("server = [%q]\nlisten = \"127.0.0.1\"\nport = %d\npid-file = \"pid\"\nlog-file = \"log\"\n", s.server.Addr, s.port)
	must(t, os.WriteFile(s.path("magent.toml"), []byte(config), 0o600))
	s.runAs(nil, "sh", "-c", `cd "$1" && shift && exec "$@"`, "sh", s.dir, s.binary, "--config", "magent.toml").wants(t, 0)
	if link, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", s.pid())); err != nil || link != "/" {
		t.Errorf("its directory is %q, error %v", link, err)
	}
	s.serves(s.addr())
	s.logged("serving", s.addr())
	s.run("--config", s.path("magent.toml"), "--check").wantsOutput(t, "magent: the settings are right\n")
}

// A flag goes before a variable, and that before the config file.
// promise: L1
func TestEnvironment(t *testing.T) {
	s := newSite(t)
	must(t, os.WriteFile(s.path("magent.toml"), []byte("server = \"127.0.0.1:1\"\nport = 2\n"), 0o600))
	s.env = append(s.env, "MAGENT_SERVER="+s.server.Addr, "MAGENT_LISTEN=127.0.0.1", "MAGENT_PORT=1",
		"MAGENT_PID_FILE="+s.path("pid"), "MAGENT_CONFIG="+s.path("magent.toml"))
	s.run("-p", strconv.Itoa(s.port)).wants(t, 0)
	s.only()
	s.serves(s.addr())
}

// promise: L1
func TestUnixSocket(t *testing.T) {
	s := newSite(t)
	socket := s.path("magent.sock")
	s.launch("-p", "0", "-f", socket, "--socket-mode", "0770")
	s.serves(socket)
	info, err := os.Stat(socket)
	must(t, err)
	if info.Mode().Perm() != 0o770 {
		t.Errorf("its permissions are %v", info.Mode())
	}
	pid := s.only()
	s.run(s.args("-p", "0", "-f", socket)...).wants(t, 0)
	if again := s.only(); again != pid {
		t.Errorf("process %d took the place of %d", again, pid)
	}
	s.signal(pid, syscall.SIGTERM)
	s.ends(pid)
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
	// One that was left behind is no hindrance.
	pid = s.launch("-p", "0", "-f", socket)
	s.signal(pid, syscall.SIGKILL)
	s.ends(pid)
	s.launch("-p", "0", "-f", socket)
	s.serves(socket)
}

// promise: L1
func TestFreePort(t *testing.T) {
	s := newSite(t)
	s.launch("-p", "-1")
	var entry struct{ Listen []string }
	for line := range strings.Lines(s.log()) {
		if strings.Contains(line, `"message":"serving"`) {
			must(t, json.Unmarshal([]byte(line), &entry))
		}
	}
	if len(entry.Listen) != 1 || strings.HasSuffix(entry.Listen[0], ":0") {
		t.Fatalf("it listens on %v", entry.Listen)
	}
	s.serves(entry.Listen[0])
	// The port is locked like one that was asked for.
	host, port, err := net.SplitHostPort(entry.Listen[0])
	must(t, err)
	s.run("-l", host, "-p", port, "-s", s.server.Addr, "-P", s.path("second")).wants(t, 0)
	s.only()
}

// promise: L1
func TestVersion(t *testing.T) {
	s := newBareSite(t)
	for _, spelling := range []string{"version", "--version", "-V"} {
		r := s.run(spelling)
		if r.code != 0 || !regexp.MustCompile(`^magent \d+\.\d+\.\d+ go\S+ linux/\S+\n$`).MatchString(r.stdout) {
			t.Errorf("%s: exit code %d, output %q", spelling, r.code, r.stdout)
		}
	}
}

// The foreground: -D, and -v with more in the log.
// promise: L1
func TestForeground(t *testing.T) {
	for _, flag := range []string{"-D", "-v", "--foreground"} {
		s := newSite(t)
		p := harness.StartProcess(t, "magent"+flag, s.env, s.binary, flag, "-l", s.host, "-p", strconv.Itoa(s.port), "-s", s.server.Addr)
		harness.Eventually(t, eventTime, "the ready line is logged", func() bool {
			return strings.Contains(p.Output(), `"message":"serving"`)
		})
		s.serves(s.addr())
		if got := s.only(); got != p.PID() {
			t.Errorf("process %d serves, not %d", got, p.PID())
		}
		p.Signal(syscall.SIGINT)
		state, ended := p.WaitEnd(eventTime)
		if !ended || state.ExitCode() != 0 {
			t.Errorf("%s: after INT: %v", flag, state)
		}
	}
}
