package protocol

import (
	"bytes"
	"math"
)

// Item is what a server tells of an item in the answer to AppendMetaGet,
// AppendMetaLook or AppendMetaArith.
type Item struct {
	Size  int    // bytes of the value, without its "\r\n"; below 2 GiB
	Flags uint32 // client flags
	// TTL is how many seconds the item has left, -1 for ever. 0 is the last
	// second; written as an expiry it would mean for ever. More than 30 days
	// have to be written as a point in time (protocol.txt, "Expiration times").
	TTL int64
	CAS uint64
	Len int // bytes of the header line with its line end; 0 from ParseLook
	ItemMarks
}

// ItemMarks are what a server tells of an item besides (protocol.txt, "Meta
// Get").
type ItemMarks struct {
	Base64 bool // the key was stored base64-encoded
	Stale  bool // X: it was invalidated, or stored with an old token
	Sent   bool // Z: somebody has been told to fetch it anew
	Won    bool // W: whoever gets this answer has been told so
}

// ParseItem reads "VA <size> f<flags> t<ttl> c<cas>\r\n" at the start of in.
// Only when it returns Complete it is changed. The value of it.Size bytes and
// its "\r\n" follow behind it.Len bytes; the caller compares it.Size with its
// own limit before it makes room, and checks that "\r\n". Input that does not
// start with VA, as "EN\r\n", is Malformed.
//
// The flags may be in any order and have others among them. An answer with
// none of them has Flags 0, TTL -1 and CAS 0, and that to AppendMetaArith has
// the CAS only; one with some others of them is Malformed, so that no expiry is
// lost unseen.
func ParseItem(in []byte, it *Item) Status {
	const prefix = "VA "
	if len(in) <= len(prefix) {
		if string(in) == prefix[:len(in)] {
			return Incomplete
		}
		return Malformed
	}
	if string(in[:len(prefix)]) != prefix {
		return Malformed
	}
	window := in
	if len(window) > maxMetaHeader {
		window = window[:maxMetaHeader]
	}
	eol := bytes.IndexByte(window, '\n')
	if eol < 0 {
		if len(in) >= maxMetaHeader {
			return Malformed
		}
		return Incomplete
	}
	if in[eol-1] != '\r' {
		return Malformed
	}
	line := in[:eol-1]
	size, i, ok := answerNumber(line, len(prefix))
	if !ok || i == len(prefix) || size > math.MaxInt32 || (i < len(line) && line[i] != ' ') {
		return Malformed
	}
	got := Item{TTL: -1, Len: eol + 1}
	seen, ok := got.readFlags(line[i:])
	const all = sawFlags | sawTTL | sawCAS
	if !ok || (seen&^sawCAS&all != 0 && seen&all != all) {
		return Malformed
	}
	got.Size = int(size) // over that of a flag s
	*it = got
	return Complete
}

// ParseMetaValue reads "VA <size> <flags>*\r\n" at the start of in, and leaves
// the flags to the caller. Only when it returns Complete the others have a
// meaning: the value of size bytes, below 2 GiB, and its "\r\n" follow behind
// length bytes.
func ParseMetaValue(in []byte) (size, length int, status Status) {
	const prefix = "VA "
	if len(in) <= len(prefix) {
		if string(in) == prefix[:len(in)] {
			return 0, 0, Incomplete
		}
		return 0, 0, Malformed
	}
	if string(in[:len(prefix)]) != prefix {
		return 0, 0, Malformed
	}
	window := in
	if len(window) > maxMetaHeader {
		window = window[:maxMetaHeader]
	}
	eol := bytes.IndexByte(window, '\n')
	if eol < 0 {
		if len(in) >= maxMetaHeader {
			return 0, 0, Malformed
		}
		return 0, 0, Incomplete
	}
	if in[eol-1] != '\r' {
		return 0, 0, Malformed
	}
	line := in[:eol-1]
	n, i, ok := answerNumber(line, len(prefix))
	if !ok || i == len(prefix) || n > math.MaxInt32 || (i < len(line) && line[i] != ' ') {
		return 0, 0, Malformed
	}
	return int(n), eol + 1, Complete
}

// ParseLook reads the answer to AppendMetaLook, "HD s<size> f<flags> t<ttl>
// c<cas>", from a line without its line end. The flags may be in any order and
// have others among them. When it returns false the line is no such answer and
// it is as it was.
func ParseLook(line []byte, it *Item) bool {
	const prefix = "HD "
	if len(line) < len(prefix) || len(line) > maxValueHeader || string(line[:len(prefix)]) != prefix {
		return false
	}
	got := Item{TTL: -1}
	seen, ok := got.readFlags(line[len(prefix):])
	if !ok || seen != sawSize|sawFlags|sawTTL|sawCAS {
		return false
	}
	*it = got
	return true
}

// ParseTouch reads the answer to AppendMetaTouch without a value, "HD f<flags>
// c<cas>", from a line without its line end.
func ParseTouch(line []byte, it *Item) bool {
	const prefix = "HD "
	if len(line) < len(prefix) || string(line[:len(prefix)]) != prefix {
		return false
	}
	got := Item{TTL: -1}
	seen, ok := got.readFlags(line[len(prefix):])
	if !ok || seen != sawFlags|sawCAS {
		return false
	}
	*it = got
	return true
}

// TokenOf is the cas token that the line of a meta answer tells, "VA" or "HD"
// and flags, without its line end; 0 when it tells none.
func TokenOf(line []byte) uint64 {
	var it Item
	if len(line) > len("HD ") {
		_, _ = it.readFlags(line[len("HD "):])
	}
	return it.CAS
}

// IsWon tells whether the line of a meta answer, without its line end, has the mark
// W, which memcached writes last.
func IsWon(line []byte) bool {
	n := len(line)
	return n > len("HD W")-1 && line[n-1] == 'W' && line[n-2] == ' '
}

// ParseNumber reads a number of nothing but digits.
func ParseNumber(word []byte) (uint64, bool) { return wholeNumber(word, math.MaxUint64) }

// ParseToken reads the token in the answer to a storage command with Tell, as
// "HD c<token>", from a line without its line end. It is 0 when there is none.
func ParseToken(line []byte) uint64 {
	const prefix = "HD "
	if len(line) < len(prefix) || string(line[:len(prefix)]) != prefix {
		return 0
	}
	var it Item
	if seen, ok := it.readFlags(line[len(prefix):]); !ok || seen&sawCAS == 0 {
		return 0
	}
	return it.CAS
}

// The flags that readFlags found.
const (
	sawSize = 1 << iota
	sawFlags
	sawTTL
	sawCAS
)

// readFlags takes what it knows of the flags in rest, which are separated by
// spaces. ok is false when one of those has no number or too large a one.
func (it *Item) readFlags(rest []byte) (seen uint8, ok bool) {
	for {
		i := 0
		for i < len(rest) && rest[i] == ' ' {
			i++
		}
		if i == len(rest) {
			return seen, true
		}
		end := i + 1
		for end < len(rest) && rest[end] != ' ' {
			end++
		}
		flag, word := rest[i], rest[i+1:end]
		rest = rest[end:]
		var v uint64
		switch flag {
		case 's':
			v, ok = wholeNumber(word, math.MaxInt32)
			it.Size, seen = int(v), seen|sawSize
		case 'f':
			v, ok = wholeNumber(word, math.MaxUint32)
			it.Flags, seen = uint32(v), seen|sawFlags
		case 't':
			it.TTL, ok = orForever(word, math.MaxUint32)
			seen |= sawTTL
		case 'c':
			it.CAS, ok = wholeNumber(word, math.MaxUint64)
			seen |= sawCAS
		case 'b':
			it.Base64, ok = true, true
		case 'X':
			it.Stale, ok = true, true
		case 'Z':
			it.Sent, ok = true, true
		case 'W':
			it.Won, ok = true, true
		default:
			ok = true
		}
		if !ok {
			return 0, false
		}
	}
}

// wholeNumber reads a word of nothing but digits.
func wholeNumber(word []byte, largest uint64) (v uint64, ok bool) {
	v, next, ok := answerNumber(word, 0)
	return v, ok && len(word) > 0 && next == len(word) && v <= largest
}

// orForever reads a word of digits, or -1, by which memcached means for ever.
func orForever(word []byte, largest int64) (int64, bool) {
	if string(word) == "-1" {
		return -1, true
	}
	v, ok := wholeNumber(word, uint64(largest))
	return int64(v), ok
}
