package keepalived

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

const (
	pairVIP    = "192.168.68.46"
	pairPort   = ":11311" // of repcached, and of the magent in its place
	serverPort = ":11211"
)

// pairLine is how magent is started where the guide starts repcached.
const pairLine = "magent -u daemon -P /var/run/memcached_repcached.pid -l 0.0.0.0 -p 11311 -s T1:11211 -b T2:11211"

// pair is the guide's two machines, with a client on either side of the link
// between them.
type pair struct {
	*network
	nodes   []*node // T1 and T2
	clients []*node
}

var pairAddrs = []string{"192.168.68.41", "192.168.68.42"}

// newPair makes the machines, with the guide's configuration and scripts.
func newPair(t *testing.T) *pair {
	t.Helper()
	return newPairWith(t, "testdata/repcached/master.conf", "testdata/repcached/backup.conf")
}

// newPairWith is newPair with other configurations of keepalived.
func newPairWith(t *testing.T, confs ...string) *pair {
	t.Helper()
	p := &pair{network: newNetwork(t)}
	scripts := map[string]string{}
	for _, name := range []string{"check", "master", "backup", "fault", "stop"} {
		scripts["keepalived/scripts/memcached_"+name+".sh"] = read(t, "testdata", "repcached", "memcached_"+name+".sh")
	}
	for i, conf := range confs {
		n := p.add(fmt.Sprint("T", i+1), "br0", pairAddrs[i]+"/24")
		n.guide(read(t, conf), scripts)
		p.nodes = append(p.nodes, n)
		p.clients = append(p.clients, p.add(fmt.Sprint("client", i+1), "eth0", fmt.Sprintf("192.168.68.%d/24", 51+i)))
	}
	return p
}

// startMemcached starts the server of a node, which is empty.
func (p *pair) startMemcached(i int) {
	p.Helper()
	p.nodes[i].sh("memcached -d -u root -l " + pairAddrs[i] + " -p 11211")
}

// startMagent starts the proxy of a node.
func (p *pair) startMagent(i int) {
	p.Helper()
	p.nodes[i].sh(pairLine)
}

// startAll starts everything, in the guide's order.
func (p *pair) startAll() {
	p.Helper()
	for i := range p.nodes {
		p.startMemcached(i)
	}
	for i := range p.nodes {
		p.startMagent(i)
	}
	for _, n := range p.nodes {
		n.startKeepalived()
	}
	awaitAddress(pairVIP, p.nodes[0], p.nodes[1])
	p.awaitWhole()
}

// awaitWhole waits until redundancy is whole for both proxies.
func (p *pair) awaitWhole() {
	p.Helper()
	for i, n := range p.nodes {
		harness.Eventually(p, eventTime, "both servers are up for "+n.name, func() bool {
			conn, err := n.dial(pairAddrs[i]+pairPort, eventTime)
			if err != nil {
				return false
			}
			c := harness.NewClient(conn)
			defer func() { _ = c.Close() }()
			stats, err := c.Stats("servers")
			must(p, err)
			up := 0
			for name, value := range stats {
				if strings.HasSuffix(name, ":state") && value == "up" {
					up++
				}
			}
			return up == 2
		})
	}
}

// state is what the guide's notify scripts have written on a node.
func (n *node) state() string {
	text, _ := os.ReadFile(n.path("log/keepalived-memcached-state.log"))
	return string(text)
}

// The repcached guide with magent in its place: the same flags for the address
// and the pid file, the guide's own check and notify scripts. And the same with the
// configuration that we give, which leaves the address where it is.
//
// promise: L2, L3, L5, L8, C4, C7
func TestTheRepcachedGuide(t *testing.T) {
	for name, confs := range map[string][]string{
		"the guide's configuration": {"testdata/repcached/master.conf", "testdata/repcached/backup.conf"},
		"ours":                      {deployDir + "/repcached/T1.conf", deployDir + "/repcached/T2.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPairWith(t, confs...)
			p.startAll()
			p.playGuide(name == "ours")
		})
	}
}

// playGuide plays the guide with everything started. stays says that the address
// does not go back.
func (p *pair) playGuide(stays bool) {
	t := p.TB
	c := p.clients[0].connect(pairVIP + pairPort)
	must(t, c.Set("k", "v"))
	harness.Eventually(t, eventTime, "the notify script has run", func() bool { return strings.Contains(p.nodes[0].state(), "[master]") })
	hit := func(client *node, addr string) bool { return client.telnet(addr+pairPort, "get k") == "VALUE k 0 1\nv" }
	for _, addr := range append(pairAddrs, pairVIP) {
		if !hit(p.clients[0], addr) {
			t.Errorf("get at %s: %q", addr, p.clients[0].telnet(addr+pairPort, "get k"))
		}
	}
	// The check script finds that magent does not run any more.
	p.nodes[0].sh("kill -9 $(cat /var/run/memcached_repcached.pid)")
	awaitAddress(pairVIP, p.nodes[1], p.nodes[0])
	harness.Eventually(t, eventTime, "the value is there", func() bool { return hit(p.clients[0], pairVIP) })
	harness.Eventually(t, eventTime, "the notify script has run", func() bool { return strings.Contains(p.nodes[0].state(), "[fault]") })
	p.startMagent(0)
	if stays {
		harness.Eventually(t, eventTime, "T1 is a backup by now", func() bool { return strings.HasSuffix(p.nodes[0].state(), "[backup]\n") })
		awaitAddress(pairVIP, p.nodes[1], p.nodes[0])
	} else {
		awaitAddress(pairVIP, p.nodes[0], p.nodes[1])
	}
	harness.Eventually(t, eventTime, "the value is there", func() bool { return hit(p.clients[0], pairVIP) })
	if _, err := os.Stat(p.nodes[0].path("run/memcached_repcached.pid")); err != nil {
		t.Error(err)
	}
}

// What repcached gives, in both directions: each node reads what was written on
// the other one, whatever the command, and a node that joins gets everything,
// with flags and lifetimes.
//
// promise: C1, C2, C7, C8, C11
func TestWhatRepcachedGives(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for i := range p.nodes {
		p.startMemcached(i)
		p.startMagent(i)
	}
	p.awaitWhole()
	conns := []*harness.Client{p.clients[0].connect(pairAddrs[0] + pairPort), p.clients[1].connect(pairAddrs[1] + pairPort)}
	for i, here := range conns {
		there := conns[1-i]
		for _, step := range []struct{ command, want, get, value string }{
			{"set k 7 0 1\r\n5", "STORED", "get k", "5"},
			{"incr k 4", "9", "get k", "9"},
			{"decr k 2", "7", "get k", "7"},
			{"append k 0 0 1\r\n0", "STORED", "get k", "70"},
			{"prepend k 0 0 1\r\n1", "STORED", "get k", "170"},
			{"replace k 8 0 3\r\nnew", "STORED", "get k", "new"},
			{"add k 0 0 1\r\nx", "NOT_STORED", "get k", "new"},
			{"delete k", "DELETED", "get k", ""},
			{"add k 0 0 1\r\nx", "STORED", "get k", "x"},
			{"touch k 100", "TOUCHED", "get k", "x"},
		} {
			if answer, err := here.Command("%s", step.command); err != nil || answer != step.want {
				t.Fatalf("node %d: %q: %q, %v; want %q", i+1, step.command, answer, err, step.want)
			}
			value, _, err := there.Value("k")
			must(t, err)
			if value != step.value {
				t.Fatalf("after %q on node %d the other one has %q, want %q", step.command, i+1, value, step.value)
			}
		}
		if left := timeLeft(t, p.clients[0], "k"); left < 50*time.Second || left > 100*time.Second {
			t.Errorf("after touch k 100 the copies live %v", left)
		}
		if answer, err := here.Command("flush_all"); err != nil || answer != "OK" {
			t.Fatalf("flush_all: %q, %v", answer, err)
		}
		if _, found, err := there.Value("k"); err != nil || found {
			t.Fatalf("after flush_all on node %d the other one has the key: %v", i+1, err)
		}
	}
	// A node that joins empty gets everything.
	const keys = 2000
	for k := range keys {
		if answer, err := conns[k%2].Command("set key%d %d %d 5\r\n%05d", k, k, []int{0, 1000}[k%2], k); err != nil || answer != "STORED" {
			t.Fatalf("set: %q, %v", answer, err)
		}
	}
	for i := range p.nodes {
		p.nodes[i].sh("pkill -9 -x memcached")
		// The other node alone, and then both.
		if value, _, err := conns[1-i].Value("key77"); err != nil || value != "00077" {
			t.Fatalf("with node %d gone: %q, %v", i+1, value, err)
		}
		p.startMemcached(i)
		p.awaitWhole()
		direct := p.clients[0].connect(pairAddrs[i] + serverPort)
		other := p.clients[0].connect(pairAddrs[1-i] + serverPort)
		for k := range keys {
			key := fmt.Sprint("key", k)
			line := "mg " + key + " t f s v"
			got, want := answer(t, direct, line), answer(t, other, line)
			if want == "" || !sameButTime(got, want) {
				t.Fatalf("%s: the node that joined has %q, the other one %q", line, got, want)
			}
		}
	}
}
