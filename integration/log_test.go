package integration

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// promise: R5
func TestTheLogIsStructuredLimitedAndWithoutValues(t *testing.T) {
	p, b := harness.StartMemcached(t), harness.StartMemcached(t)
	link := harness.NewLink(t, p.Addr)
	m := harness.StartMagent(t, harness.Config{
		Primaries: []string{link.Addr}, Backups: []string{b.Addr}, Args: append([]string{"--log-format", "json"}, hanging...),
	})
	const secret = "value-that-nobody-may-log"
	c := harness.MustDial(t, m.Addr)
	storeSecrets := func() {
		for _, verb := range []string{"set", "add", "append", "prepend", "replace", secret} {
			_, err := c.Store(verb, "k", 0, 0, []byte(secret))
			must(t, err)
			if verb == secret { // an unknown command: its data is the next one
				_, err := c.Line()
				must(t, err)
			}
		}
		_, _, err := c.Value("k")
		must(t, err)
	}
	storeSecrets()
	link.MangleKey(" k", harness.Mangled{Answer: []byte(secret + "\r\n" + secret + "\r\n")})
	storeSecrets()
	link.Heal()
	awaitReads(t, m, p)
	link.Refuse()
	storeSecrets()
	b.Kill()
	// Ten thousand errors are no reason for ten thousand lines.
	go func() {
		_ = c.Send([]byte(strings.Repeat("get k\r\nset k 0 0 25 noreply\r\n"+secret+"\r\n", 10_000))) // the answers show what arrived
	}()
	for i := range 10_000 {
		if answer, err := c.Line(); err != nil || !strings.HasPrefix(answer, "SERVER_ERROR ") {
			t.Fatalf("answer %d: %q, %v", i, answer, err)
		}
	}
	link.Heal()
	harness.Poll(time.Second, func() bool { return false }) // let the probes speak as well
	m.Stop()

	out := m.Output()
	if strings.Contains(out, secret) {
		t.Error("the log contains a value")
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) > 300 {
		t.Errorf("%d lines of log", len(lines))
	}
	for _, line := range lines {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry["level"] == nil || entry["message"] == nil {
			t.Errorf("not structured: %q", line)
		}
	}
	if !strings.Contains(out, link.Addr) || !strings.Contains(out, b.Addr) {
		t.Error("the log does not name the servers that failed")
	}
}
