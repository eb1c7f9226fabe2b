package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// options is what the command line says.
type options struct {
	programs  programs
	loadgen   string
	also      list
	targets   string
	only      string
	full      bool
	rounds    int
	seconds   float64
	warmup    float64
	proxyCore int
	loadCore  int
	out       string
	idle      int
	recovery  int
	protocols bool
}

// list is a flag that may be given more than once.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

// Set takes one value of the flag.
func (l *list) Set(s string) error {
	*l = append(*l, s)
	return nil
}

var (
	errInterrupted = errors.New("interrupted; all processes were ended")
	errUnsound     = errors.New("some measurements failed or saw wrong answers; see the lines with \"!\"")
)

func main() {
	// A child is ended by the kernel when the thread that started it ends:
	// the main thread lives as long as the program.
	runtime.LockOSThread()
	switch err := run(os.Args, os.Stdout); {
	case err == nil:
	case errors.Is(err, errInterrupted):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string, stdout io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(io.Discard) // an error is shown once, by main
	f.StringVar(&o.programs.magent, "magent", "./magent", "`path` of the magent to measure")
	f.StringVar(&o.programs.nutcracker, "nutcracker", "nutcracker", "`path` of nutcracker")
	f.StringVar(&o.programs.memcached, "memcached", "memcached", "`path` of memcached")
	f.IntVar(&o.programs.perEvent, "max-reqs-per-event", 20, "`requests` that a memcached runs of one connection before it turns to the next; its option -R")
	f.StringVar(&o.loadgen, "loadgen", "", "`path` of loadgen; built for the run when empty")
	f.Var(&o.also, "also", "measure one more magent, for example an older one; `name=path`, repeatable")
	f.StringVar(&o.targets, "targets", strings.Join([]string{nameMagent, namePlain, nameNutcracker, nameDirect}, ","), "what is compared, a `list`")
	f.StringVar(&o.only, "only", "", "only these loads, a `list` of p1, p16, lone, 500, 4k, get16, set1, set16, multiget")
	f.BoolVar(&o.full, "full", false, "all loads; otherwise p1, p16 and lone")
	f.IntVar(&o.rounds, "rounds", 5, "how often everything is measured")
	f.Float64Var(&o.seconds, "seconds", 4, "length of one measurement")
	f.Float64Var(&o.warmup, "warmup", 1, "seconds of load before each")
	f.IntVar(&o.proxyCore, "proxy-core", 0, "core of the proxy")
	f.IntVar(&o.loadCore, "load-core", 1, "core of the load generator and the servers")
	f.StringVar(&o.out, "out", "", "also write the report to this markdown `file`")
	f.IntVar(&o.idle, "idle", 0, "measure the memory of so many idle `clients` instead of speed")
	f.IntVar(&o.recovery, "recovery", 0, "instead of speed, measure how a primary that comes back empty is filled with so many `keys`")
	f.BoolVar(&o.protocols, "protocols", false, "instead of the usual loads, compare classic text, meta commands and binary")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			f.SetOutput(stdout)
			f.PrintDefaults()
			return o, err
		}
		return o, fmt.Errorf("%w; --help lists the options", err)
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q; every option starts with --", f.Arg(0))
	case o.rounds < 1 || o.seconds <= 0 || o.warmup < 0:
		return o, fmt.Errorf("--rounds %d --seconds %g --warmup %g: rounds and seconds must be more than 0, warmup not less",
			o.rounds, o.seconds, o.warmup)
	case o.programs.perEvent < 1:
		return o, fmt.Errorf("--max-reqs-per-event %d: give 1 or more", o.programs.perEvent)
	case o.protocols && (o.only != "" || o.full || o.idle > 0 || o.recovery > 0):
		return o, errors.New("--protocols has loads of its own: leave out --only, --full, --idle and --recovery")
	}
	return o, coresExist(o.proxyCore, o.loadCore)
}

// coresExist checks that processes may be pinned to the cores.
func coresExist(cores ...int) error {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	for _, c := range cores {
		if c < 0 || !allowed.IsSet(c) {
			return fmt.Errorf("core %d is not there; choose others with --proxy-core and --load-core", c)
		}
	}
	return nil
}

func run(args []string, stdout io.Writer) (err error) {
	o, err := parse(args[1:], stdout)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	targets, err := chooseTargets(o.targets, o.also, o.programs)
	if err != nil {
		return err
	}
	chosen, err := chooseWorkloads(o.only, o.full)
	if err != nil {
		return err
	}
	for _, program := range []string{o.programs.memcached, "taskset"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w; apt-get install memcached util-linux", err)
		}
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	dir, err := os.MkdirTemp("", "magent-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.loadgen == "" {
		o.loadgen = filepath.Join(dir, "loadgen")
		build := exec.CommandContext(ctx, "go", "build", "-o", o.loadgen, "magent/integration/loadgen")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build loadgen: %w: %s", err, text)
		}
	}
	b := &bench{
		stager:  &stager{programs: o.programs, proxyCore: o.proxyCore, loadCore: o.loadCore, ports: newPorts(), dir: dir},
		loadgen: o.loadgen, targets: targets, workloads: chosen,
		rounds: o.rounds, seconds: o.seconds, warmup: o.warmup, screen: newScreen(os.Stderr),
	}
	r := &report{facts: facts(args, targets, o.programs, o.proxyCore, o.loadCore)}
	switch {
	case o.idle > 0:
		err = b.fillMemory(ctx, r, o.idle)
	case o.recovery > 0:
		err = b.fillRecovery(ctx, r, o.recovery)
	case o.protocols:
		b.fillProtocols(ctx, r)
	default:
		b.fillSpeed(ctx, r)
	}
	if err != nil {
		return err
	}
	b.screen.update("")
	if ctx.Err() != nil && len(r.sections)+len(r.protocols) == 0 {
		return errInterrupted
	}
	if _, err := io.WriteString(stdout, r.text()); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	if o.out != "" {
		if err := os.WriteFile(o.out, []byte(r.markdown()), 0o644); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	if !r.sound() {
		return errUnsound
	}
	return nil
}

func (b *bench) fillSpeed(ctx context.Context, r *report) {
	samples := b.run(ctx)
	r.load = b.roundsText()
	r.sections = summarize(samples, b.workloads, b.targets)
	r.noise = disturbance(samples)
	for _, t := range b.targets {
		if t.kind == mirroring {
			r.judged = append(r.judged, t.name)
		}
	}
}

func (b *bench) roundsText() string {
	return fmt.Sprintf("%d rounds of %g s after %g s of warm-up. Each measurement has freshly started servers and a freshly started proxy.",
		b.rounds, b.seconds, b.warmup)
}

func (b *bench) fillMemory(ctx context.Context, r *report, wanted int) error {
	clients, limit, err := idleClients(wanted)
	if err != nil {
		return err
	}
	r.load, r.idle = "Resident memory of the proxy.", clients
	if clients < wanted {
		r.load += fmt.Sprintf(" Only %d of the %d clients wanted: this machine allows %d open files in a process.", clients, wanted, limit)
	}
	for _, t := range slices.DeleteFunc(slices.Clone(b.targets), func(t target) bool { return t.kind == direct || t.kind == plain }) {
		m := b.measureMemory(ctx, t, clients, limit)
		if ctx.Err() != nil {
			return errInterrupted
		}
		r.memory = append(r.memory, m)
	}
	return nil
}

func (b *bench) fillRecovery(ctx context.Context, r *report, keys int) error {
	r.load = "A primary with a backup is killed under load, and comes back empty. Latencies are those that clients see."
	r.window = b.seconds
	for _, t := range b.targets {
		if t.kind != mirroring {
			continue
		}
		for _, w := range b.workloads {
			one := b.measureRecovery(ctx, t, w, keys)
			if ctx.Err() != nil {
				return errInterrupted
			}
			r.recoveries = append(r.recoveries, one)
		}
	}
	if len(r.recoveries) == 0 {
		return fmt.Errorf("--recovery: no magent among the targets")
	}
	return nil
}
