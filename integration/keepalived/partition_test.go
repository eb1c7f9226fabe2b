package keepalived

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"magent/integration/harness"
)

// sides is what was written while two nodes did not see each other, and both had
// the virtual address.
type sides struct {
	*pair
	conns [2]*harness.Client
	last  map[string]string // by key, what was confirmed last, wherever
}

// write sets a key on one side, by a new connection to the virtual address.
func (s *sides) write(side int, key, value string) {
	s.Helper()
	must(s, s.conns[side].Set(key, value))
	s.last[key] = value
}

// The link between the two nodes is cut. Both have the virtual address for a
// while, and clients on both sides write: keys of their own, and the same ones.
// It heals: one node keeps the address, and by that nobody reads anything older
// than what its clients had written last. Both servers end up the same, without
// a restart. repcached's nodes never find together again.
//
// promise: C2, C6, C7, L9
func TestTheLinkBetweenTheNodesIsCutAndHeals(t *testing.T) {
	for _, memory := range []string{"keys are known", "more keys than are known"} {
		t.Run(memory, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			p.startAll()
			const keys = 60
			many := 0
			if memory != "keys are known" {
				many = 3000 // more than is noted for others
			}
			before := p.clients[0].connect(pairVIP + pairPort)
			for k := range keys {
				must(t, before.Set(fmt.Sprint("both", k), "before"))
				must(t, before.Set(fmt.Sprint("left", k), "before"))
			}
			p.cutOff(p.nodes[1], p.clients[1])
			harness.Eventually(t, eventTime, "both nodes have the address", func() bool { return p.nodes[1].has(pairVIP) })
			s := &sides{pair: p, last: map[string]string{}}
			for side := range s.conns {
				s.conns[side] = p.reach(side)
			}
			for k := range keys {
				s.write(0, fmt.Sprint("first", k), "1")
				s.write(1, fmt.Sprint("second", k), "2")
				s.write(k%2, fmt.Sprint("both", k), "early")
			}
			for k := range many {
				s.write(1, fmt.Sprint(strings.Repeat("long", 30), k), "2")
			}
			for k := range keys {
				s.write(1-k%2, fmt.Sprint("both", k), "late")
			}
			// Of these the node that keeps the address has the last write.
			var kept []string
			for k := 1; k < keys; k += 2 {
				kept = append(kept, fmt.Sprint("both", k))
			}
			blocked := make(chan error, 1)
			waiting := p.reach(1)
			go func() {
				_, err := waiting.Line()
				blocked <- err
			}()

			p.heal()
			awaitAddress(pairVIP, p.nodes[0], p.nodes[1])
			if err := <-blocked; err == nil || strings.Contains(err.Error(), "timeout") {
				t.Errorf("a client of the node that has lost the address sees %v, want a reset", err)
			}
			stop, wrong := make(chan struct{}), make(chan string, 8)
			var reading sync.WaitGroup
			for _, client := range p.clients {
				reading.Go(func() { readThroughout(client, kept, "late", many > 0, stop, wrong) })
			}
			p.awaitWhole()
			for _, key := range slices.Sorted(maps.Keys(s.last)) {
				for i := range p.nodes {
					value := p.clients[i].connectOnce(pairVIP+pairPort, key)
					// Where the keys are not known a miss is all that is right.
					if value != s.last[key] && (many == 0 || value != "") {
						t.Fatalf("%s is %q for client %d, want %q; on the servers it is %q and %q", key, value, i+1, s.last[key],
							p.items(0)[key], p.items(1)[key])
					}
				}
			}
			close(stop)
			reading.Wait()
			select {
			case text := <-wrong:
				t.Fatal(text)
			default:
			}
			p.awaitEqual()
		})
	}
}

// reach connects a client to the virtual address on its side of the cut.
func (p *pair) reach(side int) (c *harness.Client) {
	p.Helper()
	harness.Eventually(p, eventTime, fmt.Sprint("the address is served on side ", side+1), func() bool {
		conn, err := p.clients[side].dial(pairVIP+pairPort, time.Second)
		if err != nil {
			return false
		}
		c = harness.NewClient(conn)
		p.Cleanup(func() { _ = c.Close() })
		_, err = c.Command("set reached 0 0 1\r\nx")
		return err == nil
	})
	return c
}

// readThroughout reads keys again and again, with new connections, and says what
// is not as it should be.
func readThroughout(client *node, keys []string, want string, mayMiss bool, stop chan struct{}, wrong chan<- string) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		conn, err := client.dial(pairVIP+pairPort, time.Second)
		if err != nil {
			continue // the switch has yet to learn where the address is
		}
		c := harness.NewClient(conn)
		value, found, err := c.Value(keys[i%len(keys)])
		_ = c.Close()
		if err == nil && value != want && (found || !mayMiss) {
			select {
			case wrong <- fmt.Sprintf("%s reads %s as %q, found %v; want %q", client.name, keys[i%len(keys)], value, found, want):
			default:
			}
			return
		}
	}
}

// connectOnce reads one key by a new connection.
func (n *node) connectOnce(addr, key string) string {
	n.Helper()
	var value string
	harness.Eventually(n, eventTime, key+" is read", func() bool {
		conn, err := n.dial(addr, time.Second)
		if err != nil {
			return false
		}
		c := harness.NewClient(conn)
		defer func() { _ = c.Close() }()
		value, _, err = c.Value(key)
		return err == nil
	})
	return value
}

// awaitEqual waits until both servers hold the same.
func (p *pair) awaitEqual() {
	p.Helper()
	var first, second map[string]string
	if !harness.Poll(eventTime, func() bool {
		first, second = p.items(0), p.items(1)
		if len(first) == 0 || len(first) != len(second) {
			return false
		}
		for key, value := range first {
			if !sameButTime(value, second[key]) {
				return false
			}
		}
		return true
	}) {
		p.Fatalf("the servers hold %d and %d keys, or not the same: %s", len(first), len(second), difference(first, second))
	}
}

// items are the keys on a node's server with all that a copy has to keep.
func (p *pair) items(i int) map[string]string {
	p.Helper()
	c := p.clients[0].connect(pairAddrs[i] + serverPort)
	must(p, c.Send([]byte("lru_crawler metadump all\r\n")))
	var names []string
	for {
		line, err := c.Line()
		if err != nil && line != "" { // the lines of keys end with \n alone
			line, err = strings.TrimSuffix(line, "\n"), nil
		}
		must(p, err)
		if line == "END" {
			break
		}
		if strings.HasPrefix(line, "BUSY") || strings.HasPrefix(line, "ERROR") {
			return nil // magent lists the keys at this moment
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "key="), " ")
		name, err = url.QueryUnescape(name)
		must(p, err)
		if !strings.HasPrefix(name, "__magent__") {
			names = append(names, name)
		}
	}
	items := map[string]string{}
	for _, name := range names {
		if value := answer(p.TB, c, "mg "+name+" t f s v"); value != "" {
			items[name] = value
		}
	}
	return items
}

func difference(a, b map[string]string) string {
	var lines []string
	for key, value := range a {
		if !sameButTime(value, b[key]) {
			lines = append(lines, strconv.Quote(key)+": "+strconv.Quote(value)+" and "+strconv.Quote(b[key]))
		}
	}
	for key, value := range b {
		if _, there := a[key]; !there {
			lines = append(lines, strconv.Quote(key)+" only on the second: "+strconv.Quote(value))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines[:min(len(lines), 10)], "; ")
}
