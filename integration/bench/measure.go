package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"magent/integration/loadgen/result"
)

const (
	startingTime = 700 * time.Millisecond // what a measurement takes besides its load, for the estimate
	overtime     = 60 * time.Second       // for loadgen, beyond the time it was told to run
)

// sample is one measurement, of which err says why it failed.
type sample struct {
	round    int
	workload string // its id
	target   string
	result   *result.Result
	err      error
}

// bench measures every workload with every target, round after round.
type bench struct {
	stager    *stager
	loadgen   string // its path
	targets   []target
	workloads []workload
	rounds    int
	seconds   float64
	warmup    float64
	screen    *screen
}

// run makes all measurements. When ctx ends it returns those made so far. A
// failed measurement does not stop the others.
func (b *bench) run(ctx context.Context) []sample {
	var samples []sample
	total := b.rounds * len(b.workloads) * len(b.targets)
	each := time.Duration((b.seconds+b.warmup)*float64(time.Second)) + startingTime
	for round := range b.rounds {
		for _, w := range b.workloads {
			for i := range b.targets {
				// Another one begins in each round, so that none always has
				// the same one before it.
				t := b.targets[(i+round)%len(b.targets)]
				left := (time.Duration(total-len(samples)) * each).Round(time.Second)
				head := fmt.Sprintf("%d/%d, %v left: round %d, %s, %s", len(samples)+1, total, left, round+1, w.title, t.name)
				s := sample{round: round, workload: w.id, target: t.name}
				s.result, s.err = b.measure(ctx, w, t, round, head)
				if ctx.Err() != nil {
					return samples
				}
				samples = append(samples, s)
				b.screen.line(head + ": " + s.String())
			}
		}
	}
	return samples
}

// String is the sample in a few words, for the progress line.
func (s *sample) String() string {
	if s.err != nil {
		return "failed: " + oneLine(s.err)
	}
	text := fmt.Sprintf("%.1f kops/s, p50 %.0f µs", s.result.OpsPerSecond/1000, s.result.Latency.P50)
	if cpu, ok := s.result.CPU[watchProxy]; ok {
		text += fmt.Sprintf(", proxy %.2f µs/op", cpu)
	}
	if busy := s.result.OthersBusy + s.result.Stolen; busy > calm {
		text += fmt.Sprintf(" (other programs: %.2f processors)", busy)
	}
	if n := s.result.Faults(); n > 0 {
		text += fmt.Sprintf(", %d FAULTS, first: %s", n, s.result.FirstError)
	}
	return text
}

// oneLine is an error that may be several joined ones.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// measure starts a stage, puts load on it and ends it.
func (b *bench) measure(ctx context.Context, w workload, t target, round int, head string) (r *result.Result, err error) {
	st, err := b.stager.open(ctx, t)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	args := append(w.args(), "--json", "--addr", st.address, "--seed", strconv.Itoa(round+1),
		"--seconds", fmt.Sprint(b.seconds), "--warmup", fmt.Sprint(b.warmup))
	return b.load(ctx, st, args, head)
}

// load runs loadgen to its end and reads its result.
func (b *bench) load(ctx context.Context, st *stage, args []string, head string) (*result.Result, error) {
	for _, s := range st.settings {
		args = append(args, "--watch", s)
	}
	var out bytes.Buffer
	said := &lines{show: func(s string) { b.screen.update(head + ": " + s) }}
	p, err := start("loadgen", b.stager.loadCore, func(cmd *exec.Cmd) { cmd.Stdout, cmd.Stderr = &out, said }, b.loadgen, args...)
	if err != nil {
		return nil, err
	}
	var proxyEnded <-chan struct{} // nil waits for ever
	if st.proxy != nil {
		proxyEnded = st.proxy.ended
	}
	limit := time.Duration((b.seconds+b.warmup)*float64(time.Second)) + overtime
	select {
	case <-p.ended:
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), p.stop())
	case <-proxyEnded: // the stage says why when it is closed
		return nil, errors.Join(fmt.Errorf("the proxy ended under load"), p.stop())
	case <-time.After(limit):
		return nil, errors.Join(fmt.Errorf("loadgen did not end within %v", limit), p.stop())
	}
	if p.wait != nil {
		return nil, fmt.Errorf("loadgen: %w: %s", p.wait, said.last)
	}
	r := new(result.Result)
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		return nil, fmt.Errorf("loadgen's result: %w", err)
	}
	return r, nil
}

// lines shows each line that is written to it without "loadgen: ", and keeps
// the last one. It is written by one goroutine; last may be read when that has
// ended.
type lines struct {
	show func(string)
	part []byte
	last string
}

// Write never fails.
func (l *lines) Write(b []byte) (int, error) {
	l.part = append(l.part, b...)
	for {
		i := slices.Index(l.part, '\n')
		if i < 0 {
			return len(b), nil
		}
		l.last = strings.TrimPrefix(string(l.part[:i]), "loadgen: ")
		l.part = l.part[i+1:]
		l.show(l.last)
	}
}
