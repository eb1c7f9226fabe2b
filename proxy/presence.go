package proxy

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"magent/backend"
	"magent/proxy/engine"
)

// The proxies that serve one server tell each other by an item on it: a line
// for each, "<name> <count> active" or "idle". The count changes as long as
// the proxy lives. An active one has had requests of clients lately.
//
// Only one proxy should see to the servers: two that copy and flush in turn
// undo each other's work. It is the active one; when all are idle, the one
// whose name comes first. An idle proxy looks at nothing but whether the
// servers answer, and when a client comes it first reads what the others have
// noted, as it does at its start.

const (
	proxiesKey  = backend.Prefix + "proxies"
	beatForget  = 30 * time.Second       // a line that has not changed for so long is taken out
	othersFor   = 3 * time.Second        // another proxy counts as present without a sign of it
	idleAfter   = time.Second            // without a request a proxy is idle
	settleIn    = 500 * time.Millisecond // after its start a proxy waits to see who is there
	asleepAfter = 100 * time.Millisecond
	wakeUpLimit = 2 * time.Second // until clients are served again, whatever the servers say
)

// beat is the last sign of another proxy.
type beat struct {
	count   string
	active  bool
	changed time.Time
	alive   bool // its count has changed; until then it may be the line of one that has died
}

// beatPlace is where it was seen: each server has a line of its own.
type beatPlace struct {
	name string
	at   int32
}

// presence is what a proxy knows of the others.
type presence struct {
	name string // tells it from others

	mu    sync.Mutex
	beats map[beatPlace]beat
}

// alone tells whether no other proxy is there.
func (rc *recovery) alone() bool { return !rc.others.Load() }

// acts tells whether this proxy sees to the servers.
func (rc *recovery) acts() bool { return !rc.yields.Load() || rc.active() }

// noteBeat notes a line of another proxy.
func (p *presence) noteBeat(name string, at int32, count string, active bool, now time.Time) (stale bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	place := beatPlace{name, at}
	last, known := p.beats[place]
	if !known || last.count != count {
		p.beats[place] = beat{count: count, active: active, changed: now, alive: known}
		return false
	}
	if now.Sub(last.changed) > beatForget {
		delete(p.beats, place)
		return true
	}
	return false
}

// look tells whether others are present, whether one of them is active, whether
// that one is certainly alive, and whether this proxy's name comes first.
func (p *presence) look(now time.Time) (others, active, rival, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first = true
	for place, b := range p.beats {
		if now.Sub(b.changed) > othersFor {
			continue
		}
		others = true
		active = active || b.active
		rival = rival || b.active && b.alive
		first = first && p.name < place.name
	}
	return others, active, rival, first
}

// active tells whether clients have asked for keys lately.
func (rc *recovery) active() bool {
	return time.Since(time.Unix(0, rc.asked.Load())) < idleAfter
}

// judge decides who sees to the servers.
func (rc *recovery) judge() {
	others, active, rival, first := rc.presence.look(time.Now())
	own := rc.active()
	rc.others.Store(others)
	rc.rival.Store(rival)
	yields := others && !own && (active || !first) || !own && time.Since(rc.p.started) < settleIn
	if rc.yields.Swap(yields) != yields && (others || rc.yielded.Load()) {
		rc.yielded.Store(yields)
		if yields {
			rc.p.log.Info().Msg("another proxy sees to the servers; this one is idle")
		} else {
			rc.p.log.Info().Bool("others", others).Msg("this proxy sees to the servers")
		}
	}
	if !yields {
		rc.wake()
	}
}

// beat tells the other proxies of this one, and takes note of them.
func (w *watcher) beat(held backend.Stored) error {
	rc := w.rc
	now := time.Now()
	state := "idle"
	if rc.active() {
		state = "active"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s %d %s\n", rc.presence.name, now.UnixNano(), state)
	for line := range strings.SplitSeq(string(held.Value), "\n") {
		words := strings.Fields(line)
		if len(words) != 3 || words[0] == rc.presence.name {
			continue
		}
		if !rc.presence.noteBeat(words[0], w.at, words[1], words[2] == "active", now) {
			text.WriteString(line)
			text.WriteByte('\n')
		}
	}
	// Another proxy may write at this moment: then the next time will do.
	var err error
	if held.CAS == 0 {
		_, err = w.client.Store("add", proxiesKey, text.String())
	} else {
		_, err = w.client.Swap(proxiesKey, text.String(), held.CAS)
	}
	return err
}

// fallAsleep holds back the clients of this worker from now on when none has
// asked for a moment and another proxy is there: what that one does until the
// next request has to be read first.
func (w *worker) fallAsleep() {
	if !w.asleep && !w.p.recovery.alone() && w.loop.Now()-max(w.asked, w.woken) > int64(asleepAfter) && !w.frozen {
		w.asleep = true
		w.p.recovery.awake.Add(-1)
	}
}

// wakeUp has the facts read that others have noted, and then the clients
// served.
func (w *worker) wakeUp() {
	if w.waking {
		return
	}
	w.waking = true
	rc := w.p.recovery
	w.p.wg.Go(func() {
		rc.forgetting.Lock() // what is read now is not forgotten as long as clients are served
		rc.awake.Add(1)
		rc.forgetting.Unlock()
		rc.readAllFacts()
		rc.judge()
		w.loop.Post(engine.TaskFunc(w.awake))
	})
}

// awake goes on with the clients.
func (w *worker) awake() {
	w.asleep, w.waking = false, false
	w.woken = w.loop.Now()
	if w.drainLater {
		w.drainLater = false
		w.drain()
	}
	w.sessions.Each((*session).wake)
}
