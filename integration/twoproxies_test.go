package integration

import (
	"strconv"
	"testing"
	"time"

	"magent/integration/harness"
)

// While another proxy serves the same servers, one that has had nothing to do
// for a moment first asks what it has to know. A client that pipelines while a
// server stands still for such a moment is answered in full all the same.
//
// promise: R3, W6
func TestPipelinesBesideAnotherProxyAreAnswered(t *testing.T) {
	const requests = 1000
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, append([]string{"--threads", "1"}, patient...)...)
			s.second(t)
			setup := harness.MustDial(t, s.Addr)
			must(t, setup.Set("k", "v"))
			must(t, setup.Set("n", "0"))
			s.awaitSame(t, 10*time.Second)
			for round := range 3 {
				c := harness.MustDial(t, s.Addr)
				c.Timeout = 20 * time.Second
				var out []byte
				for i := range requests {
					if i%10 == 5 {
						out = append(out, "incr n 1\r\n"...)
						continue
					}
					out = append(out, "get k\r\n"...)
				}
				server(s).Freeze()
				must(t, c.Send(out))
				// Longer than a proxy trusts what it knows.
				still := time.Now().Add(400 * time.Millisecond)
				harness.Eventually(t, 10*time.Second, "the moment is over", func() bool { return time.Now().After(still) })
				server(s).Thaw()
				for i := range requests {
					if i%10 == 5 {
						want := strconv.Itoa(round*requests/10 + i/10 + 1)
						if answer, err := c.Line(); err != nil || answer != want {
							t.Fatalf("round %d, request %d: incr: %q, %v; want %s", round, i, answer, err, want)
						}
						continue
					}
					items, err := c.Values()
					if err != nil || len(items) != 1 || string(items[0].Value) != "v" {
						t.Fatalf("round %d, request %d: get: %v, %v", round, i, items, err)
					}
				}
			}
		})
	}
}
