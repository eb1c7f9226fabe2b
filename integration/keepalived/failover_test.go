package keepalived

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"magent/integration/harness"
)

const (
	failoverRounds = 3
	betweenGets    = 5 * time.Millisecond
	connectWithin  = 200 * time.Millisecond // of the measuring clients, and then they try again
	answerWithin   = time.Second
	calm           = 1500 * time.Millisecond // without a failed get: it is over
	settleWithin   = time.Minute
)

// event is something that goes wrong, or is done on purpose, with one machine.
type event struct {
	name    string
	classic string // what was measured with the C program in the guide's layout
	begin   func(s *site)
	mend    func(s *site)
	standby bool // needs a magent on both machines
}

// events in their order: failback mends what comes before it.
var events = []event{
	{name: "the address is moved on purpose", classic: "not possible", standby: true,
		begin: func(s *site) { s.master.sh("echo -20 > /etc/keepalived/move") },
		mend:  func(s *site) { s.master.sh("echo 0 > /etc/keepalived/move") }},
	{name: "TERM of keepalived", classic: "800 to 2,600 ms",
		begin: func(s *site) { s.master.sh("kill -TERM $(cat /run/keepalived.pid)") }},
	{name: "failback: keepalived is started again", classic: "not measured",
		begin: func(s *site) { s.master.startKeepalived() }},
	{name: "kill -9 of keepalived", classic: "4,500 to 5,000 ms",
		begin: func(s *site) { s.master.sh("pkill -9 -x keepalived") },
		mend: func(s *site) {
			s.master.sh("ip address delete " + vip + "/32 dev eth0; rm -f /run/keepalived*.pid /run/vrrp*.pid")
			s.master.startKeepalived()
		}},
	{name: "link down", classic: "about 10 s, then 3 s for every get",
		begin: func(s *site) { s.down(s.master) },
		mend:  func(s *site) { s.up(s.master) }},
	{name: "kill -9 of magent", classic: "400 to 1,000 ms",
		begin: func(s *site) { s.master.sh("pkill -9 -x magent") }},
	{name: "kill -9 of memcached", classic: "no failure",
		begin: func(s *site) { s.master.sh("pkill -9 -x memcached") },
		mend:  func(s *site) { s.master.memcached(masterAddr) }},
	{name: "SIGSTOP of memcached", classic: "never",
		begin: func(s *site) { s.master.sh("pkill -STOP -x memcached") },
		mend:  func(s *site) { s.master.sh("pkill -CONT -x memcached") }},
}

// watcher is a client that gets one key again and again.
type watcher struct {
	mu     sync.Mutex
	hits   []time.Time
	failed int
}

// run gets until stop is closed: by one connection as long as it works, or by a
// new one each time.
func (w *watcher) run(client *node, held bool, stop chan struct{}) {
	var c *harness.Client
	defer func() {
		if c != nil {
			_ = c.Close()
		}
	}()
	for {
		select {
		case <-stop:
			return
		case <-time.After(betweenGets):
		}
		if c == nil {
			conn, err := client.dial(vipPort, connectWithin)
			if err != nil {
				w.note(false)
				continue
			}
			c = harness.NewClient(conn)
			c.Timeout = answerWithin
		}
		value, _, err := c.Value("k")
		w.note(err == nil && value == "v")
		if err != nil || !held {
			_ = c.Close()
			c = nil
		}
	}
}

func (w *watcher) note(hit bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if hit {
		w.hits = append(w.hits, time.Now())
	} else {
		w.failed++
	}
}

// gap is the longest time without a hit that ended since a moment, and how many
// gets have failed; over tells whether all has been well for a while.
func (w *watcher) gap(since time.Time) (longest time.Duration, failed int, over bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.hits) == 0 {
		return 0, w.failed, false
	}
	last := w.hits[0]
	calmSince := last
	for _, at := range w.hits[1:] {
		if at.After(since) && at.Sub(last) > longest {
			longest, calmSince = at.Sub(last), at
		}
		last = at
	}
	now := time.Now()
	return longest, w.failed, now.Sub(last) < 100*time.Millisecond && now.Sub(calmSince) > calm && now.Sub(since) > 5*time.Second
}

// measured is one event's outcome for the two kinds of clients.
type measured struct {
	gaps   [2][]time.Duration // by a new connection each time, and by a held one
	failed [2]int
}

// settled waits until the address is on the master and both servers are up.
func (s *site) settled() {
	s.Helper()
	harness.Eventually(s, settleWithin, "all is well again", func() bool {
		if !s.master.has(vip) || s.backup.has(vip) {
			return false
		}
		conn, err := s.client.dial(vipPort, time.Second)
		if err != nil {
			return false
		}
		c := harness.NewClient(conn)
		defer func() { _ = c.Close() }()
		stats, err := c.Stats("servers")
		up := 0
		for name, value := range stats {
			if strings.HasSuffix(name, ":state") && value == "up" {
				up++
			}
		}
		return err == nil && up == 2
	})
}

// measure lets an event happen under both kinds of clients.
func (s *site) measure(e *event, m *measured) {
	s.Helper()
	stop := make(chan struct{})
	var clients [2]watcher
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() { clients[i].run(s.client, i == 1, stop) })
	}
	harness.Eventually(s, settleWithin, "the clients get their key", func() bool {
		for i := range clients {
			if _, _, over := clients[i].gap(time.Now().Add(-time.Hour)); !over {
				return false
			}
		}
		return true
	})
	before := [2]int{clients[0].failed, clients[1].failed}
	since := time.Now()
	e.begin(s)
	harness.Eventually(s, settleWithin, "the clients get their key after: "+e.name, func() bool {
		for i := range clients {
			if _, _, over := clients[i].gap(since); !over {
				return false
			}
		}
		return true
	})
	close(stop)
	running.Wait()
	for i := range clients {
		gap, failed, _ := clients[i].gap(since)
		m.gaps[i] = append(m.gaps[i], gap)
		m.failed[i] += failed - before[i]
	}
}

// BenchmarkFailover measures how long clients are without their key, for each
// kind of failure and each layout. MAGENT_FAILOVER_REPORT names the file for the
// table.
func BenchmarkFailover(b *testing.B) {
	layouts := []string{"guide", "hot-standby", "systemd"}
	results := map[string]map[string]*measured{}
	for _, layout := range layouts {
		results[layout] = map[string]*measured{}
		b.Run(layout, func(b *testing.B) {
			s := newDeployed(b, layout)
			for range failoverRounds {
				for i := range events {
					e := &events[i]
					if e.standby && layout == "guide" {
						continue
					}
					if !strings.HasPrefix(e.name, "failback") {
						s.settled()
					}
					if results[layout][e.name] == nil {
						results[layout][e.name] = &measured{}
					}
					s.measure(e, results[layout][e.name])
					if e.mend != nil {
						e.mend(s)
					}
				}
			}
		})
	}
	report := failoverReport(layouts, results)
	b.Log("\n" + report)
	if name := os.Getenv("MAGENT_FAILOVER_REPORT"); name != "" {
		must(b, os.WriteFile(name, []byte(report), 0o644))
	}
}

func failoverReport(layouts []string, results map[string]map[string]*measured) string {
	var r strings.Builder
	fmt.Fprintf(&r, `# How long clients are without their key

Two machines with keepalived and a client, in network namespaces of one machine,
with the configurations in deploy/keepalived. The client gets one key every
%v, by a new connection each time or by one that it holds; it waits %v for a
connection, %v for an answer, and then tries again. Each cell is the longest time
between two hits, the median and the worst of %d rounds, and how many gets failed
in all rounds together. Without any failure a cell is about %d ms.

The column of the C program is what was measured with magent 0.5 in the layout of
the guide, by a new connection for each get, on another day.

`, betweenGets, connectWithin, answerWithin, failoverRounds, betweenGets.Milliseconds()+1)
	for i, client := range []string{"A new connection for each get", "A held connection"} {
		fmt.Fprintf(&r, "## %s\n\n| event | the C program |", client)
		for _, layout := range layouts {
			fmt.Fprintf(&r, " %s |", layout)
		}
		fmt.Fprintf(&r, "\n|---|---|%s\n", strings.Repeat("---|", len(layouts)))
		for _, e := range events {
			classic := e.classic
			if i == 1 {
				classic = "may hang for ever"
				if !strings.Contains(e.name, "keepalived") && e.name != "link down" {
					classic = "not measured"
				}
			}
			fmt.Fprintf(&r, "| %s | %s |", e.name, classic)
			for _, layout := range layouts {
				m := results[layout][e.name]
				if m == nil {
					fmt.Fprint(&r, " |")
					continue
				}
				gaps := slices.Sorted(slices.Values(m.gaps[i]))
				fmt.Fprintf(&r, " %d, worst %d ms; %d failed |", gaps[len(gaps)/2].Milliseconds(), gaps[len(gaps)-1].Milliseconds(), m.failed[i])
			}
			fmt.Fprintln(&r)
		}
		fmt.Fprintln(&r)
	}
	return r.String()
}
