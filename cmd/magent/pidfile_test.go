package main

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

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
