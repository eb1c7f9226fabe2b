package proxy

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"magent/backend"
)

// A proxy that knows of no other copies in order with its own clients' writes and minds
// nobody else's. So one that begins tells the others first that it is there, and serves
// no client before they know: from then on they copy with care.

const (
	heardWithin = 2 * recoveryCheck // in which a proxy that lives has looked
	lineTries   = 10
	leaveLimit  = time.Second // in which a proxy that ends takes its line away
)

// announce tells the other proxies of this one on a server that is about to serve,
// once, and has clients wait until they have taken note. When that fails the server's
// watcher tells them soon.
func (rc *recovery) announce(server int32) {
	p := &rc.presence
	p.mu.Lock()
	_, told := p.told[server]
	p.mu.Unlock()
	if told || len(rc.twins[server]) == 0 {
		return
	}
	c, err := rc.p.dial(context.Background(), server)
	if err != nil {
		return
	}
	others, ok := rc.putLine(c, server)
	if !ok {
		c.Close()
		return
	}
	heard := make(chan struct{})
	p.mu.Lock()
	p.told[server] = heard
	p.mu.Unlock()
	rc.p.wg.Go(func() {
		defer close(heard)
		defer c.Close()
		if len(others) > 0 {
			awaitBeats(c, others)
			time.Sleep(settleTime) // what they had begun to copy is there then
		}
	})
}

// putLine puts this proxy's line on a server, and returns the counts of the others
// there that may live, by their names: none if the line was there already.
func (rc *recovery) putLine(c *backend.Client, server int32) (others map[string]string, ok bool) {
	for range lineTries {
		found, err := c.Gets(proxiesKey)
		if err != nil {
			return nil, false
		}
		held := found[proxiesKey]
		others = countsOf(held.Value)
		if _, known := others[rc.presence.name]; known {
			return nil, true // the program before an upgrade has told
		}
		if stored, err := storeBeats(c, held, rc.beatLine(time.Now())+rc.hearBeats(server, held.Value)); stored || err != nil {
			forgotten := time.Now().Add(-beatForget).UnixNano() // by their clocks, which are about like this one
			maps.DeleteFunc(others, func(_, count string) bool {
				at, err := strconv.ParseInt(count, 10, 64)
				return err == nil && at < forgotten
			})
			return others, stored
		}
	}
	return nil, false
}

// leave takes this proxy's line from the servers, so that nobody waits for it who
// begins. It is called when nothing else of this proxy is under way any more.
func (rc *recovery) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
	defer cancel()
	var all sync.WaitGroup
	for server, s := range rc.p.servers {
		if s.Serves() && len(rc.twins[server]) > 0 {
			all.Go(func() { rc.takeLine(ctx, int32(server)) })
		}
	}
	all.Wait()
}

func (rc *recovery) takeLine(ctx context.Context, server int32) {
	c, err := rc.p.dial(ctx, server)
	if err != nil {
		return
	}
	defer c.Close()
	for range lineTries {
		found, err := c.Gets(proxiesKey)
		held := found[proxiesKey]
		if _, there := countsOf(held.Value)[rc.presence.name]; err != nil || !there {
			return
		}
		if stored, err := storeBeats(c, held, rc.hearBeats(server, held.Value)); stored || err != nil {
			return
		}
	}
}

// awaitBeats waits until every other proxy has changed its line. It has read this
// one's by then, because it puts its line there with the token of what it has read. One
// that does not within a while has died.
func awaitBeats(c *backend.Client, others map[string]string) {
	for begin := time.Now(); time.Since(begin) < heardWithin; time.Sleep(noteWait) {
		found, err := c.Gets(proxiesKey)
		if err != nil {
			return
		}
		counts := countsOf(found[proxiesKey].Value)
		maps.DeleteFunc(others, func(name, count string) bool { return counts[name] != count })
		if len(others) == 0 {
			return
		}
	}
}

// countsOf are the counts of the proxies whose lines stand on a server.
func countsOf(text []byte) map[string]string {
	counts := map[string]string{}
	for line := range strings.SplitSeq(string(text), "\n") {
		if name, b, ok := parseBeat(line, time.Time{}); ok {
			counts[name] = b.count
		}
	}
	return counts
}

// awaitHeard waits until the others have taken note of this proxy.
func (p *presence) awaitHeard() {
	p.mu.Lock()
	told := slices.Collect(maps.Values(p.told))
	p.mu.Unlock()
	limit := time.After(wakeUpLimit)
	for _, heard := range told {
		select {
		case <-heard:
		case <-limit:
			return
		}
	}
}
