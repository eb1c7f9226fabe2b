package proxy

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"magent/backend"
	"magent/proxy/protocol"
)

// What another proxy has to know, or the next run of this one, stands on the
// servers themselves, as two kinds of items:
//
//	__magent__:missed:<server>  on each of its twins: the keys that were
//	                            written there and that the server has missed
//	__magent__:life:<server>    on each of its twins: the life of the server
//	                            that holds what it should
//
// A record of missed keys is a first line, "magent1 <generation> open", or
// "lost" when the keys are too many, and then a line for each key. All proxies
// append to it. Who has made the server good replaces it by an empty one of
// the next generation, unless somebody has appended meanwhile.

const (
	recordMost   = 60 << 10 // bytes of keys; more are not kept
	recordFormat = "magent1"
)

func missedKey(server string) string { return backend.Prefix + "missed:" + server }
func lifeOfKey(server string) string { return backend.Prefix + "life:" + server }

// recordText is a record of missed keys as it is stored.
func recordText(generation uint64, lost bool, keys []string) string {
	state := "open"
	if lost {
		state, keys = "lost", nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %s\n", recordFormat, generation, state)
	for _, key := range keys {
		b.WriteString(key)
		b.WriteByte('\n')
	}
	return b.String()
}

// missedRecord is what was read of one.
type missedRecord struct {
	generation uint64
	lost       bool
	keys       [][]byte
}

// parseRecord reads a record. One that makes no sense counts as lost: then the
// server is flushed.
func parseRecord(text []byte) missedRecord {
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	words := strings.Fields(string(first))
	if len(words) != 3 || words[0] != recordFormat {
		return missedRecord{lost: true}
	}
	generation, err := strconv.ParseUint(words[1], 10, 63)
	if err != nil {
		return missedRecord{lost: true}
	}
	if words[2] != "open" {
		return missedRecord{generation: generation, lost: true}
	}
	rec := missedRecord{generation: generation}
	for len(rest) > 0 {
		var key []byte
		key, rest, _ = bytes.Cut(rest, []byte("\n"))
		if len(key) > 0 {
			rec.keys = append(rec.keys, key)
		}
	}
	return rec
}

// record is what this proxy knows of the record of one server on one of its
// twins.
type record struct {
	generation atomic.Uint64
	size       atomic.Int64 // bytes of keys that were noted

	mu     sync.Mutex
	mine   map[string]int // keys that this proxy has noted, and how often
	lost   bool           // this proxy has noted that there are too many
	merged uint64         // cas token of the record whose keys are in the journal
	marks  [2]uint64      // how far the journal was at the last two looks
	marked time.Time      // the last of them
}

// mark is how far the server's journal was when the record was looked at the
// time before last: what came until then has been noted for long.
func (r *record) mark() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.marks[0]
}

func (r *record) setMark(latest uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.marked) < recoveryCheck/2 {
		return
	}
	r.marked = time.Now()
	r.marks[0], r.marks[1] = r.marks[1], latest
}

// renew begins a new generation.
func (r *record) renew(generation uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.generation.Store(generation)
	r.size.Store(0)
	r.mine, r.lost, r.merged = nil, false, 0
}

func (r *record) noteMine(key []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mine == nil {
		r.mine = map[string]int{}
	}
	r.mine[string(key)]++
}

func (r *record) noteLost() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = true
}

// mineTimes is how often this proxy has noted a key.
func (r *record) mineTimes(key []byte) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mine[string(key)]
}

// allMine tells whether nobody else has noted anything.
func (r *record) allMine(held missedRecord) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if held.lost && !r.lost {
		return false
	}
	for _, key := range held.keys {
		if r.mine[string(key)] == 0 {
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

func (r *record) setMerged(token uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.merged = token
}

func (r *record) lostIsMine() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// notes are what one worker has told of a record: the first line, and the
// loss of all keys. Each worker tells both on its own connection.
type notes struct {
	generation uint64
	begun      bool
	lost       bool
}

// note tells other proxies that a server has missed a key. It goes to the twin
// that has got the write, or will get it behind the note.
func (w *worker) note(key []byte, server int32, how added, twin *backend.Conn) {
	if how == addedKnown || !twin.Sync().Serves() {
		return
	}
	at := int32(twin.Server.Index)
	rec := w.p.recovery.record(server, at)
	own := &w.notes[w.p.pair(server, at)]
	if generation := rec.generation.Load(); own.generation != generation {
		*own = notes{generation: generation}
	}
	if own.lost {
		return
	}
	name := missedKey(w.p.servers[server].Name())
	if how == addedLost || rec.size.Add(int64(len(key))+1) > recordMost {
		own.lost = true
		rec.noteLost()
		w.tell(twin, protocol.OpSet, name, recordText(own.generation, true, nil), nil)
		return
	}
	rec.noteMine(key)
	if !own.begun {
		own.begun = true
		w.tell(twin, protocol.OpAdd, name, recordText(own.generation, false, nil), nil)
	}
	w.tell(twin, protocol.OpAppend, name, string(key)+"\n", func() {
		// The record is gone: evicted, or flushed.
		own.lost = true
		rec.noteLost()
		w.tell(twin, protocol.OpSet, name, recordText(own.generation, true, nil), nil)
	})
}

// noteFlush tells other proxies which servers have missed a flush_all that has
// just been queued to the others, and writes anew what it removes.
func (w *worker) noteFlush() {
	if w.p.pools.backup == nil {
		return
	}
	for at, twin := range w.conns {
		if !twin.Sync().Serves() {
			continue
		}
		if at := w.p.recovery.flushAt.Load(); at > 0 {
			w.tell(twin, protocol.OpSet, flushKey, strconv.FormatInt(at, 10), nil)
		}
		if life, ok := twin.Server.Life(); ok {
			w.tell(twin, protocol.OpSet, backend.LifeKey, life.String(), nil)
		}
		for _, server := range w.p.recovery.twins[at] {
			if w.p.servers[server].Serves() {
				continue
			}
			rec := w.p.recovery.record(server, int32(at))
			rec.noteLost()
			w.tell(twin, protocol.OpSet, missedKey(w.p.servers[server].Name()), recordText(rec.generation.Load(), true, nil), nil)
		}
	}
}

// tell queues a storage command of magent's own. refused is called when the
// server answers anything but STORED to an append.
func (w *worker) tell(c *backend.Conn, op protocol.Op, key, value string, refused func()) {
	t := &telling{refused: refused}
	t.Owner = t
	t.Kind, t.Write = backend.Line, true
	t.Answers = protocol.AnswersTo(op)
	c.CloseGroup()
	b := c.Begin(len(key) + 96)
	c.End(protocol.AppendStorage(b, op, []byte(key), 0, 0, len(value), 0))
	c.Write([]byte(value))
	c.Write(lineEnd)
	c.Queue(&t.Call)
}

// telling is a command of magent's own whose answer hardly matters.
type telling struct {
	backend.Call
	refused func()
}

// Answered is told a line (backend.Receiver).
func (t *telling) Answered(_ []byte, kind protocol.Answer, _ uint64) {
	if kind != protocol.Stored && t.refused != nil {
		t.refused()
	}
}

// Found is never called (backend.Receiver).
func (t *telling) Found([]byte, *protocol.ValueHeader, bool) {}

// Missed is never called (backend.Receiver).
func (t *telling) Missed() {}

// SetHeader is never called (backend.Receiver).
func (t *telling) SetHeader(dst []byte, _ bool) []byte { return dst }

// SetValue is never called (backend.Receiver).
func (t *telling) SetValue() []byte { return nil }

// Uncertain is never called (backend.Receiver).
func (t *telling) Uncertain([]byte) {}
