package main

import (
	"fmt"
	"math"
)

// latencyNoise is how much two medians of the same latency differ by chance.
const latencyNoise = 1.05

// aim is something magent wants to reach, as a ratio within a round.
type aim struct {
	text     string
	workload string
	figure   func(row) float64
	least    float64 // 0 when there is only an upper bound
	most     float64 // 0 when there is only a lower bound
}

func aims() []aim {
	toNutcracker := func(r row) float64 { return r.opsToNutcracker }
	toDirect := func(r row) float64 { return r.opsToDirect }
	return []aim{
		{"operations per second, no pipelining, to nutcracker's", idP1, toNutcracker, 1.2, 0},
		{"processor time of the proxy, no pipelining, to nutcracker's", idP1, func(r row) float64 { return r.cpuToNutcracker }, 0, 0.8},
		{"operations per second, pipeline of 16, to nutcracker's", idP16, toNutcracker, 3.5, 0},
		{"operations per second, no pipelining, to memcached's own", idP1, toDirect, 1.2, 0},
		{"operations per second, pipeline of 16, to memcached's own", idP16, toDirect, 3, 0},
		{"latency p50 of one lone client, to that through nutcracker (equal within noise)", idLone, func(r row) float64 { return r.p50ToNutcracker }, 0, latencyNoise},
	}
}

// verdict is an aim and what was reached. reached is NaN when it was not
// measured.
type verdict struct {
	aim     aim
	reached float64
}

// judge compares one target with the aims.
func judge(name string, sections []section) []verdict {
	var all []verdict
	for _, a := range aims() {
		v := verdict{aim: a, reached: math.NaN()}
		for _, s := range sections {
			for _, r := range s.rows {
				if s.workload.id == a.workload && r.target == name {
					v.reached = a.figure(r)
				}
			}
		}
		all = append(all, v)
	}
	return all
}

func (v verdict) measured() bool { return !math.IsNaN(v.reached) }

// holds is false for an aim that was not measured.
func (v verdict) holds() bool {
	return v.measured() && v.reached >= v.aim.least && (v.aim.most == 0 || v.reached <= v.aim.most)
}

func (v verdict) bound() string {
	if v.aim.most > 0 {
		return fmt.Sprintf("at most %.2f", v.aim.most)
	}
	return fmt.Sprintf("at least %.2f", v.aim.least)
}

func (v verdict) word() string {
	switch {
	case !v.measured():
		return "not measured"
	case v.holds():
		return "holds"
	default:
		return "MISSED"
	}
}
