package proxy

import (
	"context"
	"errors"
	"time"

	"magent/backend"
)

// watcher looks at one server again and again: it keeps magent's own items
// there, and reads what other proxies have noted.
type watcher struct {
	rc     *recovery
	at     int32
	client *backend.Client
	late   int // looks in a row that were not answered in time

	missedOrder flushOrder // that the server held at the last look, behind its time; see unflushed
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
	if !s.Serves() {
		w.close()
		for _, server := range rc.twins[w.at] {
			rc.record(server, w.at).setMarked(nil) // what it told last may not be so any more
		}
		return
	}
	if w.client == nil {
		c, err := rc.p.dial(ctx, w.at)
		if err != nil {
			s.Check() // without requests of clients nobody else would see that it is gone
			return
		}
		w.client = c
		if err := w.sameLife(); err != nil {
			w.close()
			w.answered(err)
			return
		}
	}
	keys := []string{backend.LifeKey, backend.LackingKey, proxiesKey, flushKey}
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
		err = w.keepFlush(found)
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

// unclearAtOnce is how many keys in doubt a record has at most.
const unclearAtOnce = 200

// timesAtOnce is how many keys are told once more in one look.
const timesAtOnce = 500

// lookAlone is look for a server without twins, on which nothing is noted: does
// it answer?
func (w *watcher) lookAlone(ctx context.Context) {
	s := w.rc.p.servers[w.at]
	if !s.Serves() {
		w.close()
		return
	}
	if w.client == nil {
		c, err := w.rc.p.dial(ctx, w.at)
		if err != nil {
			s.Check()
			return
		}
		w.client = c
	}
	_, err := w.client.Ask("version\r\n")
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

// keep sees to what this server tells of another.
func (w *watcher) keep(server int32, f fact) error {
	rc := w.rc
	j := rc.p.journals[server]
	rec := rc.record(server, w.at)
	defer func() { rec.setLooked(j.latest()) }()
	rec.setMarked(rc.marksOfOthers(f))
	if !f.noted {
		rec.setMerged(0)
		rec.readKeys(0)
	}
	rc.judge()
	if err := w.keepLifeOf(server, f); err != nil {
		return err
	}
	if done, err := w.keepMarks(server, f); done || err != nil {
		rc.lookSoon(w.at)
		return err
	}
	if !rc.acts(server) {
		if w.forget(server, f) {
			if f.noted && !j.hasUntold() {
				_, err := w.keepTimes(server, f)
				return err
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
		if rc.learn(server, w.at, f, false) {
			rc.wake()
		}
		if j.empty() && (len(f.record.keys) > 0 || f.record.lost()) {
			rc.lookSoon(w.at) // and begin the next generation
		}
		return nil
	}
	if done, err := w.keepTimes(server, f); done || err != nil {
		return err
	}
	return w.retire(server, f)
}

// keepMarks sees to it that the record tells what is so with this proxy, and
// which keys have to be compared. It returns true when it has changed something.
func (w *watcher) keepMarks(server int32, f fact) (done bool, err error) {
	rc := w.rc
	name := recordKey(rc.p.servers[server].Name())
	text := ""
	// First when the last key was missed that is not named: with the mark that the server
	// is used again nobody expects more.
	m := rc.markOf(server)
	last, marked := f.record.marks[rc.presence.name]
	changed := marked && last != m || !marked && m == markLate
	rec := rc.record(server, w.at)
	missed, tell := rec.missedSince(changed)
	if tell = tell && f.record.losses[rc.presence.name] > 0; tell {
		text = missedText(rc.presence.name, missed)
	}
	if changed {
		text += markText(rc.presence.name, m)
	}
	// Others compare them, and begin a new record, before they are told more.
	unclear := rc.takeUnclear(server, unclearAtOnce-len(f.record.uncertain))
	for _, key := range unclear {
		text += markText(rc.presence.name, mark(markUncertain+nameOf(key)))
	}
	stored := false
	defer func() {
		switch {
		case stored && tell:
			rec.tellMissed(missed)
		case !stored:
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
	return changed || len(unclear) > 0 || f.size > 2*recordMost, err
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
	if lost {
		until, ofThese := j.lostOf(w.at)
		lost = ofThese && until > rec.renewed.Load()
	}
	if f.noted && !again || len(keys) == 0 && !lost {
		return !f.noted, nil
	}
	text := ""
	if lost || sizeOf(keys) > recordMost {
		last := max(j.lastMissed(), rec.missed.Load()) // the program before an upgrade had records of its own
		text = markText(rc.presence.name, markLost) + missedText(rc.presence.name, last)
	} else {
		for _, key := range keys {
			rec.noteMine(key.name)
			text += key.text()
		}
	}
	stored := false
	if !f.noted {
		stored, err = w.client.Store("add", name, recordText(rec.generation.Load(), nil)+text)
	} else {
		stored, err = w.client.Store("append", name, text)
	}
	if stored {
		j.setNoted(keys)
	} else {
		rec.noteAgain()
	}
	return true, err
}

// keepTimes tells once more when keys were missed that have been missed again
// since: another proxy that has written them too compares the times. It leaves
// room for keys that are not noted yet.
func (w *watcher) keepTimes(server int32, f fact) (done bool, err error) {
	if !f.noted || f.record.lost() || f.size > recordMost/2 {
		return false, nil
	}
	text := ""
	rec := w.rc.record(server, w.at)
	keys := w.rc.p.journals[server].outdated(w.at, timesAtOnce)
	for _, key := range keys {
		rec.noteMine(key.name)
		text += key.text()
	}
	if text == "" {
		return false, nil
	}
	stored, err := w.client.Store("append", recordKey(w.rc.p.servers[server].Name()), text)
	if stored {
		w.rc.p.journals[server].setTold(keys)
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
	rec := rc.record(server, w.at)
	if (len(f.record.keys) == 0 && len(f.record.uncertain) == 0 && !f.record.lost()) || !rc.retires(server) {
		return nil
	}
	if rc.rival(server) && !rec.allMine(f.record, rc.presence.name) {
		return nil // who has noted them may miss more, and note no key twice
	}
	generation := max(f.record.generation+1, uint64(time.Now().UnixNano()))
	swapped, err := w.client.Swap(recordKey(rc.p.servers[server].Name()), recordText(generation, nil), f.token)
	if swapped {
		rec.renew(generation)
	}
	return err
}

// retires tells whether this proxy begins new records of a server: it has missed nothing
// that has not been made good.
func (rc *recovery) retires(server int32) bool {
	return rc.p.journals[server].empty() && rc.p.servers[server].Serves() && rc.acts(server) && !rc.late(server)
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
	if !rc.p.journals[server].hasUntold() {
		rec.takeAgain() // it wakes up before it misses more
	}
	if f.noted && !f.record.lost() {
		rc.forgetReplayed(server, w.at, f.record)
	}
	rec.setMerged(0)
	rec.newLosses(0)
	rec.readKeys(0)
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
	for _, key := range held.uncertain {
		noted[key] = true
	}
	lost := j.lost()
	j.dropGood(rc.record(server, at).notedUntil(), at, func(key string) bool { return !noted[key] })
	if lost && !j.lost() {
		rc.readAnew(server)
	}
}
