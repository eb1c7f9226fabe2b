package proxy

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func openInFlightForTest(t *testing.T, path string, workers int) (*inFlightFile, []string) {
	t.Helper()
	f, left, err := openInFlight(path, workers)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, key := range left {
		keys = append(keys, string(key))
	}
	slices.Sort(keys)
	return f, keys
}

// What is under way when the process ends without a word is what the next one
// finds, once, also with fewer threads.
//
// promise: C6
func TestInFlightOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in-flight")
	f, left := openInFlightForTest(t, path, 3)
	if len(left) > 0 {
		t.Errorf("a new file holds %q", left)
	}
	if _, _, err := openInFlight(path, 1); err == nil {
		t.Error("two magents have one file")
	}
	longest := strings.Repeat("x", mostKey)
	first, last := f.slots(0), f.slots(2)
	ended := first.enter([]byte("ended"))
	first.enter([]byte("a"))
	first.leave(ended)
	last.enter([]byte(longest))
	again := last.enter([]byte("longer than what comes behind it"))
	last.leave(again)
	if got := last.enter([]byte("b")); got != again {
		t.Errorf("slot %d, want the one that was free last", got)
	}
	_ = unix.Munmap(f.memory) // as at the end of the process
	_ = unix.Close(f.fd)
	f, left = openInFlightForTest(t, path, 1)
	if want := []string{"a", "b", longest}; !slices.Equal(left, want) {
		t.Errorf("left %q, want %q", left, want)
	}
	f.close()
	if _, left = openInFlightForTest(t, path, 1); len(left) > 0 {
		t.Errorf("after an orderly end: %q", left)
	}
}

// More writes than there is room for are not remembered, and do no harm.
//
// promise: R2
func TestInFlightIsBounded(t *testing.T) {
	f, _ := openInFlightForTest(t, filepath.Join(t.TempDir(), "in-flight"), 2)
	defer f.close()
	s, other := f.slots(0), f.slots(1)
	for i := range slotsEach {
		if s.enter(fmt.Append(nil, i)) == noSlot {
			t.Fatalf("no room for write %d", i)
		}
	}
	at := s.enter([]byte("one too many"))
	if at != noSlot {
		t.Errorf("slot %d", at)
	}
	s.leave(at)
	if !bytes.Equal(other.memory, make([]byte, slotsEach*slotSize)) {
		t.Error("another worker's slots are touched")
	}
	var none inFlight
	none.leave(none.enter([]byte("k")))
	if n := testing.AllocsPerRun(100, func() { other.leave(other.enter([]byte("key"))) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// A file in which somebody else has a say is not taken.
//
// promise: R4
func TestInFlightOfSomebodyElse(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	for name, make := range map[string]func(path string) error{
		"link":      func(path string) error { return os.Symlink(target, path) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"writable": func(path string) error {
			return os.WriteFile(path, nil, 0o600)
		},
	} {
		path := filepath.Join(dir, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if name == "writable" {
			if err := os.Chmod(path, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := openInFlight(path, 1); err == nil {
			t.Errorf("a %s is taken", name)
		}
	}
	// Nonsense in it is not believed.
	path := filepath.Join(dir, "nonsense")
	if err := os.WriteFile(path, bytes.Repeat([]byte{255}, 3*slotSize+7), 0o600); err != nil {
		t.Fatal(err)
	}
	f, left := openInFlightForTest(t, path, 1)
	defer f.close()
	if len(left) > 0 {
		t.Errorf("left %q", left)
	}
}
