package main

import (
	"context"
	"fmt"
	"slices"
)

// protocolNames are what loadgen takes for --protocol. The others are compared
// with the first.
func protocolNames() []string { return []string{"text", "meta", "binary"} }

// protocolLoads are the loads under which protocols are compared.
func protocolLoads() []workload {
	var all []workload
	for _, pipeline := range []int{1, 16} {
		for _, kind := range []struct{ id, title, ratio string }{
			{"get", "gets", "1:0"}, {"set", "sets", "0:1"}, {"mixed", "mixed, 10:1", "10:1"},
		} {
			all = append(all, workload{
				id: fmt.Sprintf("%s%d", kind.id, pipeline), title: fmt.Sprintf("P%d %s", pipeline, kind.title),
				clients: 50, pipeline: pipeline, size: 100, ratio: kind.ratio, multiget: 1,
			})
		}
	}
	return all
}

// in is the same load in another protocol.
func (w workload) in(protocol string) workload {
	w.id += "-" + protocol
	w.title += ", " + protocol
	w.protocol = protocol
	return w
}

// protocolWorkloads are the loads in each protocol. Those that are compared
// follow one another.
func protocolWorkloads() []workload {
	var all []workload
	for _, w := range protocolLoads() {
		for _, p := range protocolNames() {
			all = append(all, w.in(p))
		}
	}
	return all
}

// protocolTable compares the protocols on one target.
type protocolTable struct {
	target target
	rows   []protocolRow
}

// protocolRow is one load: figures are medians over the rounds, ratios medians
// of the ratios within a round, in the order of protocolNames. A figure that
// does not exist is NaN.
type protocolRow struct {
	load   workload
	kops   []float64
	toText []float64
	cpu    []float64 // of the proxy, or of the server where there is none
	notes  []string
}

// compareProtocols makes a table for each target that was measured.
func compareProtocols(samples []sample, targets []target) []protocolTable {
	var tables []protocolTable
	for _, t := range targets {
		of := func(id string) []sample {
			var found []sample
			for _, s := range samples {
				if s.workload == id && s.target == t.name {
					found = append(found, s)
				}
			}
			return found
		}
		table := protocolTable{target: t}
		for _, load := range protocolLoads() {
			one := protocolRow{load: load}
			text := of(load.in(protocolNames()[0]).id)
			measured := false
			for _, p := range protocolNames() {
				w := load.in(p)
				own := of(w.id)
				measured = measured || len(own) > 0
				sum := summarizeRow(t.name, map[string][]sample{t.name: own})
				one.kops = append(one.kops, sum.kops)
				one.toText = append(one.toText, ratio(own, text, kopsOf))
				cpu := sum.proxyCPU
				if t.kind == direct {
					cpu = sum.serverCPU
				}
				one.cpu = append(one.cpu, cpu)
				for _, n := range (section{workload: w, rows: []row{sum}}).notes() {
					one.notes = append(one.notes, w.title+": "+n)
				}
			}
			if measured {
				table.rows = append(table.rows, one)
			}
		}
		if len(table.rows) > 0 {
			tables = append(tables, table)
		}
	}
	return tables
}

// part is the table as a piece of the report.
func (p *protocolTable) part() part {
	title, whose := "Through "+p.target.name, "proxy"
	if p.target.kind == direct {
		title, whose = "On memcached itself", "server"
	}
	t := table{head: []string{"load"}}
	for _, name := range protocolNames() {
		t.head = append(t.head, name+" kops/s")
	}
	for _, name := range protocolNames()[1:] {
		t.head = append(t.head, name+" : text")
	}
	for _, name := range protocolNames() {
		t.head = append(t.head, name+" "+whose+" µs/op")
	}
	out := part{title: title, table: &t}
	for _, r := range p.rows {
		cells := []string{r.load.title}
		for _, v := range r.kops {
			cells = append(cells, number("%.1f", v))
		}
		for _, v := range r.toText[1:] {
			cells = append(cells, number("%.2f", v))
		}
		for _, v := range r.cpu {
			cells = append(cells, number("%.2f", v))
		}
		t.rows = append(t.rows, cells)
		out.after = append(out.after, r.notes...)
	}
	return out
}

// sound says whether every measurement succeeded and every answer was right.
func (p *protocolTable) sound() bool {
	return !slices.ContainsFunc(p.rows, func(r protocolRow) bool { return len(r.notes) > 0 })
}

// fillProtocols measures every load in every protocol with every target.
func (b *bench) fillProtocols(ctx context.Context, r *report) {
	b.workloads = protocolWorkloads()
	samples := b.run(ctx)
	one := protocolLoads()[0]
	r.load = fmt.Sprintf("The same work in classic text, in meta commands and in the binary protocol: %d clients, P1 and P16 are 1 and 16 requests in flight each, %d-byte values. ", one.clients, one.size) + b.roundsText()
	r.protocols = compareProtocols(samples, b.targets)
	r.noise = disturbance(samples)
}
