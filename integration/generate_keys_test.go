package integration

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// stamps is where the explicit tokens of stamped keys begin. Both sides name
// them alike.
const stamps = 1_700_000_000

func isStamp(n uint64) bool { return n >= stamps && n < stamps+1<<20 }

// unnameable are the bytes that a key of the text protocols cannot hold.
const unnameable = " \r\n\x00"

// longestEncoded is how long a key may be to fit in a command as base64.
const longestEncoded = 186

// noToken is a token that no item has, and above those of all.
const noToken = 1<<63 - 1

// vocabulary is what the steps of one conversation, in all protocols, have in
// common: its keys and values, and what is known of the tokens.
//
// Numbers never get shorter, for the reason that generator gives: a key that
// counts down holds one of a few numbers that keep their count of digits, and
// no other key holds a number.
//
// No time to live is near its end: what is not past at once lasts for minutes.
type vocabulary struct {
	mixed  bool // binary and meta requests are mixed
	rng    *rand.Rand
	prefix string
	now    int64 // Unix seconds
	// explicit allows tokens that the client chooses. They are in no order with
	// those that a server chooses.
	explicit bool
	// tokens are what has been told, by key. That of no key is "".
	tokens map[string]token
	// asked tells what key a step with an opaque is about.
	asked map[string]string
	steps int
	used  map[string]bool
	// quiet is how many more steps of a quiet run follow.
	quiet int
}

func newVocabulary(rng *rand.Rand, prefix string, explicit bool) *vocabulary {
	return &vocabulary{
		rng: rng, prefix: prefix, explicit: explicit, now: time.Now().Unix(),
		tokens: map[string]token{}, asked: map[string]string{}, used: map[string]bool{},
	}
}

// learn takes a token out of an answer.
func (v *vocabulary) learn(opaque string, of token) {
	key, ok := v.asked[opaque]
	if !ok {
		key, ok = strings.CutPrefix(opaque, "key ")
	}
	if ok {
		v.tokens[key] = of
	}
	v.tokens[""] = of
}

// token returns a token for a key: mostly its own, else another one's or none's.
// Where the order of tokens counts it is not another one's: only those of one
// key are in an order that both sides share.
func (v *vocabulary) token(key string, ordered bool) token {
	of, ok := v.tokens[key]
	switch n := v.rng.IntN(20); {
	case n < 13 && ok:
		return of
	case n < 16 && !ordered:
		if of, ok = v.tokens[""]; ok {
			return of
		}
	case n < 18 && !ordered: // nobody was told it
		return token{1, 1}
	}
	return token{noToken, noToken}
}

// next numbers a step and notes what it is about.
func (v *vocabulary) next(key string) int {
	v.steps++
	v.used[key] = true
	return v.steps
}

// often says whether to take one of the few keys that most steps are about, so
// that they meet each other's items.
func (v *vocabulary) often() bool { return v.rng.IntN(3) > 0 }

// plainKey returns a key that the classic commands can name as well.
func (v *vocabulary) plainKey() string {
	if v.often() {
		return v.prefix + strconv.Itoa(v.rng.IntN(3))
	}
	switch v.rng.IntN(30) {
	case 0:
		return v.prefix + strings.Repeat("k", 250-len(v.prefix)) // the longest
	case 1:
		return v.prefix + "\x01\x7f\xff\t"
	case 2:
		return v.prefix + "ключ"
	}
	return v.prefix + strconv.Itoa(v.rng.IntN(12))
}

// bytesKey returns a key that only base64 or the binary protocol can name.
func (v *vocabulary) bytesKey() string {
	if v.often() {
		return v.prefix + []string{"\n", "\x00"}[v.rng.IntN(2)]
	}
	switch v.rng.IntN(12) {
	case 0: // 248 bytes of base64
		return v.prefix + strings.Repeat("\x00", longestEncoded-len(v.prefix))
	case 1:
		return v.prefix + "\n\nget a\r"
	case 2:
		return v.prefix + "\xfe\xff\x80"
	}
	return v.prefix + []string{" ", "\n", "\x00"}[v.rng.IntN(3)] + strconv.Itoa(v.rng.IntN(3))
}

// countedKey returns a key that holds a number.
func (v *vocabulary) countedKey() (key string, up bool) {
	if v.often() {
		if v.rng.IntN(3) == 0 {
			return v.prefix + "down0", false
		}
		return v.prefix + "up0", true
	}
	if v.rng.IntN(3) == 0 {
		return fmt.Sprintf("%sdown%d", v.prefix, v.rng.IntN(4)), false
	}
	return fmt.Sprintf("%sup%d", v.prefix, v.rng.IntN(4)), true
}

// stampedKey returns a key whose every token is chosen by the client.
func (v *vocabulary) stampedKey() string { return fmt.Sprintf("%sstamp%d", v.prefix, v.rng.IntN(3)) }

func (v *vocabulary) stamp() int { return stamps + v.rng.IntN(1<<20) }

// counted tells whether a key holds a number, or whether a line names one that does.
func (v *vocabulary) counted(text string) bool {
	return strings.Contains(text, v.prefix+"up") || strings.Contains(text, v.prefix+"down")
}

func (v *vocabulary) number(up bool) string {
	if up {
		return []string{"0", "1", "7", "99", "1000", "1000000000000000000"}[v.rng.IntN(6)]
	}
	return []string{"0", "1", "7", "9000000000000000000"}[v.rng.IntN(4)]
}

func (v *vocabulary) delta() int { return []int{0, 1, 1, 7, 10}[v.rng.IntN(5)] }

// value returns a value that is no number.
func (v *vocabulary) value() string {
	return (&generator{rng: v.rng}).value()
}

// largeKey holds values that are near what the server takes, or above it.
func (v *vocabulary) largeKey() string { return v.prefix + "large" }

func (v *vocabulary) largeSize() int {
	return []int{100_000, 524288, 1<<20 - 300, 1<<20 - 100 - v.rng.IntN(200), 1 << 20, 1<<20 + 100}[v.rng.IntN(6)]
}

// lifetime returns an expiry as the text protocols write it.
func (v *vocabulary) lifetime() string {
	absolute := strconv.FormatInt(v.now+5000, 10)
	return []string{"0", "0", "0", "100", "100", "100", "1000", "1000", "2592000", absolute, absolute, "2592001", "-1"}[v.rng.IntN(13)]
}

// keys returns every key that was used, and those of the classic generator.
func (v *vocabulary) keys() []string {
	for i := range 12 {
		v.used[v.prefix+strconv.Itoa(i)] = true
	}
	for i := range 4 {
		v.used[fmt.Sprintf("%sup%d", v.prefix, i)] = true
		v.used[fmt.Sprintf("%sdown%d", v.prefix, i)] = true
	}
	for _, odd := range []string{"\x01\x7f\xff\t", "ключ", strings.Repeat("k", 250-len(v.prefix))} {
		v.used[v.prefix+odd] = true
	}
	delete(v.used, "")
	var keys []string
	for key := range v.used {
		keys = append(keys, key)
	}
	return keys
}

// quietRun begins a run of quiet commands now and then, and tells when the
// command has to come that ends it.
func (v *vocabulary) quietRun() (ends bool) {
	if v.quiet > 0 {
		v.quiet--
		return v.quiet == 0
	}
	if v.rng.IntN(30) == 0 {
		v.quiet = 3 + v.rng.IntN(12)
	}
	return false
}

// classic returns a step of the classic protocol. flush_all is left out: which of the
// items stored in the same second it hides depends on when in that second each
// server's clock ticks. memccapable and the tests of flush_all ask for it.
func (v *vocabulary) classic() step {
	g := &generator{rng: v.rng, prefix: v.prefix}
	for {
		text := string(g.command())
		// A number with its highest bit set is looked at beyond its end, where
		// what has arrived of the next command stands.
		if strings.Contains(text, "1844674407") || strings.Contains(text, "flush_all") {
			continue
		}
		s := both(text)
		s.pads = true
		counted := v.counted(text)
		s.counts = counted && (strings.HasPrefix(text, "incr") || strings.HasPrefix(text, "decr"))
		s.reads = counted && strings.Contains(text, "get") || strings.Contains(text, "gat")
		return s
	}
}

// both is a step that is the same on both sides.
func both(text string) step { return step{request: [2][]byte{[]byte(text), []byte(text)}} }
