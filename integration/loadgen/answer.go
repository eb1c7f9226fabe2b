package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// longestLine is the longest first line of an answer that is waited for.
const longestLine = 4096

// errUnreadable says that the bytes are no answer to the request, so that
// nothing after them can be trusted: the connection has to be closed.
var errUnreadable = errors.New("unreadable answer")

// counters are what the answers were.
type counters struct {
	operations   uint64
	keysAsked    uint64
	gets, sets   uint64
	hits, misses uint64
	errors       uint64
	wrong        uint64
	disconnects  uint64
	firstError   string
}

// fault keeps the first thing that went wrong, for the report.
func (c *counters) fault(format string, args ...any) {
	if c.firstError == "" {
		c.firstError = fmt.Sprintf(format, args...)
	}
}

var (
	lineEnd    = []byte("\r\n")
	endLine    = []byte("END\r\n")
	storedLine = []byte("STORED\r\n")
	valueWord  = []byte("VALUE ")
)

// answer reads from b as much of the answer to r as is there, and counts it.
// It says how many bytes it took and whether the answer is complete; nothing
// taken and not complete means that it needs more bytes. b is not kept.
func (w *workload) answer(r *request, b []byte, c *counters) (taken int, done bool, err error) {
	switch w.protocol {
	case meta:
		return w.metaAnswer(r, b, c)
	case binaryProtocol:
		return w.binaryAnswer(r, b, c)
	default:
		return w.textAnswer(r, b, c)
	}
}

func (w *workload) textAnswer(r *request, b []byte, c *counters) (taken int, done bool, err error) {
	if r.set {
		if bytes.HasPrefix(b, storedLine) {
			c.sets++
			return len(storedLine), true, nil
		}
		return w.otherLine(r, b, c)
	}
	if r.keys == 1 { // the common answer, compared in one go
		if w.isHit(r.first, b) && r.seen == 0 {
			c.gets++
			c.hits++
			return w.hitSize(), true, nil
		}
	}
	if bytes.HasPrefix(b, endLine) {
		c.gets++
		c.misses += uint64(r.keys - r.seen)
		return len(endLine), true, nil
	}
	if bytes.HasPrefix(b, valueWord) {
		taken, err = w.value(r, b, c)
		return taken, false, err
	}
	return w.otherLine(r, b, c)
}

// isHit reports whether b begins with the whole of the right answer to a get.
func (w *workload) isHit(k uint32, b []byte) bool {
	head, size := w.hit(k), w.hitSize()
	tail := size - len(w.hitTail)
	return len(b) >= size && bytes.HasPrefix(b, head) &&
		bytes.Equal(b[len(head):tail], w.filler) && bytes.Equal(b[tail:size], w.hitTail)
}

// isValue reports whether data is the value of key k.
func (w *workload) isValue(k uint32, data []byte) bool {
	return len(data) == w.valueSize && bytes.HasPrefix(data, w.key(k)) && bytes.Equal(data[keyLength:], w.filler)
}

// value reads one "VALUE key flags size\r\n<data>\r\n" of the answer to a get.
func (w *workload) value(r *request, b []byte, c *counters) (taken int, err error) {
	end := bytes.Index(b, lineEnd)
	if end < 0 {
		return 0, tooLong(b, c)
	}
	fields := bytes.Fields(b[len(valueWord):end])
	if len(fields) != 3 {
		return 0, unreadable(b[:end], c)
	}
	size, err := strconv.Atoi(string(fields[2]))
	if err != nil || size < 0 || size > w.valueSize+longestLine {
		return 0, unreadable(b[:end], c)
	}
	total := end + 2 + size + 2
	if len(b) < total {
		return 0, nil
	}
	data := b[end+2 : end+2+size]
	if !bytes.Equal(b[total-2:total], lineEnd) {
		return 0, unreadable(b[:end], c)
	}
	for i := r.seen; i < r.keys; i++ {
		key := w.key(r.first + i)
		if !bytes.Equal(fields[0], key) {
			continue
		}
		c.misses += uint64(i - r.seen)
		r.seen = i + 1
		w.countValue(r.first+i, data, c)
		return total, nil
	}
	c.wrong++
	c.fault("value of key %.60q, which was not asked for or comes out of order", fields[0])
	return total, nil
}

// countValue counts what was answered as the value of key k.
func (w *workload) countValue(k uint32, data []byte, c *counters) {
	if w.isValue(k, data) {
		c.hits++
		return
	}
	c.wrong++
	c.fault("value of %d bytes does not belong to key %s: %.60q", len(data), w.key(k), data)
}

// otherLine reads an answer of one line that is not the one hoped for.
func (w *workload) otherLine(r *request, b []byte, c *counters) (taken int, done bool, err error) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		return 0, false, tooLong(b, c)
	}
	line := bytes.TrimSuffix(b[:end], []byte("\r"))
	switch {
	case bytes.Equal(line, []byte("ERROR")),
		bytes.HasPrefix(line, []byte("CLIENT_ERROR")),
		bytes.HasPrefix(line, []byte("SERVER_ERROR")),
		r.set && w.protocol == classic && bytes.Equal(line, []byte("NOT_STORED")),
		r.set && w.protocol == meta && isMetaRefusal(line):
		c.errors++
		c.fault("answer to %s %s: %.80q", verb(r), w.key(r.first), line)
		return end + 1, true, nil
	}
	return 0, false, unreadable(line, c)
}

func verb(r *request) string {
	if r.set {
		return "set"
	}
	return "get"
}

func tooLong(b []byte, c *counters) error {
	if len(b) > longestLine {
		return unreadable(b, c)
	}
	return nil
}

func unreadable(b []byte, c *counters) error {
	c.wrong++
	c.fault("unreadable answer: %.80q", b)
	return errUnreadable
}
