package backend

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/proxy/protocol"
)

// promise: W6
func TestRequestsOnTheWire(t *testing.T) {
	r := newRig(t)
	r.get("a", "a")
	r.get("b", "bb")
	r.queue("set", "set k 0 0 1\r\nx\r\n")
	r.get("c", "c") // joins: gets may be sent later than a write that is queued after them
	if r.conn.Waiting() != 4 || !r.conn.Unflushed() {
		t.Errorf("%d calls wait, unflushed %v", r.conn.Waiting(), r.conn.Unflushed())
	}
	if got, want := r.requests(), "set k 0 0 1\r\nx\r\nget a bb c\r\n"; got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
	if r.conn.Unflushed() || r.conn.Unsent() != 0 {
		t.Error("flushed and yet not")
	}
	r.answer("STORED\r\nEND\r\n")
	r.want("set < STORED; a missed; b missed; c missed")

	// A write that must come behind the gets closes their group.
	r.get("a", "a")
	r.conn.CloseGroup()
	r.send("set", "set k 0 0 1\r\nx\r\n")
	r.get("gets b", "b")
	r.get("c", "c") // another verb, another group
	if got, want := r.requests(), "get a\r\nset k 0 0 1\r\nx\r\ngets b\r\nget c\r\n"; got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
	r.answer("END\r\nSTORED\r\nEND\r\nEND\r\n")
	r.want("a missed; set < STORED; gets b missed; c missed")
	r.conn.CloseGroup() // none is open
	r.conn.Flush()
	if got := r.requests(); got != "" {
		t.Errorf("sent %q with nothing to send", got)
	}
}

// A write must not overtake a get of its key that is still in the open group.
// The group may be taken to hold a key that it does not hold, but never the
// other way round, and hardly ever.
//
// promise: C3, W6
func TestAsks(t *testing.T) {
	r := newRig(t)
	if r.conn.Asks(hashOf("a")) {
		t.Error("a group that is not open holds a key")
	}
	for i := range groupLimit {
		r.get("get", fmt.Sprint(i))
	}
	wrong := 0
	for i := range 10_000 {
		asks := r.conn.Asks(hashOf(fmt.Sprint(i)))
		if i < groupLimit && !asks {
			t.Fatalf("key %d is in the group, and Asks says no", i)
		}
		if i >= groupLimit && asks {
			wrong++
		}
	}
	if wrong > 1000 {
		t.Errorf("%d of 10000 keys that are not in the group are taken to be there", wrong)
	}
	r.conn.CloseGroup()
	r.get("next", "next")
	if r.conn.Asks(hashOf("1")) && r.conn.Asks(hashOf("2")) && r.conn.Asks(hashOf("3")) {
		t.Error("keys of a group that is closed are taken to be in the next one")
	}
	for _, hash := range []uint64{0, 63, 64, 1 << 63, ^uint64(0)} {
		c := &testCall{r: r, name: "edge"}
		c.Owner, c.Kind, c.Key = c, Value, []byte("edge")
		r.conn.Get(&c.Call, protocol.OpGet, hash)
		if !r.conn.Asks(hash) {
			t.Errorf("hash %#x", hash)
		}
	}
}

// A group has a bound, so that the first of many keys is not answered late,
// and long keys do not overflow what the output has room for.
//
// promise: C5
func TestGroupLimit(t *testing.T) {
	r := newRig(t)
	var want bytes.Buffer
	for i := range 2*groupLimit + 1 {
		key := fmt.Sprintf("%0249d%d", i, i%10)
		r.get(strconv.Itoa(i), key)
		if i%groupLimit == 0 {
			if i > 0 {
				want.WriteString("\r\n")
			}
			want.WriteString("get")
		}
		want.WriteString(" " + key)
	}
	want.WriteString("\r\n")
	if got := r.requests(); got != want.String() {
		t.Errorf("sent %d bytes, want %d: three gets of 64, 64 and 1 keys", len(got), want.Len())
	}
	r.answer("END\r\nEND\r\nEND\r\n")
	if n := strings.Count(r.told(), "missed"); n != 2*groupLimit+1 {
		t.Errorf("%d keys were told, want %d", n, 2*groupLimit+1)
	}
}

// The server is taken out while an answer is being read, by what one of its
// calls leads to: the calls behind it fail, and the rest of the answer, which
// belongs to a connection that is gone, is not read.
//
// promise: C6, R4
func TestTakenOutInTheMiddleOfAnAnswer(t *testing.T) {
	for _, c := range []conversation{
		{"line", func(r *rig) { r.send("first", "x\r\n"); r.send("second", "x\r\n") }, "STORED\r\nSTORED\r\n", "first < STORED; second failed", nil},
		{"value", func(r *rig) { r.get("first", "a"); r.get("second", "b") }, value("a", 0, "1") + value("b", 0, "2") + "END\r\n",
			`first found "1" flags 0 cas 0; second failed`, nil},
		{"miss", func(r *rig) { r.get("first", "a"); r.get("second", "b") }, value("b", 0, "2") + "END\r\n", "first missed; second failed", nil},
		{"end", func(r *rig) { r.get("first", "a"); r.get("second", "b") }, "END\r\n", "first missed; second failed", nil},
		{"large", func(r *rig) { r.get("first", "a"); r.get("second", "b") }, value("a", 0, large) + value("b", 0, "2") + "END\r\n", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			c.calls(r)
			first := r.conn.group.first
			if first == nil {
				first = r.conn.head
			}
			first.Owner.(*testCall).then = func() {
				r.server.TakeOut(true, "somebody says so")
				if r.conn.Sync() != Dirty {
					t.Error("the state is not what it was set to")
				}
			}
			r.requests()
			r.answer(c.answers)
			if told := r.told(); c.told != "" && told != c.told || !strings.HasSuffix(told, "second failed") {
				t.Errorf("told  %q\nwant  %q", told, c.told)
			}
			r.wantErr(ErrTakenOut)
			if len(r.errs) != 1 || r.conn.fd != -1 {
				t.Errorf("failed %d times, descriptor %d", len(r.errs), r.conn.fd)
			}
		})
	}
}

// Sync gives a connection of before an outage up, whether the server is back
// by then or not, and only then says that this loop has seen the outage.
//
// promise: C6
func TestSync(t *testing.T) {
	r := newRig(t)
	if r.conn.Sync() != Up || len(r.errs) > 0 {
		t.Fatal("a server that is up")
	}
	_, before := r.server.Load()
	r.send("set", "set\r\n")
	r.get("a", "a")
	r.requests()
	r.server.TakeOut(false, "")
	_, epoch := r.server.Load()
	if epoch == before || r.server.seenByAll(epoch) {
		t.Fatalf("epoch %d after %d, seen by all %v", epoch, before, r.server.seenByAll(epoch))
	}
	r.failed = func() {
		if r.server.seenByAll(epoch) {
			t.Error("the loop says that it has seen the outage before its connection is given up")
		}
		if len(r.server.Draining()) != 1 {
			t.Error("what was sent is not watched any more")
		}
	}
	if state := r.conn.Sync(); state != Down {
		t.Errorf("state %v", state)
	}
	r.want("set failed; a failed")
	r.wantErr(ErrTakenOut)
	if !r.server.seenByAll(epoch) {
		t.Error("the loop has not said that it has seen the outage")
	}
	r.conn.Sync()
	if len(r.errs) != 1 {
		t.Errorf("failed %d times", len(r.errs))
	}
	// Events of a server that was taken out are not for the connection.
	r.failed = nil
	r.server.bringUp(r.server.word.Load(), Up, "")
	r.conn.Sync()
	r.attach()
	r.send("set", "set\r\n")
	r.requests()
	r.server.TakeOut(false, "")
	r.answer("STORED\r\n")
	r.want("set failed")
}

// A connection that has nothing under way is closed by the server, as an idle
// timeout does: nobody is told a failure of a request, and the next request
// makes a new connection.
//
// promise: C4
func TestIdleConnectionClosed(t *testing.T) {
	r := newRig(t)
	r.send("set", "set\r\n")
	r.requests()
	r.answer("STORED\r\n")
	r.end()
	r.want("set < STORED")
	r.wantErr(ErrClosed)
	if len(r.server.Draining()) != 0 {
		t.Error("a connection with no request under way is drained")
	}
	if r.conn.fd != -1 {
		t.Error("the connection is kept")
	}
}

// Gets that were lost with their connection are asked again, in groups of
// another shape.
//
// promise: C4
func TestGetsOfALostGroupAreAskedAgain(t *testing.T) {
	r := newRig(t)
	a := r.get("a", "a")
	r.conn.CloseGroup()
	b := r.get("b", "b")
	r.requests()
	r.end()
	r.want("a failed; b failed")
	r.attach()
	for _, call := range []*testCall{b, a} {
		r.conn.Get(&call.Call, protocol.OpGet, hashOf(call.name))
	}
	r.get("c", "c")
	if got := r.requests(); got != "get b a c\r\n" {
		t.Errorf("sent %q", got)
	}
	r.answer("END\r\n")
	r.want("b missed; a missed; c missed")
}

// The server resets.
func TestResetByServer(t *testing.T) {
	r := newRig(t)
	r.send("set", "set\r\n")
	r.requests()
	if err := unix.Shutdown(r.peer, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	r.send("more", strings.Repeat("x", 1000))
	r.conn.Flush() // EPIPE
	r.want("set failed; more failed")
	r.wantErr(ErrClosed)
	if !errors.Is(r.errs[0], unix.EPIPE) {
		t.Errorf("the error %v does not name the cause", r.errs[0])
	}
}

func openDescriptors(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// Connections that end in any way leave no descriptor, no byte and no call.
//
// promise: R2
func TestNothingLeaks(t *testing.T) {
	before := openDescriptors(t)
	for i := range 50 {
		r := newRig(t)
		for range 4 {
			r.send("set", "set\r\n")
			r.get("a", "a")
			switch i % 5 {
			case 0:
				r.end()
			case 1:
				r.requests()
				r.end()
			case 2:
				r.requests()
				r.answer("STORED\r\nVALUE a 0 100000\r\nhalf")
				r.server.TakeOut(true, "")
				r.conn.Sync()
				r.server.bringUp(r.server.word.Load(), Up, "")
			case 3:
				r.requests()
				r.age(time.Hour)
				r.conn.checkProgress()
			case 4:
				r.conn.fail(ErrTakenOut)
			}
			r.conn.Sync()
			if r.conn.fd != -1 {
				t.Fatalf("way %d: descriptor %d is still there", i%5, r.conn.fd)
			}
			r.attach()
		}
		r.finish()
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
}
