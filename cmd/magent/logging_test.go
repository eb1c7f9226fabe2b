package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// promise: L7
func TestLogFileIsOpenedAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "magent.log")
	file, err := openLogFile(path, currentIdentity())
	if err != nil {
		t.Fatal(err)
	}
	log := newLogger([]io.Writer{newWriter(file, "auto", false)})
	log.Info().Msg("first")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	log.Info().Msg("second")
	if err := file.reopen(); err != nil {
		t.Fatal(err)
	}
	log.Info().Msg("third")
	if got := messages(t, path+".1"); got != "first second" {
		t.Errorf("the old file holds %q", got)
	}
	if got := messages(t, path); got != "third" {
		t.Errorf("the new file holds %q", got)
	}
	// When it cannot be opened, the log goes on where it was.
	file.path = filepath.Join(path, "impossible")
	if err := file.reopen(); err == nil || !strings.Contains(err.Error(), "--log-file") {
		t.Errorf("error %v", err)
	}
	log.Info().Msg("fourth")
	if got := messages(t, path); got != "third fourth" {
		t.Errorf("the file holds %q", got)
	}
}

// messages returns the messages of a log in JSON.
func messages(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range bytes.Lines(text) {
		var entry struct{ Time, Level, Message string }
		if err := json.Unmarshal(line, &entry); err != nil || entry.Time == "" || entry.Level == "" {
			t.Fatalf("%q: %+v, error %v", line, entry, err)
		}
		list = append(list, entry.Message)
	}
	return strings.Join(list, " ")
}

func TestLogFormats(t *testing.T) {
	for _, c := range []struct {
		format   string
		terminal bool
		json     bool
	}{{"auto", false, true}, {"auto", true, false}, {"json", true, true}, {"console", false, false}} {
		var out bytes.Buffer
		log := newLogger([]io.Writer{newWriter(&out, c.format, c.terminal)})
		log.Warn().Str("server", "a").Msg("gone")
		if got := strings.HasPrefix(out.String(), "{"); got != c.json {
			t.Errorf("%s on a terminal %v: %q", c.format, c.terminal, out.String())
		}
		if !strings.Contains(out.String(), "gone") {
			t.Errorf("%s: %q", c.format, out.String())
		}
	}
	none := newLogger(nil)
	none.Error().Msg("nobody hears it")
}
