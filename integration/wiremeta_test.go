package integration

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// textSpeech speaks the classic and the meta commands, which share a connection.
var textSpeech = &protocol{
	name: "text",
	read: readText,
	last: func(prefix string, n int) []byte {
		return fmt.Appendf(nil, "ms %send 0 Oend%d\r\n\r\n", prefix, n)
	},
	isLast: func(a answer, n int) bool { return a.String() == strconv.Quote(fmt.Sprint("HD Oend", n)) },
	// As many empty lines as the longest value that is missing has bytes.
	padding: bytes.Repeat([]byte("\r\n"), 20),
}

// textAnswer is a line, and the value behind it if it announces one.
type textAnswer struct {
	words []string
	line  string
	value []byte
}

// readLine reads up to a line end. A line feed alone is none: memcached tells a
// key that holds one as it is, where it was not stored as a binary key.
func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadBytes('\n')
		line = append(line, part...)
		if err != nil || bytes.HasSuffix(line, []byte("\r\n")) {
			return string(line), err
		}
	}
}

// readText reads one line of an answer and its value. What stands before an end
// of the stream in the middle of a line is an answer, too.
func readText(r *bufio.Reader) (answer, error) {
	line, err := readLine(r)
	if err != nil {
		if line != "" && errors.Is(err, io.EOF) {
			return &textAnswer{line: line, words: []string{line}}, nil
		}
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	a := &textAnswer{line: line, words: strings.Split(line, " ")}
	size := -1
	switch {
	case a.words[0] == "VALUE" && len(a.words) >= 4:
		size, err = strconv.Atoi(a.words[3])
	case a.words[0] == "VA" && len(a.words) >= 2:
		size, err = strconv.Atoi(a.words[1])
	}
	if err != nil || size < 0 {
		return a, nil //nolint:nilerr // the line is an answer in any case
	}
	a.value = make([]byte, size+2)
	n, err := io.ReadFull(r, a.value)
	a.value = a.value[:n]
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return a, err
}

func (a *textAnswer) String() string {
	if a.value == nil {
		return show([]byte(a.line))
	}
	return show([]byte(a.line)) + " + " + show(a.value)
}

func (a *textAnswer) told() (uint64, string) {
	var of uint64
	opaque := ""
	switch a.words[0] {
	case "HD", "VA":
		for _, w := range a.words[1:] {
			switch {
			case strings.HasPrefix(w, "c"):
				of, _ = strconv.ParseUint(w[1:], 10, 64)
			case strings.HasPrefix(w, "O"):
				opaque = w[1:]
			}
		}
	case "VALUE":
		if len(a.words) == 5 {
			of, _ = strconv.ParseUint(a.words[4], 10, 64)
			opaque = "key " + a.words[1]
		}
	}
	return of, opaque
}

func (a *textAnswer) kinds() []string {
	switch a.words[0] {
	case "ERROR", "CLIENT_ERROR", "SERVER_ERROR":
		return []string{a.line}
	case "HD", "VA":
		out := []string{a.words[0]}
		for _, w := range a.words[1:] {
			if w == "W" || w == "X" || w == "Z" || w == "h0" || w == "h1" {
				out = append(out, "mark "+w)
			}
		}
		return out
	}
	return a.words[:1]
}

func (a *textAnswer) differs(other answer, m *meaning) string {
	b := other.(*textAnswer)
	if len(a.words) != len(b.words) || a.words[0] != b.words[0] {
		return "another answer"
	}
	if a.words[0] == "VERSION" {
		return ""
	}
	for i := range a.words {
		if why := differentWord(a.words[0], i, a.words[i], b.words[i], m); why != "" {
			return why
		}
	}
	if !bytes.Equal(a.value, b.value) {
		return "another value"
	}
	return ""
}

// far is a time to live in seconds, of ten years, above which none differ: the
// binary protocol can name later times than the text ones.
const far = 300_000_000

// differentWord compares one word of a line.
func differentWord(verb string, i int, a, b string, m *meaning) string {
	numbers := func(cut int) (uint64, uint64, bool) {
		if len(a) < cut || len(b) < cut || a[:cut] != b[:cut] {
			return 0, 0, false
		}
		x, err1 := strconv.ParseUint(strings.TrimPrefix(a[cut:], "-"), 10, 64)
		y, err2 := strconv.ParseUint(strings.TrimPrefix(b[cut:], "-"), 10, 64)
		return x, y, err1 == nil && err2 == nil
	}
	times := func(cut int) bool {
		x, y, ok := numbers(cut)
		// -1 is no expiry. Past its expiry the number is what is left below
		// zero, and has to do with the age of the server.
		if (a[cut:] == "-1") != (b[cut:] == "-1") {
			return false
		}
		return ok && (m.within(int64(x), int64(y)) || x > far && y > far) //nolint:gosec // below 2^32
	}
	var token, clock bool
	cut := 1
	switch {
	case i == 0:
	case verb == "HD" || verb == "VA" && i > 1:
		token = strings.HasPrefix(a, "c")
		clock = strings.HasPrefix(a, "t") || strings.HasPrefix(a, "l")
	case verb == "ME" && i > 1:
		token, clock, cut = strings.HasPrefix(a, "cas="), strings.HasPrefix(a, "exp=") || strings.HasPrefix(a, "la="), strings.IndexByte(a, '=')+1
	case verb == "VALUE" && i == 4:
		token, cut = true, 0
	}
	switch {
	case token:
		if x, y, ok := numbers(cut); ok {
			return m.differs(x, y)
		}
	case clock && times(cut):
		return ""
	}
	if a != b {
		return fmt.Sprintf("%q and %q", a, b)
	}
	return ""
}
