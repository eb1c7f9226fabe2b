package backend

import (
	"fmt"
	"strings"
	"testing"

	"magent/proxy/protocol"
)

// newRunRig is a rig whose server takes runs of sets.
func newRunRig(t *testing.T) *rig {
	r := newRig(t)
	r.server.setVersion("1.6.18")
	return r
}

func (r *rig) wantSent(want string) {
	r.t.Helper()
	if got := r.requests(); got != want {
		r.t.Errorf("sent  %.500q\nwant  %.500q", got, want)
	}
}

func TestVersionsThatTakeRuns(t *testing.T) {
	s := newUpServer(1)
	for version, want := range map[string]bool{
		"1.6.14": true, "1.6.18": true, "1.6.38": true, "1.6.100": true, "1.7.0": true, "2.0.0": true, "1.6.21-custom": true,
		"1.6.13": false, "1.6.9": false, "1.5.22": false, "1.4.15": false, "1.2.8": false, "": false, "unknown": false, "1.6": false,
	} {
		s.setVersion(version)
		if s.takesRuns() != want {
			t.Errorf("version %q takes runs: %v, want %v", version, s.takesRuns(), want)
		}
		if s.Version() != version {
			t.Errorf("version %q was kept as %q", version, s.Version())
		}
	}
}

// promise: W4
func TestRunOnTheWire(t *testing.T) {
	r := newRunRig(t)
	r.set("alone", "k", "v")
	r.wantSent("set k 0 0 1\r\nv\r\n")
	r.answer("STORED\r\n")
	r.want("alone < STORED")

	r.set("a", "a", "1")
	r.set("b", "b", "22")
	if r.conn.Waiting() != 2 || !r.conn.Unflushed() {
		t.Errorf("%d sets wait, unflushed %v", r.conn.Waiting(), r.conn.Unflushed())
	}
	r.wantSent("ms a 1 q\r\n1\r\nms b 2 q\r\n22\r\nmn\r\n")
	if r.conn.Waiting() < 2 {
		t.Errorf("%d calls wait, want two sets and perhaps what ends them", r.conn.Waiting())
	}
	r.answer("MN\r\n")
	r.want("a < STORED; b < STORED")
	if r.conn.Waiting() != 0 {
		t.Errorf("%d calls wait after all was answered", r.conn.Waiting())
	}

	old := newRig(t)
	old.set("a", "a", "1")
	old.set("b", "b", "2")
	old.wantSent("set a 0 0 1\r\n1\r\nset b 0 0 1\r\n2\r\n")
	old.answer("STORED\r\nSTORED\r\n")
	old.want("a < STORED; b < STORED")
}

// A run keeps its place among the other requests: a set, a get and a set of
// one key are run in this order.
//
// promise: C2, C3, W6
func TestOrderAroundARun(t *testing.T) {
	r := newRunRig(t)
	r.set("first", "k", "1")
	r.get("get", "k")
	if !r.conn.Asks(hashOf("k")) {
		t.Fatal("the get of k is not seen")
	}
	r.conn.CloseGroup() // as whoever writes k must
	r.set("second", "k", "2")
	r.wantSent("set k 0 0 1\r\n1\r\nget k\r\nset k 0 0 1\r\n2\r\n")
	r.answer("STORED\r\n" + value("k", 0, "1") + "END\r\nSTORED\r\n")
	r.want(`first < STORED; get found "1" flags 0 cas 0; second < STORED`)

	r.set("a", "a", "1")
	r.set("b", "b", "2")
	r.send("delete", "delete a\r\n")
	r.set("c", "c", "3")
	r.set("d", "d", "4")
	r.get("get", "c")
	r.gat("gat", "d")
	r.set("e", "e", "5")
	r.wantSent("ms a 1 q\r\n1\r\nms b 1 q\r\n2\r\nmn\r\ndelete a\r\nms c 1 q\r\n3\r\nms d 1 q\r\n4\r\nmn\r\ngat 0 d\r\nset e 0 0 1\r\n5\r\nget c\r\n")
	r.answer("MN\r\nDELETED\r\nMN\r\nEND\r\nSTORED\r\nEND\r\n")
	r.want("a < STORED; b < STORED; delete < DELETED; c < STORED; d < STORED; gat missed; e < STORED; get missed")
}

// Values that are too large travel alone and keep their place.
//
// promise: C2
func TestLargeSetsTravelAlone(t *testing.T) {
	for _, size := range []int{runValue + 1, linked + 1} {
		r := newRunRig(t)
		v := block(size)
		r.set("a", "k", "1")
		r.set("b", "k", "2")
		r.set("large", "k", v)
		r.set("c", "k", "3")
		r.set("d", "k", "4")
		r.wantSent(fmt.Sprintf("ms k 1 q\r\n1\r\nms k 1 q\r\n2\r\nmn\r\nset k 0 0 %d\r\n%s\r\nms k 1 q\r\n3\r\nms k 1 q\r\n4\r\nmn\r\n", size, v))
		r.answer("MN\r\nSTORED\r\nMN\r\n")
		r.want("a < STORED; b < STORED; large < STORED; c < STORED; d < STORED")
	}
}

// A run has a bound: nobody waits for the answer to thousands of sets.
//
// promise: C5, R2
func TestRunLimit(t *testing.T) {
	r := newRunRig(t)
	var want, told strings.Builder
	for i := range 2*runLimit + 1 {
		r.set(fmt.Sprint(i), "k", "v")
		if i == 2*runLimit {
			want.WriteString("set k 0 0 1\r\nv\r\n")
		} else {
			want.WriteString("ms k 1 q\r\nv\r\n")
		}
		if i%runLimit == runLimit-1 {
			want.WriteString("mn\r\n")
		}
		if i > 0 {
			told.WriteString("; ")
		}
		fmt.Fprintf(&told, "%d < STORED", i)
	}
	r.wantSent(want.String())
	r.answer("MN\r\nMN\r\nSTORED\r\n")
	r.want(told.String())
}

// When a set of a run fails nobody knows which: all count as uncertain, those
// of the next run do not, and the server is sent no more runs.
//
// promise: C1, C2
func TestFailureInARun(t *testing.T) {
	r := newRunRig(t)
	r.set("a", "a", "1")
	r.set("b", "b", "2")
	r.conn.CloseGroup()
	r.set("c", "c", "3")
	r.set("d", "d", "4")
	r.requests()
	r.answer("SERVER_ERROR object too large for cache\r\nMN\r\nMN\r\n")
	r.want("a uncertain: SERVER_ERROR object too large for cache; b uncertain: SERVER_ERROR object too large for cache; c < STORED; d < STORED")
	r.set("e", "e", "5")
	r.set("f", "f", "6")
	r.wantSent("set e 0 0 1\r\n5\r\nset f 0 0 1\r\n6\r\n")
	r.answer("STORED\r\nSERVER_ERROR out of memory storing object\r\n")
	r.want("e < STORED; f < SERVER_ERROR out of memory storing object")
	if r.server.takesRuns() {
		t.Error("runs go on after a failure")
	}
}

// The server turns out to take no runs while one is open: the open one is
// ended, and what follows it stays behind it.
//
// promise: C2
func TestRunsTurnedOffWhileOneIsOpen(t *testing.T) {
	r := newRunRig(t)
	r.set("a", "k", "1")
	r.set("b", "k", "2")
	r.server.noRuns.Store(true)
	r.set("c", "k", "3")
	r.wantSent("ms k 1 q\r\n1\r\nms k 1 q\r\n2\r\nmn\r\nset k 0 0 1\r\n3\r\n")
	r.answer("MN\r\nSTORED\r\n")
	r.want("a < STORED; b < STORED; c < STORED")
}

// The connection is lost before, in the middle of or behind the answers to
// runs: the sets come back in their order, and nothing else does.
//
// promise: C4, R3
func TestConnectionLostInARun(t *testing.T) {
	for answers, want := range map[string]string{
		"":                        "a failed; b failed; get failed; c failed; d failed; delete failed",
		"M":                       "a failed; b failed; get failed; c failed; d failed; delete failed",
		"SERVER_ERROR x\r\n":      "a failed; b failed; get failed; c failed; d failed; delete failed",
		"MN\r\n":                  "a < STORED; b < STORED; get failed; c failed; d failed; delete failed",
		"MN\r\nEND\r\n":           "a < STORED; b < STORED; get missed; c failed; d failed; delete failed",
		"MN\r\nEND\r\nMN\r\n":     "a < STORED; b < STORED; get missed; c < STORED; d < STORED; delete failed",
		"MN\r\nEND\r\nMN\r\nDELE": "a < STORED; b < STORED; get missed; c < STORED; d < STORED; delete failed",
	} {
		r := newRunRig(t)
		r.set("a", "k", "1")
		r.set("b", "k", "2")
		r.get("get", "k")
		r.conn.CloseGroup()
		r.set("c", "k", "3")
		r.set("d", "k", "4")
		r.send("delete", "delete\r\n")
		r.requests()
		r.answer(answers)
		r.end()
		r.want(want)
		r.wantErr(ErrClosed)
		if r.server.noRuns.Load() {
			t.Errorf("after %q and the end: runs are turned off, although none was answered with a failure", answers)
		}
		// Nothing of the old run is left to the next one.
		r.attach()
		r.set("e", "k", "5")
		r.set("f", "k", "6")
		r.wantSent("ms k 1 q\r\n5\r\nms k 1 q\r\n6\r\nmn\r\n")
		r.answer("MN\r\n")
		r.want("e < STORED; f < STORED")
		r.finish()
	}
	// A run that is still open is lost with the connection too.
	r := newRunRig(t)
	r.set("a", "k", "1")
	r.set("b", "k", "2")
	r.server.TakeOut(true, "")
	r.conn.Sync()
	r.want("a failed; b failed")
}

// Calls that failed in a run are queued again, alone: their answers are
// ordinary ones.
//
// promise: C4
func TestSetsOfALostRunAreQueuedAgain(t *testing.T) {
	r := newRunRig(t)
	a, b := r.set("a", "a", "1"), r.set("b", "b", "2")
	r.requests()
	r.end()
	r.want("a failed; b failed")
	r.attach()
	r.server.noRuns.Store(true)
	r.conn.Set(&b.Call)
	r.conn.Set(&a.Call)
	r.wantSent("set b 0 0 1\r\n2\r\nset a 0 0 1\r\n1\r\n")
	r.answer("NOT_STORED\r\nSTORED\r\n")
	r.want("b < NOT_STORED; a < STORED")
}

// A call that was told its answer in a run is queued again as something else,
// as an uncertain set is that has to be deleted.
//
// promise: C1, C2
func TestCallsOfARunAreQueuedAgain(t *testing.T) {
	r := newRunRig(t)
	again := func(c *testCall) {
		c.then = func() {
			c.then = nil
			c.Answers = protocol.AnswersTo(protocol.OpDelete)
			r.conn.End(append(r.conn.Begin(20), "delete "+c.name+"\r\n"...))
			r.conn.Queue(&c.Call)
		}
	}
	again(r.set("a", "a", "1"))
	again(r.set("b", "b", "2"))
	again(r.set("c", "c", "3"))
	r.requests()
	r.answer("SERVER_ERROR x\r\nMN\r\n")
	r.want("a uncertain: SERVER_ERROR x; b uncertain: SERVER_ERROR x; c uncertain: SERVER_ERROR x")
	r.wantSent("delete a\r\ndelete b\r\ndelete c\r\n")
	r.answer("DELETED\r\nNOT_FOUND\r\nDELETED\r\n")
	r.want("a < DELETED; b < NOT_FOUND; c < DELETED")
}

// promise: R4
func TestNonsenseInARun(t *testing.T) {
	for _, answers := range []string{
		"STORED\r\n", "HD\r\n", "END\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n", "42\r\n", "\r\n", "MN MN\r\n", "OK\r\n", strings.Repeat("x", 8<<10),
	} {
		r := newRunRig(t)
		r.set("a", "a", "1")
		r.set("b", "b", "2")
		r.send("delete", "delete\r\n")
		r.requests()
		r.answer(answers)
		r.wantErr(ErrProtocol)
		if told := r.told(); told != "a failed; b failed; delete failed" {
			t.Errorf("after %.20q told %q", answers, told)
		}
		r.finish()
	}
	// The fence is answered twice.
	r := newRunRig(t)
	r.set("a", "a", "1")
	r.set("b", "b", "2")
	r.send("set", "set\r\n")
	r.requests()
	r.answer("MN\r\nMN\r\n")
	r.want("a < STORED; b < STORED; set failed")
	r.wantErr(ErrProtocol)
}

// memcached refuses a connection before it reads the run.
//
// promise: C4
func TestTooManyConnectionsForARun(t *testing.T) {
	r := newRunRig(t)
	r.set("a", "a", "1")
	r.set("b", "b", "2")
	r.requests()
	r.answer("ERROR Too many open connections\r\n")
	r.end()
	r.want("a failed; b failed")
	r.wantErr(ErrClosed)
	if r.server.noRuns.Load() {
		t.Error("runs are turned off for a reason that is none")
	}
}

// promise: C6
func TestTakenOutWithinARun(t *testing.T) {
	r := newRunRig(t)
	a := r.set("a", "a", "1")
	r.set("b", "b", "2")
	r.send("delete", "delete\r\n")
	a.then = func() {
		r.server.TakeOut(true, "")
		r.conn.Sync()
	}
	r.requests()
	r.answer("MN\r\nDELETED\r\n")
	r.want("a < STORED; b failed; delete failed")
	r.wantErr(ErrTakenOut)
}

func TestRunsAllocateNothing(t *testing.T) {
	r := newRunRig(t)
	calls := make([]quietCall, 20)
	for i := range calls {
		calls[i].Owner = &calls[i]
	}
	buf := make([]byte, 4096)
	answer := []byte("MN\r\n")
	turn := func() {
		for i := range calls {
			r.conn.Set(&calls[i].Call)
		}
		r.conn.Flush()
		unixRead(t, r.peer, buf)
		unixWrite(t, r.peer, answer)
		r.conn.Ready(readable)
	}
	turn()
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations for a run of 20 sets", n)
	}
	for i := range calls {
		if calls[i].lines != calls[0].lines || calls[i].lines < 100 {
			t.Fatalf("set %d was told %d lines", i, calls[i].lines)
		}
	}
}
