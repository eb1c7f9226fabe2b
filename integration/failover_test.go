package integration

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"magent/integration/harness"
)

// ownersCount is how many clients check their own keys while a server dies.
const ownersCount = 200

// withoutFalseAlarms keeps a loaded machine from taking a healthy server out,
// where servers die in ways that are seen without a timeout.
var withoutFalseAlarms = patient

// ownersRun is a number of owners at work while something is done to the servers.
type ownersRun struct {
	addr      string
	other     string // of another magent, for every second client; "" for none
	clients   int
	keys      int // of each client
	pipelined bool
	lossy     bool
	unserved  bool
	before    int64            // operations of all clients before the event
	after     int              // operations of each client after it
	still     time.Duration    // and at least so long after it
	slowest   *[]time.Duration // where to put each client's longest wait, nil for nowhere
}

// timed has the longest wait of each client noted.
func (r ownersRun) timed(slowest *[]time.Duration) ownersRun {
	*slowest = make([]time.Duration, r.clients)
	r.slowest = slowest
	return r
}

// run lets the owners work, calls event in mid-load and returns the owners
// when all are done. Any wrong answer fails the test.
func (r ownersRun) run(t *testing.T, event func()) []*owner {
	t.Helper()
	seed := newRand(t).Uint64()
	owners := make([]*owner, r.clients)
	for i := range owners {
		addr := r.addr
		if r.other != "" && i%2 == 1 {
			addr = r.other
		}
		o, err := newOwner(addr, strconv.Itoa(i), r.keys, rand.New(rand.NewPCG(seed, uint64(i))))
		must(t, err)
		t.Cleanup(o.close)
		o.casMayFail, o.lossy, o.unserved = true, r.lossy, r.unserved
		owners[i] = o
	}
	var total atomic.Int64
	happened := make(chan struct{})
	var once sync.Once
	failed := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(happened)
		for total.Load() < r.before {
			select {
			case <-failed:
				return
			case <-time.After(time.Millisecond):
			}
		}
		event()
	})
	err := groupErr(r.clients, func(i int) (err error) {
		defer func() {
			if err != nil {
				once.Do(func() { close(failed) })
			}
		}()
		o := owners[i]
		left := -1
		var until time.Time
		for left != 0 || time.Now().Before(until) {
			start := time.Now()
			if r.pipelined {
				err = o.pipeline(1 + o.rng.IntN(30))
			} else {
				err = o.step()
			}
			if err != nil {
				return err
			}
			total.Add(1)
			if r.slowest != nil {
				(*r.slowest)[i] = max((*r.slowest)[i], time.Since(start))
			}
			switch {
			case left > 0:
				left--
			case left < 0:
				select {
				case <-happened:
					left, until = r.after, time.Now().Add(r.still)
				case <-failed:
					return nil
				default:
				}
			}
		}
		return nil
	})
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rounds of commands", total.Load())
	return owners
}

// finally compares what a server holds with what the owners know.
func finally(t *testing.T, owners []*owner, s *harness.Memcached) {
	t.Helper()
	answered(t, owners)
	c := harness.MustDial(t, s.Addr)
	for _, o := range owners {
		must(t, o.final(c))
	}
}

// promise: C3, C4, R4
func TestKillThePrimaryInMidLoad(t *testing.T) {
	for _, pipelined := range []bool{false, true} {
		t.Run(fmt.Sprintf("pipelined=%v", pipelined), func(t *testing.T) {
			m := startMirrored(t, withoutFalseAlarms...)
			owners := ownersRun{addr: m.Addr, clients: ownersCount, keys: 4, pipelined: pipelined, before: 4000, after: 20}.
				run(t, func() { m.primary.Kill() })
			finally(t, owners, m.backup)
		})
	}
}

// promise: C4, R4
func TestKillTheBackupInMidLoad(t *testing.T) {
	m := startMirrored(t, withoutFalseAlarms...)
	owners := ownersRun{addr: m.Addr, clients: ownersCount, keys: 4, before: 4000, after: 20}.
		run(t, func() { m.backup.Kill() })
	finally(t, owners, m.primary)
}

// promise: C3, C4, K1
func TestKillOneOfSeveralPrimaries(t *testing.T) {
	m := startPools(t, 3, 2, withoutFalseAlarms...)
	ownersRun{addr: m.Addr, clients: 100, keys: 6, pipelined: true, before: 2000, after: 20}.
		run(t, func() { m.primaries[1].Kill() })
}

// promise: C3, C4, K4
func TestKillOneOfTwoCrossedServers(t *testing.T) {
	a, b := harness.StartMemcached(t), harness.StartMemcached(t)
	m := harness.StartMagent(t, harness.Config{
		Primaries: []string{a.Addr, b.Addr}, Backups: []string{b.Addr, a.Addr}, Args: withoutFalseAlarms,
	})
	owners := ownersRun{addr: m.Addr, clients: 100, keys: 6, pipelined: true, before: 2000, after: 20}.
		run(t, func() { a.Kill() })
	finally(t, owners, b)
}

// Connections break although both servers live on, again and again. A write
// whose answer was lost may have reached the primary: it must not be read there.
//
// promise: C4, C6, R3
func TestConnectionsBreakInMidLoad(t *testing.T) {
	p, b := harness.StartMemcached(t), harness.StartMemcached(t)
	link := harness.NewLink(t, p.Addr)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{link.Addr}, Backups: []string{b.Addr}, Args: withoutFalseAlarms})
	ownersRun{addr: m.Addr, clients: 60, keys: 4, lossy: true, before: 1000, after: 50}.
		run(t, func() {
			for range 5 {
				link.Cut()
				awaitReads(t, m, p)
			}
		})
}

// Each client asks for a hundred keys at once, which it knows.
//
// promise: C4, W6
func TestKillThePrimaryInTheMiddleOfMultiGets(t *testing.T) {
	for _, servers := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d primaries", servers), func(t *testing.T) {
			t.Parallel()
			m := startPools(t, servers, servers, withoutFalseAlarms...)
			var kill sync.Once
			var gets atomic.Int64
			group(t, 40, func(i int) error {
				c, err := harness.Dial(m.Addr)
				if err != nil {
					return err
				}
				defer func() { _ = c.Close() }()
				keys := keysNamed(fmt.Sprintf("multi%d-", i), 100)
				for _, key := range keys {
					if err := c.Set(key, strings.Repeat(key+" ", 20)); err != nil {
						return err
					}
				}
				request := "get " + strings.Join(keys, " ") + "\r\n"
				for range 50 {
					if gets.Add(1) == 1000 {
						kill.Do(func() { m.primaries[0].Kill() })
					}
					if err := c.Send([]byte(request + request)); err != nil {
						return err
					}
					for range 2 {
						if err := readHundred(c, keys); err != nil {
							return err
						}
					}
				}
				return nil
			})
		})
	}
}

// readHundred reads the answer to a get of all the keys of a client.
func readHundred(c *harness.Client, keys []string) error {
	items, err := c.Values()
	if err != nil {
		return err
	}
	if len(items) != len(keys) {
		return fmt.Errorf("%d of %d values", len(items), len(keys))
	}
	for n, it := range items {
		if it.Key != keys[n] || string(it.Value) != strings.Repeat(keys[n]+" ", 20) {
			return fmt.Errorf("value %d: %s of %s, want %s", n, short(string(it.Value)), it.Key, keys[n])
		}
	}
	return nil
}

// The answer to a multi-get is cut at every place: keys that lost their server
// come from the backup.
//
// promise: C4, R3
func TestAnswerCutInTheMiddleOfAMultiGet(t *testing.T) {
	p, b := harness.StartMemcached(t), harness.StartMemcached(t)
	link := harness.NewLink(t, p.Addr)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{link.Addr}, Backups: []string{b.Addr}, Args: withoutFalseAlarms})
	c := harness.MustDial(t, m.Addr)
	keys := keysNamed("cut", 10)
	for _, key := range keys {
		must(t, c.Set(key, "<"+key+">"))
	}
	for cut := int64(0); cut < 220; cut += 7 {
		awaitReads(t, m, p)
		link.CutAnswerAfter(cut)
		items, err := c.Get(keys...)
		if err != nil || len(items) != len(keys) {
			t.Fatalf("cut after %d bytes: %d values, %v", cut, len(items), err)
		}
		for i, it := range items {
			if it.Key != keys[i] || string(it.Value) != "<"+keys[i]+">" {
				t.Fatalf("cut after %d bytes: %d is %s %q", cut, i, it.Key, it.Value)
			}
		}
	}
}

// A large value may have begun to flow to the client when its server dies:
// then the client gets either all of it or an end of the connection, and never
// wrong bytes.
//
// promise: C4, R3, R4
func TestAnswerCutInTheMiddleOfALargeValue(t *testing.T) {
	p, b := harness.StartMemcached(t), harness.StartMemcached(t)
	link := harness.NewLink(t, p.Addr)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{link.Addr}, Backups: []string{b.Addr}, Args: withoutFalseAlarms})
	value := largeValue(1 << 19)
	must(t, harness.MustDial(t, m.Addr).Set("large", value))
	for _, cut := range []int64{1, 20, 1000, 100_000, 400_000, 1 << 19} {
		awaitReads(t, m, p)
		link.CutAnswerAfter(cut)
		c := harness.MustDial(t, m.Addr)
		got, _, err := c.Value("large")
		if err == nil && got != value {
			t.Fatalf("cut after %d bytes: wrong value of %d bytes", cut, len(got))
		}
		t.Logf("cut after %d bytes: %v", cut, err)
		// Another client is served, cut or not.
		expectValue(t, harness.MustDial(t, m.Addr), "large", value)
	}
}

// largeValue returns a value in which no two places look alike.
func largeValue(size int) string {
	b := make([]byte, size)
	for i := range b {
		// Every eight bytes hold their place in hexadecimal.
		b[i] = "0123456789abcdef"[i&^7>>(4*(i&7))&15]
	}
	return string(b)
}

// promise: C3
func TestReadYourWritesRightAfterTheKill(t *testing.T) {
	for round := range 6 {
		m := startMirrored(t, withoutFalseAlarms...)
		c, other := harness.MustDial(t, m.Addr), harness.MustDial(t, m.Addr)
		for i := range 20 {
			must(t, c.Set(fmt.Sprint("k", i), "old"))
		}
		want := fmt.Sprint("new in round ", round)
		must(t, c.Set("k7", want))
		m.primary.Kill()
		expectValue(t, other, "k7", want)
		expectValue(t, c, "k7", want)
		m.Stop()
	}
}
