package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// A server stands still twice, and each time misses more than can be replayed.
// The clients use one proxy until it has flushed the server, and then the
// other one, which takes the filling over. Both know each time what the server
// lacks: nothing that the twin holds is a miss, and none calls the server
// complete before it is.
//
// promise: C6, C7
func TestTheFillingOfAServerIsHandedOverEachTime(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, slices.Concat(hanging, []string{"--journal-keys", "200", "--resync-rate", "600", "--compare-rate", "0"})...)
			lacking := server(p.story)
			keys := keysNamed("still:", 1200)
			for round := range 2 {
				flushes := lacking.Stat("cmd_flush")
				known := p.missedBy(t, lacking, 1, keys, fmt.Sprint("<round ", round, ">"))
				leave := keepBusy(t, p.proxies[1].Addr)
				lacking.Thaw()
				harness.Eventually(t, recovery, "the server is flushed", func() bool { return lacking.Stat("cmd_flush") > flushes })
				leave()
				pause(t, 500*time.Millisecond) // an address does not move faster
				// The resync alone brings the other keys.
				read := make(map[string]held)
				for _, key := range keys[:300] {
					read[key] = known[key]
				}
				reading := startReaders(t, p.proxies[0].Addr, 2, read)
				p.awaitComplete(t, lacking, keys)
				reading.wasRight(t)
				p.awaitWhole(t)
				p.serves(t, known)
				expectHeld(t, p.awaitSame(t, 10*time.Second), known)
			}
		})
	}
}

// A server has missed more than is noted for other proxies, and the one that
// knows it all has no clients any more. The other one, whose clients only read,
// makes the server good, once: a server that holds what it should is not
// flushed again.
//
// promise: C6
func TestAServerThatMissedMoreThanIsKnownIsFlushedOnce(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, hanging...)
			cut := server(p.story)
			keys := keysNamed(strings.Repeat("long:", 40), 1500) // several times what is noted
			setAll(t, p.proxies[1], keys, "<old>")
			p.awaitSame(t, 10*time.Second)
			known := p.missedBy(t, cut, 1, keys, "<new>")
			pause(t, 2*time.Second) // by then the proxy that wrote is one without clients
			reading := startReaders(t, p.proxies[0].Addr, 1, known)
			awaitRequests(t, p.proxies[0], 500)
			cut.Thaw()
			p.awaitWhole(t)
			p.staysWhole(t, cut, 2)
			reading.wasRight(t)
			p.serves(t, known)
			expectHeld(t, p.awaitSame(t, 10*time.Second), known)
		})
	}
}

// Several servers have each other's keys, and one of them missed more than its
// journal holds. Each twin tells of that, and both proxies have clients:
// redundancy becomes whole for both. When the clients then use one proxy alone,
// the server is left as it is.
//
// promise: C6
func TestSeveralTwinsTellOfOneLoss(t *testing.T) {
	for who, servers := range map[string]func(*story) []*harness.Memcached{
		"primary": func(s *story) []*harness.Memcached { return s.primaries },
		"backup":  func(s *story) []*harness.Memcached { return s.backups },
	} {
		for writer := range 2 {
			t.Run(fmt.Sprintf("%s, proxy %d writes", who, writer), func(t *testing.T) {
				t.Parallel()
				p := startPairBefore(t, 2, 2, slices.Concat(hanging, []string{"--journal-keys", "200"})...)
				cut := servers(p.story)[0]
				var leave []func()
				for _, m := range p.proxies {
					leave = append(leave, keepBusy(t, m.Addr))
				}
				known := p.missedBy(t, cut, writer, keysNamed("still:", 1600), "<new>")
				cut.Thaw()
				p.awaitWhole(t)
				p.staysWhole(t, cut, 2)
				leave[writer]()
				pause(t, 2*time.Second) // by then that proxy is one without clients
				p.staysWhole(t, cut, 2)
				leave[1-writer]()
				p.serves(t, known)
				expectHeld(t, p.awaitSame(t, 10*time.Second), known)
			})
		}
	}
}

// Somebody has deleted keys on a server directly, and asks one proxy to fill it
// again: whichever it is, also one without clients, which leaves the servers to
// the other.
//
// promise: C7
func TestAnyProxyCanBeAskedForAResync(t *testing.T) {
	for name, c := range map[string]struct {
		clients []int // proxies that have some
		asked   int
	}{
		"of one without clients": {[]int{1}, 0},
		"of the first of two":    {[]int{0, 1}, 0},
		"of the second of two":   {[]int{0, 1}, 1},
	} {
		for who, server := range either {
			t.Run(name+", "+who, func(t *testing.T) {
				t.Parallel()
				p := startPair(t, slices.Concat(patient, []string{"--compare-rate", "0"})...)
				known := setAll(t, p.proxies[1], keysNamed("still:", 800), "<kept>")
				p.awaitSame(t, 10*time.Second)
				for _, at := range c.clients {
					defer keepBusy(t, p.proxies[at].Addr)()
				}
				pause(t, 2*time.Second) // by then each knows which of them has clients
				lacking := server(p.story)
				direct := harness.MustDial(t, lacking.Addr)
				for key := range known {
					expect(t, direct, "delete "+key, "DELETED")
				}
				if stdout, stderr, status := magentCommand(t, "resync", "-l", p.proxies[c.asked].Addr); status != 0 {
					t.Fatalf("magent resync: status %d, stdout %q, stderr %q", status, stdout, stderr)
				}
				expectHeld(t, p.awaitSame(t, 10*time.Second), known)
				p.awaitWhole(t)
			})
		}
	}
}

// pause waits until so much time has passed.
func pause(t *testing.T, long time.Duration) {
	t.Helper()
	end := time.Now().Add(long)
	harness.Eventually(t, long+recovery, "time passes", func() bool { return time.Now().After(end) })
}

// setAll stores the keys through magent, pipelined, and returns what they hold. A loaded
// machine looks like a server that is out: what is refused then is stored once more.
func setAll(t *testing.T, m *harness.Magent, keys []string, value string) map[string]held {
	t.Helper()
	c := harness.MustDial(t, m.Addr)
	all := make(map[string]held)
	for chunk := range slices.Chunk(keys, 100) {
		var out []byte
		for _, key := range chunk {
			all[key] = held{exp: -1, value: value}
			out = append(out, harness.Storage("set", key, 0, 0, []byte(value))...)
		}
		must(t, c.Send(out))
		var refused []string
		for _, key := range chunk {
			line, err := c.Line()
			if strings.HasPrefix(line, "SERVER_ERROR") {
				refused = append(refused, key)
			} else if err != nil || line != "STORED" {
				t.Fatalf("set %s: %q, %v", short(key), line, err)
			}
		}
		for _, key := range refused {
			harness.Eventually(t, recovery, short(key)+" is stored", func() bool {
				err := c.Set(key, value)
				must(t, ignoreServerError(err))
				return err == nil
			})
		}
	}
	must(t, c.Close())
	return all
}

// missedBy freezes a server and stores the keys through one proxy, which takes
// it out.
func (p *pair) missedBy(t *testing.T, m *harness.Memcached, proxy int, keys []string, value string) map[string]held {
	t.Helper()
	m.Freeze()
	known := setAll(t, p.proxies[proxy], keys, value)
	p.awaitOut(t, proxy, m)
	return known
}

// awaitComplete waits until both proxies say that a server holds all that it
// should, and checks that it holds the keys whenever one says so.
func (p *pair) awaitComplete(t *testing.T, m *harness.Memcached, keys []string) {
	t.Helper()
	direct := harness.MustDial(t, m.Addr)
	harness.Eventually(t, recovery, "both proxies say that the server is complete", func() bool {
		all := true
		for i, proxy := range p.proxies {
			if serverStats(t, proxy)[p.junctions[m].Addr+":complete"] != "yes" {
				all = false
				continue
			}
			there := 0
			for chunk := range slices.Chunk(keys, 100) {
				items, err := direct.Get(chunk...)
				must(t, err)
				there += len(items)
			}
			if there < len(keys) {
				t.Fatalf("proxy %d says that the server is complete, and it holds %d of %d keys", i, there, len(keys))
			}
		}
		return all
	})
}

// staysWhole checks that a server has been flushed so many times at most, and
// is not flushed in the next few looks of the proxies.
func (p *pair) staysWhole(t *testing.T, m *harness.Memcached, most int64) {
	t.Helper()
	flushes := m.Stat("cmd_flush")
	if flushes > most {
		t.Fatalf("the server was flushed %d times", flushes)
	}
	end := time.Now().Add(1500 * time.Millisecond)
	harness.Eventually(t, recovery, "some looks are over", func() bool {
		if again := m.Stat("cmd_flush"); again != flushes {
			t.Fatalf("the server was whole after %d flushes, and was flushed once more", flushes)
		}
		return time.Now().After(end)
	})
	p.awaitWhole(t)
}

// serves checks that both proxies have what the keys hold.
func (p *pair) serves(t *testing.T, known map[string]held) {
	t.Helper()
	for i, m := range p.proxies {
		c := harness.MustDial(t, m.Addr)
		for key, want := range known {
			if value, found, err := c.Value(key); err != nil || value != want.value {
				t.Fatalf("get %s through proxy %d: %s, found %v, %v; want %s", short(key), i, short(value), found, err, short(want.value))
			}
		}
	}
}
