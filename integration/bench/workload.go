package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// workload is one kind of load.
type workload struct {
	id       string // for --only
	title    string
	clients  int
	pipeline int
	size     int    // bytes of a value
	ratio    string // gets:sets
	multiget int    // keys in a get
	full     bool   // only with --full
	protocol string // "" for classic text
}

const (
	idP1   = "p1"
	idP16  = "p16"
	idLone = "lone"
)

func workloads() []workload {
	const mixed, getOnly, setOnly = "10:1", "1:0", "0:1"
	return []workload{
		{idP1, "No pipelining", 50, 1, 100, mixed, 1, false, ""},
		{idP16, "Pipeline of 16", 50, 16, 100, mixed, 1, false, ""},
		{idLone, "One lone client", 1, 1, 100, mixed, 1, false, ""},
		{"500", "500 clients", 500, 1, 100, mixed, 1, true, ""},
		{"4k", "4 KB values", 50, 1, 4096, mixed, 1, true, ""},
		{"get16", "Gets only, pipeline of 16", 50, 16, 100, getOnly, 1, true, ""},
		{"set1", "Sets only", 50, 1, 100, setOnly, 1, true, ""},
		{"set16", "Sets only, pipeline of 16", 50, 16, 100, setOnly, 1, true, ""},
		{"multiget", "Gets of 50 keys", 50, 1, 100, getOnly, 50, true, ""},
	}
}

// chooseWorkloads is those named in only, or the usual ones, or with full all.
func chooseWorkloads(only string, full bool) ([]workload, error) {
	all := workloads()
	if only == "" {
		return slices.DeleteFunc(all, func(w workload) bool { return w.full && !full }), nil
	}
	var chosen []workload
	for id := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(w workload) bool { return w.id == id })
		if i < 0 {
			var ids []string
			for _, w := range all {
				ids = append(ids, w.id)
			}
			return nil, fmt.Errorf("--only: %q is not one of %s", id, strings.Join(ids, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// args are loadgen's options for this load.
func (w workload) args() []string {
	return []string{
		"--protocol", cmp.Or(w.protocol, protocolNames()[0]),
		"--clients", strconv.Itoa(w.clients), "--pipeline", strconv.Itoa(w.pipeline),
		"--value-size", strconv.Itoa(w.size), "--ratio", w.ratio, "--multiget", strconv.Itoa(w.multiget),
	}
}

// describe says in words what the load is.
func (w workload) describe() string {
	clients := fmt.Sprintf("%d clients", w.clients)
	if w.clients == 1 {
		clients = "1 client"
	}
	return fmt.Sprintf("%s, %d in flight each, %d-byte values, gets:sets %s, keys in a get: %d",
		clients, w.pipeline, w.size, w.ratio, w.multiget)
}
