package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
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

	empty bool // the teller itself holds no client's item
}

// lifeText is what this proxy says of a server, as it is stored.
func (rc *recovery) lifeText(life backend.Life, whole bool) string {
	state := "lacking"
	if whole {
		state = "whole"
	}
	return fmt.Sprintf("%s %s %s %d", life, state, rc.presence.name, time.Now().UnixNano())
}

func parseLifeText(text string) (life backend.Life, whole bool, statement string, ok bool) {
	words := strings.Fields(text)
	if len(words) != 4 {
		return life, false, "", false
	}
	life, ok = backend.ParseLife(words[0])
	return life, words[1] == "whole", words[2] + " " + words[3], ok
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
	if at, err := strconv.ParseInt(string(found[flushKey].Value), 10, 64); err == nil && at > time.Now().Unix() {
		rc.flushAt.CompareAndSwap(0, at)
	}
	items, err := strconv.Atoi(stats["curr_items"])
	f.empty = err == nil && items <= len(found)
	return f, nil
}

// merge enters into a server's journal what other proxies have noted on one
// of its twins, when it is new. Whoever has noted a key once may have written
// it again since: so anew enters all of them. It returns true when it has
// entered anything.
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
	if rec.newLosses(losses) || losses > 0 && anew && rc.rival(server) {
		j.loseNoted()
		news = true
	}
	times := map[string]int{}
	for _, key := range f.record.keys {
		times[key.name]++ // what others have noted too stands there more often
	}
	for _, key := range f.record.keys {
		if times[key.name] > rec.mineTimes(key.name) && (anew || rec.mergedToken() != f.token) {
			news = rc.enterNoted(server, at, key) || news
		}
	}
	if rec.mergedToken() != f.token {
		rc.compareUncertain(server, f.record.uncertain)
	}
	rec.setMerged(f.token)
	return news
}

// enterNoted enters a key that another proxy has noted on a twin. Both of them
// may have missed writes of it, one after the other: then the one that missed
// the last one gets it from the other.
func (rc *recovery) enterNoted(server, at int32, key missedKey) bool {
	name := []byte(key.name)
	if primary, backup := rc.p.pools.find(name); (primary == at || backup == at) && key.at != 0 {
		if later, missed := rc.p.journals[at].missedAt(name); missed && later > key.at {
			return false
		}
		rc.p.journals[at].dropOlder(name, key.at)
	}
	rc.p.journals[server].addNoted(name, key.at)
	return true
}

// forgetRenewed takes out of a server's journal what another proxy has made good
// that has begun a new generation of a record. Keys that are not known any more
// count as made good when all records are new.
func (rc *recovery) forgetRenewed(server, at int32) {
	rec := rc.record(server, at)
	rec.renewed.Store(rec.notedUntil())
	all := rec.renewed.Load()
	for _, twin := range rc.twins[server] {
		if rc.p.servers[twin].Serves() {
			all = min(all, rc.record(server, twin).renewed.Load())
		}
	}
	rc.p.journals[server].forgetUntil(rec.renewed.Load(), all, func(key string) bool {
		primary, backup := rc.p.pools.find([]byte(key))
		return primary == at || backup == at
	})
}

// compareUncertain has keys compared of which another proxy does not know
// whether a server got their writes. If the server is out here as well, its twin
// decides.
func (rc *recovery) compareUncertain(server int32, keys []string) {
	for _, key := range keys {
		if rc.p.servers[server].Miss() || !rc.p.servers[server].HasMeta() {
			rc.p.journals[server].addNoted([]byte(key), 0)
			continue
		}
		w := rc.p.workers[stripeOf(rc.p.leases.hash([]byte(key)))%uint32(len(rc.p.workers))]
		w.loop.Post(engine.TaskFunc(func() { w.lookLater([]byte(key), false) }))
	}
}

// watcher looks at one server again and again: it keeps magent's own items
// there, and reads what other proxies have noted.
type watcher struct {
	rc     *recovery
	at     int32
	client *backend.Client
	late   int // looks in a row that were not answered in time
}

func (w *watcher) close() {
	if w.client != nil {
		w.client.Close()
		w.client = nil
	}
}

// look does so once. What fails is left to the next time.
func (w *watcher) look(ctx context.Context) {
	rc := w.rc
	s := rc.p.servers[w.at]
	if len(rc.twins[w.at]) == 0 || !s.Serves() {
		w.close()
		for _, server := range rc.twins[w.at] {
			rc.record(server, w.at).setMarked(nil) // what it told last may not be so any more
		}
		return
	}
	if w.client == nil {
		c, err := rc.p.dial(ctx, w.at)
		if err != nil {
			return
		}
		w.client = c
		if err := w.sameLife(); err != nil {
			w.close()
			w.answered(err)
			return
		}
	}
	keys := []string{backend.LifeKey, backend.LackingKey, proxiesKey}
	for _, server := range rc.twins[w.at] {
		name := rc.p.servers[server].Name()
		keys = append(keys, lifeOfKey(name), recordKey(name))
	}
	found, err := w.client.Gets(keys...)
	if err == nil {
		err = w.keepLife(found)
	}
	if err == nil {
		err = w.keepLacking(found)
	}
	if err == nil {
		err = w.beat(found[proxiesKey])
	}
	for _, server := range rc.twins[w.at] {
		if err == nil {
			err = w.keep(server, factOf(rc.p.servers[server].Name(), found))
		}
	}
	if err != nil {
		w.close()
	}
	w.answered(err)
}

// mostLate is how many looks in a row a server may leave unanswered.
const mostLate = 2

// answered takes a server out that does not answer. Without requests of clients
// nobody else would see that it hangs.
func (w *watcher) answered(err error) {
	if !errors.Is(err, backend.ErrTimeout) {
		w.late = 0
		return
	}
	if w.late++; w.late >= mostLate {
		w.late = 0
		w.rc.p.servers[w.at].TakeOut(false, err.Error())
	}
}

// sameLife asks a new connection's server for its life. One that was started
// anew is taken out, and comes back through its prober.
func (w *watcher) sameLife() error {
	s := w.rc.p.servers[w.at]
	life, err := w.client.Life()
	if err != nil {
		return err
	}
	if known, ok := s.Life(); !ok || life != known {
		s.TakeOut(false, backend.ErrNewLife.Error())
		return backend.ErrNewLife
	}
	return nil
}

// keepLife writes the note of the server's own life anew when it is gone.
func (w *watcher) keepLife(found map[string]backend.Stored) error {
	if _, ok := found[backend.LifeKey]; ok {
		return nil
	}
	life, ok := w.rc.p.servers[w.at].Life()
	if !ok || !w.rc.p.servers[w.at].Serves() || !w.rc.acts(w.at) {
		return nil
	}
	_, err := w.client.Store("add", backend.LifeKey, life.String())
	return err
}

// keepLacking has the server itself tell whether it lacks keys.
func (w *watcher) keepLacking(found map[string]backend.Stored) error {
	_, told := found[backend.LackingKey]
	s := w.rc.p.servers[w.at]
	life, ok := s.Life()
	lacks := w.rc.lacks(w.at)
	if lacks == told || !ok || !s.Serves() || !w.rc.acts(w.at) {
		return nil
	}
	if lacks {
		_, err := w.client.Store("set", backend.LackingKey, life.String())
		return err
	}
	_, err := w.client.Ask("delete %s\r\n", backend.LackingKey)
	return err
}

// marksOfOthers are the marks of a record but this proxy's own.
func (rc *recovery) marksOfOthers(f fact) map[string]mark {
	others := maps.Clone(f.record.marks)
	delete(others, rc.presence.name)
	return others
}

// keep sees to what this server tells of another.
func (w *watcher) keep(server int32, f fact) error {
	rc := w.rc
	s := rc.p.servers[server]
	j := rc.p.journals[server]
	rec := rc.record(server, w.at)
	defer func() { rec.setLooked(j.latest()) }()
	rec.setMarked(rc.marksOfOthers(f))
	if !f.noted {
		rec.setMerged(0)
	}
	rc.judge()
	if err := w.keepLifeOf(server, f); err != nil {
		return err
	}
	if done, err := w.keepMarks(server, f); done || err != nil {
		return err
	}
	if !rc.acts(server) {
		if w.forget(server, f) {
			if f.noted {
				return nil
			}
			_, err := w.keepNoted(server, f)
			return err
		}
		if f.noted && !f.record.lost() {
			rc.forgetReplayed(server, w.at, f.record)
		}
	}
	if done, err := w.keepNoted(server, f); done || err != nil {
		return err
	}
	if rec.mergedToken() != f.token {
		if rc.merge(server, w.at, f, false) {
			if !s.Miss() {
				s.Doubt("another proxy has made writes without it")
			}
			rc.wake()
		}
		return nil
	}
	return w.retire(server, f)
}

// keepMarks sees to it that the record tells what is so with this proxy, and
// which keys have to be compared. It returns true when it has changed something.
func (w *watcher) keepMarks(server int32, f fact) (done bool, err error) {
	rc := w.rc
	name := recordKey(rc.p.servers[server].Name())
	text := ""
	m := rc.markOf(server)
	if last, marked := f.record.marks[rc.presence.name]; marked && last != m || !marked && m == markLate {
		text = markText(rc.presence.name, m)
	}
	unclear := rc.takeUnclear(server)
	for _, key := range unclear {
		text += markText(rc.presence.name, mark(markUncertain+key))
	}
	stored := false
	defer func() {
		if !stored {
			for _, key := range unclear {
				rc.unclear(server, []byte(key))
			}
		}
	}()
	switch {
	case text == "" && f.size <= 2*recordMost:
		return false, nil
	case !f.noted:
		stored, err = w.client.Store("add", name, recordText(rc.record(server, w.at).generation.Load(), nil)+text)
	case f.size <= 2*recordMost:
		stored, err = w.client.Store("append", name, text)
	default: // the marks are too many: the last ones do
		stored, err = w.client.Swap(name, f.record.text()+text, f.token)
	}
	return true, err
}

// keepNoted sees to it that the record tells what this proxy has missed. It
// returns true when it has changed something, or when there is no record.
func (w *watcher) keepNoted(server int32, f fact) (done bool, err error) {
	rc := w.rc
	j := rc.p.journals[server]
	rec := rc.record(server, w.at)
	name := recordKey(rc.p.servers[server].Name())
	again := rec.takeAgain()
	keys, lost := j.missed(f.noted) // it was evicted, or flushed, if there is none
	if f.noted && !again || len(keys) == 0 && !lost || lost && j.latest() <= rec.renewed.Load() {
		return !f.noted, nil
	}
	text := ""
	if lost || sizeOf(keys) > recordMost {
		text = markText(rc.presence.name, markLost)
	} else {
		for _, key := range keys {
			rec.noteMine(key.name)
			text += key.text()
		}
	}
	if !f.noted {
		_, err = w.client.Store("add", name, recordText(rec.generation.Load(), nil)+text)
	} else {
		_, err = w.client.Store("append", name, text)
	}
	return true, err
}

// sizeOf is how many bytes of a record keys take.
func sizeOf(keys []missedKey) int {
	size := 0
	for _, key := range keys {
		size += len(key.text())
	}
	return size
}

// retire begins the next generation of a record when all that it tells of has
// been made good.
func (w *watcher) retire(server int32, f fact) error {
	rc := w.rc
	s := rc.p.servers[server]
	rec := rc.record(server, w.at)
	if (len(f.record.keys) == 0 && len(f.record.uncertain) == 0 && !f.record.lost()) || !rc.p.journals[server].empty() || !s.Serves() || !rc.acts(server) || rc.late(server) {
		return nil
	}
	if rc.rival(server) && !rec.allMine(f.record, rc.presence.name) {
		return nil // who has noted them may miss more, and note no key twice
	}
	generation := max(f.record.generation+1, uint64(time.Now().UnixNano()))
	swapped, err := w.client.Swap(recordKey(s.Name()), recordText(generation, nil), f.token)
	if swapped {
		rec.renew(generation)
	}
	return err
}

// forget takes out of a server's journal what the active proxy replays: before
// this one serves a client it reads all of it once more. It returns false when
// it does serve clients.
func (w *watcher) forget(server int32, f fact) bool {
	rc := w.rc
	rc.forgetting.Lock()
	defer rc.forgetting.Unlock()
	if rc.awake.Load() > 0 {
		return false
	}
	rec := rc.record(server, w.at)
	if f.noted && f.record.generation > rec.generation.Load() {
		rc.merge(server, w.at, fact{noted: true, record: missedRecord{generation: f.record.generation}}, false)
	}
	rc.p.journals[server].forgetForeign()
	rec.takeAgain() // it wakes up before it misses more
	if f.noted && !f.record.lost() {
		rc.forgetReplayed(server, w.at, f.record)
	}
	rec.setMerged(0)
	return true
}

// forgetReplayed takes out of a server's journal what this proxy has noted on a
// twin long ago and what does not stand there any more: another proxy has made
// it good.
func (rc *recovery) forgetReplayed(server, at int32, held missedRecord) {
	j := rc.p.journals[server]
	if j.empty() {
		return
	}
	noted := map[string]bool{}
	for _, key := range held.keys {
		noted[key.name] = true
	}
	j.drop(rc.record(server, at).notedUntil(), len(rc.twins[server]) == 1, func(key string) bool {
		primary, backup := rc.p.pools.find([]byte(key))
		return (primary == at || backup == at) && !noted[key]
	})
}

// believe takes over that another proxy has found a server, in the life that
// this one knows, to lack keys: once for each time that it says so.
func (rc *recovery) believe(server, at int32, f fact) {
	s := rc.p.servers[server]
	life, ok := s.Life()
	if !ok || !f.known || !rc.told[rc.p.pair(server, at)].news(f.statement) {
		return
	}
	if f.whole || f.life != life || rc.isOwn(f.statement) {
		return
	}
	rc.setLacks(server, true)
	rc.resyncs[server].again()
	s.Doubt("another proxy has found that it lacks keys")
}

// isOwn tells whether a statement is this proxy's.
func (rc *recovery) isOwn(statement string) bool {
	return strings.HasPrefix(statement, rc.presence.name+" ")
}

// keepLifeOf tells which life of a server holds what it should.
func (w *watcher) keepLifeOf(server int32, f fact) error {
	rc := w.rc
	s := rc.p.servers[server]
	life, ok := s.Life()
	if !ok || !s.Serves() {
		return nil
	}
	rc.believe(server, w.at, f)
	whole := !rc.lacks(server)
	same := f.known && f.life == life
	stale := rc.told[rc.p.pair(server, w.at)].isStale(f.statement)
	switch {
	case same && f.whole && !whole && !stale && (!rc.resyncs[server].forced.Load() || !rc.acts(server)):
		rc.setLacks(server, false) // another proxy has seen to it
		return nil
	case same && f.whole == whole, f.known && !same && f.life.Start > life.Start, !rc.acts(server):
		return nil
	}
	// What another proxy says meanwhile is believed first.
	var err error
	if text := rc.lifeText(life, whole); f.lifeToken == 0 {
		_, err = w.client.Store("add", lifeOfKey(s.Name()), text)
	} else {
		_, err = w.client.Swap(lifeOfKey(s.Name()), text, f.lifeToken)
	}
	return err
}
