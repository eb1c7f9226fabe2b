package checker

import (
	"fmt"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// at makes an operation that took from one second to another.
func at(from, to float64, o Op) *Op {
	o.Key = "k"
	o.Call = time.Duration(from * float64(time.Second))
	o.Return = time.Duration(to * float64(time.Second))
	return &o
}

// unknown makes an operation without an answer.
func unknown(from float64, o Op) *Op {
	p := at(from, from, o)
	p.fail("connection closed")
	return p
}

func set(value string) Op      { return Op{Kind: Set, Value: value, Answer: "STORED"} }
func get(value string) Op      { return Op{Kind: Get, Answer: Hit, GotValue: value} }
func miss() Op                 { return Op{Kind: Get, Answer: Miss} }
func deleted() Op              { return Op{Kind: Delete, Answer: "DELETED"} }
func incr(by, got string) Op   { return Op{Kind: Incr, Value: by, Answer: got} }
func appended(value string) Op { return Op{Kind: Append, Value: value, Answer: "STORED"} }
func gets(value string, token uint64) Op {
	return Op{Kind: Gets, Answer: Hit, GotValue: value, GotToken: token}
}
func cas(value string, token uint64, seen, answer string) Op {
	return Op{Kind: Cas, Value: value, Token: token, Seen: seen, Answer: answer}
}
func from(initial string, o Op) Op {
	o.Initial = initial
	return o
}
func only(token uint64, seen string, o Op) Op {
	o.Token, o.Seen = token, seen
	return o
}
func told(token uint64, o Op) Op {
	o.GotToken = token
	return o
}
func flushed() Op { return Op{Kind: Flush, Answer: "OK"} }

// with returns the operation with something changed.
func with(o Op, change func(*Op)) Op {
	change(&o)
	return o
}

// byHand is a history made by hand, and what the check has to say of it.
type byHand struct {
	name   string
	ops    []*Op
	losses []Span
	faults []Fault
	want   porcupine.CheckResult
}

// The checker finds each broken promise in histories made by hand, and finds
// nothing in the ones that only look strange.
//
// promise: C1, C3, C4, C6, C7, C8, C9, C11
func TestHistoriesMadeByHand(t *testing.T) {
	expired := func(o *Op) { o.Expiry = Past }
	tests := []byHand{
		{name: "nothing happened", want: porcupine.Ok},
		{name: "a value is read back", want: porcupine.Ok, ops: []*Op{at(0, 1, set("a")), at(2, 3, get("a"))}},
		{name: "a read during a set sees either", want: porcupine.Ok, ops: []*Op{
			at(0, 1, set("a")), at(2, 6, set("b")), at(3, 4, get("b")), at(3, 5, get("a")), at(7, 8, get("b")),
		}},
		{name: "a stale read after a set", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, set("b")), at(4, 5, get("a")),
		}},
		{name: "a read goes back in time", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 9, set("b")), at(3, 4, get("b")), at(5, 6, get("a")),
		}},
		{name: "a deleted value comes back", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, deleted()), at(4, 5, miss()), at(6, 7, get("a")),
		}},
		{name: "a flushed value comes back", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, flushed()), at(4, 5, get("a")),
		}},
		{name: "a flush may have run before the set", want: porcupine.Ok, ops: []*Op{
			at(2, 3, set("a")), at(1, 4, flushed()), at(5, 6, get("a")),
		}},
		{name: "an incr counted twice", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("100")), at(2, 3, incr("7", "114")),
		}},
		{name: "an incr counted twice is seen later", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("100")), at(2, 3, incr("7", "107")), at(4, 5, get("114")),
		}},
		{name: "an incr is forgotten", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("100")), at(2, 3, incr("7", "107")), at(4, 5, get("100")),
		}},
		{name: "an incr without an answer counts once", want: porcupine.Ok, ops: []*Op{
			at(0, 1, set("100")), unknown(2, incr("7", "")), at(4, 5, get("100")), at(6, 7, get("107")),
		}},
		{name: "an incr without an answer counts twice", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("100")), unknown(2, incr("7", "")), at(4, 5, get("114")),
		}},
		{name: "an append twice", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, appended("b")), at(4, 5, get("abb")),
		}},
		{name: "an append without an answer is undone", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), unknown(2, appended("b")), at(4, 5, get("ab")), at(6, 7, get("a")),
		}},
		{name: "a key is lost", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, miss()),
		}},
		{name: "a key is lost, says an add", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, Op{Kind: Add, Value: "b", Answer: "STORED"}),
		}},
		{name: "a key is lost with both copies", want: porcupine.Ok, losses: []Span{{From: 2 * time.Second, To: 3 * time.Second}}, ops: []*Op{
			at(0, 1, set("a")), at(4, 5, miss()),
		}},
		{name: "a key is lost before both copies are", want: porcupine.Illegal, losses: []Span{{From: 4 * time.Second, To: 5 * time.Second}}, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, miss()),
		}},
		{name: "a key is lost after both copies were", want: porcupine.Illegal, losses: []Span{{From: 2 * time.Second, To: 3 * time.Second}}, ops: []*Op{
			at(0, 1, set("a")), at(4, 5, get("a")), at(6, 7, miss()),
		}},
		{name: "a lost key comes back", want: porcupine.Illegal, losses: []Span{{From: 2 * time.Second, To: 3 * time.Second}}, ops: []*Op{
			at(0, 1, set("a")), at(4, 5, miss()), at(6, 7, get("a")),
		}},
		{name: "cas with the token of the version that is there", want: porcupine.Ok, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, cas("b", 5, "a", "STORED")), at(6, 7, get("b")),
		}},
		{name: "cas with an old token", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, set("b")), at(6, 7, cas("c", 5, "a", "STORED")),
		}},
		{name: "cas with an old token that another version has now", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, set("b")), at(5.1, 5.2, gets("b", 5)), at(6, 7, cas("c", 5, "a", "STORED")),
		}},
		{name: "cas with an old token, the value being the same again", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, set("a")), at(6, 7, cas("c", 5, "a", "STORED")),
		}},
		{name: "cas after a touch", want: porcupine.Ok, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, Op{Kind: Touch, Expiry: 3, Answer: "TOUCHED"}), at(6, 7, cas("c", 5, "a", "STORED")),
		}},
		{name: "a token that does not survive a fault", want: porcupine.Ok, faults: []Fault{{Span: Span{From: 3 * time.Second, To: 4 * time.Second}}}, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, cas("b", 5, "a", "EXISTS")), at(6, 7, gets("a", 6)),
		}},
		{name: "a token that does not survive although nothing happened", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, cas("b", 5, "a", "EXISTS")),
		}},
		{name: "EXISTS without an item", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(4, 5, deleted()), at(6, 7, cas("b", 5, "a", "EXISTS")),
		}},
		{name: "NOT_FOUND with an item", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, gets("a", 5)), at(6, 7, cas("b", 5, "a", "NOT_FOUND")),
		}},
		{name: "an expired item is gone", want: porcupine.Ok, ops: []*Op{
			at(0, 1, with(set("a"), expired)), at(2, 3, miss()),
		}},
		{name: "an expired item comes back", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, Op{Kind: Touch, Expiry: Past, Answer: "TOUCHED"}), at(4, 5, get("a")),
		}},
		{name: "an item loses its expiry", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, with(set("a"), func(o *Op) { o.Expiry = 2 })),
			at(2, 3, Op{Kind: Peek, Answer: Hit, GotValue: "a", GotExpiry: Never}),
		}},
		{name: "an item keeps its expiry", want: porcupine.Ok, ops: []*Op{
			at(0, 1, with(set("a"), func(o *Op) { o.Expiry = 2 })), at(1.1, 1.2, appended("b")),
			at(2, 3, Op{Kind: Peek, Answer: Hit, GotValue: "ab", GotExpiry: 2}),
		}},
		{name: "an item loses its flags", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, with(set("a"), func(o *Op) { o.Flags = 7 })), at(2, 3, get("a")),
		}},
		{name: "a set without an answer happens later", want: porcupine.Ok, ops: []*Op{
			at(0, 1, set("a")), unknown(2, set("b")), at(3, 4, get("a")), at(5, 6, get("b")),
		}},
		{name: "a set without an answer happens twice", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), unknown(2, set("b")), at(3, 4, get("b")), at(5, 6, set("c")), at(7, 8, get("b")),
		}},
		{name: "a noreply has to take effect", want: porcupine.Illegal, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, Op{Kind: Set, Value: "b", NoReply: true}), at(4, 5, get("a")),
		}},
		{name: "a noreply during a fault need not", want: porcupine.Ok, faults: []Fault{{Span: Span{From: time.Second, To: 3 * time.Second}}}, ops: []*Op{
			at(0, 1, set("a")), at(2, 3, Op{Kind: Set, Value: "b", NoReply: true}), at(4, 5, get("a")),
		}},
		{name: "spaces behind a number", want: porcupine.Ok, ops: []*Op{
			at(0, 1, set("100")), at(2, 3, Op{Kind: Decr, Value: "1", Answer: "99"}), at(4, 5, get("99 ")),
		}},
	}
	for _, tt := range append(tests, historiesOfOtherDialects()...) {
		t.Run(tt.name, func(t *testing.T) {
			h := History{Keys: []string{"k"}, Ops: tt.ops, Losses: tt.losses, Faults: tt.faults}
			if got := h.Check("k", 10*time.Second); got != tt.want {
				t.Errorf("the check says %s, want %s:\n%s", got, tt.want, h.around(h.ofKey("k", false), 0))
			}
		})
	}
}

// A violation is shown with the operation that does not fit, and the faults.
func TestViolationIsExplained(t *testing.T) {
	h := History{
		Keys:   []string{"k"},
		Ops:    []*Op{at(0, 1, set("a")), at(2, 3, set("b")), at(4, 5, get("a"))},
		Faults: []Fault{{Kind: "kill", What: "A dies", Span: Span{From: time.Second, To: 4 * time.Second}}},
	}
	verdicts, err := h.CheckAll(10*time.Second, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	want := "    0.000000 1.000000 client 0: set \"a\" flags 0 -> STORED\n" +
		"*** 1.000000 4.000000 kill: A dies\n" +
		"    2.000000 3.000000 client 0: set \"b\" flags 0 -> STORED\n" +
		"--> 4.000000 5.000000 client 0: get -> hit \"a\" flags 0"
	if len(verdicts) != 1 || verdicts[0].Short != want || len(verdicts[0].Written) != 2 {
		t.Errorf("got %s", fmt.Sprintf("%+v", verdicts))
	}
}
