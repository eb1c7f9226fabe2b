package checker

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"magent/integration/harness"
)

// historiesOfOtherDialects are histories with commands that classic text does
// not have.
func historiesOfOtherDialects() []byHand {
	fault := []Fault{{Span: Span{From: 3 * time.Second, To: 4 * time.Second}}}
	timed := func(n int) func(*Op) { return func(o *Op) { o.Timed, o.GotExpiry = true, n } }
	stale := func(o *Op) { o.Marked, o.Stale, o.Lost = true, true, true }
	won := func(o *Op) { o.Marked, o.Stale, o.Won = true, true, true }
	fresh := func(o *Op) { o.Marked = true }
	invalidated := Op{Kind: Invalidate, Answer: "DELETED"}
	blind := func(o *Op) { o.Blind = true }
	return []byHand{
		{name: "a delete of the version that is there", want: porcupine.Ok, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, only(5, "a", deleted())), at(6, 7, miss()),
		}},
		{name: "a delete of a version that is gone", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, set("b")), at(6, 7, only(5, "a", deleted())),
		}},
		{name: "a delete of a version that is gone is refused", want: porcupine.Ok, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, set("b")),
			at(6, 7, only(5, "a", Op{Kind: Delete, Answer: "EXISTS"})), at(8, 9, get("b")),
		}},
		{name: "a delete that was refused takes effect", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, set("b")),
			at(6, 7, only(5, "a", Op{Kind: Delete, Answer: "EXISTS"})), at(8, 9, miss()),
		}},
		{name: "a delete is refused although nothing happened", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, only(5, "a", Op{Kind: Delete, Answer: "EXISTS"})),
		}},
		{name: "a delete is refused after a fault", want: porcupine.Ok, faults: fault, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, only(5, "a", Op{Kind: Delete, Answer: "EXISTS"})), at(6, 7, get("a")),
		}},
		{name: "a delete without an answer, of a version that is gone", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, set("b")), unknown(6, only(5, "a", deleted())), at(8, 9, miss()),
		}},
		{name: "an append to a version that is gone", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, set("b")), at(6, 7, only(5, "a", appended("x"))),
		}},
		{name: "an append with a token to nothing", want: porcupine.Ok, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, deleted()),
			at(6, 7, only(5, "a", Op{Kind: Append, Value: "x", Answer: "NOT_STORED"})),
		}},
		{name: "an incr of a version that is gone", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("1")), at(2, 3, gets("1", 5)), at(4, 5, set("2")), at(6, 7, only(5, "1", incr("1", "3"))),
		}},
		{name: "cas with the token that a set was answered with", want: porcupine.Ok, ops: []*Op{
			at(0, 1, told(5, set("a"))), at(2, 3, cas("b", 5, "a", "STORED")), at(4, 5, get("b")),
		}},
		{name: "the token that a set was answered with does not fit", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, told(5, set("a"))), at(2, 3, cas("b", 5, "a", "EXISTS")),
		}},
		{name: "the token that a set was answered with outlives the version", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, told(5, set("a"))), at(2, 3, set("b")), at(4, 5, cas("c", 5, "a", "STORED")),
		}},
		{name: "cas with the token that an append was answered with", want: porcupine.Ok, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, told(6, appended("b"))), at(4, 5, with(cas("c", 6, "", "STORED"), blind)),
		}},
		{name: "the token that an append was answered with outlives the version", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, told(6, appended("b"))), at(4, 5, appended("x")), at(6, 7, with(cas("c", 6, "", "STORED"), blind)),
		}},
		{name: "the token that a touch was answered with", want: porcupine.Ok, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, told(6, Op{Kind: Touch, Answer: "TOUCHED"})), at(4, 5, cas("b", 6, "a", "STORED")),
		}},
		{name: "an incr makes a key", want: porcupine.Ok, ops: []*Op{
			at(0, 1, from("7", incr("5", "7"))), at(2, 3, from("7", incr("5", "12"))), at(4, 5, get("12")),
		}},
		{name: "an incr makes a key and counts", want: porcupine.Illegal, ops: []*Op{at(0, 1, from("7", incr("5", "12")))}},
		{name: "an incr makes a key that is there", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("1")), at(2, 3, from("7", incr("5", "7"))),
		}},
		{name: "an incr makes a key with its expiry", want: porcupine.Ok, ops: []*Op{
			at(0, 1, with(from("7", incr("5", "7")), func(o *Op) { o.Expiry = 3 })), at(2, 3, with(get("7"), timed(3))),
		}},
		{name: "an incr makes a key without its expiry", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, with(from("7", incr("5", "7")), func(o *Op) { o.Expiry = 3 })), at(2, 3, with(get("7"), timed(Never))),
		}},
		{name: "an incr changes the expiry of a key that is there", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("1")), at(2, 3, with(from("7", incr("5", "6")), func(o *Op) { o.Expiry = 3 })), at(4, 5, with(get("6"), timed(3))),
		}},
		{name: "an incr without an answer makes a key twice", want: porcupine.Illegal, ops: []*Op{
			unknown(0, from("7", incr("5", ""))), at(1, 2, get("7")), at(3, 4, deleted()), at(5, 6, get("7")),
		}},
		{name: "an incr that found nothing comes too late to make the key", want: porcupine.Ok, ops: []*Op{
			at(0, 3, from("7", Op{Kind: Incr, Value: "5", Answer: "NOT_STORED"})), at(1, 2, set("1")), at(4, 5, get("1")),
		}},
		{name: "a plain incr cannot come too late", want: porcupine.Illegal, ops: []*Op{
			at(0, 3, Op{Kind: Incr, Value: "5", Answer: "NOT_STORED"}), at(1, 2, set("1")),
		}},
		{name: "a quiet incr counts", want: porcupine.Ok, ops: []*Op{at(0, 1, set("1")), at(2, 3, incr("5", Counted)), at(4, 5, get("6"))}},
		{name: "a quiet incr does not count", want: porcupine.Illegal, ops: []*Op{at(0, 1, set("1")), at(2, 3, incr("5", Counted)), at(4, 5, get("1"))}},
		{name: "a quiet incr says nothing of a miss", want: porcupine.Illegal, ops: []*Op{at(2, 3, incr("5", Counted))}},
		{name: "a quiet incr says nothing of a text", want: porcupine.Illegal, ops: []*Op{at(0, 1, set("a")), at(2, 3, incr("5", Counted))}},
		{name: "an invalidated item is stale, and one client wins", want: porcupine.Ok, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, with(get("a"), fresh)), at(4, 5, invalidated), at(6, 7, get("a")),
			at(8, 9, with(get("a"), won)), at(10, 11, with(get("a"), stale)), at(12, 13, set("b")), at(14, 15, with(get("b"), fresh)),
		}},
		{name: "an invalidated item is said to be fresh", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, invalidated), at(4, 5, with(get("a"), fresh)),
		}},
		{name: "an invalidated item is said to be fresh after a fault", want: porcupine.Ok, faults: fault, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, invalidated), at(4, 5, with(get("a"), fresh)),
		}},
		{name: "a fresh item is said to be stale, even after a fault", want: porcupine.Illegal, faults: fault, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, invalidated), at(4, 5, set("b")), at(6, 7, with(get("b"), stale)),
		}},
		{name: "two clients win", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, invalidated), at(4, 5, with(get("a"), won)), at(6, 7, with(get("a"), won)),
		}},
		{name: "two clients win, one after a fault", want: porcupine.Ok, faults: fault, ops: []*Op{
			at(0, 1, set("a")), at(1.1, 1.2, invalidated), at(1.3, 1.4, with(get("a"), won)), at(6, 7, with(get("a"), won)),
		}},
		{name: "two clients win, one after each of two invalidations", want: porcupine.Ok, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, invalidated), at(4, 5, with(get("a"), won)), at(5, 5.1, invalidated), at(6, 7, with(get("a"), won)),
		}},
		{name: "an invalidated item keeps its token", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, invalidated), at(6, 7, cas("b", 5, "a", "STORED")),
		}},
		{name: "an item gets another token while it is stale", want: porcupine.Ok, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, invalidated), at(4, 5, gets("a", 5)), at(6, 7, cas("b", 5, "a", "EXISTS")), at(8, 9, get("a")),
		}},
		{name: "an item gets another token when it is no longer stale", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, invalidated), at(4, 5, set("b")), at(6, 7, gets("b", 5)), at(8, 9, cas("c", 5, "b", "EXISTS")),
		}},
		{name: "an invalidated item is gone", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, invalidated), at(4, 5, miss()),
		}},
		{name: "an item is invalidated that is not there", want: porcupine.Illegal, ops: []*Op{at(2, 3, invalidated)}},
		{name: "a read that tells another expiry", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, with(set("a"), func(o *Op) { o.Expiry = 2 })), at(2, 3, with(get("a"), timed(3))),
		}},
	}
}

// scripted is a client that sends operations to a server that answers with
// what the test says, whatever it is asked.
func scripted(t *testing.T, answer func(request []byte) string) *client {
	t.Helper()
	near, far := net.Pipe()
	go func() {
		buffer := make([]byte, 64<<10)
		for {
			n, err := far.Read(buffer)
			if err != nil {
				return
			}
			if _, err := far.Write([]byte(answer(buffer[:n]))); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	r := newRound(alone{}, "r", 2, time.Millisecond)
	c := newClient(1, 1, r)
	c.conn = harness.NewClient(near)
	return c
}

// metaWord is the word of a request that begins with a letter.
func metaWord(request []byte, letter byte) string {
	line, _, _ := bytes.Cut(request, []byte("\r\n"))
	for _, w := range strings.Fields(string(line))[2:] {
		if w[0] == letter {
			return w
		}
	}
	return ""
}

// isQuiet reports whether meta commands are followed by mn.
func isQuiet(request []byte) bool { return bytes.HasSuffix(request, []byte("mn\r\n")) }

// Answers of another command, of another key, and those that nobody gives are
// found; an error of the server is not taken for an answer.
func TestMetaAnswersAreChecked(t *testing.T) {
	tests := []struct {
		name   string
		kind   Kind
		answer string // %s is the opaque
		want   string // "" for nonsense
	}{
		{"a hit", Get, "VA 1 f7 %s\r\na\r\n", Hit},
		{"a miss", Get, "EN %s\r\n", Miss},
		{"another opaque", Get, "VA 1 f7 Oother\r\na\r\n", ""},
		{"no opaque", Get, "VA 1 f7\r\na\r\n", ""},
		{"another key", Get, "VA 1 f7 kother %s\r\na\r\n", ""},
		{"no flags", Get, "VA 1 %s\r\na\r\n", ""},
		{"another size", Get, "VA 1 f7 s2 %s\r\na\r\n", ""},
		{"a value without its end", Get, "VA 1 f7 %s\r\nabc\r\n", ""},
		{"stored", Set, "HD %s\r\n", "STORED"},
		{"a value for a set", Set, "VA 1 f7 %s\r\na\r\n", ""},
		{"a miss for a set", Set, "EN %s\r\n", ""},
		{"not stored", Add, "NS %s\r\n", "NOT_STORED"},
		{"deleted", Delete, "HD %s\r\n", "DELETED"},
		{"nothing to delete", Delete, "NF %s\r\n", "NOT_FOUND"},
		{"another version", Delete, "EX %s\r\n", "EXISTS"},
		{"nothing to touch", Touch, "EN %s\r\n", "NOT_FOUND"},
		{"a number", Incr, "VA 2 %s\r\n12\r\n", "12"},
		{"an error of the server", Set, "SERVER_ERROR gone\r\n", "SERVER_ERROR gone"},
		{"an error of the client", Set, "CLIENT_ERROR bad\r\n", "CLIENT_ERROR bad"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 20 { // quiet at times, and with other flags each time
				c := scripted(t, func(request []byte) string {
					answer := strings.ReplaceAll(tt.answer, "%s", metaWord(request, 'O'))
					if isQuiet(request) {
						answer += "MN\r\n"
					}
					return answer
				})
				o := &Op{Kind: tt.kind, Key: "key", Value: "5", Dialect: Meta}
				err := c.sayMeta([]*Op{o})
				switch {
				case tt.want == "" && !errors.Is(err, errNonsense):
					t.Fatalf("it is taken for %q, %v", o.Answer, err)
				case tt.want != "" && (err != nil || o.Answer != tt.want):
					t.Fatalf("it is taken for %q, %v, want %q", o.Answer, err, tt.want)
				}
			}
		})
	}
}

// A binary answer with another opaque, opcode or key is found; a status that
// says that something is broken becomes a SERVER_ERROR.
func TestBinaryAnswersAreChecked(t *testing.T) {
	tests := []struct {
		name   string
		kind   Kind
		change func(p *packet) // of the right answer
		want   string          // "" for nonsense
	}{
		{"a hit", Get, func(p *packet) { p.extras, p.value = []byte{0, 0, 0, 7}, "a" }, Hit},
		{"a miss", Get, func(p *packet) { p.status, p.key = binNotFound, "" }, Miss},
		{"another opaque", Get, func(p *packet) { p.opaque += 100 }, ""},
		{"another opcode", Get, func(p *packet) { p.opcode = binDelete }, ""},
		{"another key", Get, func(p *packet) { p.extras, p.key = []byte{0, 0, 0, 7}, "other" }, ""},
		{"no flags", Get, func(*packet) {}, ""},
		{"a hit for a set", Set, func(p *packet) { p.opcode = binGet }, ""},
		{"stored", Set, func(*packet) {}, "STORED"},
		{"not stored", Append, func(p *packet) { p.status = binNotStored }, "NOT_STORED"},
		{"there already", Add, func(p *packet) { p.status = binExists }, "NOT_STORED"},
		{"nothing to replace", Replace, func(p *packet) { p.status = binNotFound }, "NOT_STORED"},
		{"another version", Cas, func(p *packet) { p.status = binExists }, "EXISTS"},
		{"no version", Cas, func(p *packet) { p.status = binNotFound }, "NOT_FOUND"},
		{"a number", Incr, func(p *packet) { p.value = "\x00\x00\x00\x00\x00\x00\x00\x0c" }, "12"},
		{"half a number", Incr, func(p *packet) { p.value = "\x00\x0c" }, ""},
		{"no number", Incr, func(p *packet) { p.status = binNoNumber }, NotANumber},
		{"an internal error", Set, func(p *packet) { p.status, p.value = 0x84, "SERVER_ERROR gone" }, "SERVER_ERROR gone"},
		{"another error", Set, func(p *packet) { p.status, p.value = 0x86, "later" }, "SERVER_ERROR status 0x86: later"},
		{"not understood", Set, func(p *packet) { p.status, p.value = binNoCommand, "what" }, "CLIENT_ERROR status 0x81: what"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 20 { // quiet at times, and with the key at times
				c := scripted(t, func(request []byte) string { return binaryScript(t, request, tt.change) })
				o := &Op{Kind: tt.kind, Key: "key", Value: "5", Dialect: Binary}
				err := c.sayBinary([]*Op{o})
				switch {
				case tt.want == "" && !errors.Is(err, errNonsense):
					t.Fatalf("it is taken for %q, %v", o.Answer, err)
				case tt.want != "" && (err != nil || o.Answer != tt.want):
					t.Fatalf("it is taken for %q, %v, want %q", o.Answer, err, tt.want)
				}
			}
		})
	}
}

// binaryScript answers the first request of some with a change, and a noop
// behind it well.
func binaryScript(t *testing.T, request []byte, change func(*packet)) string {
	t.Helper()
	var out []byte
	for first := true; len(request) > 0; first = false {
		size := binHeader + int(request[10])<<8 + int(request[11])
		key := request[binHeader+int(request[4]):][:request[3]]
		p := packet{opcode: request[1], opaque: uint32(request[14])<<8 | uint32(request[15])}
		switch p.opcode {
		case binGetK, binGetKQ:
			p.key = string(key)
		}
		request = request[size:]
		if first {
			change(&p)
		}
		at := len(out)
		out = p.append(out)
		out[at], out[at+6], out[at+7] = binResponse, byte(p.status>>8), byte(p.status)
	}
	return string(out)
}

// Quiet retrievals that are not answered are misses, the others are hits,
// wherever they are among them.
func TestQuietRetrievalsAreToldApart(t *testing.T) {
	for _, dialect := range []Dialect{Meta, Binary} {
		for hit := range 4 { // 3: none
			t.Run(fmt.Sprintf("%s,%d", dialect, hit), func(t *testing.T) {
				for range 20 {
					ops := []*Op{{Kind: Get, Key: "key0"}, {Kind: Get, Key: "key1"}, {Kind: Get, Key: "key2"}}
					var err error
					if dialect == Meta {
						err = scripted(t, func(request []byte) string { return metaHit(request, hit) }).sayMeta(ops)
					} else {
						err = scripted(t, func(request []byte) string { return binaryHit(request, hit) }).sayBinary(ops)
					}
					for i, o := range ops {
						want := Miss
						if i == hit {
							want = Hit
						}
						if err != nil || o.Answer != want {
							t.Fatalf("key %d is a %q, %v, want a %s", i, o.Answer, err, want)
						}
					}
				}
			})
		}
	}
}

// metaHit answers as a server that has one of the keys.
func metaHit(request []byte, hit int) string {
	out := ""
	for i, line := range strings.SplitAfter(string(request), "\r\n") {
		switch {
		case line == "mn\r\n":
			out += "MN\r\n"
		case line == "":
		case i == hit:
			out += "VA 1 f7 " + metaWord([]byte(line), 'O') + "\r\na\r\n"
		case !isQuiet(request):
			out += "EN " + metaWord([]byte(line), 'O') + "\r\n"
		}
	}
	return out
}

// binaryHit answers as a server that has one of the keys.
func binaryHit(request []byte, hit int) string {
	var out []byte
	for i := 0; len(request) > 0; i++ {
		size := binHeader + int(request[11])
		p := packet{opcode: request[1], opaque: uint32(request[15])}
		at := len(out)
		switch quiet := p.opcode == binGetQ || p.opcode == binGetKQ; {
		case p.opcode == binNoop:
			out = p.append(out)
		case i == hit:
			if p.opcode == binGetK || p.opcode == binGetKQ {
				p.key = string(request[binHeader:size])
			}
			p.extras, p.value = []byte{0, 0, 0, 7}, "a"
			out = p.append(out)
		case !quiet:
			out = p.append(out)
			out[at+7] = binNotFound
		}
		if len(out) > at {
			out[at] = binResponse
		}
		request = request[size:]
	}
	return string(out)
}

// MAGENT_DIALECTS chooses; what it does not know is an error.
func TestDialectsAreChosen(t *testing.T) {
	for value, want := range map[string]string{"": "[text meta binary]", "binary": "[binary]", "meta,text": "[meta text]", "text,latin": "", "text,": ""} {
		t.Setenv("MAGENT_DIALECTS", value)
		got, err := DialectsFromEnv()
		if (err != nil) != (want == "") || err == nil && fmt.Sprint(got) != want {
			t.Errorf("MAGENT_DIALECTS=%s: %v, %v, want %s", value, got, err, want)
		}
	}
	rng := newClient(1, 1, newRound(alone{}, "r", 1, time.Millisecond)).rng
	seen := make(map[string]bool)
	for range 200 {
		seen[fmt.Sprint(onOneConnection(rng, AllDialects()))] = true
		if got := onOneConnection(rng, []Dialect{Meta, Binary}); len(got) != 1 || got[0] == Text {
			t.Fatalf("of meta and binary a connection speaks %v", got)
		}
	}
	if len(seen) != 4 || !seen["[text meta]"] {
		t.Errorf("connections speak %v", seen)
	}
}
