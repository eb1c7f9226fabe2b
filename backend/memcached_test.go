package backend

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/proxy/protocol"
)

// liveMemcached is a connection to a real memcached that a prober has looked at.
func liveMemcached(t *testing.T, limits Limits, args ...string) (*live, *memcached) {
	t.Helper()
	m := startMemcached(t, args...)
	p := probe(t, addressAt(m.at), 1, quickProbes, nil)
	p.awaitUp(t)
	return newLive(t, p.Server, limits), m
}

func TestMemcachedAnswers(t *testing.T) {
	v, _ := liveMemcached(t, patient)
	big := block(900_000)
	v.do(func() {
		v.set("a", "1")
		v.set("b", "2")
		v.set("big", big)
		v.get("a", "missing", "b", "a", "big")
		v.conn.CloseGroup()
		v.line(protocol.OpIncr, "incr a 41\r\n")
		v.line(protocol.OpIncr, "incr missing 1\r\n")
		v.line(protocol.OpAdd, "add a 0 0 1\r\nx\r\n")
		v.line(protocol.OpTouch, "touch b 100\r\n")
		v.line(protocol.OpDelete, "delete b\r\n")
		v.line(protocol.OpFlushAll, "flush_all\r\n")
		v.get("a")
	})
	v.wantTold("STORED", "STORED", "STORED", "1", "miss", "2", "1", big, "42", "NOT_FOUND", "NOT_STORED", "TOUCHED", "DELETED", "OK", "miss")
}

// A connection is given up by the kernel, too, when the server takes nothing for
// twice the time limit: what arrived later than that could undo newer writes.
//
// promise: C6
func TestConnectionsAreGivenUp(t *testing.T) {
	v, _ := liveMemcached(t, patient)
	v.do(func() { v.set("a", "1") })
	v.wantTold("STORED")
	v.do(func() {
		ms, err := unix.GetsockoptInt(v.conn.fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		if want := int(2 * patience.Milliseconds()); err != nil || ms != want {
			t.Errorf("given up after %d ms, %v; want %d", ms, err, want)
		}
	})
}

// A whole group of the longest keys, found and not.
func TestMemcachedAnswersLongGroups(t *testing.T) {
	v, _ := liveMemcached(t, patient)
	var keys, want []string
	for i := range 2 * groupLimit {
		key := fmt.Sprintf("%0250d", i)
		keys = append(keys, key)
		if i%2 == 0 {
			v.do(func() { v.set(key, fmt.Sprint(i)) })
			v.wantTold("STORED")
			want = append(want, fmt.Sprint(i))
		} else {
			want = append(want, "miss")
		}
	}
	v.do(func() { v.get(keys...) })
	v.wantTold(want...)
}

// A set that memcached refuses, here because it is full and must not evict,
// among others of its run: all are uncertain, the others are there all the
// same, and from then on each set has an answer of its own.
//
// promise: C1
func TestMemcachedRefusesASetOfARun(t *testing.T) {
	v, m := liveMemcached(t, patient, "-M", "-m", "2")
	if !v.server.takesRuns() {
		t.Fatalf("version %q takes no runs", v.server.Version())
	}
	const refused = "SERVER_ERROR out of memory storing object"
	large := block(2000)
	v.do(func() { v.set("a", "0") }) // small values have room of their own
	v.wantTold("STORED")
	for i, answer := 0, ""; answer != refused; i++ {
		v.do(func() { v.set(fmt.Sprint(i), large) })
		if answer = within(t, v.told, "an answer"); answer != "STORED" && answer != refused {
			t.Fatalf("set %d: %q", i, answer)
		}
	}
	v.do(func() {
		v.set("a", "1")
		v.set("large", large)
		v.set("b", "2")
	})
	v.wantTold("uncertain: "+refused, "uncertain: "+refused, "uncertain: "+refused)
	v.do(func() {
		v.set("c", "3")
		v.set("large", large)
		v.set("d", "4")
		v.get("a", "large", "b", "c", "d")
	})
	v.wantTold("STORED", refused, "STORED", "1", "miss", "2", "3", "4")
	if got := m.ask(t, "get b"); got != "VALUE b 0 1" {
		t.Errorf("the set behind the refused one: %q", got)
	}
}

// A memcached that was stopped holds a write in its socket buffer, which is
// run elsewhere meanwhile. When it goes on it runs that write, late; only
// then is it flushed and read again.
//
// promise: C4, C5, C6
func TestStaleWriteOfAStoppedMemcached(t *testing.T) {
	v, m := liveMemcached(t, patient)
	v.do(func() { v.set("k", "old") })
	v.wantTold("STORED")
	for i := range 5 {
		m.stop(t)
		if _, err := v.impatient(func() { v.set("k", strings.Repeat("stale", 1+i)) }); !errors.Is(err, ErrTimeout) {
			t.Fatal(err)
		}
		if n := len(v.server.Draining()); n != 1 {
			t.Fatalf("%d connections are draining, want 1", n)
		}
		// The owner takes the server out, and then runs the write elsewhere.
		v.do(func() {
			v.server.TakeOut(true, "no answer")
			v.conn.Sync()
		})
		m.signal(t, unix.SIGCONT)
		eventually(t, "it is up again", v.server.Serves)
		v.do(func() { v.get("k") })
		v.wantTold("miss")
		if got := v.server.Flushes.Load(); got != uint64(i+1) {
			t.Errorf("%d flushes, want %d", got, i+1)
		}
	}
}

// A memcached that is killed: what it had not answered fails, and nothing
// waits for a timeout.
//
// promise: C4, C5
func TestKilledMemcached(t *testing.T) {
	v, m := liveMemcached(t, patient)
	v.do(func() { v.set("k", "1") })
	v.wantTold("STORED")
	m.stop(t) // so that it answers nothing more
	v.do(func() { v.get("k"); v.set("a", "1"); v.set("b", "1") })
	m.kill()
	if err := within(t, v.failed, "the failure"); !errors.Is(err, ErrClosed) {
		t.Errorf("failed with %v", err)
	}
	if n := <-v.lost; n != 3 {
		t.Errorf("%d calls failed, want 3", n)
	}
	eventually(t, "the connection is drained", func() bool { return len(v.server.Draining()) == 0 })
	v.do(func() { v.get("k") })
	if err := within(t, v.failed, "the failure"); !errors.Is(err, ErrRefused) {
		t.Errorf("failed with %v", err)
	}
}

// memcached's own way to say that it has no room for another connection.
//
// promise: C4
func TestMemcachedFull(t *testing.T) {
	m := startMemcached(t, "-c", "40", "-o", "maxconns_fast")
	var held []int
	defer func() {
		for _, fd := range held {
			unix.Close(fd)
		}
	}()
	s := newUpServer(1)
	s.address.Store(&m.at)
	v := newLive(t, s, patient)
	eventually(t, "it refuses", func() bool {
		v.do(func() { v.get("k") })
		select {
		case <-v.told: // there is room: take it
			fd := -1
			v.do(func() { v.loop.Unregister(v.conn.fd); fd = v.conn.fd; v.conn.fd = -1; v.conn.connected = false })
			held = append(held, fd)
			return false
		case err := <-v.failed:
			if !errors.Is(err, ErrClosed) {
				t.Errorf("failed with %v", err)
			}
			return true
		case <-time.After(patience):
			t.Fatal("neither an answer nor a failure")
			return true
		}
	})
}
