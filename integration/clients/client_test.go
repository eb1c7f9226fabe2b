package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	// tools is where `make clients` puts what it does not install.
	tools     = "../../.tools"
	dalliLib  = tools + "/dalli-3.2.8/lib"
	modules   = tools + "/npm/node_modules"
	spymemJar = "/usr/share/java/spymemcached.jar"
	// systemPython is the Python that Debian's packages are for. Another one
	// may be the first in PATH.
	systemPython = "/usr/bin/python3"
	// driverEnv makes this test program the driver of the client in Go.
	driverEnv = "MAGENT_CLIENT_DRIVER"
)

// client is one client, in one version, and its driver.
type client struct {
	name      string
	label     string // of its tests, where the name is not enough
	language  string
	protocols []string
	run       []string // the driver's command; its arguments come behind it
	env       []string
	version   []string // the command that says which version this is
	pinned    bool     // the version is chosen here, not by the system
	needs     []string // files besides the program itself
	// prepare, if there is one, returns the driver's command in place of run.
	prepare func(t *testing.T) []string
}

var clients = []client{
	python("pylibmc", "/usr/lib/python3/dist-packages/pylibmc", "text", "binary"),
	python("pymemcache", "/usr/lib/python3/dist-packages/pymemcache", "text"),
	packaged(python("python-memcached", "/usr/lib/python3/dist-packages/memcache.py", "text"), "python3-memcache"),
	script("php-memcached", "PHP", []string{"php", "testdata/php-memcached/driver.php"}, "text", "binary"),
	script("dalli", "Ruby", []string{"ruby", "testdata/dalli/driver.rb"}, "binary"),
	{
		name: "dalli", label: "dalli-3.2", language: "Ruby", protocols: []string{"binary", "meta"}, pinned: true, needs: []string{dalliLib},
		run:     []string{"ruby", "-I", dalliLib, "testdata/dalli/driver.rb"},
		version: []string{"ruby", "-I", dalliLib, "testdata/dalli/driver.rb", "--version"},
	},
	script("Cache::Memcached", "Perl", []string{"perl", "testdata/cache-memcached/driver.pl"}, "text"),
	script("Cache::Memcached::Fast", "Perl", []string{"perl", "testdata/cache-memcached-fast/driver.pl"}, "text"),
	javascript("memjs", "binary"),
	javascript("memcached", "text"),
	{
		name: "gomemcache", language: "Go", protocols: []string{"text"}, pinned: true,
		run: []string{os.Args[0]}, env: []string{driverEnv + "=gomemcache"},
		version: []string{"go", "list", "-m", "-f", "{{.Version}}", "github.com/bradfitz/gomemcache"},
	},
	packaged(client{
		name: "spymemcached", language: "Java", protocols: []string{"text", "binary"}, needs: []string{spymemJar},
		prepare: compiled, run: []string{"java"},
	}, "libspymemcached-java"),
}

func script(name, language string, run []string, protocols ...string) client {
	return client{
		name: name, language: language, protocols: protocols, run: run,
		version: append(append([]string{}, run...), "--version"),
	}
}

// packaged is for a client that does not know its own version: it is that of
// its package.
func packaged(c client, name string) client {
	c.version = []string{"dpkg-query", "-W", "-f", "${source:Upstream-Version}", name}
	return c
}

func python(name, file string, protocols ...string) client {
	// -B: nothing is written beside the drivers.
	c := script(name, "Python", []string{systemPython, "-B", "testdata/" + name + "/driver.py"}, protocols...)
	c.needs = []string{file}
	return c
}

func javascript(name, protocol string) client {
	c := script(name, "JavaScript", []string{"node", "testdata/" + name + "/driver.js"}, protocol)
	c.pinned = true
	c.needs = []string{filepath.Join(modules, name)}
	c.env = []string{"NODE_PATH=" + modules}
	return c
}

// compiled compiles the driver in Java, which takes longer than a run of it.
func compiled(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("javac", "-cp", spymemJar, "-d", dir, "testdata/spymemcached/Driver.java")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("javac: %v\n%s", err, out)
	}
	return []string{"java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", spymemJar + ":" + dir, "Driver"}
}

// check fails the test when something that the client needs is not there.
func (c client) check(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath(c.run[0]); err != nil {
		t.Fatalf("%v: `make clients` installs it", err)
	}
	for _, file := range c.needs {
		if _, err := os.Stat(file); err != nil {
			t.Fatalf("%v: `make clients` installs it", err)
		}
	}
}

// installed returns the version of the client that is about to run.
func (c client) installed(t *testing.T) string {
	t.Helper()
	cmd := exec.Command(c.version[0], c.version[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the version of %s: %s: %v", c.name, strings.Join(c.version, " "), err)
	}
	return strings.TrimSpace(string(out))
}
