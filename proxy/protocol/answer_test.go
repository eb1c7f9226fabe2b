package protocol

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// promise: W4
func TestParseValue(t *testing.T) {
	for _, c := range []struct {
		in   string
		want ValueHeader
	}{
		{"VALUE k 0 0\r\n", ValueHeader{Key: []byte("k")}},
		{"VALUE k 7 100\r\n", ValueHeader{Key: []byte("k"), Flags: 7, Size: 100}},
		{"VALUE a\tb\r 4294967295 2147483647 18446744073709551615\r\n",
			ValueHeader{Key: []byte("a\tb\r"), Flags: 1<<32 - 1, Size: 1<<31 - 1, CAS: 1<<64 - 1, HasCAS: true}},
		{"VALUE " + key250 + " 4294967295 1048576 0\r\n",
			ValueHeader{Key: []byte(key250), Flags: 1<<32 - 1, Size: 1 << 20, HasCAS: true}},
	} {
		c.want.Len = len(c.in)
		for _, behind := range []string{"", "value\r\nEND\r\n"} {
			var h ValueHeader
			if st := ParseValue([]byte(c.in+behind), &h); st != Complete || fmt.Sprint(h) != fmt.Sprint(c.want) {
				t.Errorf("%q: status %d, %+v, want %+v", c.in, st, h, c.want)
			}
		}
		for i := range c.in {
			var h ValueHeader
			if st := ParseValue([]byte(c.in[:i]), &h); st != Incomplete {
				t.Errorf("%q: status %d, want Incomplete", c.in[:i], st)
			}
		}
	}
}

// promise: R2, R4
func TestParseValueMalformed(t *testing.T) {
	for _, in := range []string{
		"END\r\n", "VALUES", "VALUE\r\n", "value k 0 0\r\n", "VALUE \r\n", "VALUE  k 0 0\r\n", "VALUE k\r\n", "VALUE k 0\r\n",
		"VALUE k x 0\r\n", "VALUE k 0 x\r\n", "VALUE k  0 0\r\n", "VALUE k 0 0 \r\n", "VALUE k 0 0 x\r\n", "VALUE k 0 0 1 2\r\n",
		"VALUE k 0 0\n", "VALUE k 0 0\rx", "VALUE k -1 0\r\n", "VALUE k 0 -1\r\n", "VALUE k 4294967296 0\r\n",
		"VALUE k 0 2147483648\r\n", "VALUE k 0 99999999999999999999\r\n", "VALUE k 0 0 18446744073709551616\r\n",
		"VALUE " + key251 + " 0 0\r\n", "VALUE " + strings.Repeat("k", 350), "VALUE k 0 " + strings.Repeat("0", 350),
		"VALUE k " + strings.Repeat("\t", 350),
	} {
		var h ValueHeader
		if st := ParseValue([]byte(in), &h); st != Malformed {
			t.Errorf("%q: status %d, want Malformed", in, st)
		}
	}
}

var answerLines = []struct {
	line   string
	want   Answer
	number uint64
}{
	{"STORED", Stored, 0}, {"NOT_STORED", NotStored, 0}, {"EXISTS", Exists, 0}, {"NOT_FOUND", NotFound, 0},
	{"DELETED", Deleted, 0}, {"TOUCHED", Touched, 0}, {"OK", OK, 0}, {"END", End, 0},
	{"0", Number, 0}, {"18446744073709551615", Number, 1<<64 - 1},
	{"VALUE k 0 1", Value, 0}, {"VERSION 1.6.18", Version, 0}, {"STAT pid 17", Stat, 0},
	{"ERROR", Error, 0}, {"ERROR: shutdown not enabled", Error, 0}, {"CLIENT_ERROR bad data chunk", ClientError, 0},
	{"SERVER_ERROR out of memory storing object", ServerError, 0},
	{"", Other, 0}, {"RESET", Other, 0}, {"STOREDX", Other, 0}, {"stored", Other, 0}, {"END ", Other, 0},
	{"12x", Other, 0}, {"-1", Other, 0}, {"18446744073709551616", Other, 0}, {"\x00", Other, 0},
}

// promise: W4
func TestParseLine(t *testing.T) {
	for _, c := range answerLines {
		for _, end := range []string{"\r\n", "\n"} {
			for _, behind := range []string{"", "STORED\r\n"} {
				in := c.line + end
				line, n, a, number := ParseLine([]byte(in + behind))
				if string(line) != c.line || n != len(in) || a != c.want || number != c.number {
					t.Errorf("%q: line %q, %d bytes, answer %d, number %d; want answer %d, number %d", in, line, n, a, number, c.want, c.number)
				}
			}
			for i := range c.line + end {
				if _, n, _, _ := ParseLine([]byte((c.line + end)[:i])); n != 0 {
					t.Errorf("%q: took %d bytes of an unfinished line", (c.line + end)[:i], n)
				}
			}
		}
	}
}

// promise: R2, R4
func TestParseLineWithoutEnd(t *testing.T) {
	long := bytes.Repeat([]byte("x"), maxAnswerLine)
	if _, n, _, _ := ParseLine(long[:maxAnswerLine-1]); n != 0 {
		t.Errorf("%d bytes without a line end: took %d", maxAnswerLine-1, n)
	}
	for _, in := range [][]byte{long, append(bytes.Clone(long), '\n')} {
		if line, n, a, _ := ParseLine(in); n != len(in) || a != TooLong || line != nil {
			t.Errorf("%d bytes: took %d, answer %d", len(in), n, a)
		}
	}
}

// checkAnswer reports when what stands at the start of in is read in another
// way when only a part of it is there, or more than the limits allow.
func checkAnswer(in []byte) error {
	var h ValueHeader
	st := ParseValue(in, &h)
	if st == Incomplete && len(in) >= maxValueHeader {
		return fmt.Errorf("%d bytes and still no verdict on the header", len(in))
	}
	if st == Complete {
		if h.Len > len(in) || in[h.Len-1] != '\n' || h.Size < 0 || len(h.Key) == 0 || len(h.Key) > maxKey {
			return fmt.Errorf("header %+v", h)
		}
		cas := ""
		if h.HasCAS {
			cas = fmt.Sprintf(" %d", h.CAS)
		}
		again := fmt.Appendf(nil, "VALUE %s %d %d%s\r\n", h.Key, h.Flags, h.Size, cas)
		var h2 ValueHeader
		st2 := ParseValue(again, &h2)
		h2.Len = h.Len // zeros in front of a number
		if st2 != Complete || fmt.Sprint(h2) != fmt.Sprint(h) {
			return fmt.Errorf("%+v is written as %q and read as %+v", h, again, h2)
		}
	}
	line, n, a, number := ParseLine(in)
	if n == 0 && len(in) >= maxAnswerLine {
		return fmt.Errorf("%d bytes and still no line", len(in))
	}
	if n > len(in) || len(line) > n {
		return fmt.Errorf("line of %d bytes, %d taken, of %d", len(line), n, len(in))
	}
	for i := range in {
		var part ValueHeader
		got := ParseValue(in[:i], &part)
		switch {
		case st == Complete && i < h.Len && got != Incomplete,
			st == Complete && i >= h.Len && (got != Complete || fmt.Sprint(part) != fmt.Sprint(h)),
			st == Incomplete && got != Incomplete,
			st == Malformed && got == Complete:
			return fmt.Errorf("header: status %d %+v, but with %d bytes there %d %+v", st, h, i, got, part)
		}
		l2, n2, a2, number2 := ParseLine(in[:i])
		switch {
		case a == TooLong:
			if (i >= maxAnswerLine) != (a2 == TooLong) || (i < maxAnswerLine && n2 != 0) {
				return fmt.Errorf("line too long, but with %d bytes there: %d taken, answer %d", i, n2, a2)
			}
		case i < n && n2 != 0,
			n > 0 && i >= n && (n2 != n || a2 != a || number2 != number || !bytes.Equal(l2, line)):
			return fmt.Errorf("line %q, answer %d, but with %d bytes there %q, %d", line, a, i, l2, a2)
		}
	}
	return nil
}

// FuzzAnswer checks that no answer of a server crashes the proxy, that an
// answer is read alike however it comes, and that none is waited for without
// bound.
//
// promise: R2, R4
func FuzzAnswer(f *testing.F) {
	for _, c := range answerLines {
		f.Add([]byte(c.line + "\r\n"))
	}
	f.Add([]byte("VALUE k 0 5 17\r\nlinux\r\nEND\r\n"))
	f.Add([]byte("VALUE a\tb\r 00 05\r\nlinux\r\n"))
	f.Add([]byte("VALUE " + key250 + " 4294967295 2147483647 18446744073709551615\r\n"))
	f.Add([]byte("VALUE k 0 " + strings.Repeat("0", 400) + "\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 2000 {
			in = in[:2000] // every part of it is read, and a longer one shows no more
		}
		if err := checkAnswer(in); err != nil {
			t.Fatal(err)
		}
	})
}

// promise: R4
func TestAnswersComeInParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := fmt.Appendf(nil, "VALUE %s %d %d", rapid.SliceOfN(rapid.ByteRange('!', 255), 0, 260).Draw(t, "key"),
			rapid.Int64Range(0, 1<<33).Draw(t, "flags"), rapid.Int64Range(0, 1<<32).Draw(t, "size"))
		if rapid.Bool().Draw(t, "has cas") {
			in = fmt.Appendf(in, " %d", rapid.Uint64().Draw(t, "cas"))
		}
		in = append(in, rapid.SampledFrom([]string{"\r\n", "\n", " \r\n", "\rx"}).Draw(t, "end")...)
		if err := checkAnswer(in); err != nil {
			t.Fatal(err)
		}
	})
}
