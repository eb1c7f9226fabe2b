package backend

import (
	"errors"
	"strings"
	"testing"
)

var testLife = Life{PID: 4711, Start: 1700000000}

// queued is what greetedRig sends when it knows the life.
const queued = "get a\r\nset b 0 0 1\r\nx\r\n"

// greetedRig is a rig whose connection has asked for its server's life, and
// has a get and a set to send behind that.
func greetedRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.server.setLife(testLife)
	if !r.conn.greet() {
		t.Fatal("the greeting was not sent")
	}
	r.get("get1", "a")
	r.send("set1", "set b 0 0 1\r\nx\r\n")
	if got := r.requests(); got != "get __magent__:life\r\n" {
		t.Fatalf("the server got %q", got)
	}
	return r
}

const goodLife = "VALUE __magent__:life 0 15\r\n4711-1700000000\r\nEND\r\n"

// However the bytes arrive, requests are sent and answers delivered behind the right
// life, and none before it is whole.
//
// promise: C3, C6, C7
func TestGreetingAtEverySplit(t *testing.T) {
	answers := goodLife + "VALUE a 0 5\r\nfound\r\nEND\r\nSTORED\r\n"
	for cut := range len(answers) + 1 {
		r := greetedRig(t)
		r.answer(answers[:cut])
		if cut <= len(goodLife) && len(r.log) > 0 {
			t.Errorf("cut at %d: told %q before the life", cut, r.log)
		}
		sent := ""
		if cut >= len(goodLife) {
			sent = queued
		}
		if got := r.requests(); got != sent {
			t.Errorf("cut at %d: the server got %q, want %q", cut, got, sent)
		}
		r.answer(answers[cut:])
		r.want(`get1 found "found" flags 0 cas 0; set1 < STORED`)
		if len(r.errs) > 0 {
			t.Errorf("cut at %d: the connection failed: %v", cut, r.errs)
		}
		r.finish()
	}
	r := greetedRig(t)
	for i := range len(answers) {
		r.answer(answers[i : i+1])
	}
	r.want(`get1 found "found" flags 0 cas 0; set1 < STORED`)
}

// Nothing that another life answers is delivered, however it arrives, and it is sent
// nothing that it could run; and the owner is told why.
//
// promise: C3, C6, C7
func TestAnotherLifeAtEverySplit(t *testing.T) {
	const behind = "VALUE a 0 5\r\nstale\r\nEND\r\nSTORED\r\n"
	for _, life := range []string{
		"END\r\n",
		strings.Replace(goodLife, "4711", "4712", 1),
		strings.Replace(goodLife, "1700000000", "1700000001", 1),
		strings.Replace(goodLife, "15\r\n4711", "16\r\n47110", 1),
		strings.Replace(goodLife, "15\r\n4711", "14\r\n471", 1),
		"VALUE __magent__:life 0 0\r\n\r\nEND\r\n",
		strings.Replace(goodLife, " 0 15", " 1 15", 1),
	} {
		answers := life + behind
		for cut := range len(answers) + 1 {
			r := greetedRig(t)
			r.answer(answers[:cut])
			r.answer(answers[cut:])
			if got := r.told(); got != "get1 failed; set1 failed" {
				t.Errorf("%q cut at %d: told %q", life, cut, got)
			}
			if len(r.errs) != 1 || !errors.Is(r.errs[0], ErrNewLife) {
				t.Fatalf("%q cut at %d: the connection failed with %v, want that the server was started anew", life, cut, r.errs)
			}
			if got := r.requests(); got != "" {
				t.Fatalf("%q cut at %d: it was sent %q", life, cut, got)
			}
			r.finish()
		}
		// The life alone: its answers come later.
		r := greetedRig(t)
		r.answer(life)
		r.want("get1 failed; set1 failed")
		r.wantErr(ErrNewLife)
		r.finish()
	}
}

// A server with too many connections has not been started anew: it closes this
// one.
//
// promise: C5
func TestTooManyConnectionsIsNoNewLife(t *testing.T) {
	const text = "ERROR Too many open connections\r\n"
	for cut := range len(text) + 1 {
		r := greetedRig(t)
		r.answer(text[:cut])
		r.answer(text[cut:])
		r.want("get1 failed; set1 failed")
		r.wantErr(ErrClosed)
		if errors.Is(r.errs[0], ErrNewLife) {
			t.Errorf("cut at %d: failed with %v", cut, r.errs[0])
		}
		r.finish()
	}
}

// A server that ends before it has told its life is gone, not started anew.
//
// promise: C5
func TestEndWithinTheGreeting(t *testing.T) {
	for cut := range len(goodLife) {
		r := greetedRig(t)
		r.answer(goodLife[:cut])
		r.end()
		r.want("get1 failed; set1 failed")
		r.wantErr(ErrClosed)
		r.finish()
	}
}

// A server that does not tell its life gives no answer.
//
// promise: C5
func TestGreetingWithoutAnAnswer(t *testing.T) {
	r := greetedRig(t)
	r.answer(goodLife[:20])
	r.age(2 * r.limits.Answer)
	r.conn.checkProgress()
	r.want("get1 failed; set1 failed")
	r.wantErr(ErrTimeout)
}

// Whatever the server sends: either the life is the right one, or nothing is
// delivered.
//
// promise: C6, R4
func FuzzGreeting(f *testing.F) {
	for _, text := range []string{goodLife, "END\r\n", "ERROR Too many open connections\r\n", "E", "V", "SERVER_ERROR out of memory\r\n", goodLife[:len(goodLife)-1]} {
		f.Add([]byte(text), uint(3))
		f.Add([]byte(text+"VALUE a 0 1\r\nx\r\nEND\r\nSTORED\r\n"), uint(30))
	}
	f.Fuzz(func(t *testing.T, text []byte, cut uint) {
		if len(text) == 0 || len(text) > 1<<16 {
			return
		}
		r := greetedRig(t)
		defer r.finish()
		at := int(cut % uint(len(text)))
		r.answer(string(text[:at]))
		r.answer(string(text[at:]))
		right := strings.HasPrefix(string(text), goodLife)
		for _, told := range r.log {
			if !right && !strings.HasSuffix(told, " failed") {
				t.Fatalf("%q was delivered as %q", text, told)
			}
		}
		if right && len(r.errs) > 0 && (errors.Is(r.errs[0], ErrNewLife) || len(text) == len(goodLife)) {
			t.Fatalf("the right life: %v", r.errs)
		}
	})
}

// A real server that was started anew between two requests, empty or with old
// items, answers nothing that is believed; one that is the same goes on.
//
// promise: C6, C7
func TestStartedAnewBetweenTwoRequests(t *testing.T) {
	for name, stored := range map[string][]string{"empty": nil, "with items": {"k"}, "with a note of an older life": {"k", LifeKey}} {
		t.Run(name, func(t *testing.T) {
			first := startMemcached(t)
			s := newUpServer(1)
			s.address.Store(&first.at)
			c := dialTest(t, first)
			life, err := c.Life()
			if err != nil {
				t.Fatal(err)
			}
			mustStore(t, c, "set", LifeKey, life.String())
			mustStore(t, c, "set", "k", "mine")
			s.setLife(life)
			v := newLive(t, s, patient)
			v.do(func() { v.get("k") })
			v.wantTold("mine")

			// The same life on a new connection.
			v.do(func() { v.conn.fail(ErrClosed) })
			if err := within(t, v.failed, "the failure"); !errors.Is(err, ErrClosed) || <-v.lost != 0 {
				t.Fatalf("failed with %v", err)
			}
			v.do(func() { v.get("k", "absent") })
			v.wantTold("mine", "miss")

			// Another process, at another address so that nobody else takes the port.
			first.kill()
			if err := within(t, v.failed, "the failure"); !errors.Is(err, ErrClosed) || <-v.lost != 0 {
				t.Fatalf("failed with %v", err)
			}
			second := startMemcached(t)
			other := dialTest(t, second)
			for _, key := range stored {
				mustStore(t, other, "set", key, "1-1")
			}
			s.address.Store(&second.at)
			v.do(func() {
				v.get("k")
				v.set("k2", "x")
			})
			if err := within(t, v.failed, "the failure"); !errors.Is(err, ErrNewLife) {
				t.Errorf("failed with %v, want that the server was started anew", err)
			}
			if n := <-v.lost; n != 2 {
				t.Errorf("%d calls failed, want both", n)
			}
			select {
			case told := <-v.told:
				t.Errorf("%q of another life was delivered", told)
			default:
			}
			eventually(t, "the connection is worked off", func() bool { return len(s.Draining()) == 0 })
		})
	}
}

// A server that nobody asks for its life is not greeted.
//
// promise: C10
func TestNoGreetingWithoutALife(t *testing.T) {
	m := startMemcached(t)
	s := newUpServer(1)
	s.address.Store(&m.at)
	v := newLive(t, s, patient)
	v.do(func() { v.get("k") })
	v.wantTold("miss")
}

// dialTest connects to a memcached.
func dialTest(t *testing.T, m *memcached) *Client {
	t.Helper()
	c, err := DialClient(t.Context(), addressAt(m.at), patience, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func mustStore(t *testing.T, c *Client, verb, key, value string) {
	t.Helper()
	if stored, err := c.Store(verb, key, value); err != nil || !stored {
		t.Fatalf("%s %s: %v, %v", verb, key, stored, err)
	}
}
