package main

import (
	"math"
	"slices"
)

// row is what was measured of one target under one load: medians over the
// rounds. A figure that does not exist is NaN. Times are microseconds.
type row struct {
	target string
	rounds int // measurements that succeeded

	kops, least, most float64 // thousand operations per second: median and range
	proxyCPU          float64 // processor time for one operation
	serverCPU         float64 // of all servers together
	loadCPU           float64 // of loadgen
	p50, p99          float64
	proxyBusy         float64 // share of the core
	loadBusy          float64 // share of the core of loadgen and the servers

	// Ratios are medians of the ratios within each round.
	opsToNutcracker, cpuToNutcracker, p50ToNutcracker float64
	opsToDirect                                       float64

	faults, misses uint64 // over all rounds
	firstFault     string
	failures       []string
}

// section is one workload with its targets.
type section struct {
	workload workload
	rows     []row
}

// summarize makes a section of every workload that was measured at all.
func summarize(samples []sample, workloads []workload, targets []target) []section {
	var sections []section
	for _, w := range workloads {
		of := map[string][]sample{}
		for _, s := range samples {
			if s.workload == w.id {
				of[s.target] = append(of[s.target], s)
			}
		}
		if len(of) == 0 {
			continue
		}
		sec := section{workload: w}
		for _, t := range targets {
			if len(of[t.name]) > 0 {
				sec.rows = append(sec.rows, summarizeRow(t.name, of))
			}
		}
		sections = append(sections, sec)
	}
	return sections
}

func summarizeRow(name string, of map[string][]sample) row {
	r := row{target: name}
	var rates []float64
	for _, s := range of[name] {
		if s.err != nil {
			r.failures = append(r.failures, oneLine(s.err))
			continue
		}
		r.rounds++
		rates = append(rates, kopsOf(s))
		r.faults += s.result.Faults()
		r.misses += s.result.Misses
		if r.firstFault == "" {
			r.firstFault = s.result.FirstError
		}
	}
	middle := func(f func(sample) float64) float64 {
		var all []float64
		for _, s := range of[name] {
			if s.err == nil {
				all = append(all, f(s))
			}
		}
		return median(all)
	}
	r.kops, r.least, r.most = median(rates), math.NaN(), math.NaN()
	if len(rates) > 0 {
		r.least, r.most = slices.Min(rates), slices.Max(rates)
	}
	r.proxyCPU = middle(proxyOf)
	r.serverCPU = middle(serversOf)
	r.loadCPU = middle(func(s sample) float64 { return s.result.OwnCPU })
	r.p50 = middle(p50Of)
	r.p99 = middle(func(s sample) float64 { return s.result.Latency.P99 })
	r.proxyBusy = middle(func(s sample) float64 { return proxyOf(s) * kopsOf(s) / 1000 })
	r.loadBusy = middle(func(s sample) float64 { return (serversOf(s) + s.result.OwnCPU) * kopsOf(s) / 1000 })

	r.opsToNutcracker = ratio(of[name], of[nameNutcracker], kopsOf)
	r.cpuToNutcracker = ratio(of[name], of[nameNutcracker], proxyOf)
	r.p50ToNutcracker = ratio(of[name], of[nameNutcracker], p50Of)
	r.opsToDirect = ratio(of[name], of[nameDirect], kopsOf)
	return r
}

func kopsOf(s sample) float64 { return s.result.OpsPerSecond / 1000 }
func p50Of(s sample) float64  { return s.result.Latency.P50 }

// proxyOf is NaN when there is no proxy.
func proxyOf(s sample) float64 {
	if cpu, ok := s.result.CPU[watchProxy]; ok {
		return cpu
	}
	return math.NaN()
}

func serversOf(s sample) (sum float64) {
	for name, cpu := range s.result.CPU {
		if name != watchProxy {
			sum += cpu
		}
	}
	return sum
}

// ratio is the median over the rounds of one figure of a divided by that of b in
// the same round, and NaN when they share no round.
func ratio(a, b []sample, figure func(sample) float64) float64 {
	var all []float64
	for _, x := range a {
		for _, y := range b {
			if x.round == y.round && x.err == nil && y.err == nil {
				all = append(all, figure(x)/figure(y))
			}
		}
	}
	return median(all)
}

// median leaves out what is not a number, and is NaN when nothing is left.
func median(all []float64) float64 {
	all = slices.DeleteFunc(slices.Clone(all), math.IsNaN)
	if len(all) == 0 {
		return math.NaN()
	}
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

// disturbance is the median, over all measurements, of the processors that were
// busy with something else or stolen.
func disturbance(samples []sample) float64 {
	var all []float64
	for _, s := range samples {
		if s.err == nil {
			all = append(all, s.result.OthersBusy+s.result.Stolen)
		}
	}
	return median(all)
}
