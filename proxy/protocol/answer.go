package protocol

import (
	"bytes"
	"math"
)

// Status is how far the reading of something from a server came.
type Status uint8

// The values of Status.
const (
	Incomplete Status = iota // more input is needed
	Complete                 // it is there as a whole
	Malformed                // it will never be; the connection is of no more use
)

const (
	// maxValueHeader is longer than any header that memcached sends: VALUE, a
	// key of 250 bytes, three numbers of at most 20 digits and the line end.
	maxValueHeader = 350
	// maxMetaHeader is longer than any header of a meta value: a base64-encoded
	// key of 250 bytes, an opaque and the numbers of all flags.
	maxMetaHeader = 1 << 10
	// maxAnswerLine bounds every other line of a server.
	maxAnswerLine = 8 << 10
)

// ValueHeader is the line before a value in the answer to a get. Key aliases
// the input.
type ValueHeader struct {
	Key       []byte
	Flags     uint32
	Size      int    // bytes of the value that follows, without its "\r\n"; below 2 GiB
	CAS       uint64 // only with HasCAS
	HasCAS    bool   // the answer to gets or gats
	TTL       int64  // only what was made of an Item; see there
	Len       int    // bytes of the header line with its line end
	ItemMarks        // only what was made of an Item
}

// ParseValue reads "VALUE <key> <flags> <bytes> [<cas>]\r\n" at the start of
// in. Only when it returns Complete h has a meaning. The value of h.Size bytes
// and its "\r\n" follow behind h.Len bytes; the caller compares h.Size with
// its own limit before it makes room, and checks that "\r\n". Input that does
// not start with VALUE, as "END\r\n", is Malformed.
func ParseValue(in []byte, h *ValueHeader) Status {
	const prefix = "VALUE "
	if len(in) <= len(prefix) {
		if len(in) <= len(prefix) && string(in) == prefix[:len(in)] {
			return Incomplete
		}
		return Malformed
	}
	if string(in[:len(prefix)]) != prefix {
		return Malformed
	}
	line := in
	if len(line) > maxValueHeader {
		line = line[:maxValueHeader]
	}
	end := len(prefix)
	for {
		end = indexControl(line, end)
		if end == len(line) {
			return cutValueHeader(in)
		}
		if line[end] == ' ' {
			break
		}
		if line[end] == '\n' {
			return Malformed
		}
		end++ // a tab or the like is part of the key
	}
	if end == len(prefix) || end > len(prefix)+maxKey {
		return Malformed
	}
	flags, i, ok := answerNumber(line, end+1)
	if !ok || flags > math.MaxUint32 {
		return Malformed
	}
	if i == len(line) {
		return cutValueHeader(in)
	}
	if line[i] != ' ' {
		return Malformed
	}
	size, i, ok := answerNumber(line, i+1)
	if !ok || size > math.MaxInt32 {
		return Malformed
	}
	var cas uint64
	hasCAS := i < len(line) && line[i] == ' '
	if hasCAS {
		if cas, i, ok = answerNumber(line, i+1); !ok {
			return Malformed
		}
	}
	if i+1 >= len(line) {
		if i < len(line) && line[i] != '\r' {
			return Malformed
		}
		return cutValueHeader(in)
	}
	if line[i] != '\r' || line[i+1] != '\n' {
		return Malformed
	}
	*h = ValueHeader{
		Key:    in[len(prefix):end:end],
		Flags:  uint32(flags),
		Size:   int(size),
		CAS:    cas,
		HasCAS: hasCAS,
		Len:    i + 2,
	}
	return Complete
}

// cutValueHeader judges a header whose end is not in sight.
func cutValueHeader(in []byte) Status {
	if len(in) >= maxValueHeader {
		return Malformed
	}
	return Incomplete
}

// answerNumber reads the digits at i. It takes the end of the line for the end
// of the input, so that ok is true when nothing speaks against the number yet.
func answerNumber(line []byte, i int) (v uint64, next int, ok bool) {
	first := i
	for ; i < len(line) && line[i]-'0' < 10; i++ {
		d := uint64(line[i] - '0')
		if v > (math.MaxUint64-d)/10 {
			return 0, i, false
		}
		v = v*10 + d
	}
	return v, i, i > first || i >= len(line)
}

// Answer is the kind of a line that a server answers.
type Answer uint8

// The kinds of answers. The codes of the meta dialect have the kind of the
// classic answer that means the same.
const (
	Other Answer = iota // none of the below, such as RESET
	Stored
	NotStored
	Exists
	NotFound
	Deleted
	Touched
	OK
	Number // the new value after incr or decr
	Done   // HD: a meta command was carried out
	End    // END, or the miss of a meta get (EN)
	Value  // the header of a value; ParseValue reads it
	Version
	Stat
	Error
	ClientError
	ServerError
	TooLong // no line end within 8 KiB: the connection is of no more use
)

// IsMetaCode tells whether a meta command may be answered by a line of the kind.
func (a Answer) IsMetaCode() bool {
	switch a {
	case Done, End, NotStored, Exists, NotFound:
		return true
	}
	return false
}

// ParseLine reads the line at the start of in. line is without its end and
// aliases in; n counts the end too, and is 0 when more input is needed. number
// is the value of a Number. For TooLong n is len(in).
func ParseLine(in []byte) (line []byte, n int, a Answer, number uint64) {
	// The most common answers, without a search.
	if len(in) >= 8 && string(in[:8]) == "STORED\r\n" {
		return in[:6:6], 8, Stored, 0
	}
	if len(in) >= 5 && string(in[:5]) == "END\r\n" {
		return in[:3:3], 5, End, 0
	}
	if len(in) >= 4 && string(in[:4]) == "HD\r\n" {
		return in[:2:2], 4, Done, 0
	}
	window := in
	if len(window) > maxAnswerLine {
		window = window[:maxAnswerLine]
	}
	eol := bytes.IndexByte(window, '\n')
	if eol < 0 {
		if len(in) >= maxAnswerLine {
			return nil, len(in), TooLong, 0
		}
		return nil, 0, Other, 0
	}
	end := eol
	if end > 0 && in[end-1] == '\r' {
		end--
	}
	line = in[:end:end]
	a, number = classify(line)
	return line, eol + 1, a, number
}

func classify(line []byte) (Answer, uint64) {
	if len(line) == 0 {
		return Other, 0
	}
	if line[0]-'0' < 10 {
		if v, next, ok := answerNumber(line, 0); ok && next == len(line) {
			return Number, v
		}
		return Other, 0
	}
	if len(line) == 2 || (len(line) > 2 && line[2] == ' ') {
		if a := metaCode(line[0], line[1]); a != Other {
			return a, 0
		}
	}
	switch string(line) {
	case "STORED":
		return Stored, 0
	case "NOT_STORED":
		return NotStored, 0
	case "EXISTS":
		return Exists, 0
	case "NOT_FOUND":
		return NotFound, 0
	case "DELETED":
		return Deleted, 0
	case "TOUCHED":
		return Touched, 0
	case "OK":
		return OK, 0
	case "END":
		return End, 0
	case "ERROR":
		return Error, 0
	}
	for _, p := range [...]struct {
		prefix string
		a      Answer
	}{
		{"VALUE ", Value},
		{"STAT ", Stat},
		{"VERSION ", Version},
		{"CLIENT_ERROR", ClientError},
		{"SERVER_ERROR", ServerError},
		{"ERROR", Error},
	} {
		if len(line) >= len(p.prefix) && string(line[:len(p.prefix)]) == p.prefix {
			return p.a, 0
		}
	}
	return Other, 0
}

// metaCode is the kind of an answer code of the meta dialect (protocol.txt,
// "Meta Commands"). VA and MN are left to ParseItem and FenceLine.
func metaCode(first, second byte) Answer {
	switch [2]byte{first, second} {
	case [2]byte{'H', 'D'}:
		return Done
	case [2]byte{'N', 'S'}:
		return NotStored
	case [2]byte{'E', 'X'}:
		return Exists
	case [2]byte{'N', 'F'}:
		return NotFound
	case [2]byte{'E', 'N'}:
		return End
	}
	return Other
}
