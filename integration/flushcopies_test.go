package integration

import (
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// A flush_all waits for the writes that are under way, and two of those wait
// for a copy from a server that does not answer. All of them come to an end.
//
// promise: C11, R3
func TestFlushAllWhileCopiesFail(t *testing.T) {
	t.Parallel()
	args := []string{"--threads", "1", "--resync-rate", "0", "--compare-rate", "0"}
	s := startStory(t, 1, 1, append(args, hanging...)...)
	dial := func() *harness.Client {
		c := harness.MustDial(t, s.Addr)
		c.Timeout = 20 * time.Second
		return c
	}
	others := dial()
	must(t, others.Set("n", "5"))
	s.awaitSame(t, 10*time.Second)
	s.primary().Restart()
	harness.Eventually(t, 20*time.Second, "the primary lacks keys", func() bool {
		_, _, err := others.Value("absent")
		must(t, err)
		return stateOf(t, s.Magent, s.name(s.primary())) == "warming"
	})

	clients := []*harness.Client{dial(), dial(), dial()}
	s.links[s.backup()].Partition()
	for i, command := range []string{"incr n 1", "incr n 1", "flush_all"} {
		must(t, clients[i].Send([]byte(command+"\r\n")))
		// One event loop takes what came first: this answer comes behind it.
		answer, err := others.Command("version")
		if err != nil || !strings.HasPrefix(answer, "VERSION ") {
			t.Fatalf("version: %q, %v", answer, err)
		}
	}
	healed := time.Now().Add(hangTimeout + hangTimeout/2)
	harness.Eventually(t, 20*time.Second, "the copies have failed once", func() bool { return time.Now().After(healed) })
	s.links[s.backup()].Heal()
	for i, c := range clients {
		answer, err := c.Line()
		if err != nil {
			t.Fatalf("client %d has no answer: %v", i, err)
		}
		if i == 2 && answer != "OK" {
			t.Fatalf("flush_all: %q", answer)
		}
	}
	must(t, others.Set("after", "stays"))
	expectValue(t, others, "after", "stays")
	must(t, clients[0].Set("n", "10"))
	expect(t, clients[1], "incr n 1", "11")
	expectValue(t, others, "n", "11")
}
