package main

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// someCore is a core that this test may use.
func someCore(t *testing.T) int {
	t.Helper()
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Fatal(err)
	}
	for core := range 1024 {
		if allowed.IsSet(core) {
			return core
		}
	}
	t.Fatal("no core is allowed")
	return 0
}

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAProcessIsEndedByTermOrElseByKill(t *testing.T) {
	p, err := start("gentle", someCore(t), nil, "sleep", "100")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := syscall.Kill(p.pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", p.pid, err)
	}

	p, err = start("stubborn", someCore(t), nil, script(t, `trap "" TERM; echo ready; while :; do read x || sleep 0.01; done`))
	if err != nil {
		t.Fatal(err)
	}
	p.grace = 50 * time.Millisecond
	for deadline := time.Now().Add(10 * time.Second); p.said.String() != "ready"; {
		if time.Now().After(deadline) {
			t.Fatal("the script does not start")
		}
		time.Sleep(time.Millisecond)
	}
	if err := p.stop(); err == nil || !strings.Contains(err.Error(), "stubborn") {
		t.Errorf("stop of a process that ignores TERM: %v", err)
	}
	if err := syscall.Kill(p.pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", p.pid, err)
	}
}

func TestAProcessThatEndsByItselfIsReportedWithItsWords(t *testing.T) {
	p, err := start("brief", someCore(t), nil, script(t, "echo first; echo cannot listen >&2; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	<-p.ended
	err = p.stop()
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "cannot listen") {
		t.Errorf("error %v", err)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var said tail
	for range 1000 {
		_, _ = said.Write([]byte("noise\n"))
	}
	_, _ = said.Write([]byte("the end\n"))
	if s := said.String(); len(s) > 3*tailBytes || !strings.HasSuffix(s, "the end") {
		t.Errorf("kept %d bytes: %q", len(s), s)
	}
}

func TestPortsAreFreeAndDiffer(t *testing.T) {
	p := newPorts()
	first, err := p.free()
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", local(p.next))
	if err == nil { // otherwise somebody else has it, which serves as well
		defer taken.Close()
	}
	busy := p.next
	second, err := p.free()
	if err != nil {
		t.Fatal(err)
	}
	if first == second || second == busy {
		t.Errorf("ports %d and %d, with %d taken", first, second, busy)
	}
}

func TestLinesShowsWholeLines(t *testing.T) {
	var shown []string
	l := &lines{show: func(s string) { shown = append(shown, s) }}
	for _, piece := range []string{"loadgen: o", "ne\nloadgen: two\nthr", "ee\nrest"} {
		_, _ = l.Write([]byte(piece))
	}
	if want := []string{"one", "two", "three"}; !slices.Equal(shown, want) || l.last != "three" {
		t.Errorf("shown %q, last %q, want %q", shown, l.last, want)
	}
}

func TestChoosing(t *testing.T) {
	program := script(t, "exit 0")
	p := programs{magent: program, nutcracker: program, memcached: program}
	targets, err := chooseTargets("direct,magent", []string{"old=" + program}, p)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, x := range targets {
		names = append(names, x.name)
	}
	if want := []string{"direct", "magent", "old"}; !slices.Equal(names, want) || targets[2].kind != mirroring {
		t.Errorf("targets %+v, want %q", targets, want)
	}
	for _, bad := range []struct {
		names string
		also  []string
	}{
		{"magnet", nil}, {"", nil}, {"magent,magent", nil}, {"magent", []string{"x"}}, {"magent", []string{"=y"}},
		{"magent", []string{"magent=" + program}}, {"magent", []string{"old=/does/not/exist"}},
	} {
		if got, err := chooseTargets(bad.names, bad.also, p); err == nil {
			t.Errorf("targets %q, also %q: accepted as %+v", bad.names, bad.also, got)
		}
	}

	usual, err := chooseWorkloads("", false)
	if err != nil || len(usual) != 3 {
		t.Errorf("usual loads %+v, error %v", usual, err)
	}
	if all, err := chooseWorkloads("", true); err != nil || len(all) != len(workloads()) {
		t.Errorf("with --full %d loads, error %v", len(all), err)
	}
	if some, err := chooseWorkloads("4k,p1", false); err != nil || len(some) != 2 || some[0].size != 4096 {
		t.Errorf("4k,p1: %+v, error %v", some, err)
	}
	if _, err := chooseWorkloads("p2", false); err == nil {
		t.Error("p2: accepted")
	}
}

func TestReportSaysWhatWentWrong(t *testing.T) {
	faulty := made(0, idP1, nameMagent, 120, 6, 300)
	faulty.result.Wrong, faulty.result.Misses, faulty.result.FirstError = 2, 5, "a strange value"
	samples := []sample{faulty, made(0, idP1, nameNutcracker, 100, 8, 400)}
	r := &report{
		facts: []fact{{"kernel", "Linux"}}, load: "1 round.", judged: []string{nameMagent}, noise: 0.5, idle: 10,
		sections: summarize(samples, workloads(), fourTargets),
		memory: []memoryRow{
			{target: nameMagent, clients: 10, before: 1 << 20, connected: 1<<20 + 4000, used: 1<<20 + 5000, left: 1 << 20, heapBefore: math.NaN(), heapUsed: 4096},
			{target: nameNutcracker, err: errors.New("out of files")},
		},
	}
	text, markdown := r.text(), r.markdown()
	for _, want := range []string{
		"Linux", "0.50 processors", "2 faulty answers", "a strange value", "5 keys were not found",
		"out of files", "400 B", "500 B", "1.20", "0.75", "holds", "not measured", "120.0",
	} {
		if !strings.Contains(text, want) || !strings.Contains(markdown, want) {
			t.Errorf("%q is missing in the report", want)
		}
	}
	if r.sound() {
		t.Error("a report with faults is called sound")
	}
	if strings.Contains(text, "NaN") || strings.Contains(markdown, "NaN") {
		t.Error("the report shows NaN")
	}
	for line := range strings.Lines(markdown) { // every table row is whole
		if strings.HasPrefix(line, "|") != strings.HasSuffix(line, "|\n") {
			t.Errorf("broken row %q", line)
		}
	}
	quiet := &report{sections: summarize(samples[1:], workloads(), fourTargets)}
	if !quiet.sound() {
		t.Error("a report without faults is called unsound")
	}
}

func TestInterruptedMeasurementEndsItsProcesses(t *testing.T) {
	core := someCore(t)
	pidFile := filepath.Join(t.TempDir(), "pid")
	b := &bench{stager: &stager{proxyCore: core, loadCore: core}, screen: &screen{out: new(bytes.Buffer)}, seconds: 1,
		loadgen: script(t, "echo $$ > "+pidFile+"; exec sleep 100")}
	proxy, err := start("proxy", core, nil, "sleep", "100")
	if err != nil {
		t.Fatal(err)
	}
	st := &stage{proxy: proxy}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	loadgen := make(chan int, 1)
	go func() { // interrupts when loadgen runs
		defer cancel()
		for ctx.Err() == nil {
			text, _ := os.ReadFile(pidFile)
			if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
				loadgen <- pid
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if _, err := b.load(ctx, st, nil, ""); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted load: %v", err)
	}
	if pid := <-loadgen; !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		t.Errorf("loadgen, process %d, is still there", pid)
	}
	if err := st.close(); err != nil {
		t.Error(err)
	}

	dead, err := start("proxy", core, nil, script(t, "echo panic >&2; exit 2"))
	if err != nil {
		t.Fatal(err)
	}
	st = &stage{proxy: dead}
	_, err = b.load(context.Background(), st, nil, "")
	if err == nil || !strings.Contains(err.Error(), "ended under load") {
		t.Errorf("load on a proxy that ended: %v", err)
	}
	if err := st.close(); err == nil || !strings.Contains(err.Error(), "panic") {
		t.Errorf("closing its stage: %v", err)
	}
}

// The whole program, short, with a real memcached, and beside it a magent that
// does not work: the others are measured nevertheless.
func TestWholeRun(t *testing.T) {
	core := strconv.Itoa(someCore(t))
	out := filepath.Join(t.TempDir(), "report.md")
	var text bytes.Buffer
	err := run([]string{"bench", "--targets", "direct", "--also", "broken=" + script(t, "echo no such option >&2; exit 1"),
		"--only", "p1,p16", "--rounds", "1", "--seconds", "0.1", "--warmup", "0",
		"--proxy-core", core, "--load-core", core, "--out", out}, &text)
	if !errors.Is(err, errUnsound) {
		t.Fatalf("error %v, want the one that says that a measurement failed", err)
	}
	file, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"No pipelining", "Pipeline of 16", "| direct |", "no such option", "Aims: broken", "--only p1,p16"} {
		if !strings.Contains(string(file), want) {
			t.Errorf("%q is missing in the report:\n%s", want, file)
		}
	}
	if strings.Contains(string(file), "direct: ") || !strings.Contains(text.String(), "direct") {
		t.Errorf("memcached itself was not measured well:\n%s", file)
	}
}
