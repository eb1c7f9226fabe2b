package main

import (
	"bytes"
	"fmt"
	"strconv"
)

// prepareMeta is prepareText for meta commands: those with which a client
// library does the same as with get and set (protocol.txt, "Meta Commands").
func (w *workload) prepareMeta(key string) {
	w.getLine = fmt.Appendf(w.getLine, "mg %s v f\r\n", key)
	w.setHead = fmt.Appendf(w.setHead, "ms %s %d F0 T0\r\n%s", key, w.valueSize, key)
	w.setTail = []byte("\r\n")
	w.hitHead = fmt.Appendf(w.hitHead, "VA %d f0\r\n%s", w.valueSize, key)
	w.hitTail = []byte("\r\n")
}

var (
	metaDone = []byte("HD\r\n")
	metaMiss = []byte("EN\r\n")
	metaWord = []byte("VA ")
)

// metaAnswer is answer for meta commands.
func (w *workload) metaAnswer(r *request, b []byte, c *counters) (taken int, done bool, err error) {
	switch {
	case r.set && bytes.HasPrefix(b, metaDone):
		c.sets++
		return len(metaDone), true, nil
	case !r.set && w.isHit(r.first, b):
		c.gets++
		c.hits++
		return w.hitSize(), true, nil
	case !r.set && bytes.HasPrefix(b, metaMiss):
		c.gets++
		c.misses++
		return len(metaMiss), true, nil
	case !r.set && bytes.HasPrefix(b, metaWord):
		return w.metaValue(r, b, c)
	}
	return w.otherLine(r, b, c)
}

// metaValue reads "VA size flags\r\n<data>\r\n".
func (w *workload) metaValue(r *request, b []byte, c *counters) (taken int, done bool, err error) {
	end := bytes.Index(b, lineEnd)
	if end < 0 {
		return 0, false, tooLong(b, c)
	}
	fields := bytes.Fields(b[len(metaWord):end])
	if len(fields) == 0 {
		return 0, false, unreadable(b[:end], c)
	}
	size, err := strconv.Atoi(string(fields[0]))
	if err != nil || size < 0 || size > w.valueSize+longestLine {
		return 0, false, unreadable(b[:end], c)
	}
	total := end + 2 + size + 2
	if len(b) < total {
		return 0, false, nil
	}
	if !bytes.Equal(b[total-2:total], lineEnd) {
		return 0, false, unreadable(b[:end], c)
	}
	c.gets++
	if len(fields) != 2 || string(fields[1]) != "f0" {
		c.wrong++
		c.fault("answer to get %s with other flags: %.80q", w.key(r.first), b[:end])
		return total, true, nil
	}
	w.countValue(r.first, b[end+2:end+2+size], c)
	return total, true, nil
}

// isMetaRefusal reports whether a line says that a set was not done.
func isMetaRefusal(line []byte) bool {
	return bytes.Equal(line, []byte("NS")) || bytes.Equal(line, []byte("EX")) || bytes.Equal(line, []byte("NF"))
}
