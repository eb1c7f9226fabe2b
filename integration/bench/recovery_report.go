package main

import (
	"fmt"
	"math"
	"slices"
)

// mostSlowdown is how much slower requests may be while a server fills up.
const mostSlowdown = 2.0

// over is a figure of all windows of a phase.
func (r *recovery) over(phase string, figure func(*window) float64) []float64 {
	var all []float64
	for i := range r.windows {
		if r.windows[i].phase == phase {
			all = append(all, figure(&r.windows[i]))
		}
	}
	return all
}

func p99Of(w *window) float64  { return w.result.Latency.P99 }
func p50At(w *window) float64  { return w.result.Latency.P50 }
func rateOf(w *window) float64 { return w.result.OpsPerSecond / 1000 }

// highest is NaN when there is none.
func highest(all []float64) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
	return slices.Max(all)
}

// slowdown is the median p99 while the server fills up, to that before.
func (r *recovery) slowdown() float64 {
	return median(r.over(phaseRecovery, p99Of)) / median(r.over(phaseBefore, p99Of))
}

func (r *recovery) misses() (n uint64) {
	for i := range r.windows {
		n += r.windows[i].result.Misses
	}
	return n
}

func (r *recovery) faults() (n uint64, first string) {
	for i := range r.windows {
		n += r.windows[i].result.Faults()
		if first == "" {
			first = r.windows[i].result.FirstError
		}
	}
	return n, first
}

// sound says whether redundancy was whole in the end, and no client got
// anything but what it should.
func (r *recovery) sound() bool { return len(r.notes()) == 0 }

func (r *recovery) notes() []string {
	var all []string
	if r.err != nil {
		all = append(all, "failed: "+oneLine(r.err))
	}
	if n, first := r.faults(); n > 0 {
		all = append(all, fmt.Sprintf("%d faulty answers, the first: %s", n, first))
	}
	if n := r.misses(); n > 0 {
		all = append(all, fmt.Sprintf("%d keys were not found, although one server always had them", n))
	}
	if r.err == nil && r.keysLeft < float64(r.keys) {
		all = append(all, fmt.Sprintf("the primary holds %.0f items in the end, of %d", r.keysLeft, r.keys))
	}
	return all
}

// phases is the table of the phases.
func (r *recovery) phases() table {
	t := table{head: []string{"phase", "windows", "kops/s", "p50 µs", "p99 µs", "highest p99 of a window µs", "p99 to that before"}}
	for _, phase := range []string{phaseBefore, phaseOut, phaseRecovery, phaseAfter} {
		p99 := r.over(phase, p99Of)
		t.rows = append(t.rows, []string{
			phase, fmt.Sprint(len(p99)),
			number("%.1f", median(r.over(phase, rateOf))), number("%.0f", median(r.over(phase, p50At))),
			number("%.0f", median(p99)), number("%.0f", highest(p99)),
			number("%.2f", median(p99)/median(r.over(phaseBefore, p99Of))),
		})
	}
	return t
}

// course is the table of the single windows.
func (r *recovery) course() table {
	t := table{head: []string{"phase", "seconds since the restart", "kops/s", "p50 µs", "p99 µs", "longest µs", "keys copied"}}
	for i := range r.windows {
		w := &r.windows[i]
		t.rows = append(t.rows, []string{
			w.phase, number("%.1f", w.since), number("%.1f", rateOf(w)),
			number("%.0f", p50At(w)), number("%.0f", p99Of(w)), number("%.0f", w.result.Latency.Max), w.copied,
		})
	}
	return t
}

// parts are the pieces of the report about one recovery.
func (r *recovery) parts(seconds float64) []part {
	phases, course := r.phases(), r.course()
	verdict := "holds"
	if r.slowdown() >= mostSlowdown || math.IsNaN(r.slowdown()) {
		verdict = "MISSED"
	}
	megabytes := func(b float64) string { return number("%.1f MB", b/(1<<20)) }
	return []part{
		{
			title: fmt.Sprintf("%s, %s", r.target, r.workload.title),
			text: []string{
				r.workload.describe() + fmt.Sprintf(". %d keys.", r.keys),
				fmt.Sprintf("Redundancy was whole %s after the restart: %s keys a second.",
					number("%.1f s", r.whole), number("%.0f", float64(r.keys)/r.whole)),
				fmt.Sprintf("The p99 of the clients' requests was %s times that before (aim: less than %.0f: %s).",
					number("%.2f", r.slowdown()), mostSlowdown, verdict),
				fmt.Sprintf("Resident memory of the proxy: %s before the server died, at most %s since then.",
					megabytes(r.rssFilled), megabytes(r.rssMost)),
				fmt.Sprintf("Figures of a phase are medians over its windows of %g s.", seconds),
			},
			table: &phases, after: r.notes(),
		},
		{title: "Course", table: &course},
	}
}
