package checker

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"magent/integration/harness"
)

// Cluster is two memcacheds, and one or two magents before them. Its methods
// are for the goroutine of the test, but for where.
type Cluster struct {
	tb        testing.TB
	servers   [2]*harness.Memcached
	warm      [2]bool // started with a memory file: may come back with its items
	junctions [2]*harness.Junction
	config    harness.Config
	markers   []string

	mu      sync.Mutex
	magents [2]*harness.Magent // nil: not running
	all     []started          // every magent there was
	active  int                // the one that clients use
	move    int                // counts how often the clients have been moved
	conns   map[*harness.Client]struct{}
}

// started is a magent and its number.
type started struct {
	*harness.Magent
	number int
}

// startCluster starts everything on free ports of 127.0.0.1, with so many
// magents, 0 for one or two.
func startCluster(tb testing.TB, rng *rand.Rand, magents int) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, conns: make(map[*harness.Client]struct{})}
	memory, err := os.MkdirTemp("/dev/shm", "magent-checker-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(memory) })
	pids := tb.TempDir()
	for i := range c.magents {
		c.markers = append(c.markers, filepath.Join(pids, fmt.Sprintf("magent-%d.pid", i)))
	}
	for i := range c.servers {
		// The crawler is what a resync reads from.
		args := []string{"-o", "lru_maintainer,lru_crawler"}
		if c.warm[i] = rng.IntN(2) == 0; c.warm[i] {
			args = append(args, "-e", filepath.Join(memory, fmt.Sprintf("memory-%d", i)))
		}
		c.servers[i] = harness.StartMemcached(tb, args...)
		c.junctions[i] = harness.NewJunction(tb, c.servers[i].Addr, c.markers...)
	}
	a, b := c.junctions[0].Addr, c.junctions[1].Addr
	c.config = harness.Config{Primaries: []string{a}, Backups: []string{b}}
	if rng.IntN(3) == 0 {
		c.config = harness.Config{Primaries: []string{a, b}, Backups: []string{b, a}}
	}
	rates := []string{"1000", "3000", "10000"} // how long a resync takes
	c.config.Args = []string{
		"--resync-rate", rates[rng.IntN(len(rates))],
		// A busy machine is not to look like a server that fails.
		"--server-timeout", "700ms", "--connect-timeout", "500ms",
	}
	c.startMagent(0)
	if both := rng.IntN(2) == 0; magents == 2 || (magents == 0 && both) {
		c.startMagent(1)
	}
	return c
}

// String says what the cluster is made of.
func (c *Cluster) String() string {
	s := fmt.Sprintf("A is %s (pid %d), B is %s (pid %d)", c.junctions[0].Addr, c.servers[0].PID(), c.junctions[1].Addr, c.servers[1].PID())
	for i, name := range serverNames {
		if c.warm[i] {
			s += ", " + name + " has a memory file"
		}
	}
	if len(c.config.Primaries) > 1 {
		s += ", both are primary and backup"
	}
	if c.magents[1] != nil {
		s += ", two magents"
	}
	return s + ", magent runs with " + strings.Join(c.config.Args, " ")
}

var serverNames = [2]string{"A", "B"}

// startMagent starts one of the two magents, which does not run.
func (c *Cluster) startMagent(i int) {
	c.tb.Helper()
	cfg := c.config
	cfg.Args = append([]string{"-P", c.markers[i], "--in-flight-file", c.markers[i] + ".in-flight"}, cfg.Args...)
	m := harness.StartMagent(c.tb, cfg)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.magents[i] = m
	c.all = append(c.all, started{m, i})
}

// logged returns what all magents logged of their servers since a moment.
func (c *Cluster) logged(since time.Time) []LogLine {
	var lines []LogLine
	names := strings.NewReplacer(c.junctions[0].Addr, "A", c.junctions[1].Addr, "B")
	for _, m := range c.all {
		for text := range strings.Lines(m.Output()) {
			var l struct {
				Time                           time.Time
				Message, Server, From, To, Why string
			}
			if json.Unmarshal([]byte(text), &l) != nil || l.Server == "" || l.Time.Before(since) {
				continue
			}
			said := fmt.Sprintf("magent %d: %s: %s", m.number, l.Server, l.Message)
			if l.To != "" {
				said = fmt.Sprintf("magent %d: %s is %s after %s: %s", m.number, l.Server, l.To, l.From, l.Why)
			}
			lines = append(lines, LogLine{l.Time.Sub(since), names.Replace(said)})
		}
	}
	return lines
}

// endMagent ends one of the two magents, with SIGKILL or with SIGTERM.
func (c *Cluster) endMagent(i int, crash bool) {
	c.tb.Helper()
	if c.magents[i] == nil {
		return
	}
	if crash {
		c.magents[i].Crash()
	} else {
		c.magents[i].Stop()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.magents[i] = nil
}

// moveClients resets the connections of all clients, which then use the
// given magent: what happens when an address moves to another machine.
func (c *Cluster) moveClients(to int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active = to
	c.move++
	for conn := range c.conns {
		_ = conn.Reset()
	}
	clear(c.conns)
}

// dial connects a client to the magent that is in use now.
func (c *Cluster) dial() (*harness.Client, error) {
	c.mu.Lock()
	m, move := c.magents[c.active], c.move
	c.mu.Unlock()
	if m == nil {
		return nil, errors.New("there is no magent")
	}
	conn, err := harness.Dial(m.Addr)
	if err != nil {
		return nil, err
	}
	conn.Timeout = clientTimeout
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.move != move {
		_ = conn.Close()
		return nil, errors.New("the clients have been moved")
	}
	c.conns[conn] = struct{}{}
	return conn, nil
}

// empty removes everything, through magent.
func (c *Cluster) empty() {
	c.tb.Helper()
	conn, err := c.dial()
	if err != nil {
		c.tb.Fatal(err)
	}
	defer c.hangUp(conn)
	var answer string
	if !harness.Poll(10*time.Second, func() bool { // a busy machine looks like a server that is out
		answer, err = conn.Command("flush_all")
		return answer == "OK"
	}) {
		c.tb.Errorf("flush_all, without a fault: %q, %v", answer, err)
	}
}

// hangUp closes a client's connection.
func (c *Cluster) hangUp(conn *harness.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = conn.Close()
	delete(c.conns, conn)
}

// link is the path from one magent to one server.
func (c *Cluster) link(magent, server int) *harness.Link { return c.junctions[server].Links[magent] }

// warmRestart ends a server that has a memory file so that it can come back
// with its items, and starts it again after a while.
func (c *Cluster) warmRestart(server int, pause func()) {
	s := c.servers[server]
	s.Signal(syscall.SIGUSR1) // memcached saves what it needs for a restart
	if _, ended := s.WaitEnd(10 * time.Second); !ended {
		c.tb.Fatalf("%s still runs 10s after SIGUSR1", s.Name)
	}
	pause()
	s.Restart()
}

// whole reports whether every running magent says of both servers that they
// are up, and what they say.
func (c *Cluster) whole() (bool, string) {
	var said []string
	all := true
	for i, m := range c.magents {
		if m == nil {
			continue
		}
		for server, state := range c.states(m) {
			all = all && state == "up"
			said = append(said, fmt.Sprintf("magent %d: %s is %s", i, serverNames[server], state))
		}
	}
	return all, strings.Join(said, ", ")
}

// outages is how often the running magents have taken each server out.
func (c *Cluster) outages() (n [2]int) {
	for _, m := range c.magents {
		if m == nil {
			continue
		}
		for i, text := range c.ask(m, "outages") {
			count, _ := strconv.Atoi(text)
			n[i] += count
		}
	}
	return n
}

// states asks a magent for the states of the two servers.
func (c *Cluster) states(m *harness.Magent) [2]string { return c.ask(m, "state") }

// ask asks a magent what it says of the two servers under a name.
func (c *Cluster) ask(m *harness.Magent, name string) [2]string {
	conn, err := harness.Dial(m.Addr)
	if err != nil {
		return [2]string{err.Error(), err.Error()}
	}
	defer func() { _ = conn.Close() }()
	conn.Timeout = clientTimeout
	stats, err := conn.Stats("servers")
	if err != nil {
		return [2]string{err.Error(), err.Error()}
	}
	var said [2]string
	for i, j := range c.junctions {
		said[i] = stats[j.Addr+":"+name]
	}
	return said
}

// Redundancy is taken to be whole when it was so for a while: a magent may
// not have noticed yet what has just been done.
const (
	steadyLooks = 4
	lookPause   = 60 * time.Millisecond
	wholeWithin = time.Minute
)

// awaitWhole waits until redundancy is whole.
func (c *Cluster) awaitWhole() error {
	good := 0
	var said string
	last := time.Time{}
	if harness.Poll(wholeWithin, func() bool {
		if time.Since(last) < lookPause {
			return false
		}
		last = time.Now()
		var ok bool
		ok, said = c.whole()
		good++
		if !ok {
			good = 0
		}
		return good >= steadyLooks
	}) {
		return nil
	}
	for i, m := range c.magents {
		if m != nil {
			said += fmt.Sprintf("; magent %d has journals of %v keys, has replayed %v and resynced %v", i, c.ask(m, "journal_keys"), c.ask(m, "replayed_keys"), c.ask(m, "resync_done"))
		}
	}
	return fmt.Errorf("redundancy is not whole after %v: %s", wholeWithin, said)
}

// held is what two servers have to agree on.
type held struct {
	item  harness.MetaItem
	found bool
}

// sameHeld compares what two servers hold for a key. Both count whole seconds
// by clocks of their own and are asked one after the other: their times to
// live may differ by two.
func sameHeld(a, b held) bool {
	if a.found != b.found {
		return false
	}
	x, y := a.item, b.item
	return x.Flags == y.Flags && normal(string(x.Value)) == normal(string(y.Value)) &&
		(x.TTL < 0) == (y.TTL < 0) && x.TTL-y.TTL <= 2 && y.TTL-x.TTL <= 2
}

// compare asks both servers for all keys until they agree, and returns what
// they hold and the keys on which they do not agree.
func (c *Cluster) compare(keys []string, within time.Duration) (agreed map[string]held, differ []string, err error) {
	a, err := harness.Dial(c.servers[0].Addr)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = a.Close() }()
	b, err := harness.Dial(c.servers[1].Addr)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = b.Close() }()
	agreed = make(map[string]held)
	left := slices.Clone(keys)
	harness.Poll(within, func() bool {
		differ = nil
		var again []string
		for _, key := range left {
			var both [2]held
			for i, conn := range [2]*harness.Client{a, b} {
				if both[i].item, both[i].found, err = conn.Peek(key); err != nil {
					return true
				}
			}
			if sameHeld(both[0], both[1]) {
				agreed[key] = both[0]
				continue
			}
			again = append(again, key)
			differ = append(differ, fmt.Sprintf("%s: A holds %s, B holds %s", key, both[0], both[1]))
		}
		left = again
		return len(left) == 0
	})
	return agreed, differ, err
}

func (h held) String() string {
	if !h.found {
		return "nothing"
	}
	return fmt.Sprintf("%q flags %d ttl %d", h.item.Value, h.item.Flags, h.item.TTL)
}
