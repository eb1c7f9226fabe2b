package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// quick is how fast an error has to come where there is nothing to wait for;
// most of it is for a loaded machine.
const quick = 3 * time.Second

// keyed are commands of every kind that need a server.
var keyed = []string{
	"get k", "gets k", "get a b c d e f", "gat 10 k", "gats 10 k",
	"set k 0 0 1\r\nx", "add k 0 0 1\r\nx", "replace k 0 0 1\r\nx", "append k 0 0 1\r\nx",
	"prepend k 0 0 1\r\nx", "cas k 0 0 1 1\r\nx", "delete k", "incr k 1", "decr k 1", "touch k 10",
	"flush_all", "flush_all 10",
}

// expectServerErrors sends every command and wants a SERVER_ERROR for each, soon.
func expectServerErrors(t *testing.T, addr string, names ...string) {
	t.Helper()
	c := harness.MustDial(t, addr)
	for _, command := range keyed {
		start := time.Now()
		answer, err := c.Command("%s", command)
		if err != nil || !strings.HasPrefix(answer, "SERVER_ERROR ") {
			t.Fatalf("%q: %q, %v", command, answer, err)
		}
		if took := time.Since(start); took > quick {
			t.Errorf("%q: the error took %v", command, took)
		}
		named := len(names) == 0 || strings.HasPrefix(command, "flush_all")
		for _, name := range names {
			named = named || strings.Contains(answer, name)
		}
		if !named {
			t.Errorf("%q: %q names none of the servers %v", command, answer, names)
		}
	}
	// What needs no answer gets none, and what needs no server goes on.
	must(t, c.Send([]byte("set k 0 0 1 noreply\r\nx\r\nincr k 1 noreply\r\n")))
	answer, err := c.Command("version")
	if err != nil || !strings.HasPrefix(answer, "VERSION ") {
		t.Fatalf("version: %q, %v", answer, err)
	}
	if _, err := c.Stats(""); err != nil {
		t.Fatalf("stats: %v", err)
	}
}

// promise: R3, C5, C10
func TestBothServersDown(t *testing.T) {
	m := startMirrored(t, hanging...)
	c := harness.MustDial(t, m.Addr)
	must(t, c.Set("k", "v"))
	m.primary.Kill()
	m.backup.Kill()
	expectServerErrors(t, m.Addr, m.primary.Addr, m.backup.Addr)

	// Pipelined, each of many gets its error, in order and soon.
	start := time.Now()
	go func() {
		_ = c.Send([]byte(strings.Repeat("get k\r\nincr k 1\r\nversion\r\n", 1000))) // the answers show what arrived
	}()
	for i := range 3000 {
		answer, err := c.Line()
		want := []string{"SERVER_ERROR ", "SERVER_ERROR ", "VERSION "}[i%3]
		if err != nil || !strings.HasPrefix(answer, want) {
			t.Fatalf("answer %d: %q, %v", i, answer, err)
		}
	}
	if took := time.Since(start); took > 2*quick {
		t.Errorf("3000 errors took %v", took)
	}

	// With nothing to do, magent does nothing but probe.
	idleFrom, cpuFrom := time.Now(), m.CPUTime()
	harness.Poll(2*time.Second, func() bool { return time.Since(idleFrom) > 1500*time.Millisecond })
	if share := float64(m.CPUTime()-cpuFrom) / float64(time.Since(idleFrom)); share > 0.2 {
		t.Errorf("idle with both servers down it used %.0f%% of a processor", 100*share)
	}

	m.backup.Restart()
	awaitService(t, m.Magent, "only the backup is back")
	m.primary.Restart()
	awaitReads(t, m.Magent, m.primary)
	awaitWrites(t, m.Magent, m.backup)
	must(t, c.Set("again", "v"))
	awaitEqual(t, m.primary, m.backup, []string{"again"})
}

// promise: C4, C5, R3
func TestBothServersHang(t *testing.T) {
	m := startMirrored(t, hanging...)
	must(t, harness.MustDial(t, m.Addr).Set("k", "v"))
	m.primary.Freeze()
	m.backup.Freeze()
	expectServerErrors(t, m.Addr)
	m.primary.Thaw()
	m.backup.Thaw()
	awaitService(t, m.Magent, "both servers go on")
}

// promise: C5
func TestBothServersDownFromTheStart(t *testing.T) {
	t.Parallel()
	a, b := harness.StartMemcached(t), harness.StartMemcached(t)
	a.Kill()
	b.Kill()
	m := harness.StartMagent(t, harness.Config{Primaries: []string{a.Addr}, Backups: []string{b.Addr}, Args: hanging})
	expectServerErrors(t, m.Addr, a.Addr, b.Addr)
	a.Restart()
	b.Restart()
	awaitService(t, m, "the servers are there")
	awaitReads(t, m, a)
	awaitWrites(t, m, b)
	must(t, harness.MustDial(t, m.Addr).Set("k", "v"))
	awaitEqual(t, a, b, []string{"k"})
}

// awaitService waits until a write and a read succeed.
func awaitService(t *testing.T, m *harness.Magent, when string) {
	t.Helper()
	c := harness.MustDial(t, m.Addr)
	n := 0
	harness.Eventually(t, 10*time.Second, "service resumes when "+when, func() bool {
		n++
		value := fmt.Sprint(n)
		answer, err := c.Store("set", "service", 0, 0, []byte(value))
		must(t, err)
		if answer != "STORED" {
			return false
		}
		got, _, err := c.Value("service")
		must(t, ignoreServerError(err))
		if err == nil && got != value {
			t.Fatalf("get service: %q, want %q", got, value)
		}
		return err == nil
	})
}

// promise: C10, C5, R3
func TestPlainProxy(t *testing.T) {
	s := harness.StartMemcached(t)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{s.Addr}, Args: hanging})
	c := harness.MustDial(t, m.Addr)
	must(t, c.Set("k", "1"))
	expect(t, c, "incr k 1", "2")
	expectValue(t, c, "k", "2")
	expectValue(t, harness.MustDial(t, s.Addr), "k", "2")

	s.Kill()
	expectServerErrors(t, m.Addr, s.Addr)
	s.Restart()
	awaitService(t, m, "the only server is back")

	s.Freeze()
	expectServerErrors(t, m.Addr)
	s.Thaw()
	awaitService(t, m, "the only server goes on")
}

// promise: C10, W4
func TestPlainProxyAnswersAsMemcachedDoes(t *testing.T) {
	t.Parallel()
	s, direct := harness.StartMemcached(t), harness.StartMemcached(t)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{s.Addr}, Args: patient})
	text := conversation(&generator{rng: newRand(t), prefix: "plain:"}, 2000)
	sameBytes(t, m.Addr, direct.Addr, text, len(text))
}

// With one of several servers down and no backup, only its keys fail.
//
// promise: C10, K1
func TestPlainProxyWithOneOfSeveralServersDown(t *testing.T) {
	t.Parallel()
	m := startPools(t, 3, 0, hanging...)
	c := harness.MustDial(t, m.Addr)
	keys := keysNamed("k", 90)
	var gone, left []string
	for _, key := range keys {
		must(t, c.Set(key, "v"))
		if holder(t, m.primaries, key) == m.primaries[1] {
			gone = append(gone, key)
		} else {
			left = append(left, key)
		}
	}
	if len(gone) < 5 || len(left) < 20 {
		t.Fatalf("%d keys on one server, %d on the others", len(gone), len(left))
	}
	m.primaries[1].Kill()
	items, err := c.Get(left...)
	if err != nil || len(items) != len(left) {
		t.Fatalf("%d of %d values, %v", len(items), len(left), err)
	}
	for _, key := range gone {
		if answer, err := c.Command("get %s", key); err != nil || !strings.HasPrefix(answer, "SERVER_ERROR ") {
			t.Fatalf("get %s: %q, %v", key, answer, err)
		}
		expectValue(t, c, left[0], "v")
	}
}
