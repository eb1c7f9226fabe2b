package integration

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"magent/integration/harness"
)

// askingPair is a primary and a backup that ask who magent is.
func askingPair(t *testing.T, passwords [2]string, args ...string) *mirrored {
	t.Helper()
	m := &mirrored{
		primary: harness.StartMemcached(t, "-Y", users(t, "alice:"+passwords[0]+"\n")),
		backup:  harness.StartMemcached(t, "-Y", users(t, "other:user\nalice:"+passwords[1]+"\n")),
	}
	m.Magent = harness.StartMagent(t, harness.Config{
		Primaries: []string{m.primary.Addr}, Backups: []string{m.backup.Addr},
		Args: append([]string{"--server-auth-file", users(t, "alice:secret\n")}, args...),
	})
	return m
}

// awaitState waits until a server has a state, and returns its other facts.
func awaitState(t *testing.T, c *harness.Client, addr, state string) map[string]string {
	t.Helper()
	var stats map[string]string
	harness.Eventually(t, 20*time.Second, addr+" is "+state, func() bool {
		var err error
		stats, err = c.Stats("servers")
		must(t, err)
		return stats[addr+":state"] == state
	})
	return stats
}

// Writes reach both servers, a failover works, and a server that was started anew
// is filled, all though they ask.
//
// promise: C3, C4, C7
func TestFailoverWithServersThatAsk(t *testing.T) {
	t.Parallel()
	m := askingPair(t, [2]string{"secret", "secret"}, withoutFalseAlarms...)
	c := harness.MustDial(t, m.Addr)
	awaitState(t, c, m.primary.Addr, "up")
	awaitState(t, c, m.backup.Addr, "up")
	keys := keysNamed("k", 200)
	for i, key := range keys {
		must(t, c.Set(key, fmt.Sprint(i)))
	}
	m.primary.Kill()
	for i, key := range keys {
		if value, _, err := c.Value(key); err != nil || value != fmt.Sprint(i) {
			t.Fatalf("%s after the failover: %q, %v", key, value, err)
		}
		must(t, c.Set(key, fmt.Sprint(i+1)))
	}
	m.primary.Restart()
	awaitState(t, c, m.primary.Addr, "up")
	for _, s := range []*harness.Memcached{m.primary, m.backup} {
		direct := proven(t, s.Addr, "alice", "secret")
		for i, key := range keys {
			var value string
			harness.Eventually(t, 10*time.Second, key+" is on "+s.Addr, func() bool {
				var err error
				value, _, err = direct.Value(key)
				must(t, err)
				return value == fmt.Sprint(i+1)
			})
		}
		stats, err := direct.Stats("")
		must(t, err)
		if stats["auth_errors"] != "0" {
			t.Errorf("%s refused %s times", s.Addr, stats["auth_errors"])
		}
	}
}

// One server has another password: it is out with a reason, and not asked
// without a pause; the other one serves. Mended, all is well.
//
// promise: C5
func TestWrongPasswordOfOneServer(t *testing.T) {
	t.Parallel()
	file := users(t, "alice:secret\n")
	primary, backup := harness.StartMemcached(t, "-Y", file), harness.StartMemcached(t, "-Y", users(t, "alice:another\n"))
	m := harness.StartMagent(t, harness.Config{
		Primaries: []string{primary.Addr}, Backups: []string{backup.Addr},
		Args: append([]string{"--server-auth-file", file}, patient...),
	})
	c := harness.MustDial(t, m.Addr)
	must(t, c.Set("k", "v"))
	const problem = "it refuses the user and password of --server-auth-file"
	stats := awaitState(t, c, backup.Addr, "dirty")
	if !strings.Contains(stats[backup.Addr+":problem"], problem) || stats[primary.Addr+":problem"] != "" {
		t.Errorf("problems %q and %q", stats[backup.Addr+":problem"], stats[primary.Addr+":problem"])
	}
	stdout, stderr, status := magentCommand(t, "status", "-l", m.Addr)
	if flat := strings.Join(strings.Fields(stdout), " "); status != 0 || !strings.Contains(flat, backup.Addr+" is dirty: the server does not let magent in: "+problem) {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
	tries := func() int64 {
		direct := proven(t, backup.Addr, "alice", "another")
		defer direct.Close()
		s, err := direct.Stats("")
		must(t, err)
		var n int64
		_, err = fmt.Sscan(s["auth_errors"], &n)
		must(t, err)
		return n
	}
	before, began := tries(), time.Now()
	harness.Holds(t, 3*time.Second, "the other server serves", func() bool {
		value, found, err := c.Value("k")
		return err == nil && found && value == "v"
	})
	if n := tries() - before; float64(n) > 3*time.Since(began).Seconds()+3 {
		t.Errorf("%d tries in %v", n, time.Since(began))
	}
	if n := strings.Count(m.Output(), problem); n != 1 {
		t.Errorf("the log says %d times why, want once", n)
	}
	if out := m.Output(); strings.Contains(out, "secret") {
		t.Error("the log holds a password")
	}
	primary.Kill()
	awaitCheck(t, m, backup.Addr+" is dirty: the server does not let magent in: "+problem)
	primary.Restart()
	// The backup gets another file of users at its restart.
	must(t, os.WriteFile(file, []byte("alice:another\n"), 0o644))
	primary.Restart()
	m.Signal(syscall.SIGHUP)
	awaitState(t, c, primary.Addr, "up")
	awaitState(t, c, backup.Addr, "up")
	must(t, c.Set("k", "w"))
}

// A server that asks, and nothing to prove; and a server of the binary protocol
// alone.
//
// promise: C5, C10
func TestServersThatCannotBeUsedSayWhy(t *testing.T) {
	t.Parallel()
	asking := harness.StartMemcached(t, "-Y", users(t, "alice:secret\n"))
	m := harness.StartMagent(t, harness.Config{Primaries: []string{asking.Addr}, Args: patient})
	awaitCheck(t, m, "it asks for a user and a password: name a file with them with --server-auth-file")
	c := harness.MustDial(t, m.Addr)
	if answer, err := c.Command("get k"); err != nil || !strings.HasPrefix(answer, "SERVER_ERROR ") {
		t.Errorf("get: %q, %v", answer, err)
	}
}

// Servers may be told to ask one by one, while magent runs, and never are told the
// password before they do.
//
// promise: C7
func TestServersBeginToAsk(t *testing.T) {
	t.Parallel()
	for _, pair := range []bool{true, false} {
		t.Run(fmt.Sprintf("with a backup %v", pair), func(t *testing.T) {
			t.Parallel()
			primary, backup := harness.StartMemcached(t), harness.StartMemcached(t)
			cfg := harness.Config{Primaries: []string{primary.Addr}, Args: append([]string{"--server-auth-file", users(t, "alice:secret\n")}, withoutFalseAlarms...)}
			if pair {
				cfg.Backups = []string{backup.Addr}
			}
			m := harness.StartMagent(t, cfg)
			c := harness.MustDial(t, m.Addr)
			must(t, c.Set("k", "v"))
			if !strings.Contains(m.Output(), "this server lets everybody in, and is not told the password") {
				t.Error("the log does not say that the server asks not")
			}
			for _, args := range [][]string{{"-Y", users(t, "alice:secret\n")}, nil} {
				primary.RestartWith(args...)
				harness.Eventually(t, 20*time.Second, "magent uses the server again", func() bool {
					answer, err := c.Store("set", "k", 0, 0, []byte("w"))
					must(t, err)
					if strings.HasPrefix(answer, "CLIENT_ERROR") {
						t.Fatalf("the client is told %q", answer)
					}
					stats, err := c.Stats("servers")
					must(t, err)
					return answer == "STORED" && stats[primary.Addr+":state"] == "up"
				})
				if stats, err := c.Stats("servers"); err != nil || stats[primary.Addr+":flushes"] != "0" {
					t.Errorf("flushed %s times, %v", stats[primary.Addr+":flushes"], err)
				}
			}
			direct := harness.MustDial(t, primary.Addr)
			if value, found, err := direct.Value("__magent__:auth"); err != nil || found {
				t.Errorf("the server holds %q, %v", value, err)
			}
		})
	}
}
