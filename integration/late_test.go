package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// What a proxy has sent to a server that it cannot reach any more may arrive
// there late: when it was run elsewhere long ago, and another proxy has the
// clients. It takes effect once all the same, on both servers.
//
// promise: C4, C6
func TestWritesOfAnotherProxyThatArriveLate(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, hanging...)
			cut := server(p.story)
			first, second := harness.MustDial(t, p.proxies[0].Addr), harness.MustDial(t, p.proxies[1].Addr)
			for _, key := range []string{"n", "m"} {
				must(t, first.Set(key, "1000"))
			}
			p.awaitSame(t, 10*time.Second)
			count := func(c *harness.Client, key, want string) {
				t.Helper()
				if answer, err := c.Command("incr %s 1", key); err != nil || answer != want {
					t.Fatalf("incr %s: %q, %v; want %s", key, answer, err, want)
				}
			}
			p.link(0, cut).Partition() // it keeps what is sent, and delivers that when it heals
			count(first, "n", "1001")
			count(first, "m", "1001")
			p.awaitOut(t, 0, cut)
			_ = first.Close()
			for _, want := range []string{"1002", "1003", "1004"} {
				count(second, "n", want)
			}
			// As long as it takes to see to a server that nothing is on its way to.
			harness.Poll(3*time.Second, func() bool { return stateOf(t, p.proxies[1], p.junctions[cut].Addr) == "up" })
			count(second, "n", "1005")
			p.link(0, cut).Heal()
			count(second, "n", "1006")
			p.awaitWhole(t)
			count(second, "n", "1007")
			all := p.awaitSame(t, 10*time.Second)
			if all["n"].value != "1007" || all["m"].value != "1001" {
				t.Fatalf("n is %s and m is %s on both servers, want 1007 and 1001", all["n"].value, all["m"].value)
			}
		})
	}
}

// A primary has run a write, its answer does not arrive, and the client goes to
// another proxy, which serves the write. The first proxy must not run it on the
// backup now: there it would undo what was written since.
//
// promise: C4, C6
func TestAWriteWhoseClientHasGoneIsNotRunAgain(t *testing.T) {
	for name, after := range map[string]time.Duration{
		"soon":                                  0,
		"when the first proxy is asked nothing": 300 * time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testGoneClient(t, after)
		})
	}
}

// testGoneClient is the story of a client that goes after a while.
func testGoneClient(t *testing.T, after time.Duration) {
	p := startPair(t, "--server-timeout", "2s", "--connect-timeout", "300ms")
	first, second := harness.MustDial(t, p.proxies[0].Addr), harness.MustDial(t, p.proxies[1].Addr)
	must(t, first.Set("k", "0"))
	p.awaitSame(t, 10*time.Second)
	p.link(0, p.primary()).BlockAnswers()
	must(t, first.Send([]byte("set k 7 0 5\r\nfirst\r\n")))
	value := func() string {
		t.Helper()
		value, _, err := second.Value("k")
		must(t, err)
		return value
	}
	harness.Eventually(t, recovery, "the other proxy serves the write", func() bool { return value() == "first" })
	if after > 0 {
		pause(t, after)
	}
	must(t, first.Reset())
	must(t, second.Set("k", "second"))
	right := func() {
		t.Helper()
		if got := value(); got != "second" {
			t.Fatalf("k is %q, want what was written last", got)
		}
	}
	harness.Eventually(t, recovery, "the first proxy has taken the server out", func() bool {
		right()
		return stateOf(t, p.proxies[0], p.junctions[p.primary()].Addr) == "dirty"
	})
	// The next looks of the second proxy at what the first has noted.
	noted := time.Now().Add(time.Second)
	harness.Eventually(t, recovery, "the second proxy has read that", func() bool {
		right()
		return time.Now().After(noted)
	})
	p.link(0, p.primary()).Heal()
	p.awaitWhole(t)
	right()
	if all := p.awaitSame(t, 10*time.Second); all["k"].value != "second" {
		t.Fatalf("k is %q on both servers", all["k"].value)
	}
}

// The only copy of a key is on a server that a proxy does not reach any more. A
// write of which it does not know whether that server has it does not make the
// other server's older copy count, nor the key a miss: also when another
// proxy mends the servers.
//
// promise: C6, C7
func TestAWriteInDoubtLeavesTheOnlyCopy(t *testing.T) {
	p := startPair(t, "--server-timeout", "2s", "--connect-timeout", "300ms")
	first, second := harness.MustDial(t, p.proxies[0].Addr), harness.MustDial(t, p.proxies[1].Addr)
	must(t, first.Set("k", "old"))
	p.awaitSame(t, 10*time.Second)
	p.link(0, p.backup()).Partition()
	must(t, first.Set("k", "new")) // the primary has it alone
	p.awaitOut(t, 0, p.backup())
	p.link(0, p.primary()).Partition()
	asked := make(chan string, 1)
	go func() {
		answer, err := harness.MustDial(t, p.proxies[0].Addr).Command("append k 0 0 1\r\n+")
		asked <- fmt.Sprint(answer, err)
	}()
	p.link(0, p.backup()).Heal()
	answer := ""
	harness.Eventually(t, recovery, "the append is given up", func() bool {
		must(t, second.Set("other", "x"))
		select {
		case answer = <-asked:
			return true
		default:
			return false
		}
	})
	if !strings.HasPrefix(answer, "SERVER_ERROR ") {
		t.Fatalf("append: %s", answer)
	}
	for range 50 {
		must(t, second.Set("other", "x"))
		if answer, err := first.Command("get k"); err != nil || !strings.HasPrefix(answer, "SERVER_ERROR ") {
			t.Fatalf("get: %q, %v", answer, err)
		}
	}
	p.link(0, p.primary()).Heal()
	p.awaitWhole(t)
	if value, _, err := first.Value("k"); err != nil || value != "new" && value != "new+" {
		t.Fatalf("get: %q, %v", value, err)
	}
	p.awaitSame(t, 10*time.Second)
}

// One server came back empty and the other one, which holds everything, does not
// answer. A write of which nobody knows whether that one has it makes no key a
// miss.
//
// promise: C6, C7
func TestAWriteInDoubtOnTheOnlyFullServer(t *testing.T) {
	s := startStory(t, 1, 1, slices.Concat(hanging, []string{"--resync-rate", "0", "--compare-rate", "0"})...)
	c := harness.MustDial(t, s.Addr)
	must(t, c.Set("k", "v"))
	s.awaitSame(t, 10*time.Second)
	s.backup().Kill()
	s.awaitGone(t, s.backup())
	s.backup().Restart()
	harness.Eventually(t, recovery, "the backup serves", func() bool {
		return stateOf(t, s.Magent, s.name(s.backup())) == "warming"
	})
	s.primary().Freeze()
	answer, err := c.Command("append k 0 0 1\r\n+")
	if err != nil || !strings.HasPrefix(answer, "SERVER_ERROR ") {
		t.Fatalf("append: %q, %v", answer, err)
	}
	for range 20 {
		for _, command := range []string{"get k", "delete k", "incr k 1"} {
			if answer, err := c.Command("%s", command); err != nil || !strings.HasPrefix(answer, "SERVER_ERROR ") {
				t.Fatalf("%s: %q, %v", command, answer, err)
			}
		}
	}
	s.primary().Thaw()
	harness.Eventually(t, recovery, "the primary serves", func() bool {
		state := stateOf(t, s.Magent, s.name(s.primary()))
		return state == "up" || state == "warming"
	})
	for range 20 {
		if value, _, err := c.Value("k"); err != nil || value != "v" && value != "v+" {
			t.Fatalf("get: %q, %v", value, err)
		}
	}
}
