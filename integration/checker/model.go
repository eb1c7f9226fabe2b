package checker

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"

	"github.com/anishathalye/porcupine"
)

// item is what the model knows of one key. It is comparable.
type item struct {
	present bool
	value   string
	flags   uint32
	expiry  int
	tokens  string // cas tokens that were got for this version, as " 1 2 "
	stale   bool
	won     bool // and a client was told to write it anew
}

func (s item) String() string {
	if !s.present {
		return "absent"
	}
	text := fmt.Sprintf("%q flags %d%s tokens [%s]", s.value, s.flags, expiryText(s.expiry), strings.TrimSpace(s.tokens))
	switch {
	case s.won:
		text += " stale, won"
	case s.stale:
		text += " stale"
	}
	return text
}

// has reports whether the token was got for this version.
func (s item) has(token uint64) bool {
	return strings.Contains(s.tokens, fmt.Sprintf(" %d ", token))
}

// withToken adds a token. A version may have several: each server has its own.
func (s item) withToken(token uint64) item {
	if s.has(token) {
		return s
	}
	all := strings.Fields(s.tokens + " " + strconv.FormatUint(token, 10))
	slices.Sort(all)
	s.tokens = " " + strings.Join(all, " ") + " "
	return s
}

// withValue is the next version, with another value.
func (s item) withValue(value string) item {
	s.value, s.tokens, s.stale, s.won = value, "", false, false
	return s
}

// invalidated is the next version, with the same value, which is stale.
func (s item) invalidated() item {
	s.tokens, s.stale, s.won = "", true, false
	return s
}

// marksFit reports whether what an answer said of staleness may be true. An
// item that is not stale is never said to be. Only while nothing has failed it
// is certain that a stale one is said to be, and that one client only wins.
func (s item) marksFit(o *Op) bool {
	switch {
	case o.Stale && !s.stale, (o.Won || o.Lost) && !o.Stale, o.Won && o.Lost:
		return false
	case !o.steady:
		return true
	default:
		return o.Stale == s.stale && (!s.stale || o.Won != o.Lost) && !(o.Won && s.won)
	}
}

// withExpiry is the same version with another expiry.
func (s item) withExpiry(n int) item {
	if n == Past {
		return item{}
	}
	s.expiry = n
	return s
}

// stored is a new item as the command wants it.
func stored(o *Op) item {
	return item{present: true, value: o.Value, flags: o.Flags}.withExpiry(o.Expiry)
}

// sameValue compares two values. memcached may leave spaces behind a number
// that a decr made shorter (protocol.txt, "decr").
func sameValue(a, b string) bool {
	return a == b || normal(a) == normal(b)
}

// normal is a value without the spaces behind a number.
func normal(value string) string {
	number := strings.TrimRight(value, " ")
	if _, err := strconv.ParseUint(number, 10, 64); err != nil {
		return value
	}
	return number
}

// accepts reports whether the version is the one that the command is for.
func (s item) accepts(o *Op) bool {
	return s.has(o.Token) && (o.Blind || sameValue(s.value, o.Seen))
}

// effect is what the command does to the item, and what memcached's line of
// answer to it is: protocol.txt, and what memcached 1.6 does.
func effect(s item, o *Op) (next item, answer string) {
	if o.conditional() && s.present && !s.accepts(o) {
		return s, "EXISTS"
	}
	switch o.Kind {
	case Get, Gets, Peek:
		if !s.present {
			return s, Miss
		}
		return s, Hit
	case Gat:
		if !s.present {
			return s, Miss
		}
		return s.withExpiry(o.Expiry), Hit
	case Touch:
		if !s.present {
			return s, "NOT_FOUND"
		}
		return s.withExpiry(o.Expiry), "TOUCHED"
	case Set:
		return stored(o), "STORED"
	case Add:
		if s.present {
			return s, "NOT_STORED"
		}
		return stored(o), "STORED"
	case Replace:
		if !s.present {
			return s, "NOT_STORED"
		}
		return stored(o), "STORED"
	case Append:
		if !s.present {
			return s, "NOT_STORED"
		}
		return s.withValue(s.value + o.Value), "STORED"
	case Prepend:
		if !s.present {
			return s, "NOT_STORED"
		}
		return s.withValue(o.Value + s.value), "STORED"
	case Cas:
		if !s.present {
			return s, "NOT_FOUND"
		}
		return stored(o), "STORED"
	case Incr, Decr:
		return count(s, o)
	case Delete:
		if !s.present {
			return s, "NOT_FOUND"
		}
		return item{}, "DELETED"
	case Invalidate:
		if !s.present {
			return s, "NOT_FOUND"
		}
		return s.invalidated().withExpiry(o.Expiry), "DELETED"
	case Flush:
		return item{}, "OK"
	default:
		panic("no such command: " + string(o.Kind))
	}
}

// NotANumber is memcached's answer to incr and decr of something else.
const NotANumber = "CLIENT_ERROR cannot increment or decrement non-numeric value"

// count is the effect of incr and decr.
func count(s item, o *Op) (next item, answer string) {
	switch {
	case !s.present && o.Initial != "":
		return item{present: true, value: o.Initial}.withExpiry(o.Expiry), o.Initial
	case !s.present:
		return s, "NOT_FOUND"
	}
	n, err := strconv.ParseUint(strings.TrimRight(s.value, " "), 10, 64)
	if err != nil {
		return s, NotANumber
	}
	delta, err := strconv.ParseUint(o.Value, 10, 64)
	switch {
	case err != nil:
		panic("delta is not a number: " + o.Value)
	case o.Kind == Incr:
		n += delta
	default:
		n -= min(n, delta)
	}
	result := strconv.FormatUint(n, 10)
	return s.withValue(result), result
}

// step says whether the operation may have had its answer when the item was
// s, and what the item was then afterwards.
func step(s item, o *Op) (ok bool, next item) {
	next, answer := effect(s, o)
	if o.Unknown || o.NoReply {
		return true, next
	}
	switch {
	case o.conditional() && o.Answer == "EXISTS" && !o.steady:
		// Tokens need not survive a failover or a new life of a server.
		return s.present, s
	case o.conditional() && o.Answer == "EXISTS" && s.stale:
		// A stale item that magent looks at gets another token, with memcached
		// before 1.6.27 (docs/protocols.md).
		return true, s
	case o.Initial != "" && o.Answer == "NOT_STORED":
		// memcached looks for the key and then adds it: another client may
		// have added it in between (proto_bin.c, complete_incr_bin).
		return true, s
	case o.Answer == Counted:
		_, err := strconv.ParseUint(answer, 10, 64)
		return err == nil, next
	case answer != o.Answer:
		return false, s
	case answer == Hit && (!sameValue(s.value, o.GotValue) || s.flags != o.GotFlags):
		return false, s
	case answer == Hit && (o.Kind == Peek || o.Timed) && s.expiry != o.GotExpiry:
		return false, s
	case s.present && o.Marked && !s.marksFit(o):
		return false, s
	}
	if !next.present {
		return true, next
	}
	if o.GotToken != 0 {
		next = next.withToken(o.GotToken)
	}
	next.won = next.won || o.Won
	return true, next
}

// plainModel is the model of a key that cannot have been lost.
func plainModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return item{} },
		Step: func(state, input, _ any) (bool, any) {
			ok, next := step(state.(item), input.(*Op))
			return ok, next
		},
		Hash:              hashItem(),
		DescribeOperation: describeOp,
		DescribeState:     func(state any) string { return state.(item).String() },
	}
}

// lossyModel is the model of a key that may have been lost at some time.
func lossyModel() porcupine.Model {
	model := porcupine.NondeterministicModel{
		Init: func() []any { return []any{item{}} },
		Step: func(state, input, _ any) []any {
			o := input.(*Op)
			if o.Kind == Loss {
				return []any{state, item{}}
			}
			ok, next := step(state.(item), o)
			if !ok {
				return nil
			}
			return []any{next}
		},
		Hash:              hashItem(),
		DescribeOperation: describeOp,
		DescribeState:     func(state any) string { return state.(item).String() },
	}
	return model.ToModel()
}

func hashItem() func(any) uint64 {
	seed := maphash.MakeSeed()
	return func(state any) uint64 { return maphash.Comparable(seed, state.(item)) }
}

func describeOp(input, _ any) string { return input.(*Op).String() }
