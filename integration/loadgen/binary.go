package main

import (
	"bytes"
	"encoding/binary"
)

// What is used of the binary protocol (protocol_binary.txt).
const (
	binaryRequest  = 0x80
	binaryResponse = 0x81
	binaryGet      = 0x00
	binarySet      = 0x01

	binaryHeader = 24
	binaryFlags  = 4 // the extras of the answer to a get
	setExtras    = 8 // flags and expiry

	statusOK       = 0
	statusNotFound = 1

	// In the header of an answer.
	statusAt = 6
	bodyAt   = 8
	opaqueAt = 12
	casAt    = 16
)

// prepareBinary is prepareText for the binary protocol. The opaque of a request
// is the number of its key.
func (w *workload) prepareBinary(key string, k uint32) {
	w.getLine = appendHeader(w.getLine, binaryRequest, binaryGet, len(key), 0, len(key), k)
	w.getLine = append(w.getLine, key...)
	w.setHead = appendHeader(w.setHead, binaryRequest, binarySet, len(key), setExtras, setExtras+len(key)+w.valueSize, k)
	w.setHead = append(w.setHead, make([]byte, setExtras)...)
	w.setHead = append(append(w.setHead, key...), key...)
	w.hitHead = appendHeader(w.hitHead, binaryResponse, binaryGet, 0, binaryFlags, binaryFlags+w.valueSize, k)
	w.hitHead = append(w.hitHead, make([]byte, binaryFlags)...)
	w.hitHead = append(w.hitHead, key...)
}

// appendHeader appends a header, with the status 0 if it is an answer.
func appendHeader(dst []byte, magic, opcode byte, key, extras, body int, opaque uint32) []byte {
	dst = append(dst, magic, opcode)
	dst = binary.BigEndian.AppendUint16(dst, uint16(key))
	dst = append(dst, byte(extras), 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(body))
	dst = binary.BigEndian.AppendUint32(dst, opaque)
	return binary.BigEndian.AppendUint64(dst, 0)
}

// binaryAnswer is answer for the binary protocol. The cas token of an answer
// may be any.
func (w *workload) binaryAnswer(r *request, b []byte, c *counters) (taken int, done bool, err error) {
	head, size := w.hit(r.first), w.hitSize()
	if !r.set && len(b) >= size && bytes.Equal(b[:casAt], head[:casAt]) &&
		bytes.Equal(b[binaryHeader:len(head)], head[binaryHeader:]) && bytes.Equal(b[len(head):size], w.filler) {
		c.gets++
		c.hits++
		return size, true, nil
	}
	if len(b) < binaryHeader {
		return 0, false, nil
	}
	opcode := byte(binaryGet)
	if r.set {
		opcode = binarySet
	}
	key, extras := int(binary.BigEndian.Uint16(b[2:])), int(b[4])
	body := int64(binary.BigEndian.Uint32(b[bodyAt:]))
	if b[0] != binaryResponse || b[1] != opcode || binary.BigEndian.Uint32(b[opaqueAt:]) != r.first ||
		body < int64(key+extras) || body > int64(w.valueSize+longestLine) {
		return 0, false, unreadable(b[:binaryHeader], c)
	}
	total := binaryHeader + int(body)
	if len(b) < total {
		return 0, false, nil
	}
	data := b[binaryHeader+key+extras : total]
	switch status := binary.BigEndian.Uint16(b[statusAt:]); {
	case status == statusNotFound && !r.set:
		c.gets++
		c.misses++
	case status != statusOK:
		c.errors++
		c.fault("answer to %s %s: status 0x%04x %.80q", verb(r), w.key(r.first), status, data)
	case r.set && body == 0:
		c.sets++
	case !r.set && key == 0 && extras == binaryFlags:
		c.gets++
		if !bytes.Equal(b[binaryHeader:binaryHeader+binaryFlags], make([]byte, binaryFlags)) {
			c.wrong++
			c.fault("answer to get %s with other flags: % x", w.key(r.first), b[binaryHeader:binaryHeader+binaryFlags])
			break
		}
		w.countValue(r.first, data, c)
	default:
		return 0, false, unreadable(b[:binaryHeader], c)
	}
	return total, true, nil
}
