package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"magent/integration/loadgen/result"
)

// options is what the command line says.
type options struct {
	address    string
	protocol   string
	clients    int
	pipeline   int
	valueSize  int
	keys       int
	ratio      string
	seconds    float64
	warmup     float64
	windows    int
	multiget   int
	operations uint64
	seed       uint64
	prefill    bool
	json       bool
	quiet      bool
	idle       int
	watch      watchFlag
}

// finishTime is the most time for the answers that are due when a run is over.
const finishTime = 2 * time.Second

// errStopped says that a signal ended the run early.
var errStopped = errors.New("stopped by a signal before the end")

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

func parse(args []string, stdout io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("loadgen", flag.ContinueOnError)
	f.SetOutput(io.Discard) // an error is shown once, by main
	f.StringVar(&o.address, "addr", "127.0.0.1:11211", "`host:port` to put under load")
	f.StringVar(&o.protocol, "protocol", string(classic), "what is spoken: `text`, meta or binary")
	f.IntVar(&o.clients, "clients", 50, "connections")
	f.IntVar(&o.pipeline, "pipeline", 1, "requests in flight on each connection")
	f.IntVar(&o.valueSize, "value-size", 100, "`bytes` of a value")
	f.IntVar(&o.keys, "keys", 10000, "different keys")
	f.StringVar(&o.ratio, "ratio", "10", "`gets:sets`, or only the gets for one set")
	f.Float64Var(&o.seconds, "seconds", 10, "length of the measured time")
	f.Float64Var(&o.warmup, "warmup", 1, "seconds of load before it")
	f.IntVar(&o.windows, "windows", 1, "measure --seconds so often, without a pause between; 0 goes on until SIGTERM, which then is no error")
	f.IntVar(&o.multiget, "multiget", 1, "keys in one get")
	f.Uint64Var(&o.operations, "ops", 0, "stop after so many operations instead of after --seconds")
	f.Uint64Var(&o.seed, "seed", 1, "start of the sequence of keys")
	f.BoolVar(&o.prefill, "prefill", true, "store every key before the run")
	f.BoolVar(&o.json, "json", false, "write the result as JSON on stdout")
	f.BoolVar(&o.quiet, "quiet", false, "no progress line each second on stderr")
	f.IntVar(&o.idle, "idle", 0, "open so many `connections` and hold them; the line \"get\" on stdin makes each do one get,\nany other line, or SIGTERM, ends")
	f.Var(&o.watch, "watch", "also report the processor time of this process; `name=pid`, repeatable")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			f.SetOutput(stdout)
			f.PrintDefaults()
			return o, err
		}
		return o, fmt.Errorf("%w; --help lists the options", err)
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q; every option starts with --", f.Arg(0))
	}
	if o.clients < 1 || o.pipeline < 1 {
		return o, fmt.Errorf("--clients %d --pipeline %d: both must be at least 1", o.clients, o.pipeline)
	}
	if o.seconds <= 0 || o.warmup < 0 || o.windows < 0 {
		return o, fmt.Errorf("--seconds %g --warmup %g --windows %d: seconds must be more than 0, the others not less",
			o.seconds, o.warmup, o.windows)
	}
	return o, nil
}

// parseRatio reads "gets:sets", or "gets" for "gets:1".
func parseRatio(s string) (gets, sets uint64, err error) {
	left, right, both := strings.Cut(s, ":")
	if !both {
		right = "1"
	}
	gets, errGets := strconv.ParseUint(left, 10, 16)
	sets, errSets := strconv.ParseUint(right, 10, 16)
	if errGets != nil || errSets != nil {
		return 0, 0, fmt.Errorf("--ratio %q: give gets:sets, for example 10:1, 1:0 or 0:1", s)
	}
	return gets, sets, nil
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	o, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	gets, sets, err := parseRatio(o.ratio)
	if err != nil {
		return err
	}
	t, err := resolve(o.address)
	if err != nil {
		return err
	}
	p, err := parseProtocol(o.protocol)
	if err != nil {
		return err
	}
	w, err := newWorkload(p, o.keys, o.valueSize, o.multiget, gets, sets, o.seed)
	if err != nil {
		return err
	}

	runtime.GOMAXPROCS(2) // one for the loop, see epollWait, one for the rest
	runtime.LockOSThread()
	var stop atomic.Bool
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	go func() {
		<-signals
		stop.Store(true)
	}()

	if o.prefill {
		if err := prefill(t, w); err != nil {
			return err
		}
	}
	if o.idle > 0 {
		return holdIdle(t, w, o.idle, stdin, stdout, &stop)
	}
	progress := stderr
	if o.quiet {
		progress = io.Discard
	}
	if err := raiseFileLimit(o.clients); err != nil {
		return err
	}
	l, err := newLoop(t, w, plan{
		clients: o.clients, pipeline: o.pipeline,
		warmup:     time.Duration(o.warmup * float64(time.Second)),
		measure:    time.Duration(o.seconds * float64(time.Second)),
		operations: o.operations, watch: o.watch, finish: finishTime,
	}, progress, &stop)
	if err != nil {
		return err
	}
	defer l.close()
	// The buffers reach their size in the warm-up and nothing is allocated
	// after it: a collection would only cost processor time.
	debug.SetGCPercent(-1)
	err = l.runWindows(o.windows, func(out *outcome) error {
		if out.count.operations == 0 && stop.Load() {
			return nil
		}
		r := report(o, gets, sets, out)
		if o.json {
			return json.NewEncoder(stdout).Encode(r)
		}
		return printText(stdout, r, o.watch)
	})
	if err == nil && stop.Load() && o.windows > 0 {
		err = errStopped
	}
	return err
}

// report turns what was measured into the published form.
func report(o options, gets, sets uint64, m *outcome) *result.Result {
	micro := func(q float64) float64 { return float64(m.latency.quantile(q)) / 1000 }
	perOp := func(ns int64) float64 { return float64(ns) / 1000 / max(float64(m.count.operations), 1) }
	r := &result.Result{
		Address: o.address, Protocol: o.protocol, Clients: o.clients, Pipeline: o.pipeline, ValueSize: o.valueSize,
		Keys: o.keys, Ratio: fmt.Sprintf("%d:%d", gets, sets), Multiget: o.multiget,
		Seconds:       m.elapsed.Seconds(),
		Operations:    m.count.operations,
		OpsPerSecond:  float64(m.count.operations) / m.elapsed.Seconds(),
		KeysPerSecond: float64(m.count.keysAsked) / m.elapsed.Seconds(),
		Latency:       result.Latency{P50: micro(0.5), P99: micro(0.99), P999: micro(0.999), Max: micro(1)},
		Gets:          m.count.gets, Sets: m.count.sets, Hits: m.count.hits, Misses: m.count.misses,
		Errors: m.count.errors, Wrong: m.count.wrong, Disconnects: m.count.disconnects,
		Unanswered: m.unanswered, FirstError: m.count.firstError,
		OwnCPU: perOp(m.after.own - m.before.own),
		CPU:    map[string]float64{},
	}
	others := m.after.machine - m.before.machine - (m.after.own - m.before.own)
	for i, p := range o.watch {
		used := m.after.watched[i] - m.before.watched[i]
		r.CPU[p.name] = perOp(used)
		others -= used
	}
	// Between the samples more time may have gone by than was measured.
	between := float64(m.after.at.Sub(m.before.at))
	r.OthersBusy = max(0, float64(others)/between)
	r.Stolen = float64(m.after.stolen-m.before.stolen) / between
	return r
}

func printText(w io.Writer, r *result.Result, watch []watched) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, %d clients, pipeline %d, %d-byte values, gets:sets %s, %d keys in a get, %.1f s\n",
		r.Address, r.Protocol, r.Clients, r.Pipeline, r.ValueSize, r.Ratio, r.Multiget, r.Seconds)
	fmt.Fprintf(&b, "operations/s  %.0f (%.0f keys/s)\n", r.OpsPerSecond, r.KeysPerSecond)
	fmt.Fprintf(&b, "latency µs    p50 %.1f  p99 %.1f  p99.9 %.1f  max %.1f\n",
		r.Latency.P50, r.Latency.P99, r.Latency.P999, r.Latency.Max)
	fmt.Fprintf(&b, "answers       %d gets, %d sets, %d hits, %d misses\n", r.Gets, r.Sets, r.Hits, r.Misses)
	fmt.Fprintf(&b, "faults        %d errors, %d wrong, %d disconnects, %d unanswered\n",
		r.Errors, r.Wrong, r.Disconnects, r.Unanswered)
	if r.FirstError != "" {
		fmt.Fprintf(&b, "first fault   %s\n", r.FirstError)
	}
	fmt.Fprintf(&b, "CPU µs/op     loadgen %.2f", r.OwnCPU)
	for _, p := range watch {
		fmt.Fprintf(&b, "  %s %.2f", p.name, r.CPU[p.name])
	}
	fmt.Fprintf(&b, "\nprocessors    %.2f used by other programs, %.2f stolen\n", r.OthersBusy, r.Stolen)
	_, err := io.WriteString(w, b.String())
	return err
}
