package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"magent/integration/harness"
)

// checked has a server that hangs noticed soon, and loaded machines pass: these
// tests wait for what happens, and nothing else.
var checked = []string{"--server-timeout", "300ms", "--probe-max", "200ms"}

// check runs `magent check` without the time limit of a loaded machine, and
// returns what it printed on success, and why it failed.
func check(t *testing.T, m *harness.Magent) (line, problem string) {
	t.Helper()
	stdout, stderr, status := magentCommand(t, "check", "-l", m.Addr, "--timeout", "10s")
	if ok := status == 0; ok != (stderr == "") || ok != (stdout != "") || status > 1 || strings.Count(stdout+stderr, "\n") != 1 {
		t.Fatalf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	return stdout, stderr
}

// awaitCheck waits until `magent check` prints a line with the text.
func awaitCheck(t *testing.T, m *harness.Magent, text string) {
	t.Helper()
	var line, problem string
	if !harness.Poll(20*time.Second, func() bool {
		line, problem = check(t, m)
		return strings.Contains(line+problem, text)
	}) {
		t.Fatalf("it does not say %q but %q", text, line+problem)
	}
}

// No client asks for anything meanwhile, as on the node that stands by.
//
// promise: C5
func TestCheckFollowsTheServers(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, checked...)
	awaitCheck(t, m.Magent, "magent at "+m.Addr+" serves, 2 of 2 servers up\n")
	m.primary.Kill()
	awaitCheck(t, m.Magent, "serves, 1 of 2 servers up, 1 down\n")
	m.backup.Freeze()
	awaitCheck(t, m.Magent, fmt.Sprintf("magent: the magent at %s cannot serve every key: %s is ", m.Addr, m.primary.Addr))
	_, problem := check(t, m.Magent)
	if !strings.Contains(problem, m.backup.Addr+" is d") || !strings.HasSuffix(problem, ": start memcached there, or mend the way to it\n") {
		t.Errorf("it says %q", problem)
	}
	m.backup.Thaw()
	awaitCheck(t, m.Magent, "magent at "+m.Addr+" serves, ")
	m.primary.Restart()
	awaitCheck(t, m.Magent, "serves, 2 of 2 servers up\n")
}

// promise: C5, C10
func TestCheckWithoutABackup(t *testing.T) {
	t.Parallel()
	s := harness.StartMemcached(t)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{s.Addr}, Args: checked})
	awaitCheck(t, m, "serves, 1 of 1 server up\n")
	s.Freeze()
	awaitCheck(t, m, s.Addr+" is down and has no backup")
	s.Thaw()
	awaitCheck(t, m, "serves, 1 of 1 server up\n")
	s.Kill()
	awaitCheck(t, m, s.Addr+" is down and has no backup")
}

// A proxy that hangs is no longer waited for than the time limit says.
func TestCheckOfAMagentThatHangs(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	m.Freeze()
	defer m.Thaw()
	for _, args := range [][]string{{"check", "-l", m.Addr}, {"status", "-l", m.Addr, "--timeout", "1s"}} {
		started := time.Now()
		stdout, stderr, status := magentCommand(t, args...)
		took := time.Since(started)
		if status != 1 || stdout != "" || !strings.Contains(stderr, fmt.Sprintf("the magent at %s, pid %d, has not answered within 1s", m.Addr, m.PID())) {
			t.Errorf("%q: status %d, stdout %q, stderr %q", args, status, stdout, stderr)
		}
		// A loaded machine takes its time to start and end a program.
		if took < time.Second || took > 5*time.Second {
			t.Errorf("%q took %v", args, took)
		}
	}
}

// One client more than there may be is turned away; whoever asks how it stands
// is not.
//
// promise: R2
func TestCheckOfAMagentThatIsFull(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, append([]string{"-n", "1"}, patient...)...)
	var c *harness.Client
	harness.Eventually(t, 20*time.Second, "the one place is taken", func() bool {
		c = harness.MustDial(t, m.Addr)
		_, err := c.Stats("")
		return err == nil
	})
	line, problem := check(t, m.Magent)
	if !strings.Contains(line, "serves, 2 of 2 servers up; it turns new clients away: all 1 connections are in use") {
		t.Errorf("it says %q", line+problem)
	}
	expect(t, c, "delete none", "NOT_FOUND")
}

// promise: W5
func TestStatusCommand(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	c := harness.MustDial(t, m.Addr)
	must(t, c.Set("k", "v"))
	expectValue(t, c, "k", "v")
	expectMiss(t, c, "none")
	m.backup.Kill()
	awaitOut(t, m.Magent, m.backup.Addr)
	must(t, c.Set("k", "w"))
	expectValue(t, c, "k", "w")

	text, stderr, status := magentCommand(t, "status", "-l", m.Addr)
	flat := strings.Join(strings.Fields(text), " ")
	for _, want := range []string{
		fmt.Sprintf("pid %d, up for ", m.PID()), "listens at " + m.Addr, "SERVER ROLE STATE COMPLETE",
		m.primary.Addr + " primary up yes 0", m.backup.Addr + " backup dirty unknown 1", m.backup.Addr + " is dirty: cannot connect: ", "connection refused. It has been out of reach for ",
	} {
		if !strings.Contains(flat, want) {
			t.Errorf("it lacks %q (status %d, stderr %q):\n%s", want, status, stderr, text)
		}
	}

	text, stderr, status = magentCommand(t, "status", "--json", "-l", m.Addr)
	var got struct {
		Version     string   `json:"version"`
		PID         int      `json:"pid"`
		ThisMachine bool     `json:"this_machine"`
		Listen      []string `json:"listen"`
		Serves      *bool    `json:"serves"`
		Problem     *string  `json:"problem"`
		Clients     int      `json:"clients"`
		MaxClients  int      `json:"max_clients"`
		HitRate     float64  `json:"hit_rate"`
		Servers     []struct {
			Name       string  `json:"name"`
			Role       string  `json:"role"`
			State      string  `json:"state"`
			Complete   string  `json:"complete"`
			MissedKeys int     `json:"missed_keys"`
			OutS       *int    `json:"out_s"`
			Eta        *int    `json:"resync_eta_s"`
			Version    *string `json:"version"`
		} `json:"servers"`
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || status != 0 || stderr != "" {
		t.Fatalf("%v, status %d, stderr %q: %s", err, status, stderr, text)
	}
	if got.Version == "" || got.PID != m.PID() || !got.ThisMachine || len(got.Listen) != 1 || got.Listen[0] != m.Addr ||
		got.Serves == nil || !*got.Serves || got.Problem == nil || *got.Problem != "" ||
		got.Clients < 1 || got.MaxClients != 4096 || got.HitRate <= 0 || got.HitRate >= 1 || len(got.Servers) != 2 {
		t.Fatalf("%s", text)
	}
	p, b := got.Servers[0], got.Servers[1]
	if p.Name != m.primary.Addr || p.Role != "primary" || p.State != "up" || p.Complete != "yes" || p.MissedKeys != 0 || p.Eta == nil || p.Version == nil {
		t.Errorf("the primary: %s", text)
	}
	if b.Name != m.backup.Addr || b.Role != "backup" || b.State != "dirty" || b.Complete != "unknown" || b.MissedKeys != 1 || b.OutS == nil {
		t.Errorf("the backup: %s", text)
	}
}

// Programs ask while connections are handed on to another program.
//
// promise: L7
func TestCheckAfterAnUpgrade(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	m.Signal(syscall.SIGUSR2)
	for range 20 {
		if line, problem := check(t, m.Magent); line == "" {
			t.Fatalf("it says %q", problem)
		}
	}
}
