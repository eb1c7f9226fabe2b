package integration

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"magent/integration/harness"
)

// patient keeps a loaded machine from looking like a failed server, in tests
// that are not about failing servers.
var patient = []string{"--server-timeout", "10s", "--connect-timeout", "5s"}

// mirrored is a primary and a backup with magent before them.
type mirrored struct {
	*harness.Magent
	primary, backup *harness.Memcached
}

// startMirrored starts one primary, one backup and magent.
func startMirrored(t *testing.T, args ...string) *mirrored {
	t.Helper()
	m := &mirrored{primary: harness.StartMemcached(t), backup: harness.StartMemcached(t)}
	m.Magent = harness.StartMagent(t, harness.Config{
		Primaries: []string{m.primary.Addr}, Backups: []string{m.backup.Addr}, Args: args,
	})
	return m
}

// newRand returns a random source and prints how to repeat it.
func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("MAGENT_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("MAGENT_SEED: %v", err)
		}
	}
	t.Logf("repeat with MAGENT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// expect sends a line and fails the test unless the answer is the wanted one.
func expect(t *testing.T, c *harness.Client, line, want string) {
	t.Helper()
	got, err := c.Command("%s", line)
	if err != nil || got != want {
		t.Fatalf("%q: got %q, %v; want %q", line, got, err, want)
	}
}

// expectValue fails the test unless the key has the value.
func expectValue(t *testing.T, c *harness.Client, key, want string) {
	t.Helper()
	got, found, err := c.Value(key)
	if err != nil || !found || got != want {
		t.Fatalf("get %s: got %s, found %v, %v; want %s", short(key), short(got), found, err, short(want))
	}
}

// expectMiss fails the test unless the key is absent.
func expectMiss(t *testing.T, c *harness.Client, key string) {
	t.Helper()
	if got, found, err := c.Value(key); err != nil || found {
		t.Fatalf("get %s: got %s, found %v, %v; want a miss", short(key), short(got), found, err)
	}
}

// short shows the start of a long string.
func short(s string) string {
	if len(s) > 120 {
		return fmt.Sprintf("%q… (%d bytes)", s[:120], len(s))
	}
	return strconv.Quote(s)
}

// difference says how two servers differ in the given keys, "" if they do not.
// The servers are asked directly. A difference of two seconds in the time left
// to live is none.
func difference(a, b *harness.Client, keys []string) (string, error) {
	var out []string
	for _, key := range keys {
		x, inA, err := a.Peek(key)
		if err != nil {
			return "", err
		}
		y, inB, err := b.Peek(key)
		if err != nil {
			return "", err
		}
		switch {
		case inA != inB:
			out = append(out, fmt.Sprintf("%s: on the primary: %v, on the backup: %v", short(key), inA, inB))
		case x.Flags != y.Flags:
			out = append(out, fmt.Sprintf("%s: flags %d and %d", short(key), x.Flags, y.Flags))
		case !bytes.Equal(x.Value, y.Value):
			out = append(out, fmt.Sprintf("%s: value %s and %s", short(key), short(string(x.Value)), short(string(y.Value))))
		case (x.TTL < 0) != (y.TTL < 0) || x.TTL-y.TTL > 2 || y.TTL-x.TTL > 2:
			out = append(out, fmt.Sprintf("%s: %d and %d seconds to live", short(key), x.TTL, y.TTL))
		}
	}
	sort.Strings(out)
	return strings.Join(out, "\n"), nil
}

// awaitEqual waits until two servers hold the same for the keys.
func awaitEqual(t *testing.T, a, b *harness.Memcached, keys []string) {
	t.Helper()
	ca, cb := harness.MustDial(t, a.Addr), harness.MustDial(t, b.Addr)
	var diff string
	var err error
	same := harness.Poll(10*time.Second, func() bool {
		diff, err = difference(ca, cb, keys)
		return err != nil || diff == ""
	})
	if err != nil || !same {
		t.Fatalf("the servers %s and %s differ: %v\n%s", a.Addr, b.Addr, err, diff)
	}
}

// awaitReads waits until reads through magent reach the server again: the
// server's own count of them rises.
func awaitReads(t *testing.T, m *harness.Magent, s *harness.Memcached) {
	t.Helper()
	c := harness.MustDial(t, m.Addr)
	direct := harness.MustDial(t, s.Addr)
	n := 0
	harness.Eventually(t, 15*time.Second, "reads reach "+s.Addr, func() bool {
		n++ // only this server has it, and magent has never asked for it
		key := fmt.Sprintf("awaiting-reads-%d", n)
		must(t, direct.Set(key, "here"))
		_, found, err := c.Value(key)
		var answer *harness.AnswerError
		if err != nil && !errors.As(err, &answer) {
			t.Fatal(err)
		}
		_, derr := direct.Command("delete %s", key)
		must(t, derr)
		return found
	})
}

// awaitOut waits until magent does not use a server any more, and writes nothing
// for it.
func awaitOut(t *testing.T, m *harness.Magent, addr string) {
	t.Helper()
	c := harness.MustDial(t, m.Addr)
	harness.Eventually(t, 20*time.Second, addr+" is out", func() bool {
		_, _, err := c.Value("awaiting-out")
		must(t, ignoreServerError(err))
		stats, err := c.Stats("servers")
		must(t, err)
		return stats[addr+":state"] != "up"
	})
}

// awaitWrites waits until writes through magent reach a backup again.
func awaitWrites(t *testing.T, m *harness.Magent, s *harness.Memcached) {
	t.Helper()
	c, direct := harness.MustDial(t, m.Addr), harness.MustDial(t, s.Addr)
	n := 0
	harness.Eventually(t, 15*time.Second, "writes reach "+s.Addr, func() bool {
		n++
		must(t, ignoreServerError(c.Set("awaiting-writes", strconv.Itoa(n))))
		value, _, err := direct.Value("awaiting-writes")
		must(t, err)
		// The copy of the write before the last one has had its time.
		at, _ := strconv.Atoi(value)
		return at > 0 && at >= n-1
	})
}

// group runs n clients at once, each in its goroutine, and fails the test
// with the first few errors when some fail.
func group(t *testing.T, n int, run func(i int) error) {
	t.Helper()
	if err := groupErr(n, run); err != nil {
		t.Fatal(err)
	}
}

// groupErr is group for use outside the test's own goroutine.
func groupErr(n int, run func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := run(i); err != nil {
				errs[i] = fmt.Errorf("client %d: %w", i, err)
			}
		})
	}
	wg.Wait()
	var failed []error
	for _, err := range errs {
		if err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	total := len(failed)
	return fmt.Errorf("%d of %d clients failed, the first of them:\n%w", total, n, errors.Join(failed[:min(5, total)]...))
}

// keysNamed returns n keys with a common prefix.
func keysNamed(prefix string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = prefix + strconv.Itoa(i)
	}
	return keys
}
