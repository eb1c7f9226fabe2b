package integration

import (
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"magent/integration/harness"
)

// magentPrefix begins the keys that magent keeps for itself on the servers.
const magentPrefix = "__magent__:"

// recovery is how long servers of a test may take until redundancy is whole.
const recovery = 60 * time.Second

// crawling has memcached list its keys, which a resync asks for. The thread
// that does it stands still at all other times.
var crawling = []string{"-o", "lru_crawler"}

// story is memcacheds, each behind a link, and one magent before them.
type story struct {
	*harness.Magent
	cfg       harness.Config
	primaries []*harness.Memcached
	backups   []*harness.Memcached
	links     map[*harness.Memcached]*harness.Link
}

// startStory starts p primaries, b backups and magent.
func startStory(t *testing.T, p, b int, args ...string) *story {
	t.Helper()
	s := newStory(t, p, b)
	s.launch(t, args...)
	return s
}

// newStory starts p primaries and b backups.
func newStory(t *testing.T, p, b int) *story {
	t.Helper()
	s := &story{links: make(map[*harness.Memcached]*harness.Link)}
	for range p {
		s.primaries = append(s.primaries, s.server(t))
	}
	for range b {
		s.backups = append(s.backups, s.server(t))
	}
	return s
}

// server starts one memcached behind a link.
func (s *story) server(t *testing.T, args ...string) *harness.Memcached {
	t.Helper()
	m := harness.StartMemcached(t, append(slices.Clone(crawling), args...)...)
	s.links[m] = harness.NewLink(t, m.Addr)
	return m
}

// launch starts magent before the servers, and waits until all are up.
func (s *story) launch(t *testing.T, args ...string) {
	t.Helper()
	s.cfg = harness.Config{Args: args}
	for _, m := range s.primaries {
		s.cfg.Primaries = append(s.cfg.Primaries, s.links[m].Addr)
	}
	for _, m := range s.backups {
		s.cfg.Backups = append(s.cfg.Backups, s.links[m].Addr)
	}
	s.Magent = harness.StartMagent(t, s.cfg)
	awaitWhole(t, s.Magent) // a new proxy does not know yet what is on its servers
}

// primary and backup are the first ones.
func (s *story) primary() *harness.Memcached { return s.primaries[0] }
func (s *story) backup() *harness.Memcached  { return s.backups[0] }

// name is the address by which magent knows a server.
func (s *story) name(m *harness.Memcached) string { return s.links[m].Addr }

// either is the primary or the backup, with the words for it.
var either = map[string]func(*story) *harness.Memcached{
	"primary": (*story).primary,
	"backup":  (*story).backup,
}

// stateOf returns what magent says of a server.
func stateOf(t *testing.T, m *harness.Magent, name string) string {
	t.Helper()
	return serverStats(t, m)[name+":state"]
}

func serverStats(t *testing.T, m *harness.Magent) map[string]string {
	t.Helper()
	c, err := harness.Dial(m.Addr)
	must(t, err)
	defer func() { _ = c.Close() }()
	stats, err := c.Stats("servers")
	must(t, err)
	return stats
}

// awaitGone waits until magent has taken a server out. Requests make it look.
func (s *story) awaitGone(t *testing.T, m *harness.Memcached) {
	t.Helper()
	c := harness.MustDial(t, s.Addr)
	harness.Eventually(t, 20*time.Second, m.Addr+" is out", func() bool {
		must(t, ignoreServerError(c.Set("awaiting-out", "x")))
		state := stateOf(t, s.Magent, s.name(m))
		return state == "down" || state == "dirty"
	})
}

// awaitUsed waits until magent uses every server but one.
func (s *story) awaitUsed(t *testing.T, but *harness.Memcached) {
	t.Helper()
	for m := range s.links {
		if m == but {
			continue
		}
		harness.Eventually(t, recovery, m.Addr+" is used", func() bool {
			state := stateOf(t, s.Magent, s.name(m))
			return state == "up" || state == "warming"
		})
	}
}

// awaitWhole waits until redundancy is whole: every server is up.
func awaitWhole(t *testing.T, m *harness.Magent) {
	t.Helper()
	var stats map[string]string
	if !harness.Poll(recovery, func() bool {
		stats = serverStats(t, m)
		up := 0
		for name, value := range stats {
			if strings.HasSuffix(name, ":state") {
				if value != "up" {
					return false
				}
				up++
			}
		}
		return up > 0
	}) {
		var lines []string
		for _, name := range slices.Sorted(maps.Keys(stats)) {
			lines = append(lines, name+" "+stats[name])
		}
		t.Fatalf("redundancy is not whole after %v:\n%s", recovery, strings.Join(lines, "\n"))
	}
}

// awaitRequests waits until magent has had so many more requests.
func awaitRequests(t *testing.T, m *harness.Magent, more int64) {
	t.Helper()
	c := harness.MustDial(t, m.Addr)
	requests := func() int64 {
		stats, err := c.Stats("")
		must(t, err)
		n, err := strconv.ParseInt(stats["magent_requests"], 10, 64)
		must(t, err)
		return n
	}
	from := requests()
	harness.Eventually(t, recovery, fmt.Sprintf("%d more requests come", more), func() bool { return requests() >= from+more })
}

// held is what a server holds under a key.
type held struct {
	flags uint32
	exp   int64 // Unix time, -1 for no expiry
	value string
}

// holdings returns all that a server holds, asked directly, without the keys
// that are magent's own.
func holdings(t *testing.T, s *harness.Memcached) map[string]held {
	t.Helper()
	all := everything(t, s)
	maps.DeleteFunc(all, func(key string, _ held) bool { return strings.HasPrefix(key, magentPrefix) })
	return all
}

// everything returns all that a server holds.
func everything(t *testing.T, s *harness.Memcached) map[string]held {
	t.Helper()
	c, err := harness.Dial(s.Addr)
	must(t, err)
	defer func() { _ = c.Close() }()
	exps := make(map[string]int64)
	// Another listing may be under way: "BUSY currently processing crawler request".
	harness.Eventually(t, recovery, s.Addr+" lists its keys", func() bool {
		clear(exps)
		must(t, c.Send([]byte("lru_crawler metadump all\r\n")))
		for {
			line, err := c.Line()
			if err != nil && line != "" { // the lines of keys end with \n alone
				line, err = strings.TrimSuffix(line, "\n"), nil
			}
			must(t, err)
			if line == "END" {
				return true
			}
			if strings.HasPrefix(line, "BUSY") {
				return false
			}
			key, exp, err := listed(line)
			must(t, err)
			exps[key] = exp
		}
	})
	all := make(map[string]held)
	keys := slices.Sorted(maps.Keys(exps))
	for chunk := range slices.Chunk(keys, 100) {
		items, err := c.Get(chunk...)
		must(t, err)
		for _, it := range items {
			all[it.Key] = held{flags: it.Flags, exp: exps[it.Key], value: string(it.Value)}
		}
	}
	return all
}

// listed reads one line of a metadump: "key=<url encoded> exp=<time or -1> …".
func listed(line string) (key string, exp int64, err error) {
	for word := range strings.FieldsSeq(line) {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "key":
			if key, err = url.PathUnescape(value); err != nil {
				return "", 0, fmt.Errorf("%q: %w", line, err)
			}
		case "exp":
			if exp, err = strconv.ParseInt(value, 10, 64); err != nil {
				return "", 0, fmt.Errorf("%q: %w", line, err)
			}
		}
	}
	if key == "" {
		return "", 0, fmt.Errorf("%q names no key", line)
	}
	return key, exp, nil
}

// heldBy joins what several servers hold.
func heldBy(t *testing.T, servers ...*harness.Memcached) map[string]held {
	t.Helper()
	all := make(map[string]held)
	for _, s := range servers {
		for key, h := range holdings(t, s) {
			if _, twice := all[key]; twice {
				t.Fatalf("%s is on more than one server of %v", key, addrs(servers))
			}
			all[key] = h
		}
	}
	return all
}

// unequal says how two holdings differ, "" if they do not. Their times of
// expiry may differ by so many seconds.
func unequal(a, b map[string]held, most int64) string {
	var out []string
	for key, x := range a {
		y, found := b[key]
		switch {
		case !found:
			out = append(out, fmt.Sprintf("%s: only the first has it: %s", key, short(x.value)))
		case x.flags != y.flags:
			out = append(out, fmt.Sprintf("%s: flags %d and %d", key, x.flags, y.flags))
		case x.value != y.value:
			out = append(out, fmt.Sprintf("%s: value %s and %s", key, short(x.value), short(y.value)))
		case !near(x.exp, y.exp, most):
			out = append(out, fmt.Sprintf("%s: expires at %d and %d", key, x.exp, y.exp))
		}
	}
	for key, y := range b {
		if _, found := a[key]; !found {
			out = append(out, fmt.Sprintf("%s: only the second has it: %s", key, short(y.value)))
		}
	}
	slices.Sort(out)
	if len(out) > 20 {
		out = append(out[:20], fmt.Sprintf("and %d more", len(out)-20))
	}
	return strings.Join(out, "\n")
}

// near compares two times of expiry: they may be so many seconds apart. Clocks
// that count in seconds tick at different moments.
func near(a, b, most int64) bool {
	if a < 0 || b < 0 {
		return a < 0 && b < 0
	}
	return a-b <= most && b-a <= most
}

// awaitSame waits until the primaries hold what the backups hold, and returns that.
func (s *story) awaitSame(t *testing.T, within time.Duration) map[string]held {
	t.Helper()
	return awaitSame(t, within, s.primaries, s.backups)
}

func awaitSame(t *testing.T, within time.Duration, primaries, backups []*harness.Memcached) map[string]held {
	t.Helper()
	var diff string
	var a map[string]held
	if !harness.Poll(within, func() bool {
		a = heldBy(t, primaries...)
		diff = unequal(a, heldBy(t, backups...), 1)
		return diff == ""
	}) {
		t.Fatalf("the primaries and the backups differ still after %v:\n%s", within, diff)
	}
	return a
}

// answered waits until the last commands of all owners have been carried out,
// also those without an answer, and checks what they have led to.
func answered(t *testing.T, owners []*owner) {
	t.Helper()
	for _, o := range owners {
		must(t, o.final(o.writer))
	}
}

// storedItems returns how many items a server has stored since its start.
func storedItems(s *harness.Memcached) int64 { return s.Stat("total_items") }

// fill stores n keys of many kinds through magent, pipelined, and returns what
// they hold: different flags, sizes and lifetimes, the shortest of which
// outlives the test.
func fill(t *testing.T, m *harness.Magent, prefix string, n int) map[string]held {
	t.Helper()
	c := harness.MustDial(t, m.Addr)
	all := make(map[string]held)
	now := time.Now().Unix()
	var out []byte
	waiting := 0
	flush := func() {
		must(t, c.Send(out))
		for range waiting {
			line, err := c.Line()
			if err != nil || line != "STORED" {
				t.Fatalf("filling: %q, %v", line, err)
			}
		}
		out, waiting = out[:0], 0
	}
	for i := range n {
		key := prefix + strconv.Itoa(i)
		h := held{flags: uint32(i * 7), exp: -1, value: fmt.Sprintf("<%s>%s", key, strings.Repeat("x", i%300))}
		given := int64(0)
		switch i % 4 {
		case 1: // relative
			given, h.exp = 3000, now+3000
		case 2: // the longest relative one, of 30 days
			given, h.exp = 30*24*3600, now+30*24*3600
		case 3: // absolute
			given, h.exp = now+40*24*3600, now+40*24*3600
			if i%8 == 7 { // the latest that memcached takes
				given, h.exp = math.MaxInt32, math.MaxInt32
			}
		}
		all[key] = h
		out = append(out, harness.Storage("set", key, h.flags, int(given), []byte(h.value))...)
		if waiting++; waiting == 200 {
			flush()
		}
	}
	flush()
	return all
}

// readers are clients that read keys which nobody writes, until they are
// stopped.
type readers struct {
	stop chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex
	err   error
	reads int
}

// startReaders has n clients read the keys. A miss, an error and another value
// than the known one are wrong.
func startReaders(t *testing.T, addr string, n int, known map[string]held) *readers {
	t.Helper()
	r := &readers{stop: make(chan struct{})}
	keys := slices.Sorted(maps.Keys(known))
	seed := newRand(t).Uint64()
	for i := range n {
		r.wg.Go(func() {
			done, err := readUntil(r.stop, addr, keys, known, int(seed>>1)+i*7919)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.reads += done
			if err != nil && r.err == nil {
				r.err = fmt.Errorf("reader %d: %w", i, err)
			}
		})
	}
	t.Cleanup(r.end)
	return r
}

// end stops the clients; a second call does nothing.
func (r *readers) end() {
	r.mu.Lock()
	select {
	case <-r.stop:
	default:
		close(r.stop)
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// wasRight stops the clients and fails the test if one of them read something wrong.
func (r *readers) wasRight(t *testing.T) {
	t.Helper()
	r.end()
	if r.err != nil {
		t.Fatal(r.err)
	}
	if r.reads == 0 {
		t.Fatal("nothing was read")
	}
	t.Logf("%d keys read while the servers recovered", r.reads)
}

func readUntil(stop chan struct{}, addr string, keys []string, known map[string]held, at int) (reads int, err error) {
	c, err := harness.Dial(addr)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	for {
		select {
		case <-stop:
			return reads, nil
		default:
		}
		asked := make([]string, 5)
		for i := range asked {
			at = (at*1103515245 + 12345) & 0x7fffffff
			asked[i] = keys[(at>>8)%len(keys)]
		}
		items, err := c.Get(asked...)
		if err != nil {
			return reads, err
		}
		if len(items) != len(asked) {
			return reads, fmt.Errorf("get %v: %d values", asked, len(items))
		}
		for i, it := range items {
			want := known[asked[i]]
			if it.Key != asked[i] || it.Flags != want.flags || string(it.Value) != want.value {
				return reads, fmt.Errorf("get %s: got %s, flags %d; want %s, flags %d",
					asked[i], short(string(it.Value)), it.Flags, short(want.value), want.flags)
			}
		}
		reads += len(items)
	}
}
