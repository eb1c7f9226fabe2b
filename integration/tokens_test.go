package integration

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"magent/integration/harness"
)

// takesTokens tells whether memcached stores cas tokens that are chosen for it
// (meta flag E, 1.6.27 and later).
func takesTokens(t *testing.T, s *harness.Memcached) bool {
	t.Helper()
	c := harness.MustDial(t, s.Addr)
	answer, err := c.Command("ms takes-tokens 1 E7 T-1\r\nx")
	must(t, err)
	return answer == "HD"
}

// tokenOf returns the token of a key as a server or magent tells it.
func tokenOf(t *testing.T, addr, key string) uint64 {
	t.Helper()
	items, err := harness.MustDial(t, addr).Gets(key)
	must(t, err)
	if len(items) != 1 {
		t.Fatalf("gets %s at %s: %d items", key, addr, len(items))
	}
	return items[0].CAS
}

// tokensOf returns the tokens of several keys.
func tokensOf(t *testing.T, addr string, keys []string) map[string]uint64 {
	t.Helper()
	tokens := make(map[string]uint64)
	for _, key := range keys {
		tokens[key] = tokenOf(t, addr, key)
	}
	return tokens
}

// cas stores a value under a token and wants one answer.
func cas(t *testing.T, addr, key, value string, token uint64, want string) {
	t.Helper()
	answer, err := harness.MustDial(t, addr).Store("cas", key, 3, 0, []byte(value), strconv.FormatUint(token, 10))
	if err != nil || answer != want {
		t.Fatalf("cas %s %s with %d: %q, %v; want %q", key, short(value), token, answer, err, want)
	}
}

// writeAllWays writes keys through magent in every way that gives an item
// another token, and returns them. All hold digits.
func writeAllWays(t *testing.T, addr, prefix string) []string {
	t.Helper()
	c := harness.MustDial(t, addr)
	ways := []struct {
		name  string
		lines []string // the last gives the token
	}{
		{"set", []string{"set %s 1 0 2\r\n10"}},
		{"set-again", []string{"set %s 1 0 2\r\n10", "set %s 1 0 2\r\n11"}},
		{"add", []string{"add %s 2 0 2\r\n20"}},
		{"replace", []string{"set %s 0 0 1\r\n1", "replace %s 3 0 2\r\n30"}},
		{"append", []string{"set %s 0 0 1\r\n1", "append %s 0 0 1\r\n2"}},
		{"prepend", []string{"set %s 0 0 1\r\n1", "prepend %s 0 0 1\r\n2"}},
		{"incr", []string{"set %s 0 0 1\r\n9", "incr %s 1"}},
		{"decr", []string{"set %s 0 0 2\r\n10", "decr %s 1"}},
		{"decr-again", []string{"set %s 0 0 2\r\n10", "decr %s 1", "decr %s 1"}},
		{"touch", []string{"set %s 0 0 1\r\n9", "touch %s 1000"}},
		{"gat", []string{"set %s 0 0 1\r\n9", "touch %s 1000"}},
		{"cas", []string{"set %s 0 0 1\r\n9"}},
		{"large", []string{"set %s 0 0 100000\r\n" + strings.Repeat("7", 100000)}},
		{"large-replace", []string{"set %s 0 0 1\r\n1", "replace %s 3 0 100000\r\n" + strings.Repeat("7", 100000)}},
	}
	var keys []string
	for _, way := range ways {
		key := prefix + way.name
		keys = append(keys, key)
		for _, line := range way.lines {
			line = strings.Replace(line, "%s", key, 1)
			answer, err := c.Command("%s", line)
			must(t, err)
			if answer != "STORED" && answer != "TOUCHED" && strings.Trim(answer, "0123456789") != "" {
				t.Fatalf("%s: %q", short(line), answer)
			}
		}
		switch way.name {
		case "gat":
			_, err := c.Retrieve(fmt.Sprintf("gat 500 %s", key))
			must(t, err)
		case "cas":
			cas(t, addr, key, "10", tokenOf(t, addr, key), "STORED")
		}
	}
	return keys
}

// sameTokens wants that two servers, asked directly, hold the same under the
// tokens that magent tells. One that memcached counted up itself stands in the
// lower bits of the one that magent tells.
func sameTokens(t *testing.T, s *story, keys []string) {
	t.Helper()
	awaitEqual(t, s.primary(), s.backup(), keys)
	for _, key := range keys {
		told := tokenOf(t, s.Addr, key)
		a, b := tokenOf(t, s.primary().Addr, key), tokenOf(t, s.backup().Addr, key)
		if max(a, b) != told || min(a, b) != told && min(a, b) != told&(1<<48-1) {
			t.Errorf("%s: %x on the primary, %x on the backup; clients are told %x", key, a, b, told)
		}
	}
}

// promise: C9, C1
func TestTokensSurviveAFailover(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			s := startStory(t, 1, 1, patient...)
			if !takesTokens(t, s.primary()) {
				t.Log("this memcached takes no tokens: see TestTokensOfAnotherLifeFail")
				return
			}
			keys := writeAllWays(t, s.Addr, "t:")
			sameTokens(t, s, keys)
			before := tokensOf(t, s.Addr, keys)
			seen := make(map[uint64]bool)
			for key, token := range before {
				if seen[token] || token>>63 != 0 {
					t.Fatalf("token %d of %s is another item's too, or no positive number", token, key)
				}
				seen[token] = true
			}

			lost := server(s)
			lost.Kill()
			s.awaitGone(t, lost)
			for _, key := range keys {
				if now := tokenOf(t, s.Addr, key); now != before[key] {
					t.Fatalf("token of %s: %d before the failover, %d behind it", key, before[key], now)
				}
				cas(t, s.Addr, key, "77", before[key]+1, "EXISTS")
				cas(t, s.Addr, key, "88", before[key], "STORED")
				cas(t, s.Addr, key, "99", before[key], "EXISTS")
				expectValue(t, harness.MustDial(t, s.Addr), key, "88")
			}
			keys = append(keys, writeAllWays(t, s.Addr, "later:")...)
			during := tokensOf(t, s.Addr, keys)

			lost.Restart()
			awaitWhole(t, s.Magent)
			sameTokens(t, s, keys)
			for _, key := range keys {
				cas(t, s.Addr, key, "100", during[key], "STORED")
				cas(t, s.Addr, key, "101", during[key], "EXISTS")
			}
			sameTokens(t, s, keys)
		})
	}
}

// promise: C9, C6
func TestTokensSurviveAReplay(t *testing.T) {
	s := startStory(t, 1, 1)
	if !takesTokens(t, s.primary()) {
		t.Log("this memcached takes no tokens: see TestTokensOfAnotherLifeFail")
		return
	}
	old := writeAllWays(t, s.Addr, "t:")
	s.links[s.primary()].Partition()
	s.awaitGone(t, s.primary())
	keys := append(writeAllWays(t, s.Addr, "later:"), old...)
	c := harness.MustDial(t, s.Addr)
	for _, key := range old {
		must(t, c.Set(key, "5"))
	}
	during := tokensOf(t, s.Addr, keys)
	s.links[s.primary()].Heal()
	awaitWhole(t, s.Magent)
	sameTokens(t, s, keys)
	for _, key := range keys {
		cas(t, s.Addr, key, "6", during[key], "STORED")
		cas(t, s.Addr, key, "7", during[key], "EXISTS")
	}
}

// promise: C9
func TestTokensOfAnotherLifeFail(t *testing.T) {
	s := startStory(t, 1, 1, patient...)
	c := harness.MustDial(t, s.Addr)
	keys := keysNamed("t:", 20)
	rewrite := func(value string) map[string]uint64 {
		for _, key := range keys {
			must(t, c.Set(key, value))
		}
		return tokensOf(t, s.Addr, keys)
	}
	refused := func(tokens map[string]uint64) {
		for _, token := range tokens {
			for _, key := range keys { // another key's, too
				cas(t, s.Addr, key, "wrong", token, "EXISTS")
			}
		}
	}
	first := rewrite("1")
	s.primary().Kill()
	s.awaitGone(t, s.primary())
	second := rewrite("2")
	refused(first)
	s.primary().Restart()
	awaitWhole(t, s.Magent)
	third := rewrite("3")
	refused(first)
	refused(second)
	for _, key := range keys {
		cas(t, s.Addr, key, "4", third[key], "STORED")
	}
	refused(third)
}

// promise: C9, C1
func TestRefusedWritesDropNothing(t *testing.T) {
	for name, args := range map[string][]string{
		"too-large":     nil,
		"small-items":   {"-I", "512k"},
		"out-of-memory": {"-M", "-m", "3"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &story{links: make(map[*harness.Memcached]*harness.Link)}
			s.primaries = append(s.primaries, s.server(t, args...))
			s.backups = append(s.backups, s.server(t))
			s.launch(t)
			c := harness.MustDial(t, s.Addr)
			must(t, c.Set("k", "1"))
			must(t, c.Set("n", "1"))
			value := strings.Repeat("x", 200_000)
			switch name {
			case "small-items":
				value = strings.Repeat("x", 600_000)
			case "too-large":
				value = strings.Repeat("x", 1<<20)
			}
			if name == "out-of-memory" {
				for i, full := 0, false; !full; i++ {
					answer, err := c.Store("add", fmt.Sprint("fill:", i), 0, 0, []byte(value))
					must(t, err)
					if full = answer != "STORED"; i > 1000 {
						t.Fatal("the memory does not get full")
					}
				}
			}
			for _, verb := range []string{"replace", "append", "prepend", "cas"} {
				var token []string
				if verb == "cas" {
					token = []string{fmt.Sprint(tokenOf(t, s.Addr, "k"))}
				}
				answer, err := c.Store(verb, "k", 0, 0, []byte(value), token...)
				if err != nil || !strings.HasPrefix(answer, "SERVER_ERROR ") {
					t.Fatalf("%s: %q, %v; want a SERVER_ERROR", verb, answer, err)
				}
				expectValue(t, c, "k", "1")
			}
			expect(t, c, "incr n 1", "2")
			awaitEqual(t, s.primary(), s.backup(), []string{"k", "n"})
		})
	}
}
