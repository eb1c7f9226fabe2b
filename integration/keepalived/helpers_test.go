package keepalived

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// answer asks for one item and returns its header and value, "" for none.
func answer(t testing.TB, c *harness.Client, line string) string {
	t.Helper()
	head, err := c.Command("%s", line)
	must(t, err)
	if !strings.HasPrefix(head, "VA") {
		return ""
	}
	value, err := c.Line()
	must(t, err)
	if strings.HasPrefix(head, "VALUE") {
		_, err = c.Line() // END
		must(t, err)
	}
	return head + "\n" + value
}

// sameButTime compares two answers to mg that begin with the time an item has
// left: each server rounds for itself.
func sameButTime(a, b string) bool {
	split := func(s string) (left int, rest string) {
		before, after, found := strings.Cut(s, " t")
		number, rest, _ := strings.Cut(after, " ")
		left, err := strconv.Atoi(number)
		if !found || err != nil {
			return 0, s
		}
		return left, before + rest
	}
	x, restA := split(a)
	y, restB := split(b)
	return restA == restB && (x < 0) == (y < 0) && max(x-y, y-x) <= 2
}

// timeLeft is how long an item lives still on the servers of a pair, where it has
// to be the same.
func timeLeft(t *testing.T, client *node, key string) time.Duration {
	t.Helper()
	var first string
	for i, addr := range pairAddrs {
		got := answer(t, client.connect(addr+serverPort), "mg "+key+" t v")
		if i == 0 {
			first = got
		} else if !sameButTime(got, first) {
			t.Errorf("%s is %q on one server and %q on the other", key, first, got)
		}
	}
	_, after, _ := strings.Cut(first, " t")
	number, _, _ := strings.Cut(after, "\n")
	seconds, err := strconv.Atoi(number)
	if err != nil {
		t.Fatalf("%q tells no time", first)
	}
	return time.Duration(seconds) * time.Second
}
