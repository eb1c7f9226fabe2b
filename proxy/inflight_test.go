package proxy

import (
	"bytes"
	"errors"
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
	slices.Sort(left)
	return f, left
}

// die ends the use of a file as the end of the process does.
func (f *inFlightFile) die() {
	_ = unix.Munmap(f.memory)
	_ = unix.Close(f.fd)
}

// What is under way when the process ends without a word is what the next ones
// find, also with fewer threads, until it is forgotten.
//
// promise: C6
func TestInFlightOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in-flight")
	f, left := openInFlightForTest(t, path, 3)
	if len(left) > 0 {
		t.Errorf("a new file holds %q", left)
	}
	if _, _, err := openInFlight(path, 1); !errors.Is(err, errInFlightBusy) {
		t.Errorf("two magents have one file: %v", err)
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
	f.die()
	want := []string{"a", "b", longest}
	for _, workers := range []int{1, 3, 2} {
		f, left = openInFlightForTest(t, path, workers)
		if !slices.Equal(left, want) {
			t.Errorf("left %q, want %q", left, want)
		}
		f.close() // nobody has mended them
	}
	f, _ = openInFlightForTest(t, path, 1)
	first = f.slots(0)
	for i, key := range want {
		if i == len(want)-1 { // of all but one it is known that they are mended
			f.die()
			if f, left = openInFlightForTest(t, path, 1); !slices.Equal(left, want[i:]) {
				t.Errorf("left %q, want %q", left, want[i:])
			}
			first = f.slots(0)
		}
		first.forget(key)
		f.forgetBehind(1, key)
	}
	if len(first.free) != slotsEach {
		t.Errorf("%d free slots, want %d", len(first.free), slotsEach)
	}
	f.close()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("after an orderly end the file is there: %v", err)
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
	// Another kind of file is left alone, and nonsense in one is not believed.
	path := filepath.Join(dir, "nonsense")
	for _, size := range []int{3*slotSize + 7, 3 * slotSize} {
		if err := os.WriteFile(path, bytes.Repeat([]byte{255}, size), 0o600); err != nil {
			t.Fatal(err)
		}
		if size%slotSize > 0 {
			if _, _, err := openInFlight(path, 1); err == nil {
				t.Error("a file of another kind is taken")
			}
			continue
		}
		f, left := openInFlightForTest(t, path, 1)
		if s := f.slots(0); len(left) > 0 || len(s.free) != slotsEach {
			t.Errorf("left %q, %d free slots", left, len(s.free))
		}
		f.close()
	}
}
