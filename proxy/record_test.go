package proxy

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"magent/backend"
)

// Who reads a record knows of every key that was appended to it. What cannot
// be read counts as all keys lost, never as none missed.
//
// promise: C6
func TestParseRecord(t *testing.T) {
	for _, c := range []struct {
		text       string
		generation uint64
		lost       bool
		keys       string
	}{
		{"magent1 0 open\n", 0, false, "[]"},
		{"magent1 7 open\na 1\nbb 1700000000000\n", 7, false, "[{a 1} {bb 1700000000000}]"},
		{"magent1 7 open\na 1\na 2\n", 7, false, "[{a 1} {a 2}]"},
		{"magent1 7 open\nmagent1 0\n", 7, false, "[{magent1 0}]"},
		{"magent1 7 open\nlost 5\n", 7, false, "[{lost 5}]"},
		{"magent1 9223372036854775807 open\n", 1<<63 - 1, false, "[]"},
		{"magent1 7 lost\n", 0, true, "[]"},
		{"magent1 7 lost\na 1\nb 1\n", 0, true, "[]"},
		{"magent1 7 open\na 1\n X out\nb 1\n", 7, false, "[{a 1} {b 1}]"},
		{"magent1 7 open\na 1\n X lost\nb 1\n", 7, true, "[]"},
		{"magent1 7 open\na 1\n X\n", 7, true, "[]"},
		{"magent1 7 open\na 1\n X out Y\n", 7, true, "[]"},

		{"", 0, true, "[]"},
		{"\n", 0, true, "[]"},
		{"a 1\nb 1\n", 0, true, "[]"},
		{"a 1\n", 0, true, "[]"}, // appended to nothing
		{"magent1 7\na 1\n", 0, true, "[]"},
		{"magent1 7 closed\na 1\n", 0, true, "[]"},
		{"magent1 7 open open\na 1\n", 0, true, "[]"},
		{"magent1 7 open\na\n", 7, true, "[]"},
		{"magent1 7 open\na 1 2\n", 7, true, "[]"},
		{"magent1 7 open\na -1\n", 7, true, "[]"},
		{"magent1 7 open\n\x00 1\n", 7, true, "[]"}, // a key of nothing
		{"magent1 7 open\n X ?\n", 7, true, "[]"},
		{"magent1 7 open\na x\n", 7, true, "[]"},
		{"magent1 7 open\na 99999999999999999999\n", 7, true, "[]"},
		{"magent2 7 open\na 1\n", 0, true, "[]"},
		{"magent1 seven open\na 1\n", 0, true, "[]"},
		{"magent1 -7 open\na 1\n", 0, true, "[]"},
		{"magent1 9223372036854775808 open\n", 0, true, "[]"},
		{"magent1 99999999999999999999999 lost\n", 0, true, "[]"},
	} {
		got := parseRecord([]byte(c.text))
		if got.generation != c.generation || got.lost() != c.lost || fmt.Sprint(got.keys) != c.keys {
			t.Errorf("%q: generation %d, lost %v, keys %v; want %d, %v, %s", c.text, got.generation, got.lost(), got.keys, c.generation, c.lost, c.keys)
		}
	}
}

// What a proxy says of itself is what it said last; keys of which it is not sure
// stand among that.
//
// promise: C6
func TestMarksOfARecord(t *testing.T) {
	rec := parseRecord([]byte("magent1 7 open\n X out\nk 1\n Y late\n X late\n X ?k\n Y in\n X ?\xffx\n"))
	if fmt.Sprint(rec.marks) != "map[X:late Y:in]" || fmt.Sprintf("%q", rec.uncertain) != `["k" "\xffx"]` || rec.lost() || len(rec.keys) != 1 {
		t.Errorf("read %+v", rec)
	}
	if again := parseRecord([]byte(rec.text())); !reflect.DeepEqual(again, rec) {
		t.Errorf("%q is read as %+v", rec.text(), again)
	}
	// A loss leaves the marks.
	rec = parseRecord([]byte("magent1 7 open\n X late\n X lost\nk 1\n"))
	if fmt.Sprint(rec.marks) != "map[X:late]" || !rec.lost() || rec.lossesBut("X") != 0 || rec.lossesBut("Y") != 1 {
		t.Errorf("read %+v", rec)
	}
}

// What is written is read back, with what others have appended.
//
// promise: C6
func FuzzRecord(f *testing.F) {
	f.Add([]byte("magent1 7 open\na 1\nbb 17\n"), "key")
	f.Add([]byte("magent1 7 lost\n"), "key")
	f.Add([]byte("magent1 7 open\n"), "a\u00a0key\u0085")
	f.Add([]byte("magent1 9223372036854775808 open\n"), "k")
	f.Add([]byte("magent1 7 open\na"), "k")
	f.Add([]byte("magent1 7 open\na 1\n X late\nb 2\n Y in\n X ?k\n X out\n"), "k")
	f.Add([]byte("magent1 0 open\n0\n0"), "k")
	f.Add([]byte("magent1 7 open\n X missed@5\n\x00YQ== 1\n"), "k")
	f.Add([]byte("magent1 7 open\n\x00 1\n Y ?\n"), "k")
	f.Add([]byte("magent1 7 open\n X missed@5\n X lost\n Y missed@\n X missed@7\n Z ?k\n X lost\n"), "k")
	f.Add([]byte("\n\n"), strings.Repeat("k", 250))
	f.Fuzz(func(t *testing.T, text []byte, key string) {
		first := parseRecord(text)
		if first.lost() && len(first.keys) > 0 {
			t.Fatalf("%q: all keys are lost, and yet there are %v", text, first.keys)
		}
		if first.generation >= 1<<63 {
			t.Fatalf("%q: generation %d", text, first.generation)
		}
		for _, k := range first.keys {
			if k.name == "" {
				t.Fatalf("%q: an empty key", text)
			}
		}
		if sizeOf(first.keys)+len(text) > recordMost {
			return // they may be too many to be kept
		}
		written := first.text()
		for name := range first.losses {
			first.losses[name] = 1 // how often each was told is not kept
		}
		if again := parseRecord([]byte(written)); !reflect.DeepEqual(again, first) {
			t.Fatalf("%q was read as %+v, and what was written of that as %+v", text, first, again)
		}
		// Any proxy may append a key that a client can name.
		if key == "" || strings.ContainsAny(key, " \r\n\x00") {
			key = "key"
		}
		appended := parseRecord([]byte(written + missedKey{key, 5}.text()))
		if appended.lost() != first.lost() || !first.lost() && (len(appended.keys) != len(first.keys)+1 || appended.keys[len(first.keys)] != (missedKey{key, 5})) {
			t.Fatalf("%q with %q appended: %+v", written, key, appended)
		}
		// The next generation is read as well.
		if first.generation == 1<<63-1 {
			return // the last there is
		}
		if next := parseRecord([]byte(recordText(first.generation+1, nil))); next.lost() || next.generation != first.generation+1 {
			t.Fatalf("%q: the next generation is read as %+v", text, next)
		}
	})
}

// A record of too many keys is written without them: it must fit into an item.
//
// promise: R2
func TestARecordOfTooManyKeysIsShort(t *testing.T) {
	rec := missedRecord{generation: 7, marks: map[string]mark{"X": markLate}}
	for i := range recordMost / 5 {
		rec.keys = append(rec.keys, missedKey{fmt.Sprint("key", i), 1})
	}
	if text := rec.text(); text != "magent1 7 open\n - lost\n X late\n" {
		t.Errorf("record %.80q", text)
	}
	rec.keys = nil
	for i := range recordMost / 5 {
		rec.uncertain = append(rec.uncertain, fmt.Sprint("key", i))
	}
	if text := rec.text(); text != "magent1 7 open\n - lost\n X late\n" {
		t.Errorf("record %.80q", text)
	}
}

// What a twin tells of a server's life.
//
// promise: C6, C7
func TestFactOfALife(t *testing.T) {
	life := backend.Life{PID: 123, Start: 1700000000}
	rc := &recovery{presence: presence{name: "A"}}
	for _, whole := range []bool{true, false} {
		text := rc.lifeText(life, whole)
		got, gotWhole, statement, ok := parseLifeText(text)
		if got != life || gotWhole != whole || !rc.isOwn(statement) || !ok {
			t.Errorf("%q: %v, whole %v, %v", text, got, gotWhole, ok)
		}
		if again := rc.lifeText(life, whole); again == text {
			t.Errorf("%q is said twice: nobody could tell", text)
		}
	}
	for text, want := range map[string]fact{
		"123-1700000000 whole A 7":   {known: true, whole: true, life: life, statement: "A 7"},
		"123-1700000000 lacking B 8": {known: true, life: life, statement: "B 8"},
		"123-1700000000 half A 9":    {known: true, life: life, statement: "A 9"},
		"123-1700000000":             {},
		"123-1700000000 whole A":     {},
		"123-1700000000 whole A B 7": {},
		"":                           {},
		"whole":                      {},
		"123 whole":                  {},
		"x-1 whole":                  {},
		"1-x whole":                  {},
	} {
		got := factOf("cache:1", map[string]backend.Stored{
			"__magent__:life:cache:1": {Value: []byte(text)},
			"__magent__:life:cache:2": {Value: []byte("9-9 whole")},
		})
		if got.known != want.known || got.known && (got.life != want.life || got.whole != want.whole || got.statement != want.statement) || got.noted {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
	// A record is found by its server's name, with its token.
	f := factOf("cache:1", map[string]backend.Stored{
		"__magent__:missed:cache:1": {Value: []byte("magent1 3 open\na 1\n"), CAS: 42},
		"__magent__:missed:cache:2": {Value: []byte("magent1 9 lost\n"), CAS: 43},
	})
	if !f.noted || f.token != 42 || f.record.generation != 3 || f.record.lost() || len(f.record.keys) != 1 || f.known {
		t.Errorf("fact %+v", f)
	}
	if f := factOf("cache:3", nil); f.noted || f.known {
		t.Errorf("a fact of nothing: %+v", f)
	}
}

// A record whose every key was noted by this proxy is known as its own; one
// key of somebody else, or a loss that somebody else has noted, ends that.
//
// promise: C6
func TestWhoseRecord(t *testing.T) {
	var r record
	of := func(lost bool, keys ...string) (m missedRecord) {
		if lost {
			m.lose("other")
		}
		for _, key := range keys {
			m.keys = append(m.keys, missedKey{key, 1})
		}
		return m
	}
	r.noteMine("a")
	r.noteMine("b")
	r.setMerged(42)
	for _, c := range []struct {
		held missedRecord
		mine bool
	}{{of(false), true}, {of(false, "a"), true}, {of(false, "b", "a", "a"), true}, {of(false, "a", "c"), false}, {of(true), false}} {
		if got := r.allMine(c.held, "me"); got != c.mine {
			t.Errorf("%+v: all mine %v, want %v", c.held, got, c.mine)
		}
	}
	if r.mineTimes("a") == 0 || r.mineTimes("c") > 0 || r.mergedToken() != 42 {
		t.Error("what is this proxy's own is not known")
	}
	own := missedRecord{}
	own.lose("me")
	if !r.allMine(own, "me") {
		t.Error("the loss that this proxy has noted is not its own")
	}
	// A loss is news once, whatever else is said.
	for i, c := range []struct {
		n    int
		news bool
	}{{0, false}, {1, true}, {1, false}, {3, true}, {3, false}} {
		if got := r.newLosses(c.n); got != c.news {
			t.Errorf("look %d: %d losses are news: %v, want %v", i, c.n, got, c.news)
		}
	}
	// A new generation begins with nothing.
	r.size.Store(99)
	r.renew(8)
	if r.generation.Load() != 8 || r.size.Load() != 0 || r.mineTimes("a") > 0 || !r.newLosses(1) || r.mergedToken() != 0 {
		t.Error("something of the last generation is left")
	}
}

// How far the journal was is remembered for two looks, and looks that follow
// each other at once count as one.
//
// promise: C6
func TestMark(t *testing.T) {
	var r record
	look := func(latest uint64) {
		r.looked = r.looked.Add(-recoveryCheck)
		r.setLooked(latest)
	}
	look(5)
	if r.notedUntil() != 0 {
		t.Errorf("mark %d after one look", r.notedUntil())
	}
	look(7)
	if r.notedUntil() != 5 {
		t.Errorf("mark %d after two looks, want 5", r.notedUntil())
	}
	for range 5 {
		r.setLooked(99)
	}
	if r.notedUntil() != 5 {
		t.Errorf("mark %d after looks that came too early, want 5", r.notedUntil())
	}
	look(9)
	if r.notedUntil() != 7 {
		t.Errorf("mark %d, want 7", r.notedUntil())
	}
}
