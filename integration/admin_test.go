package integration

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// magentCommand runs the program with arguments, as in a shell, and returns what
// it printed and its exit status.
func magentCommand(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Binary(t), args...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("magent %q: %v", args, err)
	}
	return out.String(), problems.String(), cmd.ProcessState.ExitCode()
}

// promise: L6
func TestSubcommandsThatFail(t *testing.T) {
	t.Parallel()
	s := harness.StartMemcached(t)
	host, port, err := net.SplitHostPort(s.Addr)
	must(t, err)
	nobody := harness.Loopback(harness.FreePort(t))
	for _, c := range []struct {
		want  string
		usage bool
		args  []string
	}{
		{"what listens at " + s.Addr + " does not know this command", false, []string{"explain", "k", "-l", host, "-p", port}},
		{"what listens at " + s.Addr + " does not know this command", false, []string{"resync", "-l", s.Addr}},
		{"what listens at " + s.Addr + " ", false, []string{"check", "-l", s.Addr, "--timeout", "10s"}},
		{"what listens at " + s.Addr + " ", false, []string{"status", "--json", "-l", s.Addr}},
		{"cannot connect to " + nobody + ": connection refused: start magent there", false, []string{"check", "-l", nobody, "-s", s.Addr}},
		{"cannot connect to /nonexistent/socket: no such file or directory", false, []string{"resync", "-f", "/nonexistent/socket"}},
		{"magent explain needs a key: write magent explain KEY", true, []string{"explain"}},
		{`the key "a b" holds ' '`, true, []string{"explain", "a b"}},
		{`unexpected argument "x": write magent resync`, true, []string{"resync", "x"}},
	} {
		stdout, stderr, status := magentCommand(t, c.args...)
		line, usage, _ := strings.Cut(stderr, "\n")
		if status != 1 || stdout != "" || !strings.HasPrefix(line, "magent: "+c.want) || strings.HasPrefix(usage, "usage: magent") != c.usage {
			t.Errorf("magent %q: status %d, stdout %q, stderr %q", c.args, status, stdout, stderr)
		}
	}
}
