package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"magent/integration/loadgen/result"
)

const (
	recoveryMegabytes = 1024 // memory of a server whose twin is emptied: nothing may be evicted
	recoveryTime      = 20 * time.Minute
	quietWindows      = 5 // measurements before the server dies, and after all is whole again
	outWindows        = 2 // while it is dead
	watchPause        = 100 * time.Millisecond
)

// The phases of a recovery.
const (
	phaseFill     = "fill"
	phaseBefore   = "both servers are up"
	phaseOut      = "the primary is dead"
	phaseRecovery = "the primary fills up"
	phaseAfter    = "both are up again"
)

// window is one measurement in the course of a recovery. A window in which the
// phase changes belongs to the later one.
type window struct {
	phase  string
	since  float64 // seconds from the restart to its end
	copied string  // what `stats servers` said then of the resync
	result *result.Result
}

// recovery is what happened when a primary came back empty under load.
type recovery struct {
	target   string
	workload workload
	keys     int
	windows  []window
	whole    float64 // seconds from the restart until every server was up; NaN if that did not happen
	keysLeft float64 // items on the primary then

	rssFilled, rssMost float64 // bytes of the proxy: before the server died, and most since then
	err                error
}

// watcher follows a recovery: it is written by one goroutine each, and read by
// the one that reads loadgen's results.
type watcher struct {
	mu        sync.Mutex
	phase     string
	restarted time.Time
	whole     time.Time
	copied    string
	rssMost   float64
	err       error
}

func (w *watcher) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

// measureRecovery lets a primary with so many keys die under load and come
// back empty.
func (b *bench) measureRecovery(ctx context.Context, t target, w workload, keys int) recovery {
	r := recovery{target: t.name, workload: w, keys: keys, whole: math.NaN(), keysLeft: math.NaN()}
	b.stager.megabytes = recoveryMegabytes
	st, err := b.stager.open(ctx, t)
	if err != nil {
		r.err = err
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, recoveryTime)
	defer cancel()
	r.err = errors.Join(b.recover(ctx, st, &r), st.close())
	return r
}

func (b *bench) recover(ctx context.Context, st *stage, r *recovery) error {
	step := func(what string) { b.screen.update(fmt.Sprintf("%s, %s: %s", r.target, r.workload.title, what)) }
	// Only the proxy is watched: a server's process changes.
	st.settings = []string{fmt.Sprintf("%s=%d", watchProxy, st.proxy.pid)}
	args := append(r.workload.args(), "--json", "--addr", st.address, "--keys", strconv.Itoa(r.keys))
	step("storing all keys")
	if _, err := b.load(ctx, st, append(args, "--ops", "1000", "--warmup", "0"), phaseFill); err != nil {
		return err
	}
	var err error
	if r.rssFilled, err = settledRSS(ctx, st.proxy); err != nil {
		return err
	}

	watch := &watcher{phase: phaseBefore}
	output, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer output.Close()
	said := &lines{show: func(s string) { step(s) }}
	p, err := start("loadgen", b.stager.loadCore, func(cmd *exec.Cmd) { cmd.Stdout, cmd.Stderr = out, said },
		b.loadgen, append(args, "--prefill=false", "--windows", "0", "--seconds", fmt.Sprint(b.seconds),
			"--warmup", fmt.Sprint(b.warmup), "--watch", st.settings[0])...)
	err = errors.Join(err, out.Close())
	if p == nil {
		return err
	}
	p.grace = overtime // its last answers, and what it has to write
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { watchServers(ctx, st.address, watch) })
	group.Go(func() { watchMemory(ctx, st.proxy, watch) })
	err = errors.Join(err, b.course(ctx, st, r, watch, json.NewDecoder(output)))
	cancel()
	err = errors.Join(err, p.stop())
	group.Wait()
	r.rssMost = watch.rssMost
	return errors.Join(err, watch.err)
}

// course reads one window after the other, and lets the server die, return and
// recover in the middle of them.
func (b *bench) course(ctx context.Context, st *stage, r *recovery, watch *watcher, results *json.Decoder) error {
	half := time.Duration(b.seconds * float64(time.Second) / 2)
	inPhase := 0
	var events sync.WaitGroup
	defer events.Wait()
	for {
		w := window{result: new(result.Result)}
		if err := results.Decode(w.result); err != nil {
			return errors.Join(fmt.Errorf("loadgen ended early: %w", err), ctx.Err())
		}
		watch.mu.Lock()
		w.copied, w.phase = watch.copied, watch.phase
		w.since = math.NaN()
		if !watch.restarted.IsZero() {
			w.since = time.Since(watch.restarted).Seconds()
		}
		if !watch.whole.IsZero() && math.IsNaN(r.whole) {
			r.whole = watch.whole.Sub(watch.restarted).Seconds()
		}
		failed := watch.err
		watch.mu.Unlock()
		if failed != nil {
			return failed
		}
		if n := len(r.windows); n > 0 && r.windows[n-1].phase == w.phase {
			inPhase++
		} else {
			inPhase = 1
		}
		r.windows = append(r.windows, w)
		b.screen.line(fmt.Sprintf("%s: %.1f kops/s, p50 %.0f µs, p99 %.0f µs, %d misses, %d faults %s",
			w.phase, w.result.OpsPerSecond/1000, w.result.Latency.P50, w.result.Latency.P99, w.result.Misses, w.result.Faults(), w.copied))
		switch {
		case w.phase == phaseBefore && inPhase == quietWindows:
			// In the middle of the next window, so that it happens under load.
			events.Go(func() { b.stager.later(ctx, half, watch, phaseOut, func() error { return st.servers[0].kill() }) })
		case w.phase == phaseOut && inPhase == outWindows:
			events.Go(func() {
				b.stager.later(ctx, half, watch, phaseRecovery, func() error { return b.stager.restart(ctx, st) })
			})
		case w.phase == phaseAfter && inPhase == quietWindows:
			left, err := itemsOf(st.addresses[0])
			r.keysLeft = left
			return err
		}
	}
}

// later does something after a while and says that a new phase has begun.
func (s *stager) later(ctx context.Context, pause time.Duration, watch *watcher, phase string, do func() error) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(pause):
	}
	err := do()
	watch.mu.Lock()
	defer watch.mu.Unlock()
	watch.phase = phase
	if phase == phaseRecovery {
		watch.restarted = time.Now()
	}
	if err != nil && watch.err == nil {
		watch.err = err
	}
}

// watchServers asks the proxy how far it is.
func watchServers(ctx context.Context, address string, watch *watcher) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchPause):
		}
		stats, err := statsOf(address, "stats servers\r\n")
		if err != nil {
			watch.fail(err)
			return
		}
		up, servers, copied := 0, 0, ""
		for name, value := range stats {
			switch {
			case strings.HasSuffix(name, ":state"):
				servers++
				if value == "up" {
					up++
				}
			case strings.HasSuffix(name, ":resync_done") && value != "0":
				copied = value + " of " + stats[strings.TrimSuffix(name, "done")+"total"]
			}
		}
		watch.mu.Lock()
		if watch.phase == phaseRecovery {
			watch.copied = copied
			if up == servers && servers > 0 {
				watch.phase, watch.whole = phaseAfter, time.Now()
			}
		}
		watch.mu.Unlock()
	}
}

// watchMemory keeps the highest resident memory of the proxy.
func watchMemory(ctx context.Context, p *process, watch *watcher) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchPause):
		}
		now, err := residentBytes(p.pid)
		if err != nil {
			watch.fail(err)
			return
		}
		watch.mu.Lock()
		watch.rssMost = max(watch.rssMost, now)
		watch.mu.Unlock()
	}
}

// itemsOf is how many items a server holds.
func itemsOf(address string) (float64, error) {
	stats, err := statsOf(address, "stats\r\n")
	if err != nil {
		return math.NaN(), err
	}
	return strconv.ParseFloat(stats["curr_items"], 64)
}

// statsOf is the answer to a stats command, by name.
func statsOf(address, command string) (map[string]string, error) {
	conn, err := net.DialTimeout("tcp", address, readyTime)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(readyTime)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, command); err != nil {
		return nil, err
	}
	stats := make(map[string]string)
	for s := bufio.NewScanner(conn); s.Scan(); {
		if s.Text() == "END" {
			return stats, nil
		}
		words := strings.SplitN(s.Text(), " ", 3)
		if len(words) != 3 || words[0] != "STAT" {
			return nil, fmt.Errorf("%q is answered %.80q", command, s.Text())
		}
		stats[words[1]] = words[2]
	}
	return nil, fmt.Errorf("%q is not answered to its end", command)
}
