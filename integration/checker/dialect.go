package checker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
)

// Dialect is one of memcached's protocols.
type Dialect string

// The dialects. Text and meta commands may follow one another on a connection;
// binary has it for itself (protocol_binary.txt: the first byte tells).
const (
	Text   Dialect = "text"
	Meta   Dialect = "meta"
	Binary Dialect = "binary"
)

// AllDialects returns all of them.
func AllDialects() []Dialect { return []Dialect{Text, Meta, Binary} }

// DialectsFromEnv returns the dialects that MAGENT_DIALECTS names, with commas
// between them, or all of them if it is not set.
func DialectsFromEnv() ([]Dialect, error) {
	s := os.Getenv("MAGENT_DIALECTS")
	if s == "" {
		return AllDialects(), nil
	}
	var out []Dialect
	for name := range strings.SplitSeq(s, ",") {
		if !slices.Contains(AllDialects(), Dialect(name)) {
			return nil, fmt.Errorf("MAGENT_DIALECTS has %q, want some of %q", name, AllDialects())
		}
		out = append(out, Dialect(name))
	}
	return out, nil
}

// onOneConnection chooses what is spoken on a new connection: one dialect, or
// text and meta in turns.
func onOneConnection(rng *rand.Rand, among []Dialect) []Dialect {
	var choices [][]Dialect
	// Binary stands here twice, so that it has its share.
	for _, c := range [][]Dialect{{Text}, {Meta}, {Text, Meta}, {Binary}, {Binary}} {
		if !slices.ContainsFunc(c, func(d Dialect) bool { return !slices.Contains(among, d) }) {
			choices = append(choices, c)
		}
	}
	return choices[rng.IntN(len(choices))]
}

// errNonsense is the cause of leaving a connection on which an answer came
// that no server gives.
var errNonsense = errors.New("an answer that no server gives")

// nonsense notes an answer that no server gives. What follows on the
// connection cannot be trusted.
func (c *client) nonsense(format string, args ...any) error {
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...)+fmt.Sprintf(", at %.6f", c.round.now().Seconds()))
	return errNonsense
}

// succeeded is memcached's line for a command that did what it should; that
// of incr and decr is the result.
func succeeded(kind Kind) string {
	switch kind {
	case Delete, Invalidate:
		return "DELETED"
	case Touch:
		return "TOUCHED"
	case Flush:
		return "OK"
	case Incr, Decr:
		return Counted
	default:
		return "STORED"
	}
}

// silence is the answer to a quiet command that was not answered: the usual
// one, which is a miss for retrievals and for touch, which is one in meta.
func (o *Op) silence() string {
	switch {
	case o.reads():
		return Miss
	case o.Kind == Touch:
		return "NOT_FOUND"
	default:
		return succeeded(o.Kind)
	}
}
