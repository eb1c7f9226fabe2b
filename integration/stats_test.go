package integration

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"magent/integration/harness"
)

// number returns a statistic as a number.
func number(t *testing.T, stats map[string]string, name string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(stats[name], 10, 64)
	if err != nil {
		t.Fatalf("STAT %s is %q, no number", name, stats[name])
	}
	return n
}

// promise: W5
func TestStatsHaveMemcachedsNames(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	c := harness.MustDial(t, m.Addr)
	must(t, c.Set("k", "7"))
	expectValue(t, c, "k", "7")
	expectMiss(t, c, "none")
	expect(t, c, "incr k 1", "8")
	expect(t, c, "delete none", "NOT_FOUND")
	expect(t, c, "touch k 0", "TOUCHED")
	stats, err := c.Stats("")
	must(t, err)
	names := strings.Fields("pid uptime time version pointer_size rusage_user rusage_system curr_connections " +
		"total_connections max_connections rejected_connections cmd_get cmd_set cmd_flush cmd_touch get_hits get_misses " +
		"delete_hits delete_misses incr_hits incr_misses decr_hits decr_misses cas_hits cas_misses cas_badval " +
		"touch_hits touch_misses bytes_read bytes_written limit_maxbytes threads accepting_conns")
	direct, err := harness.MustDial(t, m.primary.Addr).Stats("")
	must(t, err)
	for _, name := range names {
		if stats[name] == "" {
			t.Errorf("no STAT %s", name)
		}
		if direct[name] == "" {
			t.Errorf("memcached has no STAT %s either", name)
		}
	}
	for name, want := range map[string]int64{
		"pid": int64(m.PID()), "threads": 2, "curr_connections": 1, "cmd_set": 1, "cmd_get": 2, "get_hits": 1,
		"get_misses": 1, "incr_hits": 1, "delete_misses": 1, "touch_hits": 1, "cmd_touch": 1,
	} {
		if got := number(t, stats, name); got != want {
			t.Errorf("STAT %s %d, want %d", name, got, want)
		}
	}
	if up := number(t, stats, "uptime"); up < 0 || up > 600 {
		t.Errorf("uptime %d", up)
	}
	if number(t, stats, "bytes_read") < 50 || number(t, stats, "bytes_written") < 50 {
		t.Errorf("%s bytes read, %s written", stats["bytes_read"], stats["bytes_written"])
	}
	for name := range stats {
		// idle_kicks is memcached's, when it has an idle timeout.
		if direct[name] == "" && name != "idle_kicks" && !strings.HasPrefix(name, "magent_") {
			t.Errorf("STAT %s is none of memcached's and does not begin with magent_", name)
		}
	}
}

// promise: W5
func TestStatsCountEverythingOnce(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	const clients, each = 20, 30
	group(t, clients, func(i int) error {
		c, err := harness.Dial(m.Addr)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		for n := range each {
			if err := c.Set(fmt.Sprintf("k%d-%d", i, n), "v"); err != nil {
				return err
			}
			if _, err := c.Get(fmt.Sprintf("k%d-%d", i, n), "missing"); err != nil {
				return err
			}
		}
		return nil
	})
	stats, err := harness.MustDial(t, m.Addr).Stats("")
	must(t, err)
	for name, want := range map[string]int64{
		"cmd_set": clients * each, "cmd_get": 2 * clients * each, "get_hits": clients * each, "get_misses": clients * each,
	} {
		if got := number(t, stats, name); got != want {
			t.Errorf("STAT %s %d, want %d", name, got, want)
		}
	}
}

// promise: W5
func TestStatsReset(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	c := harness.MustDial(t, m.Addr)
	must(t, c.Set("k", "v"))
	expectValue(t, c, "k", "v")
	expect(t, c, "stats reset", "RESET")
	stats, err := c.Stats("")
	must(t, err)
	for _, name := range []string{"cmd_get", "cmd_set", "get_hits"} {
		if got := number(t, stats, name); got != 0 {
			t.Errorf("STAT %s %d after a reset", name, got)
		}
	}
	if number(t, stats, "curr_connections") < 1 || number(t, stats, "pid") != int64(m.PID()) {
		t.Errorf("facts were reset with the counters: %v", stats)
	}
}

// promise: W5, C5
func TestStatsServers(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	c := harness.MustDial(t, m.Addr)
	state := func(s *harness.Memcached) string {
		stats, err := c.Stats("servers")
		must(t, err)
		return stats[s.Addr+":state"]
	}
	must(t, c.Set("k", "v"))
	if p, b := state(m.primary), state(m.backup); p != "up" || b != "up" {
		t.Fatalf("servers are %q and %q", p, b)
	}
	m.primary.Kill()
	expectValue(t, c, "k", "v")
	if got := state(m.primary); got == "up" || got == "" {
		t.Errorf("a dead server is %q", got)
	}
	m.primary.Restart()
	awaitReads(t, m.Magent, m.primary)
	if got := state(m.primary); got != "up" && got != "warming" {
		t.Errorf("a server that is read is %q", got)
	}
}

// promise: W5
func TestStatsConnsAndSettings(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, append([]string{"-n", "123", "--max-item-size", "3m"}, patient...)...)
	c, other := harness.MustDial(t, m.Addr), harness.MustDial(t, m.Addr)
	must(t, other.Set("k", "v"))
	conns, err := c.Stats("conns")
	must(t, err)
	for _, client := range []*harness.Client{c, other} {
		found := false
		for name, value := range conns {
			found = found || strings.HasSuffix(name, ":addr") && value == "tcp:"+client.Conn().LocalAddr().String()
		}
		if !found {
			t.Errorf("stats conns does not know %s: %v", client.Conn().LocalAddr(), conns)
		}
	}
	settings, err := c.Stats("settings")
	must(t, err)
	for name, want := range map[string]string{"maxconns": "123", "item_size_max": strconv.Itoa(3 << 20), "num_threads": "2"} {
		if settings[name] != want {
			t.Errorf("setting %s is %q, want %q", name, settings[name], want)
		}
	}
}

// Clients that know memcached only ask for more than magent has.
//
// promise: W5, R1
func TestOtherStatsAreAnswered(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	c := harness.MustDial(t, m.Addr)
	for _, arg := range []string{"items", "slabs", "sizes"} {
		if _, err := c.Stats(arg); err != nil {
			t.Errorf("stats %s: %v", arg, err)
		}
	}
	for _, arg := range []string{"nonsense", "servers extra words", strings.Repeat("x", 200)} {
		must(t, c.Send([]byte("stats "+arg+"\r\nversion\r\n")))
		for {
			answer, err := c.Line()
			must(t, err)
			if strings.HasPrefix(answer, "VERSION ") {
				break
			}
		}
	}
}
