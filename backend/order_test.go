package backend

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"magent/proxy/engine"
	"magent/proxy/protocol"
)

// memory is the simplest server: it answers every request that it has as a
// whole, in order, and shows in the answer which request it was.
type memory struct{ in, out []byte }

func (m *memory) work(t *rapid.T) {
	for {
		line, rest, ok := bytes.Cut(m.in, []byte("\r\n"))
		if !ok {
			return
		}
		words := strings.Fields(string(line))
		switch words[0] {
		case "get", "gets", "gat":
			keys := words[1:]
			if words[0] == "gat" {
				keys = words[2:]
			}
			for _, key := range keys {
				n, _ := strconv.Atoi(key)
				if n%3 == 0 {
					continue
				}
				cas := ""
				if words[0] == "gets" {
					cas = " 9"
				}
				v := strings.Repeat(key+".", 1+n%50)
				if n%17 == 0 {
					v = strings.Repeat(key+".", restLimit/5)
				}
				m.out = fmt.Appendf(m.out, "VALUE %s %d %d%s\r\n%s\r\n", key, n, len(v), cas, v)
			}
			m.out = append(m.out, "END\r\n"...)
		case "set", "replace", "ms":
			size, _ := strconv.Atoi(words[len(words)-1])
			if words[0] == "ms" {
				size, _ = strconv.Atoi(words[2])
			}
			if len(rest) < size+2 {
				return
			}
			if words[0] != "ms" {
				m.out = append(m.out, "STORED\r\n"...)
			}
			rest = rest[size+2:]
		case "mn":
			m.out = append(m.out, "MN\r\n"...)
		case "incr":
			m.out = append(append(m.out, words[2]...), "\r\n"...)
		default:
			t.Fatalf("the server got %q", line)
		}
		m.in = rest
	}
}

// expected is what a call to the memory server must be told.
func expected(name string, n int) string {
	switch {
	case strings.HasPrefix(name, "set"), strings.HasPrefix(name, "replace"):
		return name + " < STORED"
	case strings.HasPrefix(name, "incr"):
		return fmt.Sprintf("%s = %d", name, n)
	case n%3 == 0:
		return name + " missed"
	}
	return name + " found"
}

// Any sequence of requests, sent and answered in any pieces: each call is
// told its own answer, once, in the order in which the server got them.
//
// promise: W6, R4
func TestOrderOfCalls(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t)
		defer r.finish()
		r.limits.MaxValue = 1 << 30
		if rapid.Bool().Draw(rt, "narrow") {
			for _, fd := range []int{r.conn.fd, r.peer} {
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096); err != nil {
					t.Fatal(err)
				}
			}
		}
		var server memory
		calls := map[string]string{} // what each still has to be told
		count := 0
		take := func(max int) { // the server reads
			buf := make([]byte, max)
			if n, errno := engine.Recv(r.peer, buf); errno == 0 {
				server.in = append(server.in, buf[:n]...)
				server.work(rt)
			}
			r.conn.Ready(engine.Events(unix.EPOLLOUT))
		}
		give := func(max int) { // the server writes
			if n, err := unix.Write(r.peer, server.out[:min(max, len(server.out))]); err == nil {
				server.out = server.out[n:]
			}
			r.conn.Ready(readable)
		}
		check := func() {
			for _, line := range r.log {
				name, rest, _ := strings.Cut(line, " ")
				if strings.HasPrefix(rest, "found") {
					line = name + " found"
				}
				if want, ok := calls[name]; !ok || want != line {
					rt.Fatalf("%s was told %q, want %q", name, line, want)
				}
				delete(calls, name)
			}
			r.log = nil
			if len(r.errs) > 0 {
				rt.Fatal(r.errs)
			}
			if n := r.conn.Waiting(); n < len(calls) || len(calls) == 0 && n > 0 { // what ends a run may count too
				rt.Fatalf("%d calls wait, want %d", n, len(calls))
			}
		}
		request := func(kind string, n int) string {
			count++
			name := fmt.Sprintf("%s#%d", kind, count)
			calls[name] = expected(name, n)
			return name
		}
		numbers := rapid.IntRange(0, 9999)
		rt.Repeat(map[string]func(*rapid.T){
			"get":  func(rt *rapid.T) { n := numbers.Draw(rt, "key"); r.get(request("get", n), strconv.Itoa(n)) },
			"gets": func(rt *rapid.T) { n := numbers.Draw(rt, "key"); r.get(request("gets", n), strconv.Itoa(n)) },
			"gat":  func(rt *rapid.T) { n := numbers.Draw(rt, "key"); r.gat(request("gat", n), strconv.Itoa(n)) },
			"incr": func(rt *rapid.T) {
				n := numbers.Draw(rt, "by")
				r.queue(request("incr", n), fmt.Sprintf("incr k %d\r\n", n))
			},
			"replace": func(rt *rapid.T) {
				v := bytes.Repeat([]byte("v"), rapid.SampledFrom([]int{0, 10, 1000, 40_000}).Draw(rt, "bytes"))
				c := &testCall{r: r, name: request("replace", 0)}
				c.Owner, c.Answers = c, protocol.AnswersTo(protocol.OpReplace)
				b := r.conn.Begin(64)
				r.conn.End(fmt.Appendf(b, "replace k 0 0 %d\r\n", len(v)))
				r.conn.Link(v)
				r.conn.Write([]byte("\r\n"))
				r.conn.Queue(&c.Call)
			},
			"plain set": func(rt *rapid.T) {
				r.set(request("set", 0), "k", strings.Repeat("v", rapid.SampledFrom([]int{0, 10, 1000, runValue, 40_000}).Draw(rt, "bytes")))
			},
			"runs":        func(rt *rapid.T) { r.server.modern.Store(rapid.Bool().Draw(rt, "modern")) },
			"close group": func(*rapid.T) { r.conn.CloseGroup() },
			"flush":       func(*rapid.T) { r.conn.Flush() },
			"take":        func(rt *rapid.T) { take(rapid.IntRange(1, 5000).Draw(rt, "bytes")) },
			"give":        func(rt *rapid.T) { give(rapid.IntRange(1, 5000).Draw(rt, "bytes")) },
			"":            func(*rapid.T) { check() },
		})
		r.conn.Flush()
		for turns := 0; r.conn.Waiting() > 0; turns++ {
			take(1 << 20)
			give(1 << 20)
			if turns > 10_000 {
				rt.Fatalf("%d calls are never answered", r.conn.Waiting())
			}
		}
		check()
		if r.conn.Unsent() != 0 || r.loop.Pool.Held != 0 || len(server.out) != 0 || r.conn.endDue {
			rt.Fatalf("left over: %d bytes unsent, %d held, END due %v", r.conn.Unsent(), r.loop.Pool.Held, r.conn.endDue)
		}
	})
}

// A call that is told its answer queues another one, on the same connection.
func TestCallsFromWithinAnAnswer(t *testing.T) {
	r := newRig(t)
	call := r.send("set", "set 1\r\n")
	call.then = func() {
		call.then = nil
		r.get("a", "a")
		r.send("incr", "incr 1\r\n")
		r.conn.End(append(r.conn.Begin(8), "set 2\r\n"...))
		r.conn.Queue(&call.Call)
	}
	r.send("delete", "delete\r\n")
	if got, want := r.requests(), "set 1\r\ndelete\r\n"; got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
	r.answer("STORED\r\nDELETED\r\n")
	if got, want := r.requests(), "get a\r\nincr 1\r\nset 2\r\n"; got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
	r.answer("END\r\n1\r\nNOT_STORED\r\n")
	r.want("set < STORED; delete < DELETED; a missed; incr = 1; set < NOT_STORED")
}
