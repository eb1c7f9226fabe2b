package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// What may differ between magent and memcached: cas tokens and the version.
var (
	tokenPattern   = regexp.MustCompile(`(?m)^(VALUE [^ ]+ \d+ \d+) \d+\r$`)
	versionPattern = regexp.MustCompile(`(?m)^VERSION .*\r$`)
)

func normalise(b []byte) []byte {
	b = tokenPattern.ReplaceAll(b, []byte("$1 TOKEN\r"))
	return versionPattern.ReplaceAll(b, []byte("VERSION\r"))
}

// talk sends a whole conversation in writes of at most size bytes, ends its
// side, and returns all that was answered until the server closed.
func talk(addr string, conversation []byte, size int) ([]byte, error) {
	c, err := harness.Dial(addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	if size < len(conversation) {
		c.Conn().(*net.TCPConn).SetNoDelay(true) //nolint:errcheck // it is the default
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for len(conversation) > 0 {
			n := min(size, len(conversation))
			if err := c.Send(conversation[:n]); err != nil {
				return // the server has closed: what it said before counts
			}
			conversation = conversation[n:]
		}
		_ = c.Conn().(*net.TCPConn).CloseWrite()
	}()
	got, err := c.Rest()
	if err != nil {
		_ = c.Close()
	}
	<-sent
	return got, err
}

// sameBytes holds the same conversation with magent and with memcached and
// fails the test at the first difference.
func sameBytes(t *testing.T, magent, memcached string, conversation []byte, size int) {
	t.Helper()
	want, err := talk(memcached, conversation, len(conversation))
	if err != nil {
		t.Fatalf("memcached: %v after %d bytes", err, len(want))
	}
	got, err := talk(magent, conversation, size)
	if err != nil {
		t.Errorf("magent: %v after %d bytes, where memcached answers %d", err, len(got), len(want))
	}
	got, want = normalise(got), normalise(want)
	if bytes.Equal(got, want) {
		return
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	around := func(b []byte) []byte { return b[max(0, i-300):min(len(b), i+300)] }
	t.Fatalf("answers differ from byte %d, line %d on\nmagent:    …%q…\nmemcached: …%q…\nconversation: %s",
		i, bytes.Count(want[:i], []byte("\n"))+1, around(got), around(want), short(string(conversation)))
}

// conversation joins generated commands and ends with one that shows that the
// connection still works. The empty lines satisfy a command that still waits
// for data.
func conversation(g *generator, commands int) []byte {
	var b bytes.Buffer
	for range commands {
		b.Write(g.command())
	}
	b.WriteString(strings.Repeat("\r\n", 20) + "version\r\nquit\r\n")
	return b.Bytes()
}

// promise: W4, W6, R1
func TestTenThousandCommandsInOneWrite(t *testing.T) {
	t.Parallel()
	m, direct := startMirrored(t, patient...), harness.StartMemcached(t)
	text := conversation(&generator{rng: newRand(t), prefix: "w:"}, 10_000)
	sameBytes(t, m.Addr, direct.Addr, text, len(text))
}

// promise: W4, W6, R1
func TestCommandsByteByByte(t *testing.T) {
	t.Parallel()
	m, direct := startMirrored(t, patient...), harness.StartMemcached(t)
	sameBytes(t, m.Addr, direct.Addr, conversation(&generator{rng: newRand(t), prefix: "b:"}, 600), 1)
}

// promise: W4, W6
func TestCommandsInOddPieces(t *testing.T) {
	t.Parallel()
	rng := newRand(t)
	m, direct := startMirrored(t, patient...), harness.StartMemcached(t)
	for _, size := range []int{2, 3, 7, 61, 1460, 4096, 16384} {
		g := &generator{rng: rng, prefix: fmt.Sprintf("p%d:", size)}
		sameBytes(t, m.Addr, direct.Addr, conversation(g, min(2000, 200*size)), size)
	}
}

// promise: W4, W6, K1
func TestManyServersAnswerAsOne(t *testing.T) {
	t.Parallel()
	rng := newRand(t)
	m := startPools(t, 3, 3, patient...)
	direct := harness.StartMemcached(t)
	text := conversation(&generator{rng: rng, prefix: "s:"}, 5000)
	sameBytes(t, m.Addr, direct.Addr, text, len(text))
}

// promise: W1, W4, C1, C9
func TestEveryCommandAnswersAsMemcachedDoes(t *testing.T) {
	t.Parallel()
	m, direct := startMirrored(t, patient...), harness.StartMemcached(t)
	a, b := harness.MustDial(t, m.Addr), harness.MustDial(t, direct.Addr)
	rng := newRand(t)
	keys := keysNamed("e:", 12)
	// Tokens differ between the two, so each side uses its own.
	tokens := map[string][2]uint64{}
	verbs := strings.Fields("get gets gat gats set set add replace append prepend cas cas delete incr decr touch")
	for n := range 6000 {
		key := keys[rng.IntN(len(keys))]
		verb := verbs[rng.IntN(len(verbs))]
		value := []string{"5", "10", "99", "x", "", "9000000000000000000"}[rng.IntN(6)]
		var request [2][]byte
		both := func(format string, args ...any) {
			request[0] = fmt.Appendf(nil, format, args...)
			request[1] = request[0]
		}
		exptime := []int{0, 0, 100, -1, 5000}[rng.IntN(5)]
		switch verb {
		case "get", "gets":
			both("%s %s\r\n", verb, key)
		case "gat", "gats":
			both("%s %d %s\r\n", verb, exptime, key)
		case "delete":
			both("delete %s\r\n", key)
		case "incr", "decr":
			both("%s %s %d\r\n", verb, key, rng.IntN(20))
		case "touch":
			both("touch %s %d\r\n", key, exptime)
		case "cas":
			token := tokens[key]
			for i := range request {
				request[i] = harness.Storage("cas", key, uint32(n), exptime, []byte(value), fmt.Sprint(token[i]))
			}
		default:
			both("%s", harness.Storage(verb, key, uint32(n), exptime, []byte(value)))
		}
		var answer [2]string
		for i, c := range []*harness.Client{a, b} {
			must(t, c.Send(request[i]))
			if !strings.HasPrefix(verb, "g") {
				var err error
				answer[i], err = c.Line()
				must(t, err)
				continue
			}
			items, err := c.Values()
			if err != nil {
				t.Fatalf("step %d, %q: %v", n, request[i], err)
			}
			for _, it := range items {
				answer[i] += fmt.Sprintf("%s %d %q", it.Key, it.Flags, it.Value)
				if (it.CAS != 0) != (verb == "gets" || verb == "gats") {
					t.Fatalf("step %d, %q: token %d", n, request[i], it.CAS)
				}
				if it.CAS != 0 {
					token := tokens[key]
					token[i] = it.CAS
					tokens[key] = token
				}
			}
		}
		if answer[0] != answer[1] {
			t.Fatalf("step %d, %q: magent answers %q, memcached %q", n, request[0], answer[0], answer[1])
		}
	}
	awaitEqual(t, m.primary, m.backup, keys)
}

// promise: W1
func TestLongestKeysAndRefusedKeys(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	c := harness.MustDial(t, m.Addr)
	key, long := strings.Repeat("k", 250), strings.Repeat("k", 251)
	must(t, c.Set(key, "v"))
	expectValue(t, c, key, "v")
	const refused = "CLIENT_ERROR bad command line format"
	expect(t, c, "get "+long, refused)
	expect(t, c, "get "+key+" "+long, refused)
	expect(t, c, "delete "+long, refused)
	expectValue(t, c, key, "v")
	awaitEqual(t, m.primary, m.backup, []string{key})
}

// Each input goes to a new connection; memcached's own answer, and whether it
// goes on or closes, is what is wanted.
//
// promise: R1, W4
func TestMalformedInputIsTreatedAsMemcachedTreatsIt(t *testing.T) {
	t.Parallel()
	m, direct := startMirrored(t, patient...), harness.StartMemcached(t)
	big := strings.Repeat("x", 1<<20+100)
	inputs := []string{
		"set k 0 0 5\r\nab\r\nget k\r\n",
		"set k 0 0 5\r\nabcdefgh\r\nget k\r\n",
		"set k 0 0 3 noreply\r\nabcdef\r\nget k\r\n",
		"set k 0 0 3\r\nabc\n\nget k\r\n",
		"set k 0 0 3\r\nabcget k\r\n",
		"set k 0 0 1048600\r\n" + big[:1048600] + "\r\nget k\r\n",
		"set k 0 0 1\r\na\r\nset k 0 0 1048600\r\n" + big[:1048600] + "\r\nget k\r\n",
		"set k 0 0 1\r\na\r\nset k 0 0 1048600 noreply\r\n" + big[:1048600] + "\r\nget k\r\n",
		"set k 0 0 1\r\na\r\nadd k 0 0 1048600\r\n" + big[:1048600] + "\r\nget k\r\n",
		"set k 0 0 1\r\na\r\nappend k 0 0 1048600\r\n" + big[:1048600] + "\r\nget k\r\n",
		"set k 0 0 1000000\r\n" + big[:1000000] + "\r\nappend k 0 0 100000\r\n" + big[:100000] + "\r\ntouch k 0\r\n",
		"set k 0 0 2147483647\r\nabc\r\n",
		"set k 0 0 -1\r\nabc\r\n",
		"set k 0 0 0\r\n\r\nget k\r\n",
		"set k 0 0 0\r\nx\r\nget k\r\n",
		"set k 0 0 2\r\n\r\n\r\nget k\r\n",
		"get " + strings.Repeat("a ", 5000) + "\r\n",
		"get " + strings.Repeat("k", 3000) + "\r\n",
		"get " + strings.Repeat("k", 250) + " " + strings.Repeat("k", 3000) + "\r\n",
		"quit\r\nversion\r\n", "quit 1\r\nversion\r\n", "quit noreply\r\nversion\r\n", " quit\r\nversion\r\n",
		"get k\r\nquit\r\nget k\r\n",
		"\r\n\r\n\n\n", "\n", "\r", "version", "get k", "set k 0 0 3\r\nab",
		"get k\r", "get k\rx\r\n", "get\r\n", "get \r\n", "get k\n",
		"delete k 0\r\n", "delete k 10\r\n", "delete k 0 noreply\r\n",
		"flush_all 0\r\n", "flush_all noreply\r\n", "flush_all -5\r\n", "flush_all x\r\n",
		"incr k 1\r\n", "set k 0 0 1\r\nx\r\nincr k 1\r\n", "set k 0 0 19\r\n9223372036854775806\r\nincr k 1\r\nincr k 18446744073709551615\r\n",
		"set k 0 0 1\r\n5\r\ndecr k 10\r\nget k\r\n", "set k 0 0 3\r\n100\r\ndecr k 1\r\nget k\r\n",
		"set k 0 0 1\r\nx\r\nincr k 1 noreply\r\nget k\r\n",
		"verbosity\r\n", "verbosity 0\r\n", "version\r\n", "nonsense\r\n", "shutdown\r\n",
		"set k 0 0 1 noreply\r\na\r\ncas k 0 0 1 99999999 noreply\r\nb\r\nget k\r\n",
		"cas none 0 0 1 5\r\nb\r\n", "replace none 0 0 1\r\na\r\nappend none 0 0 1\r\nb\r\n",
		"touch none 0\r\ngat 0 none\r\ndelete none\r\n",
		"set k 4294967295 0 1\r\na\r\ngets k\r\n", "set k 4294967296 0 1\r\na\r\n",
	}
	for _, input := range inputs {
		t.Run(short(input), func(t *testing.T) {
			for _, addr := range []string{m.Addr, direct.Addr} {
				expect(t, harness.MustDial(t, addr), "flush_all", "OK")
			}
			sameBytes(t, m.Addr, direct.Addr, []byte(input), len(input))
			text := input + "version\r\n"
			sameBytes(t, m.Addr, direct.Addr, []byte(text), len(text))
		})
	}
}

// A large value begins in the same read as what stands before it.
//
// promise: W6, R4
func TestLargeValueBehindOtherCommandsInOneWrite(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	value := largeValue(50_000)
	set := string(harness.Storage("set", "big", 0, 0, []byte(value)))
	for _, before := range []string{"", "stats\r\n", "version\r\n", "get none\r\n", "nonsense\r\n", "set k 0 0 1\r\na\r\n", "flush_all\r\n", "incr none 1 noreply\r\n"} {
		got, err := talk(m.Addr, []byte(before+set+"get big\r\n"+set), 1<<20)
		want := "STORED\r\nVALUE big 0 50000\r\n" + value + "\r\nEND\r\nSTORED\r\n"
		if err != nil || !strings.HasSuffix(string(got), want) {
			t.Fatalf("behind %q: %s, %v", before, short(string(got)), err)
		}
	}
	awaitEqual(t, m.primary, m.backup, []string{"big", "k"})
}

// promise: W4, W6
func TestAnswersArriveAfterTheClientEndedItsSide(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	got, err := talk(m.Addr, []byte("set k 0 0 5\r\nlinux\r\nget k\r\n"), 1<<20)
	if want := "STORED\r\nVALUE k 0 5\r\nlinux\r\nEND\r\n"; err != nil || string(got) != want {
		t.Fatalf("got %q, %v", got, err)
	}
}

// promise: W5
func TestVersionIsANumber(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	answer, err := harness.MustDial(t, m.Addr).Command("version")
	if err != nil || !regexp.MustCompile(`^VERSION [0-9]+\.[0-9]+\.[0-9]+`).MatchString(answer) {
		t.Fatalf("got %q, %v", answer, err)
	}
}

// promise: W6
func TestPipelineWithoutLimitOfCount(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	const count = 60_000
	c := harness.MustDial(t, m.Addr)
	must(t, c.Set("k", "0"))
	go func() {
		_ = c.Send(bytes.Repeat([]byte("incr k 1\r\n"), count)) // the answers show what arrived
	}()
	for i := 1; i <= count; i++ {
		answer, err := c.Line()
		if want := fmt.Sprint(i); err != nil || answer != want {
			t.Fatalf("answer %d: %q, %v", i, answer, err)
		}
	}
	awaitEqual(t, m.primary, m.backup, []string{"k"})
}

// One client's answers keep their order although its keys are on servers of
// different speed.
//
// promise: W6
func TestOrderAcrossServersOfDifferentSpeed(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(newRand(t).Uint64(), 2))
	fast, slow := harness.StartMemcached(t), harness.StartMemcached(t)
	link := harness.NewLink(t, slow.Addr)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{fast.Addr, link.Addr}, Args: patient})
	c := harness.MustDial(t, m.Addr)
	keys := keysNamed("order", 200)
	for _, key := range keys {
		must(t, c.Set(key, "value of "+key))
	}
	link.Slow(20_000)
	var text bytes.Buffer
	var asked []string
	for range 1000 {
		key := keys[rng.IntN(len(keys))]
		asked = append(asked, key)
		text.WriteString("get " + key + "\r\n")
	}
	start := time.Now()
	must(t, c.Send(text.Bytes()))
	for i, key := range asked {
		items, err := c.Values()
		if err != nil || len(items) != 1 || items[0].Key != key || string(items[0].Value) != "value of "+key {
			t.Fatalf("answer %d: got %v, %v; want %s", i, items, err, key)
		}
	}
	t.Logf("took %v", time.Since(start))
}
