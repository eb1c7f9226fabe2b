package integration

import (
	"fmt"
	"testing"
	"time"

	"magent/integration/harness"
)

// The moment of a flush_all with a delay is no failure: new connections to the
// servers are made in it, and no client sees an error. What is written then is on
// both servers, or on none.
//
// promise: C4, C11
func TestTheMomentOfADelayedFlushAll(t *testing.T) {
	t.Parallel()
	const delay, clients, pace = 2, 30, 150 * time.Millisecond
	s := startStory(t, 1, 1, append([]string{"--threads", fmt.Sprint(clients)}, withoutFalseAlarms...)...)
	c := harness.MustDial(t, s.Addr)
	must(t, c.Set("old", "x"))
	expect(t, c, fmt.Sprint("flush_all ", delay), "OK")
	var keys []string
	for n, tick := 0, time.NewTicker(pace); n < clients; n++ {
		<-tick.C // each client comes to another loop, which connects anew
		one, err := harness.Dial(s.Addr)
		must(t, err)
		for i := range 20 {
			key := fmt.Sprintf("new:%d:%d", n, i)
			if answer, err := one.Store("set", key, 0, 0, []byte("v")); err != nil || answer != "STORED" {
				t.Fatalf("client %d: %q, %v", n, answer, err)
			}
			keys = append(keys, key)
		}
		must(t, one.Close())
	}
	awaitWhole(t, s.Magent)
	s.awaitSame(t, 15*time.Second)
	if _, found, err := c.Value("old"); found || err != nil {
		t.Errorf("the old item is there: %v, %v", found, err)
	}
	if _, found, err := c.Value(keys[len(keys)-1]); !found || err != nil {
		t.Errorf("the newest item is not there: %v, %v", found, err)
	}
}
