package integration

import (
	"fmt"
	"testing"
	"time"

	"magent/integration/harness"
)

// ends are the ways in which one run of magent gives way to the next.
var ends = map[string]func(t *testing.T, s *story){
	"crashed": func(t *testing.T, s *story) {
		s.Crash()
		s.Magent = s.second(t)
	},
	"stopped": func(t *testing.T, s *story) {
		s.Stop()
		s.Magent = s.second(t)
	},
	"upgraded": upgrade,
}

// A flush_all with a delay is not forgotten with the run of magent that was
// asked for it: a server that comes back empty in the meantime and is filled
// from its twin serves nothing older after the moment.
//
// promise: C11
func TestDelayedFlushAllOutlivesTheProxy(t *testing.T) {
	for how, end := range ends {
		for who, server := range either {
			t.Run(fmt.Sprintf("%s, %s", how, who), func(t *testing.T) {
				t.Parallel()
				s := startStory(t, 1, 1, withoutFalseAlarms...)
				const n = 200
				fill(t, s.Magent, "old:", n)
				s.awaitSame(t, 10*time.Second)
				const delay = 6
				expect(t, harness.MustDial(t, s.Addr), fmt.Sprint("flush_all ", delay), "OK")
				moment := time.Now().Add((delay + 4) * time.Second)
				end(t, s)
				c := harness.MustDial(t, s.Addr)
				_, _, err := c.Value("old:1")
				must(t, ignoreServerError(err))
				server(s).Restart()
				_, err = c.Get(keysNamed("old:", n)...) // fills what is asked for
				must(t, err)
				harness.Eventually(t, 20*time.Second, "the moment is over", func() bool { return time.Now().After(moment) })
				stop := neverAgain(t, s.Addr, keysNamed("old:", n))
				awaitRequests(t, s.Magent, 200)
				awaitWhole(t, s.Magent)
				stop()
			})
		}
	}
}
