package integration

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"magent/integration/harness"
)

// Both servers stop, go on, die, come back and lose connections at random,
// also both at once. Requests may fail and items may be lost, but no client
// ever reads anything but what it wrote last, and none hangs.
//
// promise: C5, C6, R3, R4
func TestServersComeAndGo(t *testing.T) {
	for _, crossed := range []bool{false, true} {
		t.Run(fmt.Sprintf("crossed=%v", crossed), func(t *testing.T) {
			t.Parallel()
			servers := []*harness.Memcached{harness.StartMemcached(t, "-t", "2"), harness.StartMemcached(t, "-t", "2")}
			links := []*harness.Link{harness.NewLink(t, servers[0].Addr), harness.NewLink(t, servers[1].Addr)}
			cfg := harness.Config{
				Primaries: []string{links[0].Addr}, Backups: []string{links[1].Addr},
				Args: []string{"--server-timeout", "200ms", "--connect-timeout", "200ms"},
			}
			if crossed {
				cfg.Primaries, cfg.Backups = []string{links[0].Addr, links[1].Addr}, []string{links[1].Addr, links[0].Addr}
			}
			m := harness.StartMagent(t, cfg)
			rng := rand.New(rand.NewPCG(newRand(t).Uint64(), 3))
			r := ownersRun{addr: m.Addr, clients: 20, keys: 4, lossy: true, unserved: true, before: 200, after: 20, still: 500 * time.Millisecond}
			r.run(t, func() {
				for end := time.Now().Add(4 * time.Second); time.Now().Before(end) && !t.Failed(); {
					disturb(rng, servers[rng.IntN(2)], links[rng.IntN(2)])
				}
				for i := range servers {
					servers[i].Thaw()
					links[i].Heal()
				}
			})
			awaitService(t, m, "the servers stay")
		})
	}
}

// disturb does one bad thing to a server or a link, or ends one.
func disturb(rng *rand.Rand, s *harness.Memcached, l *harness.Link) {
	pause := func(most time.Duration) {
		harness.Poll(time.Duration(rng.Int64N(int64(most))), func() bool { return false })
	}
	switch rng.IntN(9) {
	case 0, 1:
		s.Freeze()
		pause(900 * time.Millisecond)
		s.Thaw()
	case 2:
		s.Restart()
	case 3:
		l.Partition()
		pause(900 * time.Millisecond)
		l.Heal()
	case 4:
		l.BlockAnswers()
		pause(600 * time.Millisecond)
		l.Heal()
	case 5:
		l.Cut()
	case 6:
		l.CutAnswerAfter(rng.Int64N(2000))
	case 7:
		l.Refuse()
		pause(300 * time.Millisecond)
		l.Heal()
	case 8:
		l.BlockRequests()
		pause(300 * time.Millisecond)
		l.Cut()
		l.Heal()
	}
	pause(400 * time.Millisecond)
}

// event is one completed write or read of a shared key, with its time.
type event struct {
	start, end time.Duration
	value      int
}

// history is what happened to one key.
type history struct {
	mu            sync.Mutex
	writes, reads []event
}

func (h *history) note(to *[]event, e event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*to = append(*to, e)
}

// stale returns a read that saw a value which had been overwritten before the
// read began.
func (h *history) stale() error {
	written := make(map[int]event)
	for _, w := range h.writes {
		written[w.value] = w
	}
	for _, r := range h.reads {
		seen, known := written[r.value]
		if !known {
			return fmt.Errorf("a read saw %d, which nobody wrote", r.value)
		}
		if seen.start > r.end {
			return fmt.Errorf("a read saw %d before it was written", r.value)
		}
		for _, w := range h.writes {
			if w.start > seen.end && w.end < r.start {
				return fmt.Errorf("a read at %v…%v saw %d, written at %v…%v, although %d was written at %v…%v",
					r.start, r.end, r.value, seen.start, seen.end, w.value, w.start, w.end)
			}
		}
	}
	return nil
}

// Many clients write and read the same keys, and the primary dies: no read
// returns what had been overwritten before it began.
//
// promise: C2, C3, C4
func TestSharedKeysAreNeverReadStale(t *testing.T) {
	for _, what := range []string{"the primary is killed", "the backup is killed", "the primary hangs"} {
		t.Run(what, func(t *testing.T) {
			args := patient
			if what == "the primary hangs" {
				args = hanging
			}
			m := startMirrored(t, args...)
			keys := keysNamed("shared", 5)
			histories := make([]history, len(keys))
			var last atomic.Int64
			begin := time.Now()
			setup := harness.MustDial(t, m.Addr)
			for i, key := range keys {
				must(t, setup.Set(key, strconv.Itoa(-i-1)))
				histories[i].writes = append(histories[i].writes, event{value: -i - 1, end: time.Since(begin)})
			}
			var total atomic.Int64
			var once sync.Once
			const clients, each = 60, 70
			seed := newRand(t).Uint64()
			group(t, clients, func(i int) error {
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				c, err := harness.Dial(m.Addr)
				if err != nil {
					return err
				}
				defer func() { _ = c.Close() }()
				for range each {
					if total.Add(1) == clients*each/2 {
						once.Do(func() {
							switch what {
							case "the primary is killed":
								m.primary.Kill()
							case "the backup is killed":
								m.backup.Kill()
							default:
								m.primary.Freeze()
							}
						})
					}
					k := rng.IntN(len(keys))
					h := &histories[k]
					if rng.IntN(3) > 0 {
						e := event{start: time.Since(begin)}
						value, found, err := c.Value(keys[k])
						if err != nil || !found {
							return fmt.Errorf("get: found %v, %w", found, err)
						}
						e.end = time.Since(begin)
						if e.value, err = strconv.Atoi(value); err != nil {
							return err
						}
						h.note(&h.reads, e)
						continue
					}
					e := event{start: time.Since(begin), value: int(last.Add(1))}
					if err := c.Set(keys[k], strconv.Itoa(e.value)); err != nil {
						return err
					}
					e.end = time.Since(begin)
					h.note(&h.writes, e)
				}
				return nil
			})
			m.primary.Thaw()
			for i := range histories {
				if err := histories[i].stale(); err != nil {
					t.Errorf("%s: %v", keys[i], err)
				}
			}
		})
	}
}
