package clients

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	// document shows what was run. Its table is between two marks.
	document   = "../../docs/clients.md"
	tableBegin = "| client | version | language | protocol | operations |\n|---|---|---|---|---|\n"
	// writeEnv has the test write the table anew instead of checking it.
	writeEnv = "MAGENT_CLIENTS_WRITE"
)

// table collects what ran, as the rows of the document.
type table struct {
	mu   sync.Mutex
	rows []row
}

type row struct {
	client     client
	version    string
	protocol   string
	operations []string
}

func (t *table) add(c client, version, protocol string, operations []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, row{c, version, protocol, operations})
}

// line returns the row as a line of the document. Without a version it is the
// one for a system whose packages are of another release.
func (r row) line(version string) string {
	return fmt.Sprintf("| %s | %s | %s | %s | %s |\n", r.client.name, version, r.client.language, r.protocol, strings.Join(r.operations, ", "))
}

// check fails the test where the document does not say what ran. Versions of
// Debian's packages count on the release of Debian that the document is about.
func (t *table) check(tt *testing.T) {
	tt.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		tt.Fatal(err)
	}
	before, old, found := strings.Cut(string(text), tableBegin)
	if !found {
		tt.Fatalf("%s has no table of clients", document)
	}
	end := strings.Index(old, "\n\n") + 1 // the table ends with an empty line
	slices.SortFunc(t.rows, func(a, b row) int { return strings.Compare(a.line(a.version), b.line(b.version)) })
	if os.Getenv(writeEnv) != "" {
		var lines strings.Builder
		for _, r := range t.rows {
			lines.WriteString(r.line(r.version))
		}
		if err := os.WriteFile(document, []byte(before+tableBegin+lines.String()+old[end:]), 0o644); err != nil {
			tt.Fatal(err)
		}
		return
	}
	documented := strings.SplitAfter(old[:end], "\n")
	for _, r := range t.rows {
		if !slices.ContainsFunc(documented, func(line string) bool { return r.is(line) }) {
			tt.Errorf("%s does not have this row; run the test with %s=1:\n%s", document, writeEnv, r.line(r.version))
		}
	}
	if want := rowsOfAll(); len(documented)-1 != want {
		tt.Errorf("%s has %d rows, %d are tested", document, len(documented)-1, want)
	}
}

// is tells whether a line of the document says what the row says.
func (r row) is(line string) bool {
	if r.client.pinned || onBookworm() {
		return line == r.line(r.version)
	}
	cells := strings.Split(line, " | ")
	return len(cells) == 5 && line == r.line(cells[1])
}

// onBookworm tells whether this is the Debian whose packages the document names.
func onBookworm() bool {
	release, err := os.ReadFile("/etc/debian_version")
	return err == nil && strings.HasPrefix(string(release), "12.")
}

// rowsOfAll returns how many rows the document has when everything was run.
func rowsOfAll() int {
	rows := 2 // memccapable's
	for _, c := range clients {
		rows += len(c.protocols)
	}
	return rows
}
