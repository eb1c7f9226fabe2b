package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeServer answers every connection with handle until it returns, closes it,
// and forgets it. It ends with the test.
func fakeServer(t *testing.T, handle func(r *bufio.Reader, w *bufio.Writer) error) target {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				r, w := bufio.NewReader(conn), bufio.NewWriter(conn)
				for handle(r, w) == nil {
					if r.Buffered() == 0 && w.Flush() != nil {
						return
					}
				}
				_ = w.Flush()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait() // the connections end when the loop closes its side
	})
	where, err := resolve(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return where
}

// answerOne reads one request and answers it as memcached would, with the value
// that edit makes of the right one.
func answerOne(w *workload, edit func(key, value string) string) func(*bufio.Reader, *bufio.Writer) error {
	return func(r *bufio.Reader, out *bufio.Writer) error {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		words := strings.Fields(line)
		if words[0] == "set" {
			if _, err := io.CopyN(io.Discard, r, int64(w.valueSize+2)); err != nil {
				return err
			}
			_, err = out.WriteString("STORED\r\n")
			return err
		}
		for _, key := range words[1:] {
			value := edit(key, key+string(w.filler))
			fmt.Fprintf(out, "VALUE %s 0 %d\r\n%s\r\n", key, len(value), value)
		}
		_, err = out.WriteString("END\r\n")
		return err
	}
}

func runLoop(t *testing.T, where target, w *workload, p plan, finish time.Duration) *outcome {
	t.Helper()
	var stop atomic.Bool
	l, err := newLoop(where, w, p, io.Discard, &stop)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	l.plan.finish = finish
	out, err := l.run()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func right(_, value string) string { return value }

func TestRunCountsEveryAnswer(t *testing.T) {
	for _, size := range []int{100, 300_000} { // the larger is more than one read and one send
		w, err := newWorkload(classic, 50, size, 2, 3, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		where := fakeServer(t, answerOne(w, right))
		if err := prefill(where, w); err != nil {
			t.Fatal(err)
		}
		p := plan{clients: 7, pipeline: 5, operations: 100, watch: []watched{{"self", os.Getpid()}}}
		out := runLoop(t, where, w, p, finishTime)
		c := out.count
		if c.operations < p.operations || c.gets+c.sets != c.operations || out.latency.total != c.operations ||
			c.keysAsked != 2*c.gets+c.sets || c.hits < 2*c.gets || c.hits > 2*c.gets+2*uint64(p.clients) {
			// each client may be in the middle of one answer, before its END
			t.Errorf("values of %d bytes: counted %+v, %d latencies", size, c, out.latency.total)
		}
		if c.misses+c.errors+c.wrong+c.disconnects+out.unanswered != 0 || c.firstError != "" {
			t.Errorf("values of %d bytes: faults where there are none: %+v, %d unanswered", size, c, out.unanswered)
		}
		if out.before.own >= out.after.own || out.before.watched[0] > out.after.watched[0] {
			t.Errorf("processor time went from %+v to %+v", out.before, out.after)
		}
	}
}

func TestWindowsFollowOneAnother(t *testing.T) {
	w, err := newWorkload(classic, 50, 100, 1, 3, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	where := fakeServer(t, answerOne(w, right))
	if err := prefill(where, w); err != nil {
		t.Fatal(err)
	}
	for _, windows := range []int{0, 3} {
		var stop atomic.Bool
		l, err := newLoop(where, w, plan{clients: 3, pipeline: 2, operations: 50, finish: finishTime}, io.Discard, &stop)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		err = l.runWindows(windows, func(o *outcome) error {
			if seen++; seen == 5 {
				stop.Store(true)
			}
			c := o.count
			if !stop.Load() && (c.operations < 50 || c.operations > 60) || o.latency.total != c.operations || c.errors+c.wrong+c.disconnects > 0 {
				t.Errorf("window %d counted %+v, %d latencies", seen, c, o.latency.total)
			}
			return nil
		})
		l.close()
		if want := map[int]int{0: 6, 3: 3}[windows]; err != nil || seen != want { // one more ends early
			t.Errorf("--windows %d: %d windows, want %d; %v", windows, seen, want, err)
		}
	}
}

func TestRunNoticesAWrongValue(t *testing.T) {
	w, err := newWorkload(classic, 10, 40, 1, 1, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	const swapped = "bench:0000007"
	where := fakeServer(t, answerOne(w, func(key, value string) string {
		if key == swapped {
			return "bench:0000006" + value[keyLength:]
		}
		return value
	}))
	out := runLoop(t, where, w, plan{clients: 2, pipeline: 4, operations: 1000}, finishTime)
	if out.count.wrong == 0 || !strings.Contains(out.count.firstError, swapped) {
		t.Errorf("counted %d wrong, first fault %q", out.count.wrong, out.count.firstError)
	}
}

func TestRunConnectsAgain(t *testing.T) {
	w := testWorkload(t, 1)
	answer := answerOne(w, right)
	var asked atomic.Int64
	where := fakeServer(t, func(r *bufio.Reader, out *bufio.Writer) error {
		if asked.Add(1)%100 == 0 {
			return io.EOF
		}
		return answer(r, out)
	})
	out := runLoop(t, where, w, plan{clients: 3, pipeline: 4, operations: 350}, finishTime)
	if out.count.disconnects == 0 || out.count.errors < out.count.disconnects || out.count.wrong != 0 {
		t.Errorf("counted %+v", out.count)
	}
}

func TestRunReportsRequestsWithoutAnswer(t *testing.T) {
	w, err := newWorkload(classic, 10, 40, 1, 1, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	answer := answerOne(w, right)
	var first atomic.Bool
	where := fakeServer(t, func(r *bufio.Reader, out *bufio.Writer) error {
		if first.CompareAndSwap(false, true) { // this connection is never answered
			_, err := io.Copy(io.Discard, r)
			return fmt.Errorf("closed: %w", unwrap(err))
		}
		return answer(r, out)
	})
	out := runLoop(t, where, w, plan{clients: 2, pipeline: 3, operations: 100}, 50*time.Millisecond)
	if out.unanswered != 3 {
		t.Errorf("%d requests unanswered, want the 3 of one client", out.unanswered)
	}
}

// unwrap makes an error of the end of input, which io.Copy reports as nil.
func unwrap(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

func TestSourcesAreSpread(t *testing.T) {
	local, err := resolve("127.0.0.1:11211")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]string{0: "127.0.0.1", clientsPerSource - 1: "127.0.0.1", clientsPerSource: "127.0.0.2", 3 * clientsPerSource: "127.0.0.4"} {
		if got := sourceOf(local, i).String(); got != want {
			t.Errorf("connection %d comes from %s, want %s", i, got, want)
		}
	}
	other, err := resolve("192.0.2.1:11211")
	if err != nil {
		t.Fatal(err)
	}
	if sourceOf(other, 0).IsValid() {
		t.Error("a source is chosen for an address that is not loopback")
	}
}

func TestIdleConnectionsAnswerOneGetEach(t *testing.T) {
	w := testWorkload(t, 1)
	where := fakeServer(t, answerOne(w, right))
	in, control := io.Pipe()
	output, out := io.Pipe()
	var stop atomic.Bool
	ended := make(chan error, 1)
	go func() { ended <- holdIdle(where, w, 30, in, out, &stop) }()
	lines := bufio.NewScanner(output)
	for _, step := range []struct{ want, say string }{{"ready 30", "get"}, {"done", "get"}, {"done", "end"}} {
		if !lines.Scan() || lines.Text() != step.want {
			t.Fatalf("said %q, want %q", lines.Text(), step.want)
		}
		fmt.Fprintln(control, step.say)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_ = control.Close()
}

func TestConnectReportsARefusal(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	where, err := resolve(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	var stop atomic.Bool
	_, err = newLoop(where, testWorkload(t, 1), plan{clients: 1, pipeline: 1}, io.Discard, &stop)
	if err == nil || !strings.Contains(err.Error(), unix.ECONNREFUSED.Error()) || !strings.Contains(err.Error(), where.text) {
		t.Errorf("error %v, want the address and the refusal", err)
	}
}
