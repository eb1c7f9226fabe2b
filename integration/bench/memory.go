package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	magentClients = 30000 // -n of a magent whose memory is measured
	spareFiles    = 200   // open files of a proxy that are not clients
	settlePause   = 250 * time.Millisecond
	settleReads   = 4 // equal readings in a row
	settleTime    = 10 * time.Second
	idleStepTime  = 90 * time.Second
)

// memoryRow is the memory of one proxy in bytes, as VmRSS of /proc/PID/status,
// and the heap that it reports in its stats: NaN when it does not.
type memoryRow struct {
	target                        string
	clients                       int
	before, connected, used, left float64
	heapBefore, heapUsed          float64
	err                           error
}

func (m memoryRow) perClient(now float64) float64 { return (now - m.before) / float64(m.clients) }

// idleClients is how many idle clients this machine lets a process hold, at
// most wanted, and raises the limit of open files for the processes to be
// started.
func idleClients(wanted int) (clients int, limit int, err error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, 0, fmt.Errorf("getrlimit: %w", err)
	}
	need := uint64(max(magentClients, wanted) + spareFiles)
	raised := syscall.Rlimit{Cur: max(need, l.Cur), Max: max(need, l.Max)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) != nil {
		raised = syscall.Rlimit{Cur: l.Max, Max: l.Max} // what is allowed
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
			return 0, 0, fmt.Errorf("setrlimit: %w", err)
		}
	}
	clients = min(wanted, int(raised.Cur)-spareFiles)
	if clients < 1 {
		return 0, 0, fmt.Errorf("--idle %d: only %d open files are allowed; raise it with ulimit -Hn", wanted, raised.Cur)
	}
	return clients, int(raised.Cur), nil
}

// measureMemory measures one proxy.
func (b *bench) measureMemory(ctx context.Context, t target, clients, fileLimit int) memoryRow {
	m := memoryRow{target: t.name, clients: clients, heapBefore: math.NaN(), heapUsed: math.NaN()}
	most := min(max(magentClients, clients+spareFiles/2), fileLimit-spareFiles/2)
	st, err := b.stager.open(ctx, t, "-n", strconv.Itoa(most))
	if err != nil {
		m.err = err
		return m
	}
	m.err = errors.Join(b.holdIdle(ctx, st, &m), st.close())
	return m
}

// holdIdle opens the clients and reads the memory at each step.
func (b *bench) holdIdle(ctx context.Context, st *stage, m *memoryRow) error {
	step := func(what string) { b.screen.update(m.target + ": " + what) }
	step("a little load, so that all that is needed once is there")
	load := []string{"--json", "--addr", st.address, "--clients", "10", "--ops", "20000"}
	if _, err := b.load(ctx, st, load, m.target); err != nil {
		return err
	}
	var err error
	if m.before, err = settledRSS(ctx, st.proxy); err != nil {
		return err
	}
	m.heapBefore = heap(st.address)

	step("connecting")
	in, control, err := os.Pipe()
	if err != nil {
		return err
	}
	defer control.Close()
	output, out, err := os.Pipe()
	if err != nil {
		return errors.Join(err, in.Close())
	}
	defer output.Close()
	said := new(tail)
	p, err := start("loadgen", b.stager.loadCore, func(cmd *exec.Cmd) {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, said
	}, b.loadgen, "--idle", strconv.Itoa(m.clients), "--addr", st.address, "--prefill=false")
	err = errors.Join(err, in.Close(), out.Close())
	if p == nil {
		return err
	}
	if err != nil {
		return errors.Join(err, p.stop())
	}
	lines := bufio.NewReader(output)
	expect := func(word string) error {
		if err := output.SetReadDeadline(time.Now().Add(idleStepTime)); err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { _ = output.SetReadDeadline(time.Now()) })
		defer stop()
		line, err := lines.ReadString('\n')
		if err == nil && !strings.HasPrefix(line, word) {
			err = fmt.Errorf("it said %q instead of %s", line, word)
		}
		if err != nil {
			return fmt.Errorf("loadgen: %w: %s", err, said)
		}
		return nil
	}
	err = func() error {
		if err := expect("ready"); err != nil {
			return err
		}
		if m.connected, err = settledRSS(ctx, st.proxy); err != nil {
			return err
		}
		step("one get each")
		if _, err := io.WriteString(control, "get\n"); err != nil {
			return err
		}
		if err := expect("done"); err != nil {
			return err
		}
		if m.used, err = settledRSS(ctx, st.proxy); err != nil {
			return err
		}
		m.heapUsed = heap(st.address)
		return nil
	}()
	if err = errors.Join(err, p.stop()); err != nil {
		return err
	}
	m.left, err = settledRSS(ctx, st.proxy)
	if err == nil {
		b.screen.line(fmt.Sprintf("%s: %d idle clients: %.0f bytes each, %.0f after one get each",
			m.target, m.clients, m.perClient(m.connected), m.perClient(m.used)))
	}
	return err
}

// settledRSS is the resident memory once it stays the same for a while.
func settledRSS(ctx context.Context, p *process) (float64, error) {
	last, same := -1.0, 0
	for deadline := time.Now().Add(settleTime); ; {
		now, err := residentBytes(p.pid)
		if err != nil {
			return 0, err
		}
		if same++; now != last {
			last, same = now, 0
		}
		if same >= settleReads || time.Now().After(deadline) {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-p.ended:
			return 0, p.died()
		case <-time.After(settlePause):
		}
	}
}

// residentBytes is VmRSS of /proc/PID/status (man 5 proc_pid_status).
func residentBytes(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kilobytes, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return kilobytes * 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no VmRSS", pid)
}

// heap is the first figure with "heap" in its name among the STAT lines that
// the proxy answers to "stats", and NaN when there is none.
func heap(address string) float64 {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return math.NaN()
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(time.Second)) != nil {
		return math.NaN()
	}
	if _, err := io.WriteString(conn, "stats\r\n"); err != nil {
		return math.NaN()
	}
	for s := bufio.NewScanner(conn); s.Scan(); {
		words := strings.Fields(s.Text())
		if len(words) != 3 || words[0] != "STAT" {
			break
		}
		if v, err := strconv.ParseFloat(words[2], 64); err == nil && strings.Contains(words[1], "heap") {
			return v
		}
	}
	return math.NaN()
}
