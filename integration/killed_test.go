package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"magent/integration/harness"
)

// magent is killed when the primary has run writes and the backup has not. The
// next run knows which ones, and makes both copies equal, although nobody asks
// for these keys.
//
// promise: C1, C6, L7
func TestWritesUnderWayWhenMagentIsKilled(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("the backup is late %v", late), func(t *testing.T) {
			t.Parallel()
			testWritesUnderWay(t, late)
		})
	}
}

// testWritesUnderWay is the story with a backup that is there when the next run
// begins, or comes later.
func testWritesUnderWay(t *testing.T, late bool) {
	file := filepath.Join(t.TempDir(), "in-flight")
	args := []string{"--in-flight-file", file, "--compare-rate", "0", "--server-timeout", "5s"}
	s := startStory(t, 1, 1, args...)
	c := harness.MustDial(t, s.Addr)
	for i := range 20 {
		must(t, c.Set(fmt.Sprint("k", i), "old"))
	}
	s.awaitSame(t, recovery)
	link := s.links[s.backup()]
	link.Partition()
	want := map[string]held{}
	for i := range 20 {
		key := fmt.Sprint("k", i)
		if i%2 == 0 {
			must(t, c.Set(key, "new"))
			want[key] = held{value: "new", exp: -1}
		} else if answer, err := c.Command("delete %s", key); err != nil || answer != "DELETED" {
			t.Fatalf("delete: %q, %v", answer, err)
		}
	}
	s.Crash()
	link.Cut() // what it held back is lost
	if !late {
		link.Heal()
	}
	s.Magent = harness.StartMagent(t, s.cfg)
	if late {
		c := harness.MustDial(t, s.Addr)
		harness.Eventually(t, recovery, "the primary serves alone", func() bool {
			value, _, err := c.Value("k0")
			return err == nil && value == "new"
		})
		pause(t, time.Second) // longer than a comparison waits
		link.Heal()
	}
	awaitWhole(t, s.Magent)
	expectHeld(t, s.awaitSame(t, recovery), want)
	s.Stop()
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the file is left after an orderly end: %v", err)
	}
}

// The last run has told others of keys of which nobody knew whether their primary had
// got an earlier write, and is killed when the primary has run later writes of them and
// the backup has not. What clients were answered stays.
//
// promise: C1, C6
func TestWritesUnderWayOfKeysThatWereUncertain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "in-flight")
	s := startStory(t, 1, 1, "--in-flight-file", file, "--compare-rate", "0", "--server-timeout", "5s")
	c := harness.MustDial(t, s.Addr)
	for i := range 20 {
		must(t, c.Set(fmt.Sprint("k", i), "old"))
	}
	s.awaitSame(t, recovery)
	link := s.links[s.backup()]
	link.Partition()
	want := map[string]held{}
	record := "magent1 0 open\n"
	for i := range 20 {
		key := fmt.Sprint("k", i)
		record += fmt.Sprintf(" another ?%s\n", key)
		must(t, c.Set(key, "new"))
		want[key] = held{value: "new", exp: -1}
	}
	must(t, harness.MustDial(t, s.backup().Addr).Set(magentPrefix+"missed:"+s.name(s.primary()), record))
	s.Crash()
	link.Cut() // what it held back is lost
	link.Heal()
	s.Magent = harness.StartMagent(t, s.cfg)
	c = harness.MustDial(t, s.Addr)
	harness.Eventually(t, recovery, "the backup has what the primary has", func() bool {
		for key := range want {
			if value, _, err := c.Value(key); err != nil || value != "new" {
				t.Fatalf("%s is %q, %v", key, value, err)
			}
		}
		return unequal(want, holdings(t, s.backup()), 1) == ""
	})
	awaitWhole(t, s.Magent)
	expectHeld(t, s.awaitSame(t, recovery), want)
}
