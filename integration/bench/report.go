package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// calm is how many busy processors of others are taken for a quiet machine.
const calm = 0.1

// report is all that one run of bench found out.
type report struct {
	facts    []fact
	load     string // rounds and seconds
	sections []section
	judged   []string // the targets that are compared with the aims
	noise    float64  // processors busy with something else
	memory   []memoryRow
	idle     int // clients of the memory measurement

	protocols  []protocolTable
	recoveries []recovery
	window     float64 // seconds of one of their windows
}

// table is a heading row and rows of the same length.
type table struct {
	head []string
	rows [][]string
}

func number(format string, v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

func (s section) table() table {
	t := table{head: []string{"target", "kops/s", "range", "proxy µs/op", "servers µs/op", "loadgen µs/op",
		"proxy core", "load core", "p50 µs", "p99 µs", "ops : nutcracker", "CPU : nutcracker", "ops : direct"}}
	for _, r := range s.rows {
		t.rows = append(t.rows, []string{
			r.target,
			number("%.1f", r.kops), number("%.1f", r.least) + "-" + number("%.1f", r.most),
			number("%.2f", r.proxyCPU), number("%.2f", r.serverCPU), number("%.2f", r.loadCPU),
			number("%.0f %%", 100*r.proxyBusy), number("%.0f %%", 100*r.loadBusy),
			number("%.0f", r.p50), number("%.0f", r.p99),
			number("%.2f", r.opsToNutcracker), number("%.2f", r.cpuToNutcracker), number("%.2f", r.opsToDirect),
		})
	}
	return t
}

// notes are the things that went wrong in a section.
func (s section) notes() []string {
	var all []string
	for _, r := range s.rows {
		for _, f := range r.failures {
			all = append(all, fmt.Sprintf("%s: a measurement failed: %s", r.target, f))
		}
		if r.faults > 0 {
			all = append(all, fmt.Sprintf("%s: %d faulty answers, the first: %s", r.target, r.faults, r.firstFault))
		}
		if r.misses > 0 {
			all = append(all, fmt.Sprintf("%s: %d keys were not found, although all had been stored", r.target, r.misses))
		}
	}
	return all
}

// sound says whether every measurement succeeded and every answer was right.
func (r *report) sound() bool {
	for _, s := range r.sections {
		if len(s.notes()) > 0 {
			return false
		}
	}
	for _, m := range r.memory {
		if m.err != nil {
			return false
		}
	}
	if slices.ContainsFunc(r.protocols, func(p protocolTable) bool { return !p.sound() }) {
		return false
	}
	return !slices.ContainsFunc(r.recoveries, func(one recovery) bool { return !one.sound() })
}

func (r *report) aimsTable(target string) table {
	t := table{head: []string{"aim", "wanted", "reached", ""}}
	for _, v := range judge(target, r.sections) {
		t.rows = append(t.rows, []string{v.aim.text, v.bound(), number("%.2f", v.reached), v.word()})
	}
	return t
}

func (r *report) memoryTable() table {
	t := table{head: []string{"target", "VmRSS before", "after connecting", "per client", "after one get each", "per client", "after all have left", "Go heap before", "Go heap with clients"}}
	kilo := func(b float64) string { return number("%.0f KB", b/1024) }
	for _, m := range r.memory {
		if m.err != nil {
			continue
		}
		t.rows = append(t.rows, []string{m.target,
			kilo(m.before), kilo(m.connected), number("%.0f B", m.perClient(m.connected)),
			kilo(m.used), number("%.0f B", m.perClient(m.used)), kilo(m.left), kilo(m.heapBefore), kilo(m.heapUsed)})
	}
	return t
}

// part is a piece of the report, in the order of reading.
type part struct {
	title string
	text  []string // paragraphs
	list  []string
	table *table
	after []string // notes under the table
}

const legend = "Figures are medians over the rounds; ratios are medians of the ratios within a round. " +
	"µs/op is processor time for one operation. A latency is the time from sending a batch of requests to each answer. " +
	"magent mirrors every set to a second server; magent-plain, nutcracker and direct have one server."

func (r *report) parts() []part {
	start := part{title: "Benchmark", text: []string{r.load}}
	for _, f := range r.facts {
		start.list = append(start.list, f.name+": "+f.value)
	}
	if r.noise > calm {
		start.text = append(start.text, fmt.Sprintf(
			"Other programs kept %.2f processors busy meanwhile, so latencies and operations per second are worth little here; processor time per operation suffers less.", r.noise))
	}
	all := []part{start}
	if len(r.sections) > 0 {
		all[0].text = append(all[0].text, legend)
		for _, name := range r.judged {
			t := r.aimsTable(name)
			all = append(all, part{title: "Aims: " + name, table: &t})
		}
	}
	for _, s := range r.sections {
		t := s.table()
		all = append(all, part{title: s.workload.title, text: []string{s.workload.describe() + "."}, table: &t, after: s.notes()})
	}
	if len(r.protocols) > 0 {
		all[0].text = append(all[0].text, "Figures are medians over the rounds; ratios are medians of the ratios within a round. "+
			"µs/op is processor time for one operation. magent mirrors every set to a second server; memcached itself is one server.")
	}
	for i := range r.protocols {
		all = append(all, r.protocols[i].part())
	}
	if len(r.memory) > 0 {
		t := r.memoryTable()
		p := part{title: "Memory of idle clients", table: &t,
			text: []string{fmt.Sprintf("%d connections. \"After one get each\" is when all of them have done one get, all at the same time, and are idle again.", r.idle)}}
		for _, m := range r.memory {
			if m.err != nil {
				p.after = append(p.after, m.target+": failed: "+oneLine(m.err))
			}
		}
		all = append(all, p)
	}
	for i := range r.recoveries {
		all = append(all, r.recoveries[i].parts(r.window)...)
	}
	return all
}

// text is the report for a terminal.
func (r *report) text() string {
	var b strings.Builder
	for _, p := range r.parts() {
		fmt.Fprintf(&b, "%s\n%s\n", p.title, strings.Repeat("=", len([]rune(p.title))))
		for _, s := range p.text {
			fmt.Fprintln(&b, s)
		}
		for _, s := range p.list {
			fmt.Fprintln(&b, "  "+s)
		}
		if p.table != nil {
			w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, strings.Join(p.table.head, "\t"))
			for _, row := range p.table.rows {
				fmt.Fprintln(w, strings.Join(row, "\t"))
			}
			_ = w.Flush() // a strings.Builder takes everything
		}
		for _, s := range p.after {
			fmt.Fprintln(&b, "! "+s)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// markdown is the report for docs/bench.
func (r *report) markdown() string {
	var b strings.Builder
	cells := func(row []string) {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
	}
	for i, p := range r.parts() {
		fmt.Fprintf(&b, "%s %s\n\n", strings.Repeat("#", min(i, 1)+1), p.title)
		for _, s := range p.list {
			fmt.Fprintf(&b, "- %s\n", s)
		}
		if len(p.list) > 0 {
			b.WriteByte('\n')
		}
		for _, s := range p.text {
			fmt.Fprintf(&b, "%s\n\n", s)
		}
		if p.table != nil {
			cells(p.table.head)
			rule := make([]string, len(p.table.head))
			for c := range rule {
				rule[c] = "---"
				if c > 0 {
					rule[c] = "---:"
				}
			}
			cells(rule)
			for _, row := range p.table.rows {
				cells(row)
			}
			b.WriteByte('\n')
		}
		for _, s := range p.after {
			fmt.Fprintf(&b, "**%s**\n\n", s)
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}
