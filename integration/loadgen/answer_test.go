package main

import (
	"fmt"
	"strings"
	"testing"
)

const testValueSize = 30

func testWorkload(t *testing.T, multiget int) *workload {
	t.Helper()
	w, err := newWorkload(classic, 100, testValueSize, multiget, 10, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func valueOf(w *workload, k uint32) string { return string(w.key(k)) + string(w.filler) }

// hit is one value as memcached sends it.
func hit(w *workload, k uint32, value string) string {
	return fmt.Sprintf("VALUE %s 0 %d\r\n%s\r\n", w.key(k), len(value), value)
}

// feed gives the parser the answer in pieces of the given size, keeping the
// rest between them as the loop does. It stops at the end of the answer.
func feed(w *workload, r request, text string, piece int) (c counters, left string, done bool, err error) {
	var have string
	for text != "" && !done && err == nil {
		n := min(piece, len(text))
		have, text = have+text[:n], text[n:]
		for have != "" && !done && err == nil {
			var taken int
			taken, done, err = w.answer(&r, []byte(have), &c)
			have = have[taken:]
			if taken == 0 {
				break
			}
		}
	}
	return c, have + text, done, err
}

func TestAnswers(t *testing.T) {
	w := testWorkload(t, 3)
	get := request{first: 5, keys: 1}
	three := request{first: 5, keys: 3}
	set := request{set: true, first: 5, keys: 1}
	five, six, seven := hit(w, 5, valueOf(w, 5)), hit(w, 6, valueOf(w, 6)), hit(w, 7, valueOf(w, 7))
	flipped := valueOf(w, 5)[:testValueSize-1] + "#"

	testAnswers(t, w, "END", []answerTest{
		{"hit", get, five + "END\r\n", counters{gets: 1, hits: 1}},
		{"miss", get, "END\r\n", counters{gets: 1, misses: 1}},
		{"value of another key", get, hit(w, 5, valueOf(w, 6)) + "END\r\n", counters{gets: 1, wrong: 1}},
		{"value with a wrong last byte", get, hit(w, 5, flipped) + "END\r\n", counters{gets: 1, wrong: 1}},
		{"short value", get, hit(w, 5, valueOf(w, 5)[:20]) + "END\r\n", counters{gets: 1, wrong: 1}},
		{"long value", get, hit(w, 5, valueOf(w, 5)+"x") + "END\r\n", counters{gets: 1, wrong: 1}},
		{"empty value", get, hit(w, 5, "") + "END\r\n", counters{gets: 1, wrong: 1}},
		{"key not asked for", get, six + "END\r\n", counters{gets: 1, misses: 1, wrong: 1}},
		{"value twice", get, five + five + "END\r\n", counters{gets: 1, hits: 1, wrong: 1}},
		{"error to a get", get, "SERVER_ERROR no server\r\n", counters{errors: 1}},
		{"ERROR", get, "ERROR\r\n", counters{errors: 1}},
		{"CLIENT_ERROR", set, "CLIENT_ERROR bad data chunk\r\n", counters{errors: 1}},
		{"three hits", three, five + six + seven + "END\r\n", counters{gets: 1, hits: 3}},
		{"first missing", three, six + seven + "END\r\n", counters{gets: 1, hits: 2, misses: 1}},
		{"middle missing", three, five + seven + "END\r\n", counters{gets: 1, hits: 2, misses: 1}},
		{"last missing", three, five + six + "END\r\n", counters{gets: 1, hits: 2, misses: 1}},
		{"all missing", three, "END\r\n", counters{gets: 1, misses: 3}},
		{"out of order", three, six + five + "END\r\n", counters{gets: 1, hits: 1, misses: 2, wrong: 1}},
		{"error after a value", three, five + "SERVER_ERROR gone\r\n", counters{hits: 1, errors: 1}},
		{"stored", set, "STORED\r\n", counters{sets: 1}},
		{"not stored", set, "NOT_STORED\r\n", counters{errors: 1}},
		{"error to a set", set, "SERVER_ERROR out of memory storing object\r\n", counters{errors: 1}},
	})
}

func TestUnreadableAnswers(t *testing.T) {
	w := testWorkload(t, 1)
	get := request{first: 5, keys: 1}
	set := request{set: true, first: 5, keys: 1}
	testUnreadable(t, w, []answerTest{
		{name: "STORED to a get", request: get, answer: "STORED\r\n"},
		{name: "END to a set", request: set, answer: "END\r\n"},
		{name: "value to a set", request: set, answer: hit(w, 5, valueOf(w, 5))},
		{name: "NOT_STORED to a get", request: get, answer: "NOT_STORED\r\n"},
		{name: "no size", request: get, answer: "VALUE bench:0000005 0\r\n"},
		{name: "size is no number", request: get, answer: "VALUE bench:0000005 0 x\r\nabc\r\n"},
		{name: "negative size", request: get, answer: "VALUE bench:0000005 0 -1\r\n\r\n"},
		{name: "huge size", request: get, answer: "VALUE bench:0000005 0 99999999999\r\n"},
		{name: "value without its end", request: get, answer: "VALUE bench:0000005 0 3\r\nabcdef"},
		{name: "line without an end", request: get, answer: strings.Repeat("x", 2*longestLine)},
		{name: "VALUE line without an end", request: get, answer: "VALUE " + strings.Repeat("x", 2*longestLine)},
	})
}

func TestNextKeepsTheRatioAndTheKeys(t *testing.T) {
	for _, ratio := range [][2]uint64{{10, 1}, {1, 0}, {0, 1}, {3, 7}} {
		w, err := newWorkload(classic, 100, testValueSize, 50, ratio[0], ratio[1], 3)
		if err != nil {
			t.Fatal(err)
		}
		const total = 5000
		var out []byte
		var sets int
		seen := map[uint32]bool{}
		for range total {
			var r request
			out, r = w.next(out[:0])
			seen[r.first] = true
			want := string(w.appendSet(nil, r.first))
			if r.set {
				sets++
			} else {
				want = "get"
				for k := r.first; k < r.first+r.keys; k++ {
					want += " " + string(w.key(k))
				}
				want += "\r\n"
			}
			if int(r.first+r.keys) > w.keys || string(out) != want {
				t.Fatalf("request %+v is sent as %.200q", r, out)
			}
		}
		share := float64(ratio[1]) / float64(ratio[0]+ratio[1])
		if got := float64(sets) / total; got < share-0.04 || got > share+0.04 {
			t.Errorf("ratio %v: the share of sets is %.3f, want %.3f", ratio, got, share)
		}
		if len(seen) < 51 { // a get of 50 of 100 keys starts at one of 51
			t.Errorf("ratio %v: only %d different first keys", ratio, len(seen))
		}
	}
}

func TestWorkloadRefusesWhatItCannotDo(t *testing.T) {
	for name, make := range map[string]func() (*workload, error){
		"no keys":          func() (*workload, error) { return newWorkload(classic, 0, 100, 1, 1, 1, 1) },
		"too many keys":    func() (*workload, error) { return newWorkload(classic, maxKeys+1, 100, 1, 1, 1, 1) },
		"value too short":  func() (*workload, error) { return newWorkload(classic, 10, keyLength-1, 1, 1, 1, 1) },
		"more than keys":   func() (*workload, error) { return newWorkload(classic, 10, 100, 11, 1, 1, 1) },
		"nothing to do":    func() (*workload, error) { return newWorkload(classic, 10, 100, 1, 0, 0, 1) },
		"no key in a get":  func() (*workload, error) { return newWorkload(classic, 10, 100, 0, 1, 1, 1) },
		"ratio is no text": func() (*workload, error) { _, _, err := parseRatio("ten"); return nil, err },
		"ratio of three":   func() (*workload, error) { _, _, err := parseRatio("1:2:3"); return nil, err },
		"negative ratio":   func() (*workload, error) { _, _, err := parseRatio("-1:2"); return nil, err },
	} {
		if _, err := make(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
