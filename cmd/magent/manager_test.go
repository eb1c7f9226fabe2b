package main

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestTakeManager(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		socket, watchdog, pid string
		wantSocket            string
		wantWatchdog          time.Duration
		wantWarning           string
	}{
		{"", "", "", "", 0, ""},
		{"", "1000000", own, "", 0, ""},
		{"/run/notify", "", "", "/run/notify", 0, ""},
		{"@notify", "1500000", "", "@notify", 1500 * time.Millisecond, ""},
		{"/run/notify", "1", own, "/run/notify", time.Microsecond, ""},
		{"/run/notify", "1000000", "1", "/run/notify", 0, ""},
		{"/run/notify", "9223372036854775807", own, "/run/notify", 9223372036854775 * time.Microsecond, ""},
		{"/run/notify", "0", own, "/run/notify", 0, `WATCHDOG_USEC is "0"`},
		{"/run/notify", "-1", own, "/run/notify", 0, `WATCHDOG_USEC is "-1"`},
		{"/run/notify", "1s", own, "/run/notify", 0, `WATCHDOG_USEC is "1s"`},
		{"notify", "1000000", own, "", 0, `NOTIFY_SOCKET is "notify"`},
		{"@", "", "", "", 0, `NOTIFY_SOCKET is "@"`},
		{"vsock:2:1234", "", "", "", 0, `NOTIFY_SOCKET is "vsock:2:1234"`},
	} {
		environment := []string{managerVariable, c.socket, watchdogVariable, c.watchdog, watchdogPidVariable, c.pid}
		for i := 0; i < len(environment); i += 2 {
			t.Setenv(environment[i], environment[i+1])
		}
		m, warning := takeManager()
		if m.socket != c.wantSocket || m.watchdog != c.wantWatchdog || !strings.HasPrefix(warning, c.wantWarning) || (warning == "") != (c.wantWarning == "") {
			t.Errorf("%q: socket %q, watchdog %v, warning %q", environment, m.socket, m.watchdog, warning)
		}
		for i := 0; i < len(environment); i += 2 {
			if _, set := os.LookupEnv(environment[i]); set {
				t.Errorf("%s is left in the environment", environment[i])
			}
		}
	}
}

// A timer that ticks is no sign of life: the loops have to turn.
func TestWatchdogIsToldOfTurnsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hung atomic.Bool
		var told atomic.Int64
		end := everyTurn(time.Second, func(done func()) {
			if !hung.Load() {
				done()
			}
		}, func() { told.Add(1) })
		count := func() int64 {
			before := told.Load()
			time.Sleep(time.Minute) // of the bubble's own time
			synctest.Wait()
			return told.Load() - before
		}
		if n := count(); n < 120 {
			t.Errorf("told %d times in a minute, want at least every half second", n)
		}
		hung.Store(true)
		synctest.Wait()
		if n := count(); n > 0 {
			t.Errorf("told %d times while the loops hang", n)
		}
		hung.Store(false)
		if n := count(); n < 120 {
			t.Errorf("told %d times after they hung", n)
		}
		end()
	})
}
