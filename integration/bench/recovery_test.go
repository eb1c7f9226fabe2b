package main

import (
	"math"
	"strings"
	"testing"

	"magent/integration/loadgen/result"
)

// recovered is a recovery with a p99 in each window of its phases.
func recovered() recovery {
	r := recovery{target: nameMagent, workload: workloads()[0], keys: 1000, whole: 4, keysLeft: 1000}
	for _, w := range []struct {
		phase string
		p99   float64
	}{
		{phaseBefore, 100}, {phaseBefore, 110}, {phaseBefore, 90}, {phaseOut, 120},
		{phaseRecovery, 150}, {phaseRecovery, 170}, {phaseRecovery, 900}, {phaseAfter, 100},
	} {
		r.windows = append(r.windows, window{phase: w.phase, result: &result.Result{Latency: result.Latency{P99: w.p99}}})
	}
	return r
}

func TestSlowdownOfARecovery(t *testing.T) {
	r := recovered()
	if got := r.slowdown(); !near(got, 1.7) {
		t.Errorf("slowdown %g, want 1.7", got)
	}
	rows := r.phases().rows
	if got := rows[2]; got[0] != phaseRecovery || got[1] != "3" || got[4] != "170" || got[5] != "900" || got[6] != "1.70" {
		t.Errorf("the recovery's row is %q", got)
	}
	if got := len(r.course().rows); got != len(r.windows) {
		t.Errorf("%d rows for %d windows", got, len(r.windows))
	}
	if !r.sound() {
		t.Errorf("not sound: %q", r.notes())
	}
	empty := recovery{whole: math.NaN()}
	if got := empty.slowdown(); !math.IsNaN(got) {
		t.Errorf("slowdown without windows: %g", got)
	}
}

func TestRecoveryTellsWhatWentWrong(t *testing.T) {
	for what, spoil := range map[string]func(*recovery){
		"2 keys were not found":  func(r *recovery) { r.windows[3].result.Misses = 2 },
		"1 faulty answers":       func(r *recovery) { r.windows[3].result.Wrong = 1 },
		"holds 999 items":        func(r *recovery) { r.keysLeft = 999 },
		"the proxy ended":        func(r *recovery) { r.err = errorText("the proxy ended") },
		"aim: less than 2: MISS": func(r *recovery) { r.windows[5].result.Latency.P99 = 300 },
	} {
		r := recovered()
		if text := (&report{recoveries: []recovery{r}}).text(); strings.Contains(text, what) {
			t.Errorf("%q is said although nothing is wrong:\n%s", what, text)
		}
		spoil(&r)
		all := &report{recoveries: []recovery{r}}
		if text := all.text(); !strings.Contains(text, what) {
			t.Errorf("%q is not said:\n%s", what, text)
		}
		if slow := strings.HasPrefix(what, "aim"); all.sound() != slow {
			t.Errorf("%s: sound is %v", what, all.sound())
		}
	}
}

type errorText string

func (e errorText) Error() string { return string(e) }
