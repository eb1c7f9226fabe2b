package harness

import (
	"testing"
	"time"
)

// pollInterval is the pause between two looks at a condition.
const pollInterval = 5 * time.Millisecond

// Eventually fails the test unless cond becomes true within the given time.
// what completes the sentence "it did not happen that …".
func Eventually(tb testing.TB, within time.Duration, what string, cond func() bool) {
	tb.Helper()
	if !Poll(within, cond) {
		tb.Fatalf("it did not happen within %v that %s", within, what)
	}
}

// Poll looks at cond until it is true or the time is over, and returns what
// it saw last.
func Poll(within time.Duration, cond func() bool) bool {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for end := time.Now().Add(within); ; <-ticker.C {
		if cond() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// Holds fails the test when cond becomes false within the given time: the
// way to show that something does not happen.
func Holds(tb testing.TB, during time.Duration, what string, cond func() bool) {
	tb.Helper()
	if Poll(during, func() bool { return !cond() }) {
		tb.Fatalf("it did not hold for %v that %s", during, what)
	}
}
