package integration

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// second starts another magent before the same servers.
func (s *story) second(t *testing.T) *harness.Magent {
	t.Helper()
	return harness.StartMagent(t, s.cfg)
}

// Two proxies are alive at once, as on both nodes of a pair, with clients on
// both that write the same keys. When they stop, the servers become equal.
//
// promise: C1, C2
func TestTwoProxiesWriteTheSameKeys(t *testing.T) {
	s := startStory(t, 1, 1, hanging...)
	other := s.second(t)
	keys := append(keysNamed("shared:", 60), keysNamed("number:", 20)...)
	setup := harness.MustDial(t, s.Addr)
	for _, key := range keys {
		must(t, setup.Set(key, "1000"))
	}
	seed := newRand(t).Uint64()
	group(t, 40, func(i int) error {
		c, err := harness.Dial([]string{s.Addr, other.Addr}[i%2])
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		for n := range 150 {
			if err := writeAny(c, rng, keys[rng.IntN(len(keys))], fmt.Sprintf("<client %d, %d>", i, n)); err != nil {
				return err
			}
		}
		return nil
	})
	s.awaitSame(t, 10*time.Second)
}

// writeAny runs one of several writes. Keys that are numbers stay numbers.
func writeAny(c *harness.Client, rng *rand.Rand, key, value string) error {
	verbs := []string{"set", "set", "append", "add", "delete", "touch"}
	if strings.HasPrefix(key, "number:") {
		verbs = []string{"incr", "incr", "incr", "touch"}
	}
	verb := verbs[rng.IntN(len(verbs))]
	var answer string
	var err error
	switch verb {
	case "incr":
		answer, err = c.Command("incr %s 3", key)
	case "touch":
		answer, err = c.Command("touch %s %d", key, 1000+rng.IntN(1000))
	case "delete":
		answer, err = c.Command("delete %s", key)
	default:
		answer, err = c.Store(verb, key, rng.Uint32N(1000), 5000+rng.IntN(1000), []byte(value))
	}
	if err != nil || strings.Contains(answer, "ERROR") {
		return fmt.Errorf("%s %s: %q, %v", verb, key, answer, err)
	}
	return nil
}

// A server dies while both proxies have clients, and comes back empty. One
// proxy's clients write, the other's read: two that write have no order between
// them.
//
// promise: C3, C4, C6, C7
func TestSeedStoryWithTwoProxies(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			s := startStory(t, 1, 1, withoutFalseAlarms...)
			other := s.second(t)
			dead := server(s)
			known := fill(t, s.Magent, "still:", 1500)
			reading := []*readers{startReaders(t, s.Addr, 10, known), startReaders(t, other.Addr, 10, known)}
			owners := ownersRun{addr: s.Addr, clients: 80, keys: 4, before: 1000, after: 20}.
				run(t, func() {
					dead.Kill()
					s.awaitGone(t, dead)
					awaitRequests(t, other, 1000)
					dead.Restart()
					awaitWhole(t, s.Magent)
					awaitWhole(t, other)
				})
			answered(t, owners)
			for _, r := range reading {
				r.wasRight(t)
			}
			expectHeld(t, s.awaitSame(t, 10*time.Second), known)
			finally(t, owners, s.primary())
			finally(t, owners, s.backup())
		})
	}
}

// journals are the ways in which a proxy ends that was the only one to know
// what a server has missed.
var journals = map[string]struct {
	args    []string
	flushed bool
}{
	"a small journal":        {nil, false},
	"a journal that is full": {[]string{"--journal-keys", "10"}, true},
}

// One proxy is killed while a server is out and has missed writes. The next
// one answers nothing old from that server, whether it is back already when
// that one starts or comes back later.
//
// promise: C6, C7
func TestTheNextProxyKnowsWhatAServerHasMissed(t *testing.T) {
	for size, journal := range journals {
		for _, back := range []string{"back before", "back after"} {
			for who, server := range either {
				t.Run(fmt.Sprintf("%s, %s, %s", size, who, back), func(t *testing.T) {
					t.Parallel()
					s := startStory(t, 1, 1, slices.Concat(hanging, journal.args)...)
					cut := server(s)
					known := fill(t, s.Magent, "still:", 2000)
					c := harness.MustDial(t, s.Addr)
					for i := range 100 {
						must(t, c.Set(fmt.Sprint("number:", i), strconv.Itoa(1000+i)))
					}
					s.awaitSame(t, 10*time.Second)
					s.links[cut].Partition()
					s.awaitGone(t, cut)
					must(t, s.change(c, known))
					s.Crash()
					// What is on its way in the network arrives or not: here not.
					s.links[cut].Cut()
					stored := storedItems(cut)
					if back == "back before" {
						s.links[cut].Heal()
					}
					s.Magent = s.second(t)
					s.awaitUsed(t, cut)
					reading := startReaders(t, s.Addr, 10, known)
					gone := neverAgain(t, s.Addr, deletedKeys())
					if back == "back after" {
						awaitRequests(t, s.Magent, 500)
						s.links[cut].Heal()
					}
					awaitWhole(t, s.Magent)
					reading.wasRight(t)
					gone()
					all := s.awaitSame(t, 10*time.Second)
					expectHeld(t, all, known)
					for i := range 100 {
						if key, want := fmt.Sprint("number:", i), strconv.Itoa(1005+i); all[key].value != want {
							t.Fatalf("%s is %q, want %s", key, all[key].value, want)
						}
					}
					copied, flushes := storedItems(cut)-stored, cut.Stat("cmd_flush")
					switch {
					case journal.flushed && flushes == 0:
						t.Errorf("the server was not flushed although nobody knew all that it had missed")
					// Notes that are read twice are copied twice.
					case !journal.flushed && (flushes > 0 || copied > 2*221+60):
						t.Errorf("%d flushes and %d copied items; 221 were written while the server was away", flushes, copied)
					}
				})
			}
		}
	}
}

// deletedKeys are the keys that story.change deletes.
func deletedKeys() []string {
	keys := make([]string, 50)
	for i := range keys {
		keys[i] = fmt.Sprint("still:", 100+i)
	}
	return keys
}

// The address moves to a proxy that runs already, because the first one has
// lost its way to a server that the second one still reaches. In the second
// that keepalived needs for that, the second proxy learns what it must not read.
//
// promise: C6
func TestTheAddressMovesToAProxyThatReachesBoth(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, hanging...)
			s, proxies := p.story, p.proxies
			cut := server(s)
			known := fill(t, proxies[0], "still:", 300)
			c := harness.MustDial(t, proxies[0].Addr)
			for i := range 100 {
				must(t, c.Set(fmt.Sprint("number:", i), strconv.Itoa(1000+i)))
			}
			s.awaitSame(t, 10*time.Second)

			p.link(0, cut).Partition()
			must(t, s.change(c, known))
			moved := time.Now().Add(time.Second)
			harness.Eventually(t, 10*time.Second, "the address has moved", func() bool { return time.Now().After(moved) })
			reading := startReaders(t, proxies[1].Addr, 10, known)
			gone := neverAgain(t, proxies[1].Addr, deletedKeys())
			awaitRequests(t, proxies[1], 500)
			must(t, s.changeMore(harness.MustDial(t, proxies[1].Addr)))
			p.link(0, cut).Heal()
			awaitWhole(t, proxies[0])
			awaitWhole(t, proxies[1])
			reading.wasRight(t)
			gone()
			all := s.awaitSame(t, 20*time.Second)
			expectHeld(t, all, known)
			for i := range 100 {
				if key, want := fmt.Sprint("number:", i), strconv.Itoa(1006+i); all[key].value != want {
					t.Fatalf("%s is %q, want %s", key, all[key].value, want)
				}
			}
		})
	}
}

// changeMore counts on where change left off.
func (s *story) changeMore(c *harness.Client) error {
	for i := range 100 {
		if answer, err := c.Command("incr number:%d 1", i); err != nil || answer != strconv.Itoa(1006+i) {
			return fmt.Errorf("incr number:%d: %q, %v; want %d", i, answer, err, 1006+i)
		}
	}
	return nil
}

// What magent keeps on the servers is there to be read, and safe from clients.
//
// promise: C6
func TestClientsMayNotWriteWhatIsMagentsOwn(t *testing.T) {
	s := startStory(t, 1, 1, hanging...)
	c := harness.MustDial(t, s.Addr)
	s.links[s.primary()].Partition()
	s.awaitGone(t, s.primary())
	must(t, c.Set("k", "missed"))
	var own []string
	harness.Eventually(t, 10*time.Second, "magent notes on the backup that the primary has missed something", func() bool {
		own = ownKeys(t, s.backup())
		return len(own) > 0
	})
	for _, key := range append(own, magentPrefix, magentPrefix+"mine") {
		for _, command := range []string{"set %s 0 0 1\r\nx", "add %s 0 0 1\r\nx", "append %s 0 0 1\r\nx", "delete %s", "incr %s 1", "touch %s 1"} {
			answer, err := c.Command(command, key)
			want := "CLIENT_ERROR keys that begin with " + magentPrefix + " are magent's own"
			if err != nil || !strings.HasPrefix(answer, want) {
				t.Fatalf(command+": %q, %v; want %q", key, answer, err, want)
			}
		}
		if _, err := c.Get(key); err != nil {
			t.Fatalf("get %s: %v", key, err)
		}
	}
	must(t, c.Set("magent:k", "x"))
	must(t, c.Set("__magent__", "x"))
	s.links[s.primary()].Heal()
	awaitWhole(t, s.Magent)
	s.awaitSame(t, 10*time.Second)
}

// ownKeys returns the keys of magent's own that a server holds.
func ownKeys(t *testing.T, s *harness.Memcached) []string {
	t.Helper()
	all := everything(t, s)
	maps.DeleteFunc(all, func(key string, _ held) bool { return !strings.HasPrefix(key, magentPrefix) })
	return slices.Sorted(maps.Keys(all))
}
