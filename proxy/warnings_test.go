package proxy

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// Of each kind of warning one a second is logged; the next one says how many
// were left out. The clock is the test's.
//
// promise: R5
func TestWarningsAreRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := zerolog.New(&out)
		var w warnings
		lines := func() []string {
			text := strings.TrimSuffix(out.String(), "\n")
			out.Reset()
			return strings.Split(text, "\n")
		}
		for range 1000 {
			w.warn(log.Warn(), "one", "first kind")
			w.warn(log.Warn(), "two", "second kind")
		}
		if got := lines(); len(got) != 2 || !strings.Contains(got[0], "first kind") || !strings.Contains(got[1], "second kind") {
			t.Errorf("2000 warnings of two kinds were logged as %q", got)
		}
		time.Sleep(warnEvery - time.Nanosecond)
		w.warn(log.Warn(), "one", "first kind")
		if got := lines(); got[0] != "" {
			t.Errorf("logged again before its time: %q", got)
		}
		time.Sleep(time.Nanosecond)
		w.warn(log.Warn(), "one", "first kind")
		if got := lines(); len(got) != 1 || !strings.Contains(got[0], `"left_out":1000`) {
			t.Errorf("logged %q, want that 1000 were left out", got)
		}
		time.Sleep(warnEvery)
		w.warn(log.Warn(), "one", "first kind")
		if got := lines(); len(got) != 1 || strings.Contains(got[0], "left_out") {
			t.Errorf("logged %q, want that nothing was left out since", got)
		}
	})
}
