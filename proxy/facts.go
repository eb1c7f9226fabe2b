package proxy

import (
	"context"
	"maps"
	"strconv"
	"sync"
	"time"

	"magent/backend"
	"magent/proxy/engine"
)

// fact is what one server tells of another, for proxies to come.
type fact struct {
	known     bool // a life is told
	life      backend.Life
	whole     bool   // the server held what it should
	statement string // who says so, and when: another one each time
	lifeToken uint64

	noted  bool // there is a record of missed keys
	record missedRecord
	size   int // bytes of the record
	token  uint64

	empty bool       // the teller itself holds no client's item
	order flushOrder // see flushKey
}

// factOf makes a fact of what was read.
func factOf(server string, found map[string]backend.Stored) fact {
	var f fact
	if v, ok := found[lifeOfKey(server)]; ok {
		f.life, f.whole, f.statement, f.known = parseLifeText(string(v.Value))
		f.lifeToken = v.CAS
	}
	if v, ok := found[recordKey(server)]; ok {
		f.noted, f.token, f.size = true, v.CAS, len(v.Value)
		f.record = parseRecord(v.Value)
	}
	return f
}

// readFacts asks a twin what it knows of a server.
func (rc *recovery) readFacts(ctx context.Context, server, at int32) (fact, error) {
	c, err := rc.p.dial(ctx, at)
	if err != nil {
		return fact{}, err
	}
	defer c.Close()
	name := rc.p.servers[server].Name()
	keys := []string{backend.LifeKey, backend.LackingKey, proxiesKey, flushKey, lifeOfKey(name), recordKey(name)}
	for _, other := range rc.twins[at] {
		if other != server {
			keys = append(keys, lifeOfKey(rc.p.servers[other].Name()), recordKey(rc.p.servers[other].Name()))
		}
	}
	stats, err := c.Stats() // first: magent's own items may come at any time
	if err != nil {
		return fact{}, err
	}
	found, err := c.Gets(keys...)
	if err != nil {
		return fact{}, err
	}
	f := factOf(name, found)
	rc.hearBeats(at, found[proxiesKey].Value)
	rc.record(server, at).setMarked(rc.marksOfOthers(f))
	f.order = orderOf(found[flushKey])
	rc.hearOfFlush(f.order)
	items, err := strconv.Atoi(stats["curr_items"])
	f.empty = err == nil && items <= len(found)
	return f, nil
}

// readOwnFacts reads what a server that returns tells of its twins. While it could
// not be reached, another proxy may have written there without them: before a
// twin's copy of a key is taken for the right one, this has to be known. order is
// the last one to flush that the server holds.
func (rc *recovery) readOwnFacts(ctx context.Context, server int32) (order flushOrder, err error) {
	for _, twin := range rc.twins[server] {
		f, err := rc.readFacts(ctx, twin, server)
		if err != nil {
			return order, err
		}
		order = f.order
		rc.learn(twin, server, f, true)
	}
	return order, nil
}

// toldWithin is the time in which a proxy that lives tells when it has missed
// writes (keepTimes).
const toldWithin = 3 * recoveryCheck

// conflictFor is how long a server that has waited need not wait again.
const conflictFor = 10 * time.Second

// timesAreDue tells whether a server has to wait that returns: it and a twin have
// both missed writes of a key, of this proxy and of another one, and the later
// write counts. Times that are noted may be a little old at this moment.
func (rc *recovery) timesAreDue(server int32) bool {
	conflict := false
	for _, twin := range rc.twins[server] {
		conflict = conflict || rc.p.journals[server].shares(rc.p.journals[twin])
	}
	if !conflict || rc.alone() {
		rc.care[server].conflict.Store(0)
		return false
	}
	now := time.Now()
	since := now.Sub(time.Unix(0, rc.care[server].conflict.Load()))
	if since > conflictFor { // that was another time
		rc.care[server].conflict.Store(now.UnixNano())
		return true
	}
	return since < toldWithin
}

// learn is merge for a server that may be serving: it is not read for a key that
// has been entered before it has been mended.
func (rc *recovery) learn(server, at int32, f fact, anew bool) (news bool) {
	news = rc.merge(server, at, f, anew)
	if s := rc.p.servers[server]; news && !s.Miss() {
		s.Doubt("another proxy has made writes without it")
	}
	return news
}

// merge enters into a server's journal what other proxies have noted on one
// of its twins, when it is new. Whoever has noted a key once may have written
// it again since: so anew enters all of them, once if nobody can have done so since
// then, because what was made good would never come to an end. It returns true when it
// has entered anything.
func (rc *recovery) merge(server, at int32, f fact, anew bool) (news bool) {
	if !f.noted {
		return false
	}
	rec := rc.record(server, at)
	j := rc.p.journals[server]
	if f.record.generation > rec.generation.Load() {
		// Another proxy has made good what was noted before. What may not have
		// been noted yet when it did is kept.
		rec.renew(f.record.generation)
		rc.forgetRenewed(server, at)
		j.noteAgain()
	}
	// Who has said so once says it no more, whatever it misses.
	losses := f.record.lossesBut(rc.presence.name)
	last := f.record.lastBut(rc.presence.name)
	newer := losses > 0 && rec.follow(last)
	if rec.newLosses(losses) || newer || losses > 0 && anew && rc.rival(server) {
		now := unixMilliNow()
		if last == 0 || !f.record.allTimed(rc.presence.name) {
			last = now
		}
		j.loseNoted(at, min(last, now)) // its clock may be ahead
		news = true
	}
	times := map[string]int{}
	for _, key := range f.record.keys {
		times[key.name]++ // what others have noted too stands there more often
	}
	// What is new stands behind what was read before.
	known := rec.readKeys(len(f.record.keys))
	if rc.rival(server) || anew && rec.newAnew(f.token, rc.othersWriteWithout(f)) {
		known = 0
	}
	for _, key := range f.record.keys[known:] {
		if times[key.name] > rec.mineTimes(key.name) && (anew || rec.mergedToken() != f.token) {
			news = rc.enterNoted(server, key) || news
		}
	}
	if rec.mergedToken() != f.token {
		rc.compareUncertain(server, f.record.uncertain)
	}
	rec.setMerged(f.token)
	return news
}

// othersWriteWithout tells whether another proxy that may live says in a record that it
// does not use the server.
func (rc *recovery) othersWriteWithout(f fact) bool {
	present := rc.presence.present(time.Now())
	for name, m := range rc.marksOfOthers(f) {
		if _, there := present[name]; there && m != markIn {
			return true
		}
	}
	return false
}

// enterNoted enters a key that another proxy has noted, and tells whether the
// server has to get it from its twin.
func (rc *recovery) enterNoted(server int32, key missedKey) bool {
	name := []byte(key.name)
	rc.p.journals[server].addNoted(name, key.at)
	rc.p.bothMissed(name)
	_, missed := rc.p.journals[server].find(name)
	return missed
}

// forgetRenewed takes out of a server's journal what another proxy has made good
// that has begun a new generation of a record.
func (rc *recovery) forgetRenewed(server, at int32) {
	rec := rc.record(server, at)
	rec.renewed.Store(rec.notedUntil())
	j := rc.p.journals[server]
	lost := j.lost()
	j.forgetUntil(rec.renewed.Load(), at)
	if lost && !j.lost() {
		rc.readAnew(server)
	}
}

// readAnew has all records of a server read once more: what was read while its
// keys were not known is not in its journal.
func (rc *recovery) readAnew(server int32) {
	for _, at := range rc.twins[server] {
		rec := rc.record(server, at)
		rec.setMerged(0)
		rec.readKeys(0)
	}
}

// compareUncertain has keys compared of which another proxy does not know
// whether a server got their writes. If the server is out here as well, its twin
// decides.
func (rc *recovery) compareUncertain(server int32, keys []string) {
	for _, key := range keys {
		if rc.p.servers[server].Miss() || !rc.p.servers[server].HasMeta() {
			rc.enterNoted(server, missedKey{key, 0})
			continue
		}
		w := rc.p.workers[stripeOf(rc.p.leases.hash([]byte(key)))%uint32(len(rc.p.workers))]
		w.loop.Post(engine.TaskFunc(func() { w.lookLater([]byte(key), false) }))
	}
}

// marksOfOthers are the marks of a record but this proxy's own.
func (rc *recovery) marksOfOthers(f fact) map[string]mark {
	others := maps.Clone(f.record.marks)
	delete(others, rc.presence.name)
	return others
}

// readAllFacts reads what other proxies have noted of every server.
func (rc *recovery) readAllFacts() {
	ctx, cancel := context.WithTimeout(context.Background(), wakeUpLimit)
	defer cancel()
	var all sync.WaitGroup
	for server := range rc.twins {
		for _, at := range rc.twins[server] {
			if !rc.p.servers[at].Serves() {
				continue
			}
			all.Go(func() {
				f, err := rc.readFacts(ctx, int32(server), at)
				if err != nil {
					return
				}
				rc.learn(int32(server), at, f, true)
				rc.believe(int32(server), at, f)
			})
		}
	}
	all.Wait()
}
