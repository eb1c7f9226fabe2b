package proxy

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"magent/backend"
	"magent/proxy/protocol"
)

// What another proxy has to know of a server's keys, or the next run of this one,
// stands on the servers themselves, as two kinds of items (others are in
// presence.go, recovery.go and package backend):
//
//	__magent__:missed:<server>  on each of its twins: the keys that were
//	                            written there and that the server has missed
//	__magent__:life:<server>    on each of its twins: the life of the server
//	                            that holds what it should
//
// A record of missed keys is a first line, "magent1 <generation> open", and then
// a line for each key: its name and the time, by which it shows what came later
// when both servers of a key have missed writes of it. All proxies append to it.
// Who has made the server good replaces it by an empty one of the next
// generation, unless somebody has appended meanwhile.
//
// Between the keys stand marks, lines of a space, the name of a proxy, a space,
// and what is so with that proxy from there on; see mark.

const (
	recordMost   = 60 << 10 // bytes of keys; more are not kept
	recordFormat = "magent1"
)

func recordKey(server string) string { return backend.Prefix + "missed:" + server }
func lifeOfKey(server string) string { return backend.Prefix + "life:" + server }

// missedKey is a key in a record, a line of its name and the time at which the
// server missed it, in Unix milliseconds; see entry.at.
type missedKey struct {
	name string
	at   int64
}

func (k missedKey) text() string {
	return nameOf(k.name) + " " + strconv.FormatInt(k.at, 10) + "\n"
}

// nameOf is a key as it stands in a record: one that is not fit for a line is
// base64-encoded behind a NUL, which no other key holds.
func nameOf(key string) string {
	if protocol.IsTextKey([]byte(key)) {
		return key
	}
	return "\x00" + base64.StdEncoding.EncodeToString([]byte(key))
}

// keyOf is the key of a name in a record.
func keyOf(name string) (key string, ok bool) {
	encoded, ok := strings.CutPrefix(name, "\x00")
	if !ok {
		return name, name != ""
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	return string(raw), err == nil && len(raw) > 0
}

// parseMissedKey reads a line.
func parseMissedKey(line []byte) (k missedKey, ok bool) {
	name, number, ok := strings.Cut(string(line), " ")
	at, err := strconv.ParseUint(number, 10, 63)
	key, whole := keyOf(name)
	return missedKey{key, int64(at)}, ok && whole && err == nil
}

// recordText is a record of missed keys as it is stored.
func recordText(generation uint64, keys []missedKey) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d open\n", recordFormat, generation)
	for _, key := range keys {
		b.WriteString(key.text())
	}
	return b.String()
}

// mark is what a proxy says of itself in the record of a server.
type mark string

const (
	markIn    mark = "in"    // it uses the server, which is what others take for granted
	markOut   mark = "out"   // it writes without the server
	markLate  mark = "late"  // and what it has sent there before may still be run
	markLost  mark = "lost"  // it has missed more keys than it has noted; what is so otherwise stays so
	markFlush mark = "flush" // it is about to flush the server
)

// markUncertain begins a mark that is followed by a key: the proxy has given up
// a write of it, which the server may have got or may get yet.
const markUncertain = "?"

// markMissed begins a mark that is followed by a time, in Unix milliseconds: the
// proxy, which has missed more than it has noted, has last missed a key then.
const markMissed = "missed@"

// missedText is such a mark.
func missedText(name string, at int64) string {
	return markText(name, mark(markMissed+strconv.FormatInt(at, 10)))
}

// markText is a mark as it is appended to a record.
func markText(name string, m mark) string { return " " + name + " " + string(m) + "\n" }

// missedRecord is what was read of one.
type missedRecord struct {
	generation uint64
	keys       []missedKey
	uncertain  []string         // keys of which nobody knows whether the server got their writes
	marks      map[string]mark  // the last one of each proxy
	losses     map[string]int   // how often each has said that it has missed more; "-" for what makes no sense
	last       map[string]int64 // when each of these has last missed a key, Unix milliseconds
}

// lost tells whether more was missed than is known.
func (m *missedRecord) lost() bool { return len(m.losses) > 0 }

func (m *missedRecord) lose(name string) {
	if m.losses == nil {
		m.losses = map[string]int{}
	}
	m.losses[name]++
}

// lossesBut is how often others than a proxy have said that they missed more.
func (m *missedRecord) lossesBut(name string) int {
	n := 0
	for who, times := range m.losses {
		if who != name {
			n += times
		}
	}
	return n
}

// lastBut is when another one of the proxies that miss more than they name has last
// missed a key, in Unix milliseconds; 0 if that is not told.
func (m *missedRecord) lastBut(name string) (last int64) {
	for who, at := range m.last {
		if who != name {
			last = max(last, at)
		}
	}
	return last
}

// allTimed tells whether all others that miss more than they name have told when.
func (m *missedRecord) allTimed(name string) bool {
	for who := range m.losses {
		if _, timed := m.last[who]; !timed && who != name {
			return false
		}
	}
	return true
}

// mark takes a mark's line.
func (m *missedRecord) mark(line []byte) {
	name, said, ok := strings.Cut(string(line[1:]), " ")
	named, uncertain := strings.CutPrefix(said, markUncertain)
	key, whole := keyOf(named)
	number, timed := strings.CutPrefix(said, markMissed)
	at, err := strconv.ParseUint(number, 10, 63)
	switch {
	case timed && err == nil && name != "":
		if m.last == nil {
			m.last = map[string]int64{}
		}
		m.last[name] = max(m.last[name], int64(at))
	case timed:
		m.lose("-")
	case !ok, uncertain && !whole, name == "", said == "", strings.Contains(said, " "):
		m.lose("-")
	case mark(said) == markLost:
		m.lose(name)
	case uncertain:
		m.uncertain = append(m.uncertain, key)
	default:
		if m.marks == nil {
			m.marks = map[string]mark{}
		}
		m.marks[name] = mark(said)
	}
}

// text is the record with one mark of each proxy.
func (m *missedRecord) text() string {
	var b strings.Builder
	uncertain := 0
	for _, key := range m.uncertain {
		uncertain += len(key)
	}
	if tooMany := sizeOf(m.keys)+uncertain > recordMost; tooMany || m.lost() {
		b.WriteString(recordText(m.generation, nil))
		for name := range m.losses {
			b.WriteString(markText(name, markLost)) // once will do: the times tell of others
		}
		if !m.lost() {
			b.WriteString(markText("-", markLost))
		}
		for name, at := range m.last {
			b.WriteString(missedText(name, at))
		}
	} else {
		b.WriteString(recordText(m.generation, m.keys))
		for _, key := range m.uncertain {
			b.WriteString(markText("-", mark(markUncertain+nameOf(key))))
		}
	}
	for name, last := range m.marks {
		b.WriteString(markText(name, last))
	}
	return b.String()
}

// parseRecord reads a record. One that makes no sense counts as lost: then the
// server is flushed.
func parseRecord(text []byte) missedRecord {
	var rec missedRecord
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	words := strings.Fields(string(first))
	if len(words) != 3 || words[0] != recordFormat || words[2] != "open" {
		rec.lose("-")
		return rec
	}
	generation, err := strconv.ParseUint(words[1], 10, 63)
	if err != nil {
		rec.lose("-")
		return rec
	}
	rec.generation = generation
	for len(rest) > 0 {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		switch {
		case len(line) == 0:
		case line[0] == ' ':
			rec.mark(line)
		default:
			if key, ok := parseMissedKey(line); ok {
				rec.keys = append(rec.keys, key)
			} else {
				rec.lose("-")
			}
		}
	}
	if rec.lost() {
		rec.keys, rec.uncertain = nil, nil
	} else {
		rec.last = nil // it tells of losses, and there are none
	}
	return rec
}

// record is what this proxy knows of the record of one server on one of its
// twins.
type record struct {
	generation atomic.Uint64
	size       atomic.Int64  // bytes of keys that were noted
	renewed    atomic.Uint64 // how far the journal was known to be noted when the generation began
	kept       atomic.Bool   // something that this proxy has noted stands in it
	missed     atomic.Int64  // when this proxy has last missed a key, Unix milliseconds
	told       atomic.Int64  // the same as others were told it; see markMissed
	followed   atomic.Int64  // when others had last missed keys that are not known and are in the journal

	mu     sync.Mutex
	mine   map[string]int  // keys that this proxy has noted, and how often
	read   int             // keys of it that were read
	losses int             // what others have said of keys that are not known, and is in the journal
	merged uint64          // cas token of the record whose keys are in the journal
	anew   uint64          // the same when all of them were entered anew, 0 if more may have come since
	marks  map[string]mark // of other proxies
	again  bool            // what this proxy has noted has to be noted once more
	seen   [2]uint64       // how far the journal was at the last two looks
	looked time.Time       // the last of them
}

// notedUntil is how far the server's journal was when the record was looked at
// the time before last: what came until then has been noted for long.
func (r *record) notedUntil() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[0]
}

func (r *record) setLooked(latest uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.looked) < recoveryCheck/2 {
		return
	}
	r.looked = time.Now()
	r.seen[0], r.seen[1] = r.seen[1], latest
}

// setMarked notes what the proxies say of themselves.
func (r *record) setMarked(marks map[string]mark) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marks = marks
}

// marked is what the proxies said of themselves last. It must not be changed.
func (r *record) marked() map[string]mark {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.marks
}

// noteAgain has all that this proxy has missed noted once more.
func (r *record) noteAgain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.again = true
}

// takeAgain tells whether all keys have to be noted once more, and takes that
// as done.
func (r *record) takeAgain() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	again := r.again
	r.again = false
	return again
}

// renew begins a new generation.
func (r *record) renew(generation uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.generation.Store(generation)
	r.size.Store(0)
	r.kept.Store(false)
	r.mine, r.losses, r.merged, r.again, r.read = nil, 0, 0, true, 0
	r.followed.Store(0)
}

// hand is what the next program has to know of the record.
func (r *record) hand() handedRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	return handedRecord{r.generation.Load(), r.size.Load(), r.kept.Load(), maps.Clone(r.mine)}
}

// adopt takes over what the program before knew.
func (r *record) adopt(known handedRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.generation.Store(known.Generation)
	r.size.Store(known.Size)
	r.kept.Store(known.Kept)
	r.mine, r.again = known.Mine, true
}

// miss notes when this proxy has missed a key.
func (r *record) miss(at int64) { raise(&r.missed, at) }

// missedSince tells when this proxy has last missed a key, if others have to be told
// that now: a moment after they were told last, or at once.
func (r *record) missedSince(atOnce bool) (at int64, tell bool) {
	at = r.missed.Load()
	told := r.told.Load()
	return at, at > told && (atOnce || unixMilliNow()-told >= recoveryCheck.Milliseconds())
}

// tellMissed notes that others are told that.
func (r *record) tellMissed(at int64) { raise(&r.told, at) }

// follow takes it that what others have missed until a time is known, and tells whether
// that is news.
func (r *record) follow(at int64) bool { return raise(&r.followed, at) }

// raise makes a number at least as large, and tells whether it was smaller.
func raise(n *atomic.Int64, to int64) bool {
	for {
		switch now := n.Load(); {
		case now >= to:
			return false
		case n.CompareAndSwap(now, to):
			return true
		}
	}
}

func (r *record) noteMine(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mine == nil {
		r.mine = map[string]int{}
	}
	r.mine[key]++
}

// readKeys notes how many keys the record has, and returns how many it had when it
// was read before, 0 when it is shorter now.
func (r *record) readKeys(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.read
	r.read = n
	if before > n {
		return 0
	}
	return before
}

// tells tells whether the record named keys when it was read last.
func (r *record) tells() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.read > 0
}

// newLosses tells whether others have said more often that keys are not known,
// and takes that as known.
func (r *record) newLosses(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	news := n > r.losses
	r.losses = n
	return news
}

// mineTimes is how often this proxy has noted a key.
func (r *record) mineTimes(key string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mine[key]
}

// allMine tells whether nobody else has noted anything.
func (r *record) allMine(held missedRecord, name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if held.lossesBut(name) > 0 {
		return false
	}
	for _, key := range held.keys {
		if r.mine[key.name] == 0 {
			return false
		}
	}
	return true
}

func (r *record) mergedToken() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.merged
}

// newAnew tells whether a key of the record may have been missed since all of them were
// entered anew, and takes it that they are entered now. others says that another proxy
// writes without the server, which notes no key twice.
func (r *record) newAnew(token uint64, others bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	news := others || r.anew != token || r.merged != token
	r.anew = token
	if others {
		r.anew = 0
	}
	return news
}

func (r *record) setMerged(token uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.merged = token
}
