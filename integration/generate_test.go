package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// generator makes commands of the classic text protocol, good and bad, that
// memcached answers in a way that does not depend on time. `stats` and meta
// commands are left out, as are a flush_all in the future and a get of a key
// that is too long: its error makes memcached forget answers that it has not
// sent yet, of whatever commands stood before it in the same read. Numbers
// never get shorter: whether memcached pads such a one with spaces depends on
// whether an answer with the old one has left already. Nor do they reach 2^63:
// looking for a sign, memcached then reads what lies in memory behind them.
type generator struct {
	rng    *rand.Rand
	prefix string // of every key
}

// command returns one command with its data block.
func (g *generator) command() []byte {
	if g.rng.IntN(10) < 7 {
		return g.valid()
	}
	return g.invalid()
}

// key returns one of a few keys, so that commands meet each other's items.
func (g *generator) key() string {
	switch g.rng.IntN(40) {
	case 0:
		return g.prefix + strings.Repeat("k", 250-len(g.prefix)) // the longest
	case 1:
		return g.prefix + "\x01\x7f\xff\t" // anything but a space and a line end
	case 2:
		return g.prefix + "ключ"
	}
	return g.prefix + strconv.Itoa(g.rng.IntN(12))
}

func (g *generator) exptime() string {
	return []string{"0", "0", "0", "0", "100", "2592000", "2592001", "-1", "4000000000"}[g.rng.IntN(9)]
}

func (g *generator) flags() string {
	return []string{"0", "1", "65535", "4294967295"}[g.rng.IntN(4)]
}

// counter returns a command on a key that holds a number, of those that only
// grow or of those that only fall and keep their count of digits.
func (g *generator) counter() string {
	n := g.rng.IntN(4)
	key, verb := fmt.Sprintf("%sup%d", g.prefix, n), "incr"
	number := []string{"0", "1", "7", "99", "1000", "1000000000000000000"}[g.rng.IntN(6)]
	if g.rng.IntN(3) == 0 {
		key, verb = fmt.Sprintf("%sdown%d", g.prefix, n), "decr"
		number = []string{"0", "1", "7", "9000000000000000000"}[g.rng.IntN(4)]
	}
	switch g.rng.IntN(8) {
	case 0, 1:
		store := []string{"set", "set", "add", "replace"}[g.rng.IntN(4)]
		return fmt.Sprintf("%s %s %s %s %d%s%s%s\r\n", store, key, g.flags(), g.exptime(), len(number), g.noreply(), g.end(), number)
	case 2:
		return "get " + key + g.end()
	case 3:
		return "delete " + key + g.noreply() + g.end()
	}
	return fmt.Sprintf("%s %s %d%s%s", verb, key, []int{0, 1, 7, 10}[g.rng.IntN(4)], g.noreply(), g.end())
}

func (g *generator) value() string {
	switch g.rng.IntN(6) {
	case 0:
		return ""
	case 1:
		return "x\r\nget a\r\nEND\r\n"
	case 2:
		return strings.Repeat("x", g.rng.IntN(9000))
	case 3:
		return "not a number"
	}
	b := make([]byte, g.rng.IntN(60))
	for i := range b {
		b[i] = byte(g.rng.IntN(256))
	}
	return "r" + string(b)
}

func (g *generator) noreply() string {
	if g.rng.IntN(5) == 0 {
		return " noreply"
	}
	return ""
}

func (g *generator) end() string {
	if g.rng.IntN(10) == 0 {
		return "\n" // memcached takes a bare line feed as well
	}
	return "\r\n"
}

// valid returns a well-formed command.
func (g *generator) valid() []byte {
	var b bytes.Buffer
	switch g.rng.IntN(20) {
	case 0, 1, 2, 3:
		verb := []string{"get", "get", "gets"}[g.rng.IntN(3)]
		b.WriteString(verb)
		for range 1 + g.rng.IntN(1+g.rng.IntN(40)) {
			b.WriteString(" " + g.key())
		}
		b.WriteString(g.end())
	case 4:
		b.WriteString([]string{"gat ", "gats "}[g.rng.IntN(2)] + g.exptime())
		for range 1 + g.rng.IntN(5) {
			b.WriteString(" " + g.key())
		}
		b.WriteString(g.end())
	case 5, 6, 7, 8, 9, 10:
		verb := []string{"set", "set", "set", "add", "replace", "append", "prepend"}[g.rng.IntN(7)]
		value := g.value()
		fmt.Fprintf(&b, "%s %s %s %s %d%s%s%s\r\n", verb, g.key(), g.flags(), g.exptime(), len(value), g.noreply(), g.end(), value)
	case 11:
		// No item ever has this token.
		value := g.value()
		fmt.Fprintf(&b, "cas %s %s %s %d 18446744073709551615%s\r\n%s\r\n", g.key(), g.flags(), g.exptime(), len(value), g.noreply(), value)
	case 12, 13:
		fmt.Fprintf(&b, "delete %s%s%s", g.key(), g.noreply(), g.end())
	case 14, 15:
		b.WriteString(g.counter())
	case 16:
		fmt.Fprintf(&b, "%s %s %d%s%s", []string{"incr", "decr"}[g.rng.IntN(2)], g.key(), g.rng.IntN(9), g.noreply(), g.end())
	case 17:
		fmt.Fprintf(&b, "touch %s %s%s%s", g.key(), g.exptime(), g.noreply(), g.end())
	case 18:
		fmt.Fprintf(&b, "verbosity 1%s%s", g.noreply(), g.end())
	default:
		if g.rng.IntN(4) == 0 {
			fmt.Fprintf(&b, "flush_all%s%s%s", []string{"", " 0"}[g.rng.IntN(2)], g.noreply(), g.end())
		} else {
			b.WriteString("version" + g.end())
		}
	}
	return b.Bytes()
}

// invalid returns a command that memcached refuses, or takes in its own way.
func (g *generator) invalid() []byte {
	k := g.key()
	long := g.prefix + strings.Repeat("L", 251-len(g.prefix))
	lines := []string{
		"", " ", "  ", "nonsense", "nonsense a b c d e f g h i j k l m n o p q r s t u v w x y z",
		"get", "gets", "get ", "gat", "gats", "gat 0", "gat abc " + k, "gat " + k, "gat 0 ", "GET " + k, "Set " + k + " 0 0 1",
		"get  " + k, " get " + k, "get " + k + " ", "get " + k + "  " + k,
		"delete", "delete " + long, "delete " + k + " 0", "delete " + k + " 1", "delete " + k + " 0 noreply",
		"delete " + k + " noreply noreply", "delete " + k + " abc", "delete  " + k,
		"incr", "incr " + k, "incr " + k + " abc", "incr " + k + " -1", "incr " + k + " 18446744073709551616",
		"incr " + long + " 1", "incr " + k + " 1 1", "decr " + k + " 1 noreply x", "decr " + k + " ", "incr " + k + " 1x", "incr " + k + " noreply",
		"touch", "touch " + k, "touch " + k + " abc", "touch " + long + " 0", "touch " + k + " 0 0", "touch " + k + " noreply",
		"verbosity", "verbosity abc", "verbosity 1 2 3", "verbosity noreply", "version 1", "version noreply",
		"flush_all abc", "flush_all 0 0 0 0", "flush_all noreply noreply", "flush_all 0 noreply noreply", "flush_all -1",
		"quitter", "setx " + k + " 0 0 1", "ge " + k, "s", "\x00", "\x01\x02", "get\x00" + k, "get\t" + k, "incr\t" + k + " 1", "set " + k + "\x00 0 0 1", "bogus\r", "a\rb",
	}
	if g.rng.IntN(3) > 0 {
		return []byte(lines[g.rng.IntN(len(lines))] + g.end())
	}
	// Storage commands that are refused before or after their data. What is
	// not taken as data is read as the next command, "ab" as any other.
	verb := []string{"set", "add", "replace", "append", "prepend", "cas"}[g.rng.IntN(6)]
	token := ""
	if verb == "cas" {
		token = " 18446744073709551615"
	}
	heads := []string{
		verb, verb + " " + k, verb + " " + k + " 0", verb + " " + k + " 0 0", verb + " " + k + " 0 0 abc" + token,
		verb + " " + k + " abc 0 2" + token, verb + " " + k + " 0 abc 2" + token, verb + " " + k + " -1 0 2" + token,
		verb + " " + k + " 4294967296 0 2" + token, verb + " " + k + " 0 0 -1" + token, verb + " " + k + " 0 0 -2147483649" + token,
		verb + " " + k + " 0 0 2147483648" + token, verb + " " + k + " 0 0 99999999999999999999" + token, verb + " " + long + " 0 0 2" + token,
		verb + " " + k + " 0 0 1" + token, verb + " " + k + " 0 0 1" + token + " noreply", verb + " " + k + " 0 0 2" + token + " extra", verb + " " + k + " 0 0 2" + token + " extra noreply",
		verb + " " + k + " 0 0 2" + token + " noreply noreply", verb + "  " + k + "  0  0  2" + token, verb + " " + k + " 1e3 0 2" + token,
		verb + " " + k + " 0 0 2x" + token, verb + " " + k + " 0 0 noreply", verb + " " + k + " 0 0 2.5" + token, verb + " " + k + " 0 0 0" + token,
		"cas " + k + " 0 0 2", "cas " + k + " 0 0 2 abc", "cas " + k + " 0 0 2 -1", "cas " + k + " 0 0 2 18446744073709551616", "cas " + k + " 0 0 2 noreply",
	}
	return []byte(heads[g.rng.IntN(len(heads))] + g.end() + "ab\r\n")
}
