package clients

import (
	"context"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// capableName is libmemcached's own test of a server's protocol.
const capableName = "memccapable"

// capableTime bounds one run of it, which takes two or three seconds.
const capableTime = 2 * time.Minute

func capableVersion(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath(capableName); err != nil {
		t.Fatalf("%v: `make clients` installs it", err)
	}
	out, err := exec.Command("dpkg-query", "-W", "-f", "${source:Upstream-Version}", "libmemcached-tools").Output()
	if err != nil {
		t.Fatalf("the version of %s: %v", capableName, err)
	}
	return string(out)
}

// patient keeps a loaded machine from looking like a failed server. A server that is killed
// is seen without a timeout.
var patient = []string{"--server-timeout", "10s", "--connect-timeout", "5s"}

// runCapable runs memccapable against memcached and through magent, compares
// which of its tests pass, and returns those that memcached passes.
func runCapable(t *testing.T, flag string) []string {
	t.Helper()
	alone := harness.StartMemcached(t)
	primary, backup := harness.StartMemcached(t), harness.StartMemcached(t)
	magent := harness.StartMagent(t, harness.Config{Primaries: []string{primary.Addr}, Backups: []string{backup.Addr}, Args: patient})
	want, got := capable(t, alone.Addr, flag), capable(t, magent.Addr, flag)
	if len(want) == 0 {
		t.Fatal("memccapable ran no test")
	}
	if !slices.Equal(want, got) {
		t.Errorf("memcached:\n%s\nmagent:\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
	var passed []string
	for _, line := range want {
		if name, ok := strings.CutSuffix(line, "[pass]"); ok {
			_, name, _ = strings.Cut(strings.TrimSpace(name), " ") // without the protocol
			passed = append(passed, name)
		}
	}
	slices.Sort(passed)
	return passed
}

// capable returns the lines of one run. Its exit status says no more than they do.
func capable(t *testing.T, addr, flag string) []string {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), capableTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, capableName, "-h", host, "-p", port, flag)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("memccapable still ran after %v (%v):\n%s", capableTime, err, out)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
