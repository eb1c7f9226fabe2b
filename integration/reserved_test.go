package integration

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

const reservedAnswer = "CLIENT_ERROR keys that begin with " + magentPrefix + " are magent's own; use another key"

// reservedWrites are all commands that write and have an answer of one line.
// Each %s is the key. The sizes are above and below the --max-item-size of the
// test.
func reservedWrites() []string {
	var all []string
	tail := map[string]string{"cas": " 1"}
	for _, verb := range []string{"set", "add", "replace", "append", "prepend", "cas"} {
		for _, size := range []int{0, 1, 5000, 2 << 20} {
			all = append(all, fmt.Sprintf("%s %%s 0 0 %d%s\r\n%s\r\n", verb, size, tail[verb], strings.Repeat("1", size)))
		}
	}
	for _, line := range []string{"delete %s", "incr %s 1", "decr %s 1", "touch %s 1"} {
		all = append(all, line+"\r\n")
	}
	return all
}

// inSilence is a command that asks for no answer.
func inSilence(command string) string {
	line, rest, _ := strings.Cut(command, "\r\n")
	return line + " noreply\r\n" + rest
}

// No command writes a key that is magent's own, and none of them disturbs what
// the client sends behind it.
//
// promise: C6
func TestNoCommandWritesWhatIsMagentsOwn(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, append([]string{"--max-item-size", "4k", "--threads", "1"}, patient...)...)
	c := harness.MustDial(t, m.Addr)
	servers := []*harness.Client{harness.MustDial(t, m.primary.Addr), harness.MustDial(t, m.backup.Addr)}
	kept, absent := magentPrefix+"kept", magentPrefix+"absent"
	var before []harness.Item
	for _, direct := range servers {
		if answer, err := direct.Store("set", kept, 7, 5000, []byte("41")); err != nil || answer != "STORED" {
			t.Fatalf("%q, %v", answer, err)
		}
		items, err := direct.Gets(kept)
		must(t, err)
		before = append(before, items...)
	}
	must(t, c.Set("beside", "here"))
	written := 0
	unchanged := func(command string) {
		t.Helper()
		// What magent sends the servers for one client comes in order: once the
		// mark is there, so is all that came before it.
		written++
		must(t, c.Set("mark", fmt.Sprint(written)))
		for i, direct := range servers {
			harness.Eventually(t, 20*time.Second, "the mark is on both servers", func() bool {
				value, _, err := direct.Value("mark")
				must(t, err)
				return value == fmt.Sprint(written)
			})
			items, err := direct.Gets(kept)
			must(t, err)
			if len(items) != 1 || fmt.Sprint(items[0]) != fmt.Sprint(before[i]) {
				t.Fatalf("%s changed %v to %v on server %d", short(command), before[i], items, i)
			}
			item, _, err := direct.Peek(kept)
			must(t, err)
			if item.TTL < 3000 || item.TTL > 5000 {
				t.Fatalf("%s: %d seconds to live on server %d, want about 5000", short(command), item.TTL, i)
			}
			expectMiss(t, direct, absent)
		}
	}
	for _, command := range reservedWrites() {
		for _, key := range []string{kept, absent} {
			request := fmt.Sprintf(command, key)
			must(t, c.Send([]byte(request+"get beside\r\n")))
			if answer, err := c.Line(); err != nil || answer != reservedAnswer {
				t.Fatalf("%s: %q, %v; want %q", short(request), answer, err, reservedAnswer)
			}
			expectNext(t, c, request)
			must(t, c.Send([]byte(inSilence(request)+"get beside\r\n")))
			expectNext(t, c, inSilence(request))
			unchanged(request)
		}
	}
	for _, line := range []string{"get", "gets", "gat 1", "gats 1", "gat 0", "gat -1"} {
		request := line + " " + kept + " beside " + absent
		items, err := c.Retrieve(request)
		if err != nil || len(items) != 2 || string(items[0].Value) != "41" || items[0].Flags != 7 || string(items[1].Value) != "here" {
			t.Fatalf("%s: %v, %v", request, items, err)
		}
		must(t, c.Set("beside", "here"))
		unchanged(request)
	}
}

// expectNext reads the answer to "get beside", which stands behind a request.
func expectNext(t *testing.T, c *harness.Client, request string) {
	t.Helper()
	items, err := c.Values()
	if err != nil || len(items) != 1 || string(items[0].Value) != "here" {
		t.Fatalf("get behind %s: %v, %v", short(request), items, err)
	}
}

// To read what is magent's own changes nothing of it: it is not the same on two
// servers, and is not compared.
//
// promise: C6
func TestWhatIsMagentsOwnIsNotCompared(t *testing.T) {
	t.Parallel()
	s := startStory(t, 1, 1, append([]string{"--compare-rate", "1000"}, patient...)...)
	c := harness.MustDial(t, s.Addr)
	fill(t, s.Magent, "beside:", 200)
	own := magentPrefix + "life"
	lives := func() (both []string) {
		for _, m := range []*harness.Memcached{s.primary(), s.backup()} {
			value, found, err := harness.MustDial(t, m.Addr).Value(own)
			if must(t, err); !found {
				t.Fatalf("%s holds no %s", m.Addr, own)
			}
			both = append(both, value)
		}
		return both
	}
	before := lives()
	compared := func() int {
		stats, err := c.Stats("")
		must(t, err)
		n, err := strconv.Atoi(stats["magent_compared_keys"])
		must(t, err)
		return n
	}
	// Differences are looked at twice, so others have to be compared meanwhile.
	enough := compared() + 60
	harness.Eventually(t, 30*time.Second, "keys are compared", func() bool {
		for n := range 200 {
			_, err := c.Get(own, fmt.Sprint("beside:", n))
			must(t, err)
		}
		says(t, c, "mg "+own+" s\r\n", fmt.Sprintf("HD s%d", len(before[0])))
		return compared() >= enough
	})
	if after := lives(); after[0] != before[0] || after[1] != before[1] {
		t.Errorf("%v has become %v", before, after)
	}
	stats, err := c.Stats("")
	must(t, err)
	if stats["magent_divergent_keys"] != "0" {
		t.Errorf("%s keys differed", stats["magent_divergent_keys"])
	}
}
