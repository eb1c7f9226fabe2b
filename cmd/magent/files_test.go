package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"magent/proxy"
)

// duplicates copies descriptors, as exec would.
func duplicates(t *testing.T, fds []int) []int {
	t.Helper()
	var copies []int
	for _, fd := range fds {
		fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, fd)
	}
	return copies
}

// promise: L8
func TestPidFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "magent.pid")
	for _, before := range []string{"", "99999\n"} {
		if before != "" {
			if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := writePidFile(path, currentIdentity()); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil || string(text) != strconv.Itoa(os.Getpid())+"\n" {
			t.Errorf("it holds %q, error %v", text, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("it has %v, error %v", info.Mode(), err)
		}
	}
	if err := removePidFile(path); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 0 {
		t.Errorf("left behind: %v, error %v", names, err)
	}
	if err := removePidFile(path); err != nil {
		t.Errorf("when it is gone already: %v", err)
	}
}

// promise: L8
func TestPidFileOfAnotherStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "magent.pid")
	if err := os.WriteFile(path, []byte("99999\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := removePidFile(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("it was removed: %v", err)
	}
}

// promise: L6, L8
func TestPidFileThatCannotBeWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "magent.pid")
	want := "cannot write the pid file " + path + ": no such file or directory: choose another with -P"
	if err := writePidFile(path, currentIdentity()); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

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

// promise: L1
func TestFitToTheFileLimit(t *testing.T) {
	o := proxy.Defaults()
	o.Primaries, o.Backups = []string{"a", "b"}, []string{"c"}
	others := int(otherFiles(&o))
	o.MaxClients = 1000
	if warning, err := fit(&o, uint64(1000+others)); warning != "" || err != nil || o.MaxClients != 1000 {
		t.Errorf("where it fits: warning %q, error %v, %d clients", warning, err, o.MaxClients)
	}
	warning, err := fit(&o, uint64(100+others))
	if err != nil || o.MaxClients != 100 || !strings.Contains(warning, "1000") || !strings.Contains(warning, "ulimit -n") {
		t.Errorf("where it does not fit: warning %q, error %v, %d clients", warning, err, o.MaxClients)
	}
	if _, err := fit(&o, uint64(others)); err == nil {
		t.Error("where no client fits there is no error")
	}
}

// promise: L7
func TestUpgradeStateSurvives(t *testing.T) {
	want := upgradeState{
		Version: "1", Directory: "/start", Executable: "/bin/magent", Detached: true,
		Endpoints: []string{"unix /run/a b"}, Locks: []string{"@l"}, LockFiles: []int{9},
		Socket: fileIdentity{Path: "/run/a b", Device: 1, Inode: 2}, Proxy: []byte{0, 1, 255},
	}
	memory, err := keepState(want)
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	fd := duplicates(t, []int{int(memory.Fd())})[0]
	t.Setenv(upgradeVariable, strconv.Itoa(fd))
	got, err := takeUpgradeState()
	if err != nil || got == nil {
		t.Fatalf("state %v, error %v", got, err)
	}
	a, _ := json.Marshal(want)
	b, _ := json.Marshal(got)
	if !bytes.Equal(a, b) {
		t.Errorf("%s\nwant %s", b, a)
	}
	if _, set := os.LookupEnv(upgradeVariable); set {
		t.Error("the variable is left for programs started from here")
	}
	if again, err := takeUpgradeState(); again != nil || err != nil {
		t.Errorf("without an upgrade: %v, %v", again, err)
	}
	t.Setenv(upgradeVariable, "nonsense")
	if _, err := takeUpgradeState(); err == nil {
		t.Error("nonsense is taken for a descriptor")
	}
}
