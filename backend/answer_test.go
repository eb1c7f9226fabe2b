package backend

import (
	"fmt"
	"strings"
	"testing"

	"magent/proxy/protocol"
)

// conversation is requests, a server's answers and what the owners of the
// requests have to be told.
type conversation struct {
	name    string
	calls   func(r *rig)
	answers string
	told    string
	err     error // why the connection has failed in the end; nil: it has not
}

func value(key string, flags int, v string) string {
	return fmt.Sprintf("VALUE %s %d %d\r\n%s\r\n", key, flags, len(v), v)
}

// block is a value that needs no escaping and shows where it was cut.
func block(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.String()[:n]
}

var large = block(100_000)

var conversations = []conversation{
	{"lines", func(r *rig) {
		for i, name := range []string{"set", "add", "delete", "incr", "touch", "cas", "flush", "bad", "full", "refused"} {
			r.send(name, fmt.Sprintf("%s %d\r\n", name, i))
		}
	}, "STORED\r\nNOT_STORED\r\nDELETED\r\n18446744073709551615\r\nTOUCHED\r\nEXISTS\r\nOK\r\nERROR\r\n" +
		"SERVER_ERROR out of memory storing object\r\nCLIENT_ERROR bad data chunk\r\n",
		"set < STORED; add < NOT_STORED; delete < DELETED; incr = 18446744073709551615; touch < TOUCHED; cas < EXISTS; flush < OK; " +
			"bad < ERROR; full < SERVER_ERROR out of memory storing object; refused < CLIENT_ERROR bad data chunk", nil},
	{"a group with hits only", func(r *rig) { r.get("a", "a"); r.get("b", "b") },
		value("a", 7, "1") + value("b", 0, "") + "END\r\n",
		`a found "1" flags 7 cas 0; b found "" flags 0 cas 0`, nil},
	{"missing keys at every place", func(r *rig) {
		for _, k := range []string{"a", "b", "c", "d", "e", "f"} {
			r.get(k, k)
		}
	}, value("b", 0, "2") + value("e", 0, "5") + "END\r\n",
		`a missed; b found "2" flags 0 cas 0; c missed; d missed; e found "5" flags 0 cas 0; f missed`, nil},
	{"nothing found", func(r *rig) { r.get("a", "a"); r.get("b", "b"); r.send("set", "set\r\n") },
		"END\r\nSTORED\r\n", "a missed; b missed; set < STORED", nil},
	{"duplicate keys", func(r *rig) { r.get("a1", "a"); r.get("b", "b"); r.get("a2", "a"); r.get("a3", "a") },
		value("a", 0, "x") + value("a", 0, "x") + value("a", 0, "x") + "END\r\n",
		`a1 found "x" flags 0 cas 0; b missed; a2 found "x" flags 0 cas 0; a3 found "x" flags 0 cas 0`, nil},
	{"keys that begin alike", func(r *rig) { r.get("k", "k"); r.get("k1", "k1"); r.get("k11", "k11") },
		value("k11", 0, "x") + "END\r\n", `k missed; k1 missed; k11 found "x" flags 0 cas 0`, nil},
	{"values like answers", func(r *rig) { r.get("a", "a"); r.get("b", "b"); r.send("set", "set\r\n") },
		value("a", 0, "\r\nEND\r\n") + value("b", 0, "VALUE b 0 1\r\nx\r\n") + "END\r\nSTORED\r\n",
		`a found "\r\nEND\r\n" flags 0 cas 0; b found "VALUE b 0 1\r\nx\r\n" flags 0 cas 0; set < STORED`, nil},
	{"gets", func(r *rig) { r.get("gets a", "a"); r.get("gets b", "b") },
		"VALUE a 4294967295 1 18446744073709551615\r\nx\r\nEND\r\n",
		`gets a found "x" flags 4294967295 cas 18446744073709551615; gets b missed`, nil},
	{"gets and get are two groups", func(r *rig) { r.get("a", "a"); r.get("gets a", "a"); r.get("b", "b") },
		value("a", 0, "1") + "END\r\n" + "VALUE a 0 1 5\r\n2\r\nEND\r\n" + "END\r\n",
		`a found "1" flags 0 cas 0; gets a found "2" flags 0 cas 5; b missed`, nil},
	{"values and lines in turn", func(r *rig) {
		r.gat("hit", "h")
		r.send("set", "set\r\n")
		r.gat("miss", "m")
		r.send("incr", "incr\r\n")
		r.get("late", "l")
	}, value("h", 0, "H") + "END\r\nSTORED\r\nEND\r\n42\r\n" + value("l", 0, "L") + "END\r\n",
		`hit found "H" flags 0 cas 0; set < STORED; miss missed; incr = 42; late found "L" flags 0 cas 0`, nil},
	{"an error for a whole group", func(r *rig) { r.get("a", "a"); r.get("b", "b"); r.send("set", "set\r\n") },
		"SERVER_ERROR out of memory writing get response\r\nSTORED\r\n",
		"a < SERVER_ERROR out of memory writing get response; b < SERVER_ERROR out of memory writing get response; set < STORED", nil},
	{"an error in the middle of a group", func(r *rig) { r.get("a", "a"); r.get("b", "b"); r.get("c", "c"); r.send("set", "set\r\n") },
		value("a", 0, "1") + "SERVER_ERROR out of memory\r\nSTORED\r\n",
		`a found "1" flags 0 cas 0; b < SERVER_ERROR out of memory; c < SERVER_ERROR out of memory; set < STORED`, nil},
	{"an error in place of END", func(r *rig) { r.get("a", "a"); r.send("set", "set\r\n") },
		value("a", 0, "1") + "SERVER_ERROR out of memory\r\nSTORED\r\n", `a found "1" flags 0 cas 0; set < STORED`, nil},
	{"line ends without a carriage return", func(r *rig) { r.send("set", "set\r\n"); r.get("a", "a") },
		"STORED\nEND\n", "set < STORED; a missed", nil},
	{"large values", func(r *rig) { r.get("a", "a"); r.get("b", "b"); r.get("c", "c"); r.send("set", "set\r\n") },
		value("a", 0, large) + value("b", 0, large[:restLimit]) + value("c", 0, "small") + "END\r\nSTORED\r\n", "", nil},
	{"a large value that was not asked for first", func(r *rig) { r.get("a", "a"); r.get("b", "b"); r.send("set", "set\r\n") },
		value("b", 0, large) + "END\r\nSTORED\r\n", "", nil},

	{"a run of sets", func(r *rig) {
		r.server.setVersion("1.6.18")
		r.set("a", "a", "1")
		r.set("b", "b", "2")
		r.set("c", "c", "3")
		r.get("get", "a")
		r.send("delete", "delete\r\n")
	}, "MN\r\n" + value("a", 0, "1") + "END\r\nDELETED\r\n",
		`a < STORED; b < STORED; c < STORED; get found "1" flags 0 cas 0; delete < DELETED`, nil},
	{"a run of which some fail", func(r *rig) {
		r.server.setVersion("1.6.18")
		r.set("a", "a", "1")
		r.set("b", "b", "2")
		r.send("delete", "delete\r\n")
	}, "SERVER_ERROR object too large for cache\r\nSERVER_ERROR out of memory storing object\r\nMN\r\nDELETED\r\n",
		"a uncertain: SERVER_ERROR object too large for cache; b uncertain: SERVER_ERROR object too large for cache; delete < DELETED", nil},

	{"an answer that nobody waits for", func(r *rig) { r.send("set", "set\r\n") },
		"STORED\r\nSTORED\r\n", "set < STORED", ErrProtocol},
	{"END missing before a line", func(r *rig) { r.get("a", "a"); r.send("set", "set\r\n") },
		value("a", 0, "1") + "STORED\r\n", `a found "1" flags 0 cas 0; set failed`, ErrProtocol},
	{"END missing before a value", func(r *rig) { r.get("a", "a"); r.get("gets b", "b") },
		value("a", 0, "1") + "VALUE b 0 1 5\r\nx\r\nEND\r\n", `a found "1" flags 0 cas 0; gets b failed`, ErrProtocol},
	{"a value with no end", func(r *rig) { r.get("a", "a"); r.send("set", "set\r\n") },
		"VALUE a 0 3\r\nabcdef\r\nEND\r\n", "a failed; set failed", ErrProtocol},
	{"a large value with no end", func(r *rig) { r.get("a", "a"); r.send("set", "set\r\n") },
		fmt.Sprintf("VALUE a 0 %d\r\n%s\r\nEND\r\n", len(large)-1, large), "a failed; set failed", ErrProtocol},
	{"a value that is no value", func(r *rig) { r.get("a", "a"); r.get("b", "b") },
		"VALUE a 0 x\r\n", "a failed; b failed", ErrProtocol},
	{"a value that nobody may believe", func(r *rig) { r.get("a", "a") },
		"VALUE a 0 1048577\r\n", "a failed", ErrProtocol},
	{"too many connections", func(r *rig) { r.get("a", "a"); r.send("set", "set\r\n") },
		"ERROR Too many open connections\r\n", "a failed; set failed", ErrClosed},
	{"a line without an end", func(r *rig) { r.send("set", "set\r\n") },
		strings.Repeat("x", 8<<10), "set failed", ErrProtocol},
}

// Once an answer does not fit its request nobody knows whose the next one is:
// passing any of it on would give one client the answer of another.
var outOfStep = []conversation{
	{"a value for a line", func(r *rig) { r.send("set", "set\r\n"); r.send("delete", "delete\r\n") },
		value("a", 0, "DELETED") + "END\r\n", "set failed; delete failed", ErrProtocol},
	{"END for a line", func(r *rig) { r.send("set", "set\r\n"); r.send("delete", "delete\r\n") },
		"END\r\nSTORED\r\n", "set failed; delete failed", ErrProtocol},
	{"a statistic for a line", func(r *rig) { r.send("set", "set\r\n"); r.send("delete", "delete\r\n") },
		"STAT pid 1\r\nEND\r\n", "set failed; delete failed", ErrProtocol},
	{"garbage for a line", func(r *rig) { r.send("set", "set\r\n"); r.send("delete", "delete\r\n") },
		"HTTP/1.1 400 Bad Request\r\n", "set failed; delete failed", ErrProtocol},
	{"an empty line for a line", func(r *rig) { r.send("set", "set\r\n"); r.send("delete", "delete\r\n") },
		"\r\nSTORED\r\n", "set failed; delete failed", ErrProtocol},
	{"DELETED for a set", func(r *rig) { r.send("set", "set\r\n"); r.send("delete", "delete\r\n") },
		"DELETED\r\nDELETED\r\n", "set failed; delete failed", ErrProtocol},
	{"OK for a delete", func(r *rig) { r.send("delete", "delete\r\n"); r.send("set", "set\r\n") },
		"OK\r\nSTORED\r\n", "delete failed; set failed", ErrProtocol},
	{"TOUCHED for an incr", func(r *rig) { r.send("incr", "incr\r\n"); r.send("touch", "touch\r\n") },
		"TOUCHED\r\nTOUCHED\r\n", "incr failed; touch failed", ErrProtocol},
	{"a number for a touch", func(r *rig) { r.send("touch", "touch\r\n"); r.send("set", "set\r\n") },
		"1\r\nTOUCHED\r\n", "touch failed; set failed", ErrProtocol},
	{"STORED for a flush", func(r *rig) { r.send("flush", "flush_all\r\n"); r.send("set", "set\r\n") },
		"STORED\r\nOK\r\n", "flush failed; set failed", ErrProtocol},
	{"STORED for a get", func(r *rig) { r.get("a", "a"); r.get("b", "b"); r.send("set", "set\r\n") },
		"STORED\r\nEND\r\n", "a failed; b failed; set failed", ErrProtocol},
	{"a number for a get", func(r *rig) { r.get("a", "a"); r.send("incr", "incr\r\n") },
		"42\r\nEND\r\n", "a failed; incr failed", ErrProtocol},
	{"garbage for a get", func(r *rig) { r.get("a", "a"); r.send("set", "set\r\n") },
		"\x80\x00\x01\n", "a failed; set failed", ErrProtocol},
}

// converse makes the calls and feeds the answers, cut at the given places.
func converse(t *testing.T, c conversation, cuts ...int) (told string, errs []error) {
	t.Helper()
	r := newRig(t)
	defer r.finish()
	c.calls(r)
	r.requests()
	from := 0
	for _, cut := range append(cuts, len(c.answers)) {
		r.answer(c.answers[from:cut])
		from = cut
	}
	if c.err != nil {
		r.wantErr(c.err)
	} else if len(r.errs) > 0 || r.conn.Waiting() > 0 || r.conn.endDue || len(r.conn.rest) > 0 || r.conn.large != nil {
		t.Errorf("cut at %v: failed with %v, %d calls wait, END due %v, %d bytes kept", cuts, r.errs, r.conn.Waiting(), r.conn.endDue, len(r.conn.rest))
	}
	return r.told(), r.errs
}

// cuts are the places at which a long conversation is split: all near the
// line ends, some within the values.
func cuts(s string) (places []int) {
	for i := 1; i < len(s); i++ {
		near := i < 40 || i > len(s)-40 || i%9973 == 0
		for j := max(i-3, 0); j < min(i+3, len(s)) && !near; j++ {
			near = s[j] == '\n' || s[j] == '\r'
		}
		if near {
			places = append(places, i)
		}
	}
	return places
}

// Answers say the same in whatever pieces they come.
//
// promise: R4, C5
func TestAnswersAtEverySplit(t *testing.T) {
	for _, c := range conversations {
		t.Run(c.name, func(t *testing.T) {
			whole, _ := converse(t, c)
			if c.told != "" && whole != c.told {
				t.Fatalf("told  %q\nwant  %q", whole, c.told)
			}
			for _, i := range cuts(c.answers) {
				if told, _ := converse(t, c, i); strings.ReplaceAll(told, "kept true", "kept false") != strings.ReplaceAll(whole, "kept true", "kept false") {
					t.Fatalf("cut at %d told  %q\nwhole told  %q", i, told, whole)
				}
				if t.Failed() {
					t.Fatalf("cut at %d", i)
				}
			}
			if len(c.answers) < 1000 {
				bytewise := make([]int, len(c.answers))
				for i := range bytewise {
					bytewise[i] = i
				}
				if told, _ := converse(t, c, bytewise...); told != whole {
					t.Fatalf("byte by byte told  %q\nwhole told  %q", told, whole)
				}
			}
		})
	}
}

// promise: R4
func TestAnswersOutOfStep(t *testing.T) {
	for _, c := range outOfStep {
		t.Run(c.name, func(t *testing.T) {
			if told, _ := converse(t, c); told != c.told {
				t.Errorf("told  %q\nwant  %q", told, c.told)
			}
		})
	}
}

// A large value comes in a buffer of its own, which is the receiver's.
func TestLargeValuesAreKept(t *testing.T) {
	r := newRig(t)
	r.get("a", "a")
	r.requests()
	answer := value("a", 3, large) + "END\r\n"
	r.answer(answer[:1000])
	if r.conn.large == nil || cap(r.conn.large) != len(value("a", 3, large)) {
		t.Errorf("a buffer of %d bytes for a value of %d with its header", cap(r.conn.large), len(large))
	}
	r.answer(answer[1000:])
	if told := r.told(); !strings.HasPrefix(told, "a found 100000 bytes") || !strings.HasSuffix(told, "kept true") {
		t.Errorf("told %q", told)
	}
}

// A value for a key that nobody asked for ends the connection; none of the
// calls is given it.
//
// promise: R4
func TestValueThatNobodyAskedFor(t *testing.T) {
	for _, c := range []struct {
		calls   func(r *rig)
		answers string
	}{
		{func(r *rig) { r.get("a", "a"); r.get("b", "b"); r.get("gets a", "z") }, value("z", 0, "x") + "END\r\n"},
		{func(r *rig) { r.get("a", "a"); r.get("b", "b") }, value("b", 0, "x") + value("a", 0, "x") + "END\r\n"},
		{func(r *rig) { r.get("a", "a") }, value("a", 0, "x") + value("a", 0, "x") + "END\r\n"},
	} {
		r := newRig(t)
		c.calls(r)
		r.requests()
		r.answer(c.answers)
		r.wantErr(ErrProtocol)
		if told := r.told(); strings.Count(told, "found") != strings.Count(c.answers, "VALUE")-1 {
			t.Errorf("after %q: told %q", c.answers, told)
		}
	}
}

// The server closes after any byte of its answers: each call has been told
// its whole answer, or is failed, and never both.
//
// promise: C4, R3
func TestEndAfterEveryByte(t *testing.T) {
	for _, c := range conversations[:18] {
		t.Run(c.name, func(t *testing.T) {
			whole, _ := converse(t, c)
			wanted := strings.Split(whole, "; ")
			for i := range append(cuts(c.answers), len(c.answers)) {
				r := newRig(t)
				c.calls(r)
				r.requests()
				r.answer(c.answers[:i])
				r.end()
				r.wantErr(ErrClosed)
				told := strings.Split(r.told(), "; ")
				if told[0] == "" {
					told = nil
				}
				// A miss within a group is known only when the next value or END is there.
				for j, want := range wanted {
					name, _, _ := strings.Cut(want, " ")
					if j >= len(told) || told[j] != want && !strings.HasSuffix(told[j], " failed") || !strings.HasPrefix(told[j], name) {
						t.Fatalf("closed after %d bytes: told %q, want each of %q or a failure", i, told, wanted)
					}
					if strings.HasSuffix(told[j], " failed") && j+1 < len(told) && !strings.HasSuffix(told[j+1], " failed") {
						t.Fatalf("closed after %d bytes: %q after a failure", i, told[j+1])
					}
				}
				if len(told) != len(wanted) {
					t.Fatalf("closed after %d bytes: told %q, want %d", i, told, len(wanted))
				}
				// Nothing of it disturbs the next connection.
				r.attach()
				r.get("a", "a")
				r.send("set", "set\r\n")
				r.requests()
				r.answer("END\r\nSTORED\r\n")
				r.want("a missed; set < STORED")
				r.finish()
			}
		})
	}
}

// A value that is announced larger than what is sent.
//
// promise: R3
func TestValueShorterThanAnnounced(t *testing.T) {
	for _, size := range []int{100, restLimit + 1, 1 << 20} {
		r := newRig(t)
		r.get("a", "a")
		r.send("set", "set\r\n")
		r.requests()
		r.answer(fmt.Sprintf("VALUE a 0 %d\r\nshort\r\nEND\r\n", size))
		r.want("")
		r.end()
		r.want("a failed; set failed")
		r.wantErr(ErrClosed)
		if r.conn.large != nil || len(r.conn.rest) > 0 {
			t.Error("bytes of a connection that is gone are kept")
		}
		// Nothing of it disturbs the next connection.
		r.attach()
		r.get("a", "a")
		r.requests()
		r.answer(value("a", 0, "x") + "END\r\n")
		r.want(`a found "x" flags 0 cas 0`)
	}
}

// Whatever a server sends, in whatever pieces: every call is told once, or
// fails, and the same happens at every split.
//
// promise: R4
func FuzzAnswers(f *testing.F) {
	for _, c := range append(conversations, outOfStep...) {
		if len(c.answers) < 1000 {
			f.Add([]byte(c.answers), uint16(len(c.answers)/2))
		}
	}
	f.Add([]byte(value("a", 1, "1")+value("b", 0, "2")+"END\r\nSTORED\r\nEND\r\n7\r\nEND\r\n"), uint16(30))
	f.Fuzz(func(t *testing.T, answers []byte, at uint16) {
		run := func(pieces ...[]byte) string {
			r := newRig(t)
			defer r.finish()
			r.anyCAS = true
			r.get("a", "a")
			r.get("b", "b")
			r.send("set", "set\r\n")
			r.get("gets a", "a")
			r.send("incr", "incr\r\n")
			r.gat("c", "c")
			r.requests()
			for _, p := range pieces {
				r.answer(string(p))
			}
			if len(r.errs) > 1 {
				t.Fatalf("failed %d times", len(r.errs))
			}
			r.end()
			if n := len(r.log); n != 6 && n != 0 || n == 0 && len(r.errs) == 0 {
				t.Fatalf("6 calls were told %q, %v", r.log, r.errs)
			}
			return r.told()
		}
		cut := min(int(at), len(answers))
		whole, split := run(answers), run(answers[:cut], answers[cut:])
		if whole != split {
			t.Fatalf("whole: %q\ncut at %d: %q", whole, cut, split)
		}
	})
}

// Answers come back without an allocation.
func TestAnswersAllocateNothing(t *testing.T) {
	r := newRig(t)
	calls := make([]quietCall, 3)
	for i := range calls {
		calls[i].Owner, calls[i].Kind, calls[i].Key = &calls[i], Value, []byte{byte('a' + i)}
	}
	line := &quietCall{}
	line.Owner, line.Answers = line, protocol.AnswersTo(protocol.OpSet)
	answers := value("a", 0, strings.Repeat("x", 100)) + value("c", 0, strings.Repeat("y", 1000)) + "END\r\nSTORED\r\n"
	buf := make([]byte, 4096)
	turn := func() {
		for i := range calls {
			r.conn.Get(&calls[i].Call, protocol.OpGet, uint64(i))
		}
		r.conn.CloseGroup()
		r.conn.End(append(r.conn.Begin(64), "set k 0 0 1\r\nx\r\n"...))
		r.conn.Queue(&line.Call)
		r.conn.Flush()
		unixRead(t, r.peer, buf)
		unixWrite(t, r.peer, buf[:copy(buf, answers[:50])])
		r.conn.Ready(readable)
		unixWrite(t, r.peer, buf[:copy(buf, answers[50:])])
		r.conn.Ready(readable)
	}
	turn()
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations for a turn with four calls", n)
	}
	if calls[0].found == 0 || calls[1].found != 0 || calls[2].found != calls[0].found || line.lines != calls[0].found {
		t.Errorf("told %+v %+v", calls, line)
	}
}
