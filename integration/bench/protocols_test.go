package main

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestProtocolsAreComparedWithinRounds(t *testing.T) {
	nan := math.NaN()
	samples := []sample{
		// The machine is half as fast in the second round.
		made(0, "get1-text", nameMagent, 100, 6, 1), made(0, "get1-meta", nameMagent, 90, 7, 1), made(0, "get1-binary", nameMagent, 80, 5, 1),
		made(1, "get1-text", nameMagent, 50, 6, 1), made(1, "get1-meta", nameMagent, 45, 9, 1), {round: 1, workload: "get1-binary", target: nameMagent, err: errors.New("ended")},
		made(0, "get1-text", nameDirect, 200, nan, 1), made(0, "get1-meta", nameDirect, 100, nan, 1),
	}
	tables := compareProtocols(samples, fourTargets)
	if len(tables) != 2 || tables[0].target.name != nameMagent || tables[1].target.name != nameDirect || len(tables[0].rows) != 1 {
		t.Fatalf("tables %+v, want one row of magent and one of memcached", tables)
	}
	through, itself := tables[0].rows[0], tables[1].rows[0]
	for _, c := range []struct {
		name      string
		got, want []float64
	}{
		{"kops", through.kops, []float64{75, 67.5, 80}},
		{"ratio to text", through.toText, []float64{1, 0.9, 0.8}},
		{"CPU of the proxy", through.cpu, []float64{6, 8, 5}},
		{"kops of memcached", itself.kops, []float64{200, 100, nan}},
		{"ratio of memcached", itself.toText, []float64{1, 0.5, nan}},
		{"CPU of the server", itself.cpu, []float64{3.5, 3.5, nan}},
	} {
		for i := range c.want {
			if !near(c.got[i], c.want[i]) {
				t.Errorf("%s in %s is %g, want %g", c.name, protocolNames()[i], c.got[i], c.want[i])
			}
		}
	}
	if tables[0].sound() || !tables[1].sound() {
		t.Errorf("magent, of which a measurement failed, is sound: %v; memcached: %v", tables[0].sound(), tables[1].sound())
	}
	r := &report{protocols: tables}
	for _, want := range []string{"Through magent", "On memcached itself", "P1 gets", "binary kops/s", "meta : text", "67.5", "0.90", "P1 gets, binary: magent: a measurement failed: ended"} {
		if !strings.Contains(r.text(), want) || !strings.Contains(r.markdown(), want) {
			t.Errorf("%q is missing in the report:\n%s", want, r.text())
		}
	}
	if r.sound() || strings.Contains(r.text(), "NaN") {
		t.Errorf("the report is called sound, or shows NaN:\n%s", r.text())
	}
}

func TestLoadsOfTheProtocolsDifferInTheProtocolOnly(t *testing.T) {
	all := protocolWorkloads()
	if len(all) != len(protocolLoads())*len(protocolNames()) {
		t.Fatalf("%d loads", len(all))
	}
	seen := map[string]bool{}
	for i, w := range all {
		args := strings.Join(w.args(), " ")
		protocol := protocolNames()[i%len(protocolNames())]
		same := strings.Join(protocolLoads()[i/len(protocolNames())].args(), " ")
		if seen[w.id] || args != strings.Replace(same, "--protocol text", "--protocol "+protocol, 1) {
			t.Errorf("load %s has the arguments %s", w.id, args)
		}
		seen[w.id] = true
	}
}

func TestProtocolsHaveLoadsOfTheirOwn(t *testing.T) {
	for _, more := range [][]string{{"--only", "p1"}, {"--full"}, {"--idle", "10"}, {"--recovery", "10"}} {
		if _, err := parse(append([]string{"--protocols"}, more...), new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "--protocols") {
			t.Errorf("--protocols %q: %v", more, err)
		}
	}
}

// The whole comparison, short, with a real memcached.
func TestWholeRunOfProtocols(t *testing.T) {
	core := strconv.Itoa(someCore(t))
	out := filepath.Join(t.TempDir(), "report.md")
	var text bytes.Buffer
	err := run([]string{"bench", "--targets", "direct", "--protocols", "--rounds", "1", "--seconds", "0.05", "--warmup", "0",
		"--proxy-core", core, "--load-core", core, "--out", out}, &text)
	if err != nil {
		t.Fatalf("%v:\n%s", err, text.String())
	}
	file, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, load := range protocolLoads() {
		if !strings.Contains(string(file), "| "+load.title+" |") {
			t.Errorf("%q is missing in the report:\n%s", load.title, file)
		}
	}
	if strings.Contains(string(file), "| - |") {
		t.Errorf("something was not measured:\n%s", file)
	}
}
