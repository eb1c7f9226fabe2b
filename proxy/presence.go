package proxy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"magent/backend"
	"magent/proxy/engine"
)

// The proxies that serve one server tell each other by an item on it: a line
// for each, "<name> <count> <silence> <out>". The count changes as long as the
// proxy lives, silence is how long no client has written through it, in
// milliseconds, and out are the servers that it cannot use, with commas, or "-".
// A "!" behind a server says that writes may still be under way there; see
// markLate.
//
// Only one proxy should see to a server: two that copy and flush in turn undo
// each other's work, and one whose clients write copies in order with that. So it
// is the one whose clients have written last; when those of several write, or
// of none, one that can use the server, and most of its twins; of these, the one whose name
// comes first. One
// whose clients have just stopped begins nothing until it is known where they are.
// An idle proxy looks at nothing but whether the servers answer, and when a
// client comes it first reads what the others have noted, as it does at its
// start.

const (
	proxiesKey  = backend.Prefix + "proxies"
	beatForget  = 30 * time.Second       // a line that has not changed for so long is taken out
	othersFor   = 3 * time.Second        // another proxy counts as present without a sign of it
	idleAfter   = time.Second            // without a write a proxy is idle
	sameMoment  = 500 * time.Millisecond // by which what is known of another one's clients may be late
	settleIn    = 500 * time.Millisecond // after its start a proxy waits to see who is there
	asleepAfter = 100 * time.Millisecond
	leftAfter   = 200 * time.Millisecond // without a write, the clients may be elsewhere
	leftFor     = 800 * time.Millisecond // until the others have told
	wakeUpLimit = 2 * time.Second        // until clients are served again, whatever the servers say
	longSilence = time.Minute            // a longer one is not told
)

// beat is the last sign of another proxy.
type beat struct {
	count   string
	wrote   time.Time // when a client wrote last
	out     []string  // servers that it cannot use
	late    []string  // those where writes may still be under way
	changed time.Time
	alive   bool // its count has changed; until then it may be the line of one that has died
}

// active tells whether it has clients that write.
func (b *beat) active(now time.Time) bool { return now.Sub(b.wrote) < idleAfter+sameMoment }

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
	told  map[int32]chan struct{} // servers on which announce has told of this one; closed when the others know
}

// parseBeat reads a line.
func parseBeat(line string, now time.Time) (name string, b beat, ok bool) {
	words := strings.Fields(line)
	if len(words) != 4 {
		return "", b, false
	}
	silence, err := strconv.ParseUint(words[2], 10, 31)
	if err != nil {
		return "", b, false
	}
	b.count, b.wrote, b.changed = words[1], now.Add(-time.Duration(silence)*time.Millisecond), now
	if words[3] != "-" {
		for name := range strings.SplitSeq(words[3], ",") {
			name, late := strings.CutSuffix(name, "!")
			b.out = append(b.out, name)
			if late {
				b.late = append(b.late, name)
			}
		}
	}
	return words[0], b, true
}

// noteBeat notes a line of another proxy, and tells whether it has died long
// ago.
func (p *presence) noteBeat(name string, at int32, b beat) (stale bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	place := beatPlace{name, at}
	last, known := p.beats[place]
	if !known || last.count != b.count {
		b.alive = known
		p.beats[place] = b
		return false
	}
	if b.changed.Sub(last.changed) > beatForget {
		delete(p.beats, place)
		return true
	}
	return false
}

// present returns the last sign of each other proxy that is there.
func (p *presence) present(now time.Time) map[string]beat {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[string]beat{}
	for place, b := range p.beats {
		if now.Sub(b.changed) > othersFor {
			continue
		}
		last, known := all[place.name]
		alive := last.alive || b.alive
		if !known || b.changed.After(last.changed) {
			last = b
		}
		last.alive = alive
		all[place.name] = last
	}
	return all
}

// alone tells whether no other proxy is there.
func (rc *recovery) alone() bool { return !rc.others.Load() }

// acts tells whether this proxy sees to a server.
func (rc *recovery) acts(server int32) bool {
	silence := time.Since(rc.lastWrite())
	left := silence > leftAfter && silence < leftFor && !rc.alone()
	return rc.care[server].acts.Load() && !left
}

// rival tells whether another proxy that has clients writes without a server.
func (rc *recovery) rival(server int32) bool { return rc.care[server].rival.Load() }

// late tells whether commands of another proxy may be under way to a server
// that this one has given up.
func (rc *recovery) late(server int32) bool { return rc.care[server].late.Load() }

// active tells whether clients have written lately.
func (rc *recovery) active() bool { return time.Since(rc.lastWrite()) < idleAfter }

func (rc *recovery) lastWrite() time.Time { return time.Unix(0, rc.wrote.Load()) }

// contender is a proxy that could see to a server.
type contender struct {
	name   string
	uses   int // the server: 0 if not, else 1 and one more for each of its twins that it can use too
	active bool
	wrote  time.Time
}

// before tells whether another proxy comes before this one. What it has told is
// late, so it was wrote that late at least.
func (c contender) before(own contender) bool {
	if c.active != own.active {
		return c.active
	}
	if since := c.wrote.Sub(own.wrote); c.active && (since > leftAfter || -since > sameMoment) {
		return since > 0
	}
	if c.uses != own.uses {
		return c.uses > own.uses
	}
	return cmp.Less(c.name, own.name)
}

// judge decides which servers this proxy sees to, and what it has to expect of
// the others.
func (rc *recovery) judge() {
	now := time.Now()
	present := rc.presence.present(now)
	rc.others.Store(len(present) > 0)
	clients := false
	for _, b := range present {
		clients = clients || b.active(now)
	}
	rc.elsewhere.Store(clients && !rc.active())
	some := false
	for server := range rc.care {
		some = rc.judgeFor(int32(server), now, present) || some
	}
	if rc.idle.Swap(!some) == some && (len(present) > 0 || rc.yielded.Load()) {
		rc.yielded.Store(!some)
		if some {
			rc.p.log.Info().Bool("others", len(present) > 0).Msg("this proxy mends the servers from now on")
		} else {
			rc.p.log.Info().Msg("another proxy mends the servers from now on; this one only serves")
		}
	}
	if some {
		rc.wake()
	}
}

func (rc *recovery) judgeFor(server int32, now time.Time, present map[string]beat) (acts bool) {
	s := rc.p.servers[server]
	own := contender{rc.presence.name, rc.usesOf(server, func(s *backend.Server) bool { return s.Serves() }), rc.active(), rc.lastWrite()}
	acts = own.active || now.Sub(rc.p.started) >= settleIn
	late := false
	for name, b := range present {
		uses := rc.usesOf(server, func(s *backend.Server) bool { return !slices.Contains(b.out, s.Name()) })
		if (contender{name, uses, b.active(now), b.wrote}).before(own) {
			acts = false
		}
		late = late || slices.Contains(b.late, s.Name())
	}
	rival := false
	for _, at := range rc.twins[server] {
		if !rc.p.servers[at].Serves() { // it tells nothing
			for _, b := range present {
				rival = rival || b.alive && b.active(now) && slices.Contains(b.out, s.Name())
			}
		}
		for name, m := range rc.record(server, at).marked() {
			b, there := present[name]
			rival = rival || there && m != markIn && b.alive && b.active(now)
			late = late || there && m == markLate
		}
	}
	c := &rc.care[server]
	c.acts.Store(acts)
	c.rival.Store(rival)
	c.late.Store(late)
	return acts
}

// usesOf is how well a proxy can see to a server that can use certain servers: without
// its twins it has nothing to copy to it.
func (rc *recovery) usesOf(server int32, can func(*backend.Server) bool) int {
	if !can(rc.p.servers[server]) {
		return 0
	}
	uses := 1
	for _, at := range rc.twins[server] {
		if can(rc.p.servers[at]) {
			uses++
		}
	}
	return uses
}

// beatLine is this proxy's own line.
func (rc *recovery) beatLine(now time.Time) string {
	var out []string
	for _, s := range rc.p.servers {
		switch rc.markOf(int32(s.Index)) {
		case markOut:
			out = append(out, s.Name())
		case markLate:
			out = append(out, s.Name()+"!")
		}
	}
	names := cmp.Or(strings.Join(out, ","), "-")
	silence := min(now.Sub(rc.lastWrite()), longSilence)
	return fmt.Sprintf("%s %d %d %s\n", rc.presence.name, now.UnixNano(), silence.Milliseconds(), names)
}

// hearBeats takes note of the other proxies' lines on a server, and returns
// those that are to stay.
func (rc *recovery) hearBeats(at int32, text []byte) (stay string) {
	now := time.Now()
	var kept strings.Builder
	for line := range strings.SplitSeq(string(text), "\n") {
		name, b, ok := parseBeat(line, now)
		if ok && name != rc.presence.name && !rc.presence.noteBeat(name, at, b) {
			kept.WriteString(line)
			kept.WriteByte('\n')
		}
	}
	return kept.String()
}

// beat tells the other proxies of this one, and takes note of them.
func (w *watcher) beat(held backend.Stored) error {
	text := w.rc.beatLine(time.Now()) + w.rc.hearBeats(w.at, held.Value)
	_, err := storeBeats(w.client, held, text) // another proxy may write at this moment: then the next time will do
	return err
}

// storeBeats replaces the lines that were held by others, if they still stand there.
func storeBeats(c *backend.Client, held backend.Stored, text string) (stored bool, err error) {
	if held.CAS == 0 {
		return c.Store("add", proxiesKey, text)
	}
	return c.Swap(proxiesKey, text, held.CAS)
}

// fallAsleep holds back the clients of this worker from now on when none has
// wrote for a moment and another proxy is there: what that one does until the
// next request has to be read first.
func (w *worker) fallAsleep() {
	if !w.asleep && !w.p.recovery.alone() && w.loop.Now()-max(w.asked, w.woken) > int64(asleepAfter) && !w.frozen {
		w.asleep = true
		w.p.recovery.awake.Add(-1)
	}
}

// wakeUp has the facts read that others have noted, if there are others, and
// then the clients served.
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
		rc.presence.awaitHeard()
		if !rc.alone() {
			rc.readAllFacts()
			rc.judge()
		}
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
