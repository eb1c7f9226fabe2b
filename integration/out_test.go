package integration

import (
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// Somebody asks for a resync while a server hangs. Its twin, which holds all that it
// should, is left alone: otherwise each key that nobody has would be an error.
//
// promise: C5
func TestAResyncLeavesAServerWhoseTwinIsOut(t *testing.T) {
	t.Parallel()
	s := startStory(t, 1, 1, "--lost-after", "5m")
	c := harness.MustDial(t, s.Addr)
	must(t, c.Set("kept", "v"))
	s.primary().Freeze()
	s.awaitGone(t, s.primary())
	stdout, stderr, status := magentCommand(t, "resync", "-l", s.Addr)
	if want := s.name(s.backup()) + " is left as it is"; status != 0 || !strings.Contains(stdout, want) {
		t.Errorf("status %d, stdout %q, stderr %q; want %q", status, stdout, stderr, want)
	}
	if state := stateOf(t, s.Magent, s.name(s.backup())); state != "up" {
		t.Errorf("the backup is %s", state)
	}
	expectMiss(t, c, "unknown")
	expectValue(t, c, "kept", "v")
	s.primary().Thaw()
	awaitWhole(t, s.Magent)
	// With both there, nothing is left out.
	if stdout, stderr, status := magentCommand(t, "resync", "-l", s.Addr); status != 0 || strings.Contains(stdout, "left") {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	awaitWhole(t, s.Magent)
}

// Who watches is told why a server is out, and why it will be flushed.
//
// promise: C6
func TestWhyAServerIsOutAndWillBeFlushed(t *testing.T) {
	for name, c := range map[string]struct {
		args, missed []string
		why, column  string
	}{
		"more keys than --journal-keys":    {[]string{"--journal-keys", "10"}, keysNamed("k", 20), "more than --journal-keys", "too many"},
		"more bytes than --journal-memory": {[]string{"--journal-memory", "1k"}, keysNamed("k", 20), "more than --journal-memory", "too many"},
		"flush_all":                        {nil, nil, "flush_all", "flush_all"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, c.args...)
			server := s.name(s.primary())
			client := harness.MustDial(t, s.Addr)
			must(t, client.Set("k0", "old"))
			s.primary().Freeze()
			s.awaitGone(t, s.primary())
			for _, key := range c.missed {
				must(t, client.Set(key, "new"))
			}
			if c.missed == nil {
				expect(t, client, "flush_all", "OK")
				must(t, client.Set("k0", "new"))
			}
			stats := serverStats(t, s.Magent)
			if stats[server+":journal_overflow"] != "yes" || stats[server+":journal_overflow_why"] != c.why || stats[server+":out_why"] == "" {
				t.Errorf("stats: %q, %q, out because of %q", stats[server+":journal_overflow"], stats[server+":journal_overflow_why"], stats[server+":out_why"])
			}
			stdout, stderr, status := magentCommand(t, "status", "-l", s.Addr)
			if words := strings.Join(strings.Fields(stdout), " "); status != 0 || !strings.Contains(words, "known ("+c.why+")") ||
				!strings.Contains(words, c.column+" ") || !strings.Contains(words, stats[server+":out_why"]) {
				t.Errorf("status %d, stderr %q, stdout\n%s", status, stderr, stdout)
			}
			if stdout, stderr, status := magentCommand(t, "explain", "k0", "-l", s.Addr); status != 0 || !strings.Contains(stdout, "not known whether it is right") {
				t.Errorf("status %d, stderr %q, stdout\n%s", status, stderr, stdout)
			}
			told := `"message":"this server will be flushed, and filled from its twins"`
			harness.Eventually(t, 10*time.Second, "the log tells it", func() bool { return strings.Count(s.Output(), told) == 1 })
			s.primary().Thaw()
			awaitWhole(t, s.Magent)
			expectValue(t, client, "k0", "new")
			stats = serverStats(t, s.Magent)
			if stats[server+":out_why"] != "" || stats[server+":journal_overflow_why"] != "" || strings.Count(s.Output(), told) != 1 {
				t.Errorf("when it is back: out because of %q, lost by %q", stats[server+":out_why"], stats[server+":journal_overflow_why"])
			}
			if flushed := "it has missed more writes than are known (" + c.why + "): it was flushed"; !strings.Contains(s.Output(), flushed) {
				t.Errorf("the log does not tell %q", flushed)
			}
		})
	}
}
