package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"magent/integration/harness"
)

// startBounded starts a pair with room for large values and a magent without
// the race detector, whose memory can be measured, and a bound on what it
// may hold for requests and answers.
func startBounded(t *testing.T, args ...string) *mirrored {
	t.Helper()
	m := &mirrored{primary: harness.StartMemcached(t, "-m", "256"), backup: harness.StartMemcached(t, "-m", "256")}
	m.Magent = harness.StartMagent(t, harness.Config{
		Primaries: []string{m.primary.Addr}, Backups: []string{m.backup.Addr}, Plain: true,
		Args: append(slices.Clone(patient), args...),
	})
	return m
}

// memoryLimit is the --max-memory of the tests that measure, and memoryBound
// what the process may hold with it: Go's heap grows to twice of what lives.
const (
	memoryLimit = "48m"
	memoryBound = 200 << 20
)

// watchMemory samples the memory of magent until stop is called, which returns
// the most that was seen.
func watchMemory(t *testing.T, m *mirrored) (stop func() int64) {
	return inBackground(t, func(most int64) int64 {
		harness.Poll(10*time.Millisecond, func() bool { return false })
		return max(most, m.RSS())
	})
}

// inBackground calls step again and again with its last result, until stop is
// called, which returns the last one, or the test ends.
func inBackground[T any](t *testing.T, step func(T) T) (stop func() T) {
	over, done := make(chan struct{}), make(chan T, 1)
	end := sync.OnceValue(func() T { close(over); return <-done })
	t.Cleanup(func() { end() })
	go func() {
		var last T
		for {
			select {
			case <-over:
				done <- last
				return
			default:
				last = step(last)
			}
		}
	}()
	return end
}

// bystander is another client at work while one misbehaves; stop returns its
// slowest exchange.
func bystander(t *testing.T, addr string) (stop func() time.Duration) {
	t.Helper()
	c := harness.MustDial(t, addr)
	n := 0
	return inBackground(t, func(worst time.Duration) time.Duration {
		if t.Failed() {
			return worst
		}
		start := time.Now()
		n++
		value := fmt.Sprint("bystander ", n)
		if err := c.Set("bystander", value); err != nil {
			t.Errorf("bystander: %v", err)
		}
		got, _, err := c.Value("bystander")
		if err != nil || got != value {
			t.Errorf("bystander: got %q, %v; want %q", got, err, value)
		}
		return max(worst, time.Since(start))
	})
}

// A client asks for large values by the hundred and does not read. magent
// keeps little of it, others do not notice, and when the client reads at last
// it gets every answer.
//
// promise: R2, W6
func TestAClientThatDoesNotReadItsAnswers(t *testing.T) {
	for _, form := range []string{"pipelined gets", "one get of many keys"} {
		t.Run(form, func(t *testing.T) {
			m := startBounded(t, "--max-memory", memoryLimit)
			keys, value := storeLarge(t, m.Addr)
			const rounds = 3 // through all the keys
			count := rounds * len(keys)
			request := strings.Repeat("get "+strings.Join(keys, "\r\nget ")+"\r\n", rounds)
			if form != "pipelined gets" {
				request = "get" + strings.Repeat(" "+strings.Join(keys, " "), rounds) + "\r\n"
			}
			stopWatching := watchMemory(t, m)
			stopBystander := bystander(t, m.Addr)
			slow := harness.MustDial(t, m.Addr)
			must(t, slow.Send([]byte(request)))
			// It does not read until magent has taken from the server what it will.
			settled(t, m.primary)
			worst := stopBystander()
			if worst > 2*time.Second {
				t.Errorf("another client waited %v", worst)
			}
			got := 0
			for got < count {
				items, err := slow.Values()
				if err != nil {
					t.Fatalf("after %d values: %v", got, err)
				}
				if len(items) == 0 {
					t.Fatalf("after %d values: a miss", got)
				}
				for _, it := range items {
					if key := keys[got%len(keys)]; it.Key != key || string(it.Value) != key+value {
						t.Fatalf("value %d is of %s, want %s: %s", got, it.Key, key, short(string(it.Value)))
					}
					got++
				}
			}
			expectValue(t, slow, keys[0], keys[0]+value)
			peak := stopWatching()
			t.Logf("memory at most %d MB, slowest exchange of another client %v", peak>>20, worst)
			if peak > memoryBound {
				t.Errorf("magent held %d MB for a client that does not read", peak>>20)
			}
		})
	}
}

// storeLarge stores a hundred megabytes in as many keys, whose values are the
// key and then the returned one.
func storeLarge(t *testing.T, addr string) (keys []string, value string) {
	t.Helper()
	c := harness.MustDial(t, addr)
	keys, value = keysNamed("large", 100), largeValue(1_000_000)
	for _, key := range keys {
		must(t, c.Set(key, key+value))
	}
	return keys, value
}

// settled waits until the server has sent nothing more for a moment, apart from
// the small answers to other clients.
func settled(t *testing.T, s *harness.Memcached) {
	t.Helper()
	const fewValues = 4_000_000 // bytes; the bystander alone takes some 500 KB a second
	last, since := s.Stat("bytes_written"), time.Now()
	harness.Eventually(t, 30*time.Second, "magent stops reading for the slow client", func() bool {
		now := s.Stat("bytes_written")
		if now-last > fewValues {
			last, since = now, time.Now()
		}
		return time.Since(since) > 700*time.Millisecond
	})
}

// Many such clients at once, which then go away without reading.
//
// promise: R2
func TestManyClientsThatDoNotRead(t *testing.T) {
	m := startBounded(t, "--max-memory", memoryLimit)
	keys, value := storeLarge(t, m.Addr)
	stopWatching := watchMemory(t, m)
	stopBystander := bystander(t, m.Addr)
	var slow []*harness.Client
	for i := range 60 {
		c := harness.MustDial(t, m.Addr)
		var request []byte
		for n := range 50 {
			request = fmt.Appendf(request, "get %s\r\n", keys[(7*i+n)%len(keys)])
		}
		must(t, c.Send(request))
		slow = append(slow, c)
	}
	settled(t, m.primary)
	for _, c := range slow {
		must(t, c.Close())
	}
	expectValue(t, harness.MustDial(t, m.Addr), keys[0], keys[0]+value)
	worst, peak := stopBystander(), stopWatching()
	t.Logf("memory at most %d MB, slowest exchange of another client %v", peak>>20, worst)
	if peak > memoryBound {
		t.Errorf("magent held %d MB", peak>>20)
	}
	if worst > 4*time.Second {
		t.Errorf("another client waited %v", worst)
	}
}

// Small answers add up as well.
//
// promise: R2, W6
func TestSmallAnswersThatAreNotRead(t *testing.T) {
	m := startBounded(t, "--max-memory", memoryLimit)
	must(t, harness.MustDial(t, m.Addr).Set("k", "1"))
	for _, request := range []string{"stats\r\n", "version\r\n", "get k\r\n", "gat 0 k\r\n", "incr k 1\r\n", "nonsense\r\n", "stats conns\r\n", "touch k 0\r\n"} {
		t.Run(short(request), func(t *testing.T) {
			stopWatching := watchMemory(t, m)
			stopBystander := bystander(t, m.Addr)
			c := harness.MustDial(t, m.Addr)
			sent, err := flood(c, bytes.Repeat([]byte(request), 4096), 256<<20)
			worst, peak := stopBystander(), stopWatching()
			t.Logf("%d KB taken, then %v; memory at most %d MB, slowest exchange of another client %v", sent>>10, err, peak>>20, worst)
			if peak > memoryBound {
				t.Errorf("magent held %d MB", peak>>20)
			}
			if worst > 2*time.Second {
				t.Errorf("another client waited %v", worst)
			}
			must(t, c.Close())
		})
	}
}

// flood writes until the server closes or takes no more for a while, and
// returns how much it took.
func flood(c *harness.Client, chunk []byte, most int) (sent int, err error) {
	c.Timeout = 500 * time.Millisecond
	for sent < most {
		if err := c.Send(chunk); err != nil {
			return sent, err
		}
		sent += len(chunk)
	}
	return sent, nil
}

// promise: R2, R1
func TestALineWithoutAnEnd(t *testing.T) {
	m := startBounded(t, "--max-memory", memoryLimit)
	for _, start := range []string{"", "set ", "get ", "get " + strings.Repeat("k ", 1000), "stats ", "incr k "} {
		t.Run(short(start), func(t *testing.T) {
			stopWatching := watchMemory(t, m)
			stopBystander := bystander(t, m.Addr)
			c := harness.MustDial(t, m.Addr)
			must(t, c.Send([]byte(start)))
			sent, err := flood(c, bytes.Repeat([]byte("x"), 64<<10), 64<<20)
			worst, peak := stopBystander(), stopWatching()
			t.Logf("%d KB taken, then %v; memory at most %d MB", sent>>10, err, peak>>20)
			if peak > memoryBound {
				t.Errorf("magent held %d MB", peak>>20)
			}
			if err == nil {
				t.Errorf("magent took %d MB of a line without an end", sent>>20)
			}
			if worst > 2*time.Second {
				t.Errorf("another client waited %v", worst)
			}
		})
	}
}

// A get may have any number of keys, so its line may be long, but magent does
// not have to hold it whole when it never ends.
//
// promise: R2
func TestAGetWithoutAnEnd(t *testing.T) {
	m := startBounded(t, "--max-memory", memoryLimit)
	stopWatching := watchMemory(t, m)
	stopBystander := bystander(t, m.Addr)
	c := harness.MustDial(t, m.Addr)
	must(t, c.Send([]byte("get")))
	sent, err := flood(c, bytes.Repeat([]byte(" somekey"), 8<<10), 256<<20)
	worst, peak := stopBystander(), stopWatching()
	t.Logf("%d MB taken, then %v; memory at most %d MB", sent>>20, err, peak>>20)
	if peak > memoryBound+100<<20 {
		t.Errorf("magent held %d MB", peak>>20)
	}
	if worst > 2*time.Second {
		t.Errorf("another client waited %v", worst)
	}
}

// promise: R2
func TestValuesThatNeverComplete(t *testing.T) {
	m := startBounded(t, "--max-memory", memoryLimit, "--max-item-size", "16m")
	stopWatching := watchMemory(t, m)
	stopBystander := bystander(t, m.Addr)
	var stuck []*harness.Client
	for i := range 30 {
		c := harness.MustDial(t, m.Addr)
		c.Timeout = 200 * time.Millisecond
		must(t, c.Send(fmt.Appendf(nil, "set stuck%d 0 0 %d\r\n", i, 15<<20)))
		_ = c.Send(make([]byte, 14<<20)) // magent need not take all of it
		stuck = append(stuck, c)
	}
	worst, peak := stopBystander(), stopWatching()
	t.Logf("memory at most %d MB, slowest exchange of another client %v", peak>>20, worst)
	if peak > memoryBound {
		t.Errorf("magent held %d MB for values that never complete", peak>>20)
	}
	for _, c := range stuck {
		must(t, c.Close())
	}
	harness.Eventually(t, 10*time.Second, "the memory is free for others", func() bool {
		answer, err := harness.MustDial(t, m.Addr).Store("set", "after", 0, 0, make([]byte, 900_000))
		must(t, err)
		return answer == "STORED"
	})
}

// A server that takes no requests: writers are held back, memory stays small.
//
// promise: R2, C5
func TestAServerThatTakesNoRequests(t *testing.T) {
	m := startBounded(t, "--max-memory", memoryLimit, "--server-timeout", "2s")
	stopWatching := watchMemory(t, m)
	m.backup.Freeze()
	group(t, 20, func(i int) error {
		c, err := harness.Dial(m.Addr)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		request := bytes.Repeat(harness.Storage("set", fmt.Sprint("k", i), 0, 0, make([]byte, 100_000)), 20)
		go func() { _ = c.Send(request) }() // the answers show what arrived
		for n := range 20 {
			answer, err := c.Line()
			if err != nil || answer != "STORED" {
				return fmt.Errorf("answer %d: %q, %w", n, answer, err)
			}
		}
		return nil
	})
	m.backup.Thaw()
	if peak := stopWatching(); peak > memoryBound {
		t.Errorf("magent held %d MB", peak>>20)
	}
}

// promise: R2, R3, R5
func TestOneConnectionTooMany(t *testing.T) {
	t.Parallel()
	const most = 20
	m := startMirrored(t, append([]string{"-n", fmt.Sprint(most)}, patient...)...)
	// The connection that waited for the start may still be counted.
	first := harness.MustDial(t, m.Addr)
	harness.Eventually(t, 5*time.Second, "only one connection is left", func() bool {
		stats, err := first.Stats("")
		must(t, err)
		return stats["curr_connections"] == "1"
	})
	clients := []*harness.Client{first}
	for len(clients) < most {
		c := harness.MustDial(t, m.Addr)
		must(t, c.Set("k", "v"))
		clients = append(clients, c)
	}
	const refused = 200
	for range refused {
		c := harness.MustDial(t, m.Addr)
		got, err := c.Rest()
		if err != nil && !errors.Is(err, syscall.ECONNRESET) || !bytes.HasPrefix(got, []byte("SERVER_ERROR ")) || !bytes.HasSuffix(got, []byte("\r\n")) {
			t.Fatalf("one connection too many got %q, %v", got, err)
		}
	}
	if lines := strings.Count(m.Output(), "\n"); lines > refused/4 {
		t.Errorf("%d lines of log about %d clients", lines, refused)
	}
	for _, c := range clients {
		expectValue(t, c, "k", "v")
	}
	must(t, clients[5].Close())
	harness.Eventually(t, 5*time.Second, "a place that became free is given away", func() bool {
		c := harness.MustDial(t, m.Addr)
		_, _, err := c.Value("k")
		return err == nil
	})
}

// promise: R2
func TestIdleClientsAreClosedAndBusyOnesAreNot(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, append([]string{"--idle-timeout", "4s"}, patient...)...)
	idle, half, busy := harness.MustDial(t, m.Addr), harness.MustDial(t, m.Addr), harness.MustDial(t, m.Addr)
	start := time.Now()
	must(t, idle.Set("k", "v"))
	must(t, half.Send([]byte("set half 0 0 10\r\nab")))
	var wg sync.WaitGroup
	for _, c := range []*harness.Client{idle, half} {
		wg.Go(func() {
			if got, err := c.Rest(); err != nil || len(got) != 0 {
				t.Errorf("an idle client got %q, %v", got, err)
			}
			if took := time.Since(start); took < 3900*time.Millisecond {
				t.Errorf("it was closed after %v", took)
			}
		})
	}
	harness.Holds(t, 8*time.Second, "a busy client stays", func() bool {
		_, _, err := busy.Value("k")
		return err == nil
	})
	wg.Wait()
}

// Idle clients cost next to nothing.
//
// promise: R2
func TestIdleClientsHoldNoBuffers(t *testing.T) {
	m := startBounded(t, "-n", "10000")
	open := func(n int) []*harness.Client {
		var clients []*harness.Client
		for range n {
			c := harness.MustDial(t, m.Addr)
			must(t, c.Set("k", strings.Repeat("v", 2000)))
			expectValue(t, c, "k", strings.Repeat("v", 2000))
			clients = append(clients, c)
		}
		return clients
	}
	const count = 3000
	warm := open(500)
	before := m.RSS()
	open(count)
	each := (m.RSS() - before) / count
	t.Logf("%d bytes per idle client", each)
	if each > 4096 {
		t.Errorf("an idle client holds %d bytes", each)
	}
	expectValue(t, warm[0], "k", strings.Repeat("v", 2000))
}

// Clients that come and go, some with a reset, leave nothing behind.
//
// promise: R2, R4
func TestClientsThatComeAndGo(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	group(t, 20, func(i int) error {
		for n := range 60 {
			c, err := harness.Dial(m.Addr)
			if err != nil {
				return err
			}
			key := fmt.Sprintf("go%d-%d", i, n)
			if err := c.Set(key, key); err != nil {
				return err
			}
			switch n % 4 {
			case 0: // a request in flight
				_ = c.Send([]byte("get " + key + "\r\n"))
			case 1: // and a reset
				_ = c.Send([]byte("get " + key + "\r\nset x 0 0 100\r\nabc"))
				_ = c.Conn().(*net.TCPConn).SetLinger(0)
			case 2:
				_ = c.Send([]byte("quit\r\n"))
				if rest, err := c.Rest(); err != nil || len(rest) != 0 {
					return fmt.Errorf("after quit: %q, %w", rest, err)
				}
			}
			if err := c.Close(); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		return nil
	})
	c := harness.MustDial(t, m.Addr)
	harness.Eventually(t, 10*time.Second, "all of them are forgotten", func() bool {
		stats, err := c.Stats("")
		must(t, err)
		return stats["curr_connections"] == "1"
	})
}

// promise: L1, R2
func TestConnectionsToOneServerAreLimited(t *testing.T) {
	t.Parallel()
	const most = 2
	m := startMirrored(t, append([]string{"-i", fmt.Sprint(most)}, patient...)...)
	busy := inBackground(t, func(peak int64) int64 {
		// One of them is the connection that asks.
		return max(peak, m.primary.Stat("curr_connections")-1)
	})
	group(t, 50, func(i int) error {
		c, err := harness.Dial(m.Addr)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		for n := range 20 {
			if err := c.Set(fmt.Sprintf("limited%d", i), fmt.Sprint(n)); err != nil {
				return err
			}
			if got, _, err := c.Value(fmt.Sprintf("limited%d", i)); err != nil || got != fmt.Sprint(n) {
				return fmt.Errorf("got %q, %w", got, err)
			}
		}
		return nil
	})
	// A probe may come on top.
	if peak := busy(); peak > most+1 {
		t.Errorf("%d connections to one server, want at most %d", peak, most)
	}
}
