package clients

import (
	"slices"
	"strings"
	"testing"
)

// shownDifferences bounds how many lines that differ a test shows.
const shownDifferences = 20

// survived is what every driver has to write after the death of the primary.
var survived = []string{
	"ok failover.read before",
	"ok failover.incr 42",
	"ok failover.incr-again 43",
	"ok failover.append ab",
	"ok failover.write after",
	"ok failover.delete gone",
}

// step returns the kind of a line, "ok" or "error", and the name of its step.
func step(line string) (kind, name string) {
	kind, rest, _ := strings.Cut(line, " ")
	name, _, _ = strings.Cut(rest, " ")
	return kind, name
}

// byStep returns the lines of a transcript by the names of their steps.
func byStep(t *testing.T, lines []string) map[string]string {
	t.Helper()
	steps := make(map[string]string, len(lines))
	for _, line := range lines {
		kind, name := step(line)
		if kind != "ok" && kind != "error" {
			t.Errorf("no line of a step: %q", line)
			continue
		}
		if _, twice := steps[name]; twice {
			t.Errorf("two steps are called %s", name)
		}
		steps[name] = line
	}
	return steps
}

// compare fails the test where two transcripts differ.
func compare(t *testing.T, direct, through []string) {
	t.Helper()
	if slices.Equal(direct, through) {
		return
	}
	other := byStep(t, through)
	shown := 0
	for _, line := range direct {
		_, name := step(line)
		got, ran := other[name]
		if !ran {
			got = "(this step did not run)"
		}
		if got == line {
			continue
		}
		if shown++; shown <= shownDifferences {
			t.Errorf("memcached: %.300s\nmagent:    %.300s", line, got)
		}
	}
	if shown == 0 {
		t.Errorf("the steps of the two transcripts differ:\n%s\nand\n%s", strings.Join(direct, "\n"), strings.Join(through, "\n"))
	} else if shown > shownDifferences {
		t.Errorf("and %d more", shown-shownDifferences)
	}
}

// checkSurvival fails the test unless the steps after the death of the primary
// show every value and no error.
func checkSurvival(t *testing.T, what string, lines []string) {
	t.Helper()
	got := lines[max(0, len(lines)-len(survived)):]
	if !slices.Equal(got, survived) {
		t.Errorf("%s: after the death of the primary the driver wrote\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(survived, "\n"))
	}
}

// operations returns what the client could do: each operation that has a step
// that went well, in the order of the transcript.
func operations(lines []string) []string {
	var names []string
	for _, line := range lines {
		kind, name := step(line)
		name, _, _ = strings.Cut(name, ".")
		if kind == "ok" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
