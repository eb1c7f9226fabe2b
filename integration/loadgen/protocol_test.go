package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func workloadIn(t *testing.T, p protocol) *workload {
	t.Helper()
	w, err := newWorkload(p, 100, testValueSize, 1, 10, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestMetaRequests(t *testing.T) {
	w := workloadIn(t, meta)
	if got, want := string(w.getLine[5*w.getStride:6*w.getStride]), "mg bench:0000005 v f\r\n"; got != want {
		t.Errorf("a get is %q, want %q", got, want)
	}
	want := fmt.Sprintf("ms bench:0000005 %d F0 T0\r\n%s\r\n", testValueSize, valueOf(w, 5))
	if got := string(w.appendSet(nil, 5)); got != want {
		t.Errorf("a set is %q, want %q", got, want)
	}
}

func TestMetaAnswers(t *testing.T) {
	w := workloadIn(t, meta)
	get := request{first: 5, keys: 1}
	set := request{set: true, first: 5, keys: 1}
	value := func(value, flags string) string { return fmt.Sprintf("VA %d%s\r\n%s\r\n", len(value), flags, value) }
	flipped := valueOf(w, 5)[:testValueSize-1] + "#"
	testAnswers(t, w, "HD\r\n", []answerTest{
		{"hit", get, value(valueOf(w, 5), " f0"), counters{gets: 1, hits: 1}},
		{"miss", get, "EN\r\n", counters{gets: 1, misses: 1}},
		{"value of another key", get, value(valueOf(w, 6), " f0"), counters{gets: 1, wrong: 1}},
		{"value with a wrong last byte", get, value(flipped, " f0"), counters{gets: 1, wrong: 1}},
		{"short value", get, value(valueOf(w, 5)[:20], " f0"), counters{gets: 1, wrong: 1}},
		{"empty value", get, value("", " f0"), counters{gets: 1, wrong: 1}},
		{"other flags", get, value(valueOf(w, 5), " f1"), counters{gets: 1, wrong: 1}},
		{"no flags", get, value(valueOf(w, 5), ""), counters{gets: 1, wrong: 1}},
		{"error to a get", get, "SERVER_ERROR no server\r\n", counters{errors: 1}},
		{"ERROR", get, "ERROR\r\n", counters{errors: 1}},
		{"stored", set, "HD\r\n", counters{sets: 1}},
		{"not stored", set, "NS\r\n", counters{errors: 1}},
		{"error to a set", set, "SERVER_ERROR out of memory storing object\r\n", counters{errors: 1}},
	})
	testUnreadable(t, w, []answerTest{
		{name: "HD to a get", request: get, answer: "HD\r\n"},
		{name: "EN to a set", request: set, answer: "EN\r\n"},
		{name: "NS to a get", request: get, answer: "NS\r\n"},
		{name: "STORED to a set", request: set, answer: "STORED\r\n"},
		{name: "classic text", request: get, answer: hit(w, 5, valueOf(w, 5))},
		{name: "value to a set", request: set, answer: value(valueOf(w, 5), " f0")},
		{name: "no size", request: get, answer: "VA \r\n"},
		{name: "size is no number", request: get, answer: "VA f0\r\nabc\r\n"},
		{name: "negative size", request: get, answer: "VA -1 f0\r\n\r\n"},
		{name: "huge size", request: get, answer: "VA 99999999999 f0\r\n"},
		{name: "value without its end", request: get, answer: "VA 3 f0\r\nabcdef"},
		{name: "line without an end", request: get, answer: "VA " + strings.Repeat("x", 2*longestLine)},
	})
}

// binaryPacket is an answer with a token, from memcached.
func binaryPacket(opcode byte, status uint16, opaque uint32, extras, value string) string {
	b := appendHeader(nil, binaryResponse, opcode, 0, len(extras), len(extras)+len(value), opaque)
	binary.BigEndian.PutUint16(b[statusAt:], status)
	binary.BigEndian.PutUint64(b[casAt:], 1234567)
	return string(b) + extras + value
}

func TestBinaryRequests(t *testing.T) {
	w := workloadIn(t, binaryProtocol)
	want := "\x80\x00\x00\x0d\x00\x00\x00\x00\x00\x00\x00\x0d\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x00bench:0000005"
	if got := string(w.getLine[5*w.getStride : 6*w.getStride]); got != want {
		t.Errorf("a get is %q, want %q", got, want)
	}
	want = "\x80\x01\x00\x0d\x08\x00\x00\x00\x00\x00\x00\x33\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x00" +
		"\x00\x00\x00\x00\x00\x00\x00\x00bench:0000005" + valueOf(w, 5)
	if got := string(w.appendSet(nil, 5)); got != want {
		t.Errorf("a set is %q, want %q", got, want)
	}
}

func TestBinaryAnswers(t *testing.T) {
	w := workloadIn(t, binaryProtocol)
	get := request{first: 5, keys: 1}
	set := request{set: true, first: 5, keys: 1}
	const flags = "\x00\x00\x00\x00"
	value := func(value string) string { return binaryPacket(binaryGet, 0, 5, flags, value) }
	flipped := valueOf(w, 5)[:testValueSize-1] + "#"
	testAnswers(t, w, binaryPacket(binarySet, 0, 6, "", ""), []answerTest{
		{"hit", get, value(valueOf(w, 5)), counters{gets: 1, hits: 1}},
		{"miss", get, binaryPacket(binaryGet, 1, 5, "", "Not found"), counters{gets: 1, misses: 1}},
		{"value of another key", get, value(valueOf(w, 6)), counters{gets: 1, wrong: 1}},
		{"value with a wrong last byte", get, value(flipped), counters{gets: 1, wrong: 1}},
		{"short value", get, value(valueOf(w, 5)[:20]), counters{gets: 1, wrong: 1}},
		{"long value", get, value(valueOf(w, 5) + "x"), counters{gets: 1, wrong: 1}},
		{"empty value", get, value(""), counters{gets: 1, wrong: 1}},
		{"other flags", get, binaryPacket(binaryGet, 0, 5, "\x00\x00\x00\x01", valueOf(w, 5)), counters{gets: 1, wrong: 1}},
		{"error to a get", get, binaryPacket(binaryGet, 0x84, 5, "", "SERVER_ERROR no server"), counters{errors: 1}},
		{"stored", set, binaryPacket(binarySet, 0, 5, "", ""), counters{sets: 1}},
		{"not stored", set, binaryPacket(binarySet, 5, 5, "", "Not stored."), counters{errors: 1}},
		{"not found to a set", set, binaryPacket(binarySet, 1, 5, "", "Not found"), counters{errors: 1}},
	})
	testUnreadable(t, w, []answerTest{
		{name: "a get's answer to a set", request: set, answer: value(valueOf(w, 5))},
		{name: "another opaque", request: get, answer: binaryPacket(binaryGet, 0, 6, flags, valueOf(w, 6))},
		{name: "no extras", request: get, answer: binaryPacket(binaryGet, 0, 5, "", valueOf(w, 5))},
		{name: "a body to a set", request: set, answer: binaryPacket(binarySet, 0, 5, "", "x")},
		{name: "a request", request: get, answer: string(w.getLine[5*w.getStride : 6*w.getStride])},
		{name: "classic text", request: get, answer: hit(w, 5, valueOf(w, 5))},
		{name: "huge body", request: get, answer: string(appendHeader(nil, binaryResponse, binaryGet, 0, 4, 1<<30, 5))},
		{name: "body too short", request: get, answer: string(appendHeader(nil, binaryResponse, binaryGet, 0, 4, 3, 5))},
	})
}

// answerOneInMeta is answerOne for meta commands.
func answerOneInMeta(w *workload) func(*bufio.Reader, *bufio.Writer) error {
	return func(r *bufio.Reader, out *bufio.Writer) error {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if words := strings.Fields(line); words[0] == "mg" {
			value := words[1] + string(w.filler)
			_, err = fmt.Fprintf(out, "VA %d f0\r\n%s\r\n", len(value), value)
			return err
		}
		if _, err := io.CopyN(io.Discard, r, int64(w.valueSize+2)); err != nil {
			return err
		}
		_, err = out.WriteString("HD\r\n")
		return err
	}
}

// answerOneInBinary is answerOne for the binary protocol.
func answerOneInBinary(w *workload) func(*bufio.Reader, *bufio.Writer) error {
	return func(r *bufio.Reader, out *bufio.Writer) error {
		header := make([]byte, binaryHeader)
		if _, err := io.ReadFull(r, header); err != nil {
			return err
		}
		body := make([]byte, binary.BigEndian.Uint32(header[bodyAt:]))
		if _, err := io.ReadFull(r, body); err != nil {
			return err
		}
		opaque := binary.BigEndian.Uint32(header[opaqueAt:])
		answer := binaryPacket(binarySet, 0, opaque, "", "")
		if header[1] == binaryGet {
			answer = binaryPacket(binaryGet, 0, opaque, "\x00\x00\x00\x00", string(body)+string(w.filler))
		}
		_, err := out.WriteString(answer)
		return err
	}
}

// Every protocol is spoken with a server, from the prefill to the last answer.
func TestRunInEachProtocol(t *testing.T) {
	for p, handler := range map[protocol]func(*workload) func(*bufio.Reader, *bufio.Writer) error{
		classic:        func(w *workload) func(*bufio.Reader, *bufio.Writer) error { return answerOne(w, right) },
		meta:           answerOneInMeta,
		binaryProtocol: answerOneInBinary,
	} {
		for _, size := range []int{100, 300_000} { // the larger is more than one read and one send
			w, err := newWorkload(p, 50, size, 1, 3, 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			where := fakeServer(t, handler(w))
			if err := prefill(where, w); err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			out := runLoop(t, where, w, plan{clients: 3, pipeline: 5, operations: 100}, finishTime)
			c := out.count
			if c.operations < 100 || c.hits < c.gets || c.hits > c.gets+3 || c.gets == 0 || c.sets == 0 || c.gets+c.sets != c.operations {
				// each client may be in the middle of one answer
				t.Errorf("%s, values of %d bytes: counted %+v", p, size, c)
			}
			if c.misses+c.errors+c.wrong+c.disconnects+out.unanswered != 0 || c.firstError != "" {
				t.Errorf("%s, values of %d bytes: faults where there are none: %+v, %d unanswered", p, size, c, out.unanswered)
			}
		}
	}
}

func TestPrefillSaysWhatWentWrong(t *testing.T) {
	w := workloadIn(t, meta)
	where := fakeServer(t, func(r *bufio.Reader, out *bufio.Writer) error {
		if _, err := r.ReadString('\n'); err != nil {
			return err
		}
		_, err := out.WriteString("SERVER_ERROR no room\r\n")
		return err
	})
	if err := prefill(where, w); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("prefill: %v", err)
	}
}

func TestProtocolsAreRead(t *testing.T) {
	for _, s := range []string{"text", "meta", "binary"} {
		if p, err := parseProtocol(s); err != nil || string(p) != s {
			t.Errorf("%s: %q, %v", s, p, err)
		}
	}
	if p, err := parseProtocol("ascii"); err == nil {
		t.Errorf("ascii: accepted as %q", p)
	}
	if _, err := newWorkload(meta, 100, testValueSize, 2, 1, 1, 1); err == nil {
		t.Error("a get of two keys in meta: accepted")
	}
}

// answerTest is an answer to a request, and what is counted of it. firstError
// is not compared.
type answerTest struct {
	name    string
	request request
	answer  string
	want    counters
}

// testAnswers feeds each answer, with the next one behind it, in pieces of every
// size.
func testAnswers(t *testing.T, w *workload, next string, tests []answerTest) {
	t.Helper()
	for _, test := range tests {
		for piece := 1; piece <= len(test.answer)+len(next); piece++ {
			got, left, done, err := feed(w, test.request, test.answer+next, piece)
			if err != nil || !done || left != next {
				t.Fatalf("%s in pieces of %d: done %v, left %q, error %v", test.name, piece, done, left, err)
			}
			if (got.firstError != "") != (got.errors+got.wrong > 0) {
				t.Errorf("%s: first fault is %q", test.name, got.firstError)
			}
			got.firstError = ""
			if got != test.want {
				t.Fatalf("%s in pieces of %d: counted %+v, want %+v", test.name, piece, got, test.want)
			}
		}
	}
}

// testUnreadable feeds answers that make everything behind them worthless.
func testUnreadable(t *testing.T, w *workload, tests []answerTest) {
	t.Helper()
	for _, test := range tests {
		for _, piece := range []int{1, 7, len(test.answer)} {
			got, _, _, err := feed(w, test.request, test.answer, piece)
			if !errors.Is(err, errUnreadable) || got.wrong != 1 || got.firstError == "" {
				t.Errorf("%s in pieces of %d: error %v, counted %+v", test.name, piece, err, got)
			}
		}
	}
}
