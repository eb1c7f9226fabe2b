package launch

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"magent/integration/harness"
)

const (
	// top is the top of the repository, seen from here.
	top         = "../.."
	serviceFile = top + "/deploy/systemd/magent.service"
	exampleFile = top + "/deploy/systemd/magent.toml"
)

// serviceLine returns the value of the one line with that name in the unit.
func serviceLine(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(serviceFile)
	must(t, err)
	found := regexp.MustCompile(`(?m)^`+name+`=(.*)$`).FindAllSubmatch(text, -1)
	if len(found) != 1 {
		t.Fatalf("%s has %d lines %s=, want one", serviceFile, len(found), name)
	}
	return string(found[0][1])
}

// output runs a command that must succeed.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestServiceIsInstalled(t *testing.T) {
	dir := t.TempDir()
	install := func() { output(t, "make", "-C", top, "install-systemd", "DESTDIR="+dir, "PREFIX=/usr") }
	install()
	unit, err := os.ReadFile(filepath.Join(dir, "usr/lib/systemd/system/magent.service"))
	must(t, err)
	if !bytes.Contains(unit, []byte("\nExecStart=/usr/bin/magent ")) {
		t.Errorf("the service does not start /usr/bin/magent:\n%s", unit)
	}
	config := filepath.Join(dir, "etc/magent.toml")
	must(t, os.WriteFile(config, []byte("port = 1\n"), 0o600))
	install()
	if text, err := os.ReadFile(config); err != nil || string(text) != "port = 1\n" {
		t.Errorf("settings that were there are now %q, error %v", text, err)
	}
}

// systemd itself reads the unit, and says how little the service may do.
func TestServiceIsRight(t *testing.T) {
	const mostExposure = "25" // in tenths; a service without limits has 96. Versions of systemd differ a little
	text, err := os.ReadFile(serviceFile)
	must(t, err)
	unit := filepath.Join(t.TempDir(), "magent.service")
	text = bytes.ReplaceAll(text, []byte("/usr/local/bin/magent"), []byte(harness.Binary(t)))
	must(t, os.WriteFile(unit, text, 0o600))
	// It succeeds with lines that it does not know, and says so. What it says
	// of other units of this machine is no matter.
	for line := range strings.Lines(output(t, "systemd-analyze", "verify", "--man=no", unit)) {
		if strings.Contains(line, "magent") {
			t.Errorf("systemd-analyze verify says: %s", line)
		}
	}
	output(t, "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold="+mostExposure, unit)
}

// The example shows every setting that a service may want, with its default.
func TestExampleOfSettings(t *testing.T) {
	s := newBareSite(t)
	s.run("--check", "--config", exampleFile).wantsOutput(t, "magent: the settings are right\n")
	text, err := os.ReadFile(exampleFile)
	must(t, err)
	all := regexp.MustCompile(`(?m)^#([a-z-]+ = )`).ReplaceAll(text, []byte("$1"))
	must(t, os.WriteFile(s.path("all.toml"), all, 0o600))
	s.run("--check", "--config", s.path("all.toml")).wantsOutput(t, "magent: the settings are right\n")

	// systemd starts, names, limits and logs the process by itself.
	for _, name := range []string{
		"background", "foreground", "verbose", "user", "group", "pid-file", "log-file", "config", "check", "help", "version", "ketama",
		"timeout", "json", // of subcommands
		"auth-file", "server-auth-file", // files that would have to be there
		"in-flight-file", // its default is another one for each address
	} {
		all = append(all, "\n"+name+" = "...)
	}
	help := s.run("--help").stdout
	rows := regexp.MustCompile(`(?m)^  (?:-[a-zA-Z],|   ) --([a-z-]+)(?: \S+)?\n((?: {10}.*\n)+)`).FindAllStringSubmatch(help, -1)
	if len(rows) < 30 {
		t.Fatalf("the help page has %d flags:\n%s", len(rows), help)
	}
	for _, row := range rows {
		name, about := row[1], strings.Join(strings.Fields(row[2]), " ")
		line := regexp.MustCompile(`(?m)^` + name + ` = ("[^"]*"|\S*)`).FindSubmatch(all)
		if line == nil {
			t.Errorf("%s lacks %s", exampleFile, name)
			continue
		}
		shown := regexp.MustCompile(`\(default ([^ ,)]+)`).FindStringSubmatch(about)
		value := strings.Trim(string(line[1]), `"`)
		switch name {
		case "port", "threads", "listen":
			continue // the default would clash with memcached's, or is put in words
		}
		if shown != nil && value != "" && value != shown[1] {
			t.Errorf("%s has %s = %s, the default is %s", exampleFile, name, value, shown[1])
		}
	}
}

// The service's own command line, with the example of settings as it is, as the
// user and with the rights that systemd would give it.
func TestServiceStarts(t *testing.T) {
	s := newNamespaceSite(t)
	s.host, s.port = "127.0.0.1", 12000
	// The harness starts programs from another thread.
	here := []string{"nsenter", fmt.Sprintf("--net=/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())}
	memcached := func(port string) string {
		harness.StartProcess(t, "memcached", nil, append(here, harness.MemcachedBinary(), "-u", "root", "-l", "127.0.0.1", "-p", port, "-U", "0")...)
		addr := "127.0.0.1:" + port
		harness.Eventually(t, eventTime, "memcached serves", func() bool { return roundTrip("tcp", addr) == nil })
		return addr
	}
	servers := []string{memcached("11211"), memcached("11212")}
	config, err := os.ReadFile(exampleFile)
	must(t, err)
	must(t, os.WriteFile(s.path("magent.toml"), config, 0o600))
	must(t, os.Chmod(s.path("magent.toml"), 0o644)) // what make install-systemd gives it
	m := newManager(t, s.path("notify"))
	must(t, os.Chmod(m.name, 0o777)) // as systemd's is
	s.env = append(s.env, "NOTIFY_SOCKET="+m.name, "WATCHDOG_USEC=1000000")

	rights := strings.ToLower(strings.ReplaceAll(serviceLine(t, "AmbientCapabilities"), "CAP_", "+"))
	rights = "-all," + strings.ReplaceAll(rights, " ", ",")
	argv := append(here, "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs",
		"--inh-caps", rights, "--ambient-caps", rights, "--bounding-set", rights, s.binary)
	for i, word := range strings.Fields(serviceLine(t, "ExecStart")) {
		switch {
		case i == 0:
			continue
		case word == "/etc/magent.toml":
			word = s.path("magent.toml")
		}
		argv = append(argv, word)
	}
	p := harness.StartProcess(t, "magent", s.env, argv...)
	m.hears("READY", p.PID())
	s.serves(s.addr())
	for _, addr := range servers {
		c, err := dial("tcp", addr)
		must(t, err)
		harness.Eventually(t, eventTime, "the value is on "+addr, func() bool {
			_, found, err := c.Value("launch")
			return err == nil && found
		})
		c.Close()
	}
	if got, want := ids(t, p.PID()), "65534 65534 65534 65534, 65534 65534 65534 65534, "; got != want {
		t.Errorf("it runs as %s, want %s", got, want)
	}

	reload := strings.ReplaceAll(serviceLine(t, "ExecReload"), "$MAINPID", strconv.Itoa(p.PID()))
	output(t, "sh", "-c", reload)
	m.hears("RELOADING", p.PID())
	m.hears("READY", p.PID())
	p.Signal(syscall.SIGTERM)
	m.hears("STOPPING", p.PID())
	if state, ended := p.WaitEnd(eventTime); !ended || state.ExitCode() != 0 {
		t.Errorf("%v, want exit code 0", state)
	}
}
