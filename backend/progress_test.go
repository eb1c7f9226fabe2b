package backend

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/proxy/engine"
	"magent/proxy/protocol"
)

// promise: C5
func TestProgress(t *testing.T) {
	r := newRig(t)
	limit := r.limits.Answer
	almost := limit - limit/10
	overdue := func() bool { n := len(r.errs); r.conn.checkProgress(); return len(r.errs) > n }

	r.conn.checkProgress() // nothing is asked
	r.send("set", "set\r\n")
	r.get("a", "a")
	r.requests()
	if !r.conn.timer.Armed() {
		t.Error("no timer for a request under way")
	}
	r.age(almost)
	if overdue() {
		t.Fatal("out before the limit")
	}
	if !r.conn.timer.Armed() {
		t.Error("the timer is not armed again")
	}
	// An answer that keeps arriving, however long it is and however slow.
	for _, b := range "STORED\r\n" + value("a", 0, "slow but steady") {
		r.answer(string(b))
		r.age(almost)
		if overdue() {
			t.Fatalf("out while an answer arrives, told %q", r.told())
		}
	}
	r.want(`set < STORED; a found "slow but steady" flags 0 cas 0`)
	// END is missing, but nobody waits for anything.
	r.age(10 * limit)
	if overdue() {
		t.Fatal("out with no request under way")
	}
	// The next request is not blamed for the time before it.
	r.send("next", "set\r\n")
	if overdue() { // in the same turn, before it is flushed
		t.Fatal("out just after a request")
	}
	r.requests()
	r.age(limit)
	if !overdue() {
		t.Fatal("nothing for the whole limit and not out")
	}
	r.want("next failed")
	r.wantErr(ErrTimeout)
}

// A get that has only joined the open group has not been sent: the time that
// the connection was idle before is no failure of the server.
//
// promise: C5
func TestUnsentGroupIsNotLate(t *testing.T) {
	r := newRig(t)
	r.send("set", "set\r\n")
	r.requests()
	r.answer("STORED\r\n")
	r.age(2 * r.limits.Answer) // idle
	r.get("a", "a")            // in the turn in which the timer is due
	r.conn.checkProgress()
	if len(r.errs) > 0 {
		t.Fatalf("a get that has not been sent failed: %v", r.errs)
	}
	if got := r.requests(); got != "get a\r\n" {
		t.Errorf("sent %q", got)
	}
	r.answer("END\r\n")
	r.want("set < STORED; a missed")
}

// A server that takes a large request slowly does something all the while.
//
// promise: C5, R2
func TestProgressOfALargeRequest(t *testing.T) {
	r := newRig(t)
	if err := unix.SetsockoptInt(r.conn.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096); err != nil {
		t.Fatal(err)
	}
	v := bytes.Repeat([]byte("v"), 400<<10)
	c := &testCall{r: r, name: "set"}
	c.Owner, c.Answers = c, protocol.AnswersTo(protocol.OpSet)
	r.conn.Link(v)
	r.conn.Queue(&c.Call)
	r.send("behind", "set\r\n")
	r.conn.Flush()
	buf := make([]byte, 1<<20)
	taken := 0
	for r.conn.Unsent() > 0 {
		r.age(r.limits.Answer * 9 / 10)
		if r.conn.checkProgress(); len(r.errs) > 0 {
			t.Fatalf("out after it took %d bytes", taken)
		}
		taken += unixRead(t, r.peer, buf)
		r.conn.Ready(engine.Events(unix.EPOLLOUT))
	}
	// One that takes no more is hung.
	r.age(r.limits.Answer)
	r.conn.checkProgress()
	r.want("set failed; behind failed")
	r.wantErr(ErrTimeout)
}

// The count of unanswered reads is one for all loops, and any answer ends it.
//
// promise: C5
func TestFailuresInARow(t *testing.T) {
	r := newRig(t)
	other := NewConn(r.server, r.loop, 0, r, &r.limits)
	if r.conn.Failed(1) || other.Failed(1) {
		t.Error("out after two failures, the limit is 3")
	}
	if !r.conn.Failed(1) {
		t.Error("not out after three failures")
	}
	r.send("set", "set\r\n")
	r.requests()
	r.answer("STORED\r\n")
	if other.Failed(2) {
		t.Error("an answer came between the failures")
	}
	if !other.Failed(5) {
		t.Error("five calls at once are more than three")
	}
	r.server.TakeOut(false, "")
	r.server.bringUp(r.server.word.Load(), Up, "")
	if other.Failed(2) {
		t.Error("failures of before the outage count")
	}
}

// The timeouts of one request, counted on a clock that the test moves.
func TestConnectTimeoutCounts(t *testing.T) {
	r := newRig(t)
	r.send("set", "set\r\n")
	r.conn.connected = false // as if connect had not been answered yet
	r.conn.progress = r.loop.Now()
	r.limits.Connect = 100 * time.Millisecond
	r.age(99 * time.Millisecond)
	if r.conn.checkProgress(); len(r.errs) > 0 {
		t.Fatal("out before the connect timeout")
	}
	r.age(time.Millisecond)
	r.conn.checkProgress()
	r.want("set failed")
	r.wantErr(ErrRefused)
	r.wantErr(ErrTimeout)
	if len(r.server.Draining()) != 0 {
		t.Error("a connection that was never made is drained")
	}
}
