package main

import (
	"regexp"
	"strings"
	"testing"
)

// promise: L1
func TestHelpIsCompleteAndFits(t *testing.T) {
	rows := table(defaultSettings())
	page := helpPage(rows)
	for _, row := range rows {
		line := "      --" + row.name
		if row.letters != "" {
			line = "  -" + row.letters[:1] + ", --" + row.name
		}
		if row.value != "" {
			line += " " + row.value
		}
		if strings.Count(page, line+"\n") != 1 {
			t.Errorf("%q is not there once", line)
		}
		if row.group == "" || !strings.Contains(page, "\n"+row.group+":\n") {
			t.Errorf("--%s is in no group", row.name)
		}
	}
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		if len(line) > helpWidth {
			t.Errorf("%d characters: %s", len(line), line)
		}
		if line != strings.TrimRight(line, " ") {
			t.Errorf("blanks at the end: %q", line)
		}
	}
	for line := range strings.Lines(shortUsage) {
		if len(line) > helpWidth {
			t.Errorf("%d characters: %s", len(line), line)
		}
	}
}

// What the page shows has to work.
func TestHelpExamplesParse(t *testing.T) {
	examples := regexp.MustCompile(`(?m)^    magent (.*)$`).FindAllStringSubmatch(helpHead, -1)
	if len(examples) != 3 {
		t.Fatalf("%d examples", len(examples))
	}
	for _, example := range examples {
		s := parsed(t, strings.Fields(example[1])...)
		if _, err := endpoints(s, noResolver); err != nil {
			t.Errorf("%s: %v", example[1], err)
		}
	}
	file := regexp.MustCompile(`(?m)^    (\S+ = .*)$`).FindAllStringSubmatch(helpTail, -1)
	if len(file) != 2 {
		t.Fatalf("%d lines of a config file", len(file))
	}
	parsed(t, "--config", configured(t, file[0][1]+"\n"+file[1][1]+"\n"))
}

func TestWrap(t *testing.T) {
	if got := strings.Join(wrap("one two  three four", 9), "|"); got != "one two|three|four" {
		t.Errorf("%q", got)
	}
}
