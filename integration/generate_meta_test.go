package integration

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// metaGenerator makes meta commands, good and bad, and classic ones between
// them: see protocol.txt, "Meta Commands".
type metaGenerator struct{ *vocabulary }

// flagSet collects the flags of one command, a text for either side.
type flagSet struct{ words [][2]string }

func (f *flagSet) add(words ...string) {
	for _, w := range words {
		f.words = append(f.words, [2]string{w, w})
	}
}

func (f *flagSet) has(word string) bool { return slices.Contains(f.words, [2]string{word, word}) }

// maybe adds a flag once in n times.
func (g metaGenerator) maybe(f *flagSet, n int, word string) {
	if g.rng.IntN(n) == 0 {
		f.add(word)
	}
}

// step returns the next step.
func (g metaGenerator) step() step {
	if g.quietRun() {
		return both("mn" + g.end())
	}
	switch n := g.rng.IntN(40); {
	case n < 8:
		return g.classic()
	case n < 18:
		return g.get()
	case n < 27:
		return g.set()
	case n < 31:
		return g.remove()
	case n < 35:
		return g.arithmetic()
	case n < 36:
		key := g.anyKey()
		if strings.ContainsAny(key, unnameable) { // memcached answers it as it is, which may be more than one line
			key = g.plainKey()
		}
		return g.about("me", key, &flagSet{}, nil)
	case n < 37:
		return both("mn" + g.end())
	default:
		return g.invalid()
	}
}

// anyKey returns a key of any kind.
func (g metaGenerator) anyKey() string {
	switch n := g.rng.IntN(20); {
	case n < 5:
		return g.bytesKey()
	case n < 7:
		key, _ := g.countedKey()
		return key
	case n < 9 && g.explicit:
		return g.stampedKey()
	}
	return g.plainKey()
}

func (g metaGenerator) end() string {
	if g.rng.IntN(12) == 0 {
		return "\n"
	}
	return "\r\n"
}

// common adds the flags that every command of a key may have.
//
// Two things are left out, where magent differs on purpose: memcached refuses too
// long an opaque of mg and ma when it has carried them out already, and answers a
// key of mg that no line can hold as it is.
func (g metaGenerator) common(f *flagSet, verb, key string, n int) {
	if verb != "mg" || !strings.ContainsAny(key, unnameable) {
		g.maybe(f, 3, "k")
	}
	if g.quiet > 0 || g.rng.IntN(5) == 0 {
		f.add("q")
	}
	switch g.rng.IntN(8) {
	case 0, 1, 2, 3:
		opaque := "s" + strconv.Itoa(n)
		g.asked[opaque] = key
		f.add("O" + opaque)
	case 4:
		lengths := []int{0, 1, 30, 31, 32, 33, 60}
		if verb == "mg" || verb == "ma" {
			lengths = lengths[:4]
		}
		f.add("O" + strings.Repeat("o", lengths[g.rng.IntN(len(lengths))]))
	}
	g.maybe(f, 30, "Lignored")
	g.maybe(f, 30, "P1")
}

// token adds flag C, and E where that is allowed. Where E is, and of a number that
// is counted, I and C do not go together: which of two tokens is older is told only
// among those that a server has chosen, magent, or clients.
func (g metaGenerator) token(f *flagSet, key string, compare, explicit int) {
	if g.rng.IntN(compare) == 0 && (!g.explicit && !g.counted(key) || !f.has("I")) {
		of := g.vocabulary.token(key, f.has("I"))
		f.words = append(f.words, [2]string{fmt.Sprint("C", of[0]), fmt.Sprint("C", of[1])})
	}
	switch {
	case !g.explicit:
	case strings.HasPrefix(key, g.prefix+"stamp"):
		f.add(fmt.Sprint("E", g.stamp()))
	case g.rng.IntN(explicit) == 0:
		f.add(fmt.Sprint("E", 1+g.rng.IntN(explicitTokens)))
	}
}

func (g metaGenerator) get() step {
	key := g.anyKey()
	n := g.next(key)
	f := &flagSet{}
	g.common(f, "mg", key, n)
	for _, w := range []string{"v", "v", "s", "t", "c", "c", "f", "h", "l"} {
		g.maybe(f, 4, w)
	}
	g.maybe(f, 8, "u")
	g.maybe(f, 10, "T"+g.lifetime())
	g.maybe(f, 6, "R"+[]string{"30", "500", "0", "-1", "6000", "2592001"}[g.rng.IntN(6)])
	if g.rng.IntN(6) == 0 {
		f.add("N" + g.lifetime())
		if g.explicit && g.rng.IntN(2) == 0 || strings.HasPrefix(key, g.prefix+"stamp") {
			g.token(f, key, 1<<20, 2)
		}
	}
	return g.about("mg", key, f.distinct(), nil)
}

func (g metaGenerator) set() step {
	if g.rng.IntN(60) == 0 {
		return g.large()
	}
	key := g.anyKey()
	n := g.next(key)
	f := &flagSet{}
	g.common(f, "ms", key, n)
	for _, w := range []string{"c", "c", "s", "f", "I", "I"} {
		g.maybe(f, 5, w)
	}
	g.maybe(f, 2, "T"+g.lifetime())
	g.maybe(f, 3, "F"+[]string{"0", "1", "65535", "4294967295"}[g.rng.IntN(4)])
	counted := g.counted(key)
	value := g.value()
	modes := []string{"S", "S", "E", "E", "A", "A", "P", "P", "R", "R", []string{"s", "e", "a", "p", "r", "Set", "append"}[g.rng.IntN(7)]}
	if counted {
		modes = []string{"S", "S", "E", "E", "R", "R", []string{"s", "e", "r"}[g.rng.IntN(3)]}
		value = g.number(strings.Contains(key, g.prefix+"up"))
	}
	if g.rng.IntN(2) == 0 {
		f.add("M" + modes[g.rng.IntN(len(modes))])
		if !counted {
			g.maybe(f, 5, "N"+g.lifetime())
		}
	}
	g.token(f, key, 4, 5)
	return g.about("ms", key, f.distinct(), []byte(value))
}

// large stores a value that the server hardly takes, or does not take.
func (g metaGenerator) large() step {
	key := g.largeKey()
	n := g.next(key)
	f := &flagSet{}
	g.common(f, "ms", key, n)
	g.maybe(f, 3, "M"+[]string{"S", "E", "A", "P", "R"}[g.rng.IntN(5)])
	g.maybe(f, 3, "c")
	return g.about("ms", key, f.distinct(), []byte(largeValue(g.largeSize())))
}

func (g metaGenerator) remove() step {
	key := g.anyKey()
	n := g.next(key)
	f := &flagSet{}
	g.common(f, "md", key, n)
	if g.rng.IntN(2) == 0 {
		f.add("I")
	}
	g.maybe(f, 4, "T"+g.lifetime())
	g.maybe(f, 6, "x")
	g.token(f, key, 3, 5)
	return g.about("md", key, f.distinct(), nil)
}

func (g metaGenerator) arithmetic() step {
	key, up := g.countedKey()
	if g.rng.IntN(8) == 0 {
		key = g.plainKey() // which holds no number
	}
	n := g.next(key)
	f := &flagSet{}
	g.common(f, "ma", key, n)
	for _, w := range []string{"v", "v", "t", "c", "c", "s", "f"} {
		g.maybe(f, 4, w)
	}
	counted := g.counted(key)
	if !up {
		f.add("M" + []string{"D", "D", "D", "-", "-", "-", "d", "Decr"}[g.rng.IntN(8)])
	} else {
		g.maybe(f, 2, "M"+[]string{"I", "I", "I", "+", "+", "+", "i", "Incr"}[g.rng.IntN(8)])
	}
	g.maybe(f, 3, "T"+g.lifetime())
	if g.rng.IntN(2) == 0 || !up {
		f.add("D" + strconv.Itoa(g.delta()))
	}
	if counted && g.rng.IntN(2) == 0 {
		f.add("N"+g.lifetime(), "J"+g.number(up))
	}
	g.token(f, key, 5, 5)
	s := g.about("ma", key, f.distinct(), nil)
	s.counts = counted
	return s
}

// distinct drops flags that were chosen twice; noise puts some back.
func (f *flagSet) distinct() *flagSet {
	seen := map[byte]bool{}
	var out [][2]string
	for _, w := range f.words {
		if w[0] == "" || seen[w[0][0]] {
			continue
		}
		seen[w[0][0]] = true
		out = append(out, w)
	}
	return &flagSet{out}
}

// about writes a command of a key with its flags in any order. A value makes
// it a storage command.
func (g metaGenerator) about(verb, key string, f *flagSet, value []byte) step {
	g.used[key] = true
	if g.mixed && strings.ContainsAny(key, unnameable) || strings.Contains(key, "\n") {
		// magent reads such keys for binary clients with a meta command. On a stale
		// item that costs a server before 1.6.27 the token.
		f.words = slices.DeleteFunc(f.words, func(w [2]string) bool { return w[0] == "I" })
	}
	name := key
	if strings.ContainsAny(key, unnameable) || g.rng.IntN(6) == 0 && len(key) <= longestEncoded {
		name = base64.StdEncoding.EncodeToString([]byte(key))
		f.add("b")
	}
	g.rng.Shuffle(len(f.words), func(i, j int) { f.words[i], f.words[j] = f.words[j], f.words[i] })
	// What memcached does not take as the value of a refused command it takes as
	// a command, and a long one without a line end closes the connection.
	if g.rng.IntN(12) == 0 && len(value) < 500 {
		g.noise(f, verb)
		if verb == "mg" && strings.ContainsAny(key, unnameable) {
			f.words = slices.DeleteFunc(f.words, func(w [2]string) bool { return strings.HasPrefix(w[0], "k") })
		}
	}
	gap := " "
	if g.rng.IntN(25) == 0 {
		gap = "  "
	}
	end := g.end()
	if g.rng.IntN(25) == 0 {
		end = " " + end
	}
	var s step
	for i := range s.request {
		line := verb + " " + name
		if value != nil {
			line += gap + strconv.Itoa(len(value))
		}
		for _, w := range f.words {
			line += gap + w[i]
		}
		line += end
		if value != nil {
			line += string(value) + "\r\n"
		}
		s.request[i] = []byte(line)
	}
	counted := g.counted(key)
	s.reads = counted && verb == "mg"
	s.counts = counted && verb == "ma"
	return s
}

// noise adds a flag that memcached refuses, ignores, or takes in its own way.
// None makes a number that is too long or that counts in an unknown direction.
func (g metaGenerator) noise(f *flagSet, verb string) {
	words := []string{
		"T", "Tabc", "T-", "T99999999999", "T1x", "T100T100", "C", "Cabc", "C-1", "C1x", "E", "Eabc", "E-1",
		"F", "Fabc", "F-1", "F4294967296", "N", "Nabc", "N1x", "R", "Rabc", "R1x", "J", "Jabc", "J-1", "D", "Dabc", "D-1", "D1x",
		"M", "Mz", "M1", "Z", "W", "X", "y", "?", "1", "S100", "\x7f", "\x01", "noreply", "b", "v", "k", "k1", "vv", "qq", "O", "L", "P",
		strings.Repeat("k", 40), "é",
	}
	if verb == "ms" || verb == "md" {
		words = append(words, "O"+strings.Repeat("x", 40))
	}
	at := 0
	if len(f.words) > 0 {
		at = g.rng.IntN(len(f.words) + 1)
	}
	insert := func(w [2]string) {
		f.words = append(f.words[:at:at], append([][2]string{w}, f.words[at:]...)...)
	}
	switch n := g.rng.IntN(10); {
	case n == 0 && len(f.words) > 0: // the same flag twice
		insert(f.words[g.rng.IntN(len(f.words))])
	case n == 1: // more flags than memcached takes
		for range 10 + g.rng.IntN(30) {
			w := []string{"v", "k", "s", "t", "L1", "P1"}[g.rng.IntN(6)]
			insert([2]string{w, w})
		}
	default:
		w := words[g.rng.IntN(len(words))]
		insert([2]string{w, w})
	}
}

// invalid returns a command that is refused as a whole, or whose value is not
// as long as it says.
func (g metaGenerator) invalid() step {
	k := g.plainKey()
	g.used[k] = true
	long := g.prefix + strings.Repeat("L", 251-len(g.prefix))
	encoded := base64.StdEncoding.EncodeToString([]byte(k))
	wide := base64.StdEncoding.EncodeToString([]byte(g.prefix + strings.Repeat("\x01", 190-len(g.prefix))))
	lines := []string{
		"mg", "mg ", "ms", "ms ", "md", "ma", "me", "mx", "mx " + k, "m", "mn 1", "mn k q", "MG " + k + " v", "mgg " + k, " mg " + k + " v", "mg\t" + k,
		"mg " + long + " v", "md " + long, "ma " + long, "me " + long, "mg " + wide + " b", "md " + wide + " b q", "ma " + wide + " b", "me " + wide + " b",
		"mg " + encoded[:len(encoded)-1] + " b k", "mg ==== b k", "mg a b", "mg *** b v", "md a=bc b", "ma ab=c b", "me *** b", "mg " + encoded + "= b k", "mg " + encoded + "\x01 b k",
		"mg " + k + " \x00 v", "mg " + k + "\x00 v", "mg v", "me " + k + " v", "me " + k + " b b", "me " + k + " Z",
		"ms " + k, "ms " + k + " ", "ms " + k + " T0", "ms " + k + " abc", "ms " + k + " -1", "ms " + k + " -2147483649", "ms " + k + " 2147483647", "ms " + k + " 2147483648",
		"ms " + k + " 99999999999999999999", "ms " + k + " 2x", "ms " + k + " S2", "ms " + k + " 2.5", "ms  " + k + "  -3  c",
		"ma " + k + " Mx", "ma " + k + " M", "ma " + k + " Dx", "ms " + k + " 0x2",
	}
	if g.rng.IntN(3) > 0 {
		return both(lines[g.rng.IntN(len(lines))] + g.end())
	}
	// Storage commands that are refused with their value, or whose value is too
	// short or too long. What is not taken as a value is the next command.
	flags := []string{"", " q", " c k Oerr", " Mz", " M", " Z", " T1x", " F-1", " v v", " Cx", " MA", " ME q", " b", " MA N0"}[g.rng.IntN(14)]
	name := []string{k, k, k, long, encoded + "*"}[g.rng.IntN(5)]
	value := []string{"ab", "ab", "abcdef", "a", "", "ab\r\n"}[g.rng.IntN(6)]
	size := []int{2, 2, 1, 3, 0, 5, 12}[g.rng.IntN(7)]
	// Enough follows to end the longest value.
	return both(fmt.Sprintf("ms %s %d%s%s%s\r\n", name, size, flags, g.end(), value) + strings.Repeat("\r\n", 8))
}

// closer returns a step behind which the connection ends.
func (g metaGenerator) closer() step {
	k := g.plainKey()
	g.used[k] = true
	texts := []string{
		"quit\r\n", "mn\r\nquit\r\n", "mg " + k + " v\r\nquit\r\nmg " + k + " v\r\n", "mn\r\n", "mn", "mg " + k + " v", "mg " + k, "ms " + k + " 2",
		"ms " + k + " 2\r\n", "ms " + k + " 2\r\nab", "ms " + k + " 2\r\nab\r", "ms " + k + " 2000000000\r\nab\r\n", "ms " + k + " 2000000000 q Obig\r\n",
		"ms " + k + " 500000 Z\r\nab\r\n", "mg " + k + " v q\r\nmd " + k + " q\r\nma " + k + " q\r\nms " + k + " 2 q\r\nab\r\n", "",
	}
	s := both(texts[g.rng.IntN(len(texts))])
	s.closes = true
	s.cut = bytes.Contains(s.request[0], []byte("00000"))
	return s
}
