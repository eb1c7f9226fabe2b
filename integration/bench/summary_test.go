package main

import (
	"errors"
	"math"
	"testing"

	"magent/integration/loadgen/result"
)

// made is a sample with the figures that matter.
func made(round int, workload, target string, kops, proxy, p50 float64) sample {
	r := &result.Result{OpsPerSecond: kops * 1000, OwnCPU: 2, CPU: map[string]float64{"server": 3, "backup": 0.5}}
	r.Latency.P50, r.Latency.P99 = p50, 2*p50
	if !math.IsNaN(proxy) {
		r.CPU[watchProxy] = proxy
	}
	return sample{round: round, workload: workload, target: target, result: r}
}

var fourTargets = []target{
	{nameMagent, mirroring, ""}, {namePlain, plain, ""}, {nameNutcracker, nutcracker, ""}, {nameDirect, direct, ""},
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 || math.IsNaN(a) && math.IsNaN(b) }

func TestMedian(t *testing.T) {
	nan := math.NaN()
	for _, test := range []struct {
		all  []float64
		want float64
	}{
		{nil, nan}, {[]float64{nan}, nan}, {[]float64{4}, 4}, {[]float64{4, nan}, 4},
		{[]float64{3, 1}, 2}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 9, 2}, 3},
	} {
		if got := median(test.all); !near(got, test.want) {
			t.Errorf("median of %v is %g, want %g", test.all, got, test.want)
		}
	}
}

func TestSummaryTakesMediansAndRatiosWithinRounds(t *testing.T) {
	nan := math.NaN()
	samples := []sample{
		// The machine is twice as fast in the second round and slow in the third.
		made(0, idP1, nameMagent, 120, 6, 300), made(0, idP1, nameNutcracker, 100, 8, 400), made(0, idP1, nameDirect, 90, nan, 200),
		made(1, idP1, nameMagent, 240, 3, 150), made(1, idP1, nameNutcracker, 200, 4, 200), made(1, idP1, nameDirect, 180, nan, 100),
		made(2, idP1, nameMagent, 30, 9, 900), {round: 2, workload: idP1, target: nameNutcracker, err: errors.New("ended")}, made(2, idP1, nameDirect, 10, nan, 800),
	}
	sections := summarize(samples, workloads(), fourTargets)
	if len(sections) != 1 || sections[0].workload.id != idP1 {
		t.Fatalf("sections %+v, want only the load that was measured", sections)
	}
	rows := sections[0].rows
	if len(rows) != 3 {
		t.Fatalf("%d rows, want magent, nutcracker and direct", len(rows))
	}
	magent, nut, direct := rows[0], rows[1], rows[2]
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"magent kops", magent.kops, 120}, {"least", magent.least, 30}, {"most", magent.most, 240},
		{"proxy CPU", magent.proxyCPU, 6}, {"server CPU", magent.serverCPU, 3.5}, {"loadgen CPU", magent.loadCPU, 2},
		{"p50", magent.p50, 300}, {"p99", magent.p99, 600},
		{"proxy core", magent.proxyBusy, 0.72}, {"load core", magent.loadBusy, 0.66},
		{"ops to nutcracker", magent.opsToNutcracker, 1.2}, {"CPU to nutcracker", magent.cpuToNutcracker, 0.75},
		{"p50 to nutcracker", magent.p50ToNutcracker, 0.75},
		{"ops to direct", magent.opsToDirect, 120.0 / 90},
		{"nutcracker kops", nut.kops, 150}, {"nutcracker to itself", nut.opsToNutcracker, 1},
		{"direct has no proxy", direct.proxyCPU, nan}, {"no ratio either", direct.cpuToNutcracker, nan},
		{"direct to nutcracker", direct.opsToNutcracker, 0.9},
	} {
		if !near(c.got, c.want) {
			t.Errorf("%s is %g, want %g", c.name, c.got, c.want)
		}
	}
	if nut.rounds != 2 || len(nut.failures) != 1 || magent.rounds != 3 || len(magent.failures) != 0 {
		t.Errorf("rounds and failures: nutcracker %d, %v; magent %d, %v", nut.rounds, nut.failures, magent.rounds, magent.failures)
	}
}

func TestATargetThatAlwaysFailedHasARowWithoutFigures(t *testing.T) {
	samples := []sample{{workload: idP1, target: nameMagent, err: errors.New("no such file")}}
	rows := summarize(samples, workloads(), fourTargets)[0].rows
	if len(rows) != 1 || rows[0].rounds != 0 || !math.IsNaN(rows[0].kops) || !math.IsNaN(rows[0].least) || len(rows[0].failures) != 1 {
		t.Errorf("rows %+v", rows)
	}
}

func TestDisturbance(t *testing.T) {
	a, b := made(0, idP1, nameMagent, 1, 1, 1), made(1, idP1, nameMagent, 1, 1, 1)
	a.result.OthersBusy, a.result.Stolen = 0.2, 0.1
	b.result.OthersBusy = 0.5
	if got := disturbance([]sample{a, b, {err: errors.New("failed")}}); !near(got, 0.4) {
		t.Errorf("disturbance %g, want 0.4", got)
	}
}

func TestAims(t *testing.T) {
	nan := math.NaN()
	samples := []sample{
		made(0, idP1, nameMagent, 120, 6.6, 1), made(0, idP1, nameNutcracker, 100, 8, 1), made(0, idP1, nameDirect, 100.1, nan, 1),
		made(0, idP16, nameMagent, 349, 1, 1), made(0, idP16, nameNutcracker, 100, 6, 1), made(0, idP16, nameDirect, 110, nan, 1),
		made(0, idLone, nameMagent, 9, 50, 104), made(0, idLone, nameNutcracker, 9, 50, 100),
	}
	judged := judge(nameMagent, summarize(samples, workloads(), fourTargets))
	want := []string{"holds", "MISSED", "MISSED", "MISSED", "holds", "holds"}
	for i, v := range judged {
		if v.word() != want[i] {
			t.Errorf("%s: reached %.3f, %s: %s, want %s", v.aim.text, v.reached, v.bound(), v.word(), want[i])
		}
	}
	for _, v := range judge("other", summarize(samples, workloads(), fourTargets)) {
		if v.holds() || v.word() != "not measured" {
			t.Errorf("%s: %s for a target that is not there", v.aim.text, v.word())
		}
	}
}
