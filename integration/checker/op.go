package checker

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Kind is a command.
type Kind string

// The commands. Peek is what a server answers directly, with the time to live;
// Loss is not a command but the possible loss of both copies.
const (
	Get        Kind = "get"
	Gets       Kind = "gets"
	Gat        Kind = "gat"
	Peek       Kind = "peek"
	Set        Kind = "set"
	Add        Kind = "add"
	Replace    Kind = "replace"
	Append     Kind = "append"
	Prepend    Kind = "prepend"
	Cas        Kind = "cas"
	Incr       Kind = "incr"
	Decr       Kind = "decr"
	Delete     Kind = "delete"
	Touch      Kind = "touch"
	Invalidate Kind = "invalidate" // md with I: the item is stale from now on
	Flush      Kind = "flush_all"
	Loss       Kind = "loss"
)

// Answers that are not a line of the protocol. Those of all dialects are told
// in the words of classic text.
const (
	Hit     = "hit"
	Miss    = "miss"
	Counted = "counted" // a quiet incr or decr succeeded, with which result is not told
)

// Expiry times are numbered, so that the model can tell them apart although
// nobody knows the moment at which a server read its clock.
const (
	Never = 0  // no expiry
	Past  = -1 // expired already
	// Larger numbers n stand for the time Deadline(n).
)

// Deadlines lie far behind the end of the round, and far from each other.
const (
	firstDeadline = 1000 * time.Second
	deadlineStep  = 200 * time.Second
)

// forever is the time of an answer that never came.
const forever = time.Duration(math.MaxInt64)

// Op is one command on one key, as one client saw it.
type Op struct {
	Client int
	Kind   Kind
	Key    string // "" for all keys of the round

	// What was asked for.
	Value   string // the value, what is added to it, or the delta
	Flags   uint32
	Expiry  int
	Initial string // of an incr or decr: what a missing key becomes, with Expiry; "" leaves it missing
	Token   uint64 // of a cas, and of what else is done only to the version that has it; 0 for any version
	Seen    string // the value for which the token was got
	SeenAt  time.Duration
	Blind   bool // the token came with an answer that does not tell the value
	NoReply bool
	Dialect Dialect // "" for classic text, too

	// What was answered, and when, since the start of the round.
	Call, Return time.Duration
	Answer       string // a line of the protocol, Hit, or Miss
	Unknown      bool   // there was no proper answer; Answer says what there was
	GotValue     string
	GotFlags     uint32
	GotToken     uint64
	GotExpiry    int  // of a Peek, and if Timed
	Timed        bool // the answer told the time to live

	Marked bool // the answer told whether the item is stale, and then
	Stale  bool // that it is,
	Won    bool // and that this client is to write it anew,
	Lost   bool // or that another one is

	steady bool // no fault between the token was asked for and its use was answered, or before the mark
}

// writes reports whether the command may change something.
func (o *Op) writes() bool {
	return o.Kind != Get && o.Kind != Gets && o.Kind != Peek
}

// reads reports whether the command fetches a value.
func (o *Op) reads() bool {
	return o.Kind == Get || o.Kind == Gets || o.Kind == Gat
}

// conditional reports whether the command is for the version with its token only.
func (o *Op) conditional() bool { return o.Kind == Cas || o.Token != 0 }

// fail notes that there was no proper answer.
func (o *Op) fail(why string) {
	o.Answer, o.Unknown, o.Return = why, true, forever
	o.GotValue, o.GotFlags, o.GotToken, o.Timed = "", 0, 0, false
	o.Marked, o.Stale, o.Won, o.Lost = false, false, false, false
}

// String describes the operation without its times.
func (o *Op) String() string {
	s := string(o.Kind)
	switch o.Kind {
	case Set, Add, Replace, Cas:
		s += fmt.Sprintf(" %q flags %d%s", o.Value, o.Flags, expiryText(o.Expiry))
	case Append, Prepend:
		s += fmt.Sprintf(" %q", o.Value)
	case Incr, Decr:
		s += " " + o.Value
		if o.Initial != "" {
			s += " or from " + o.Initial + expiryText(o.Expiry)
		}
	case Touch, Gat, Invalidate:
		s += expiryText(o.Expiry)
	}
	switch {
	case o.conditional() && o.Blind:
		s += fmt.Sprintf(", token %d got for a value that was not told", o.Token)
	case o.conditional():
		s += fmt.Sprintf(", token %d got for %q", o.Token, o.Seen)
	}
	if o.NoReply {
		s += " noreply"
	}
	s += " -> " + o.Answer
	if o.Answer == Hit {
		s += fmt.Sprintf(" %q flags %d", o.GotValue, o.GotFlags)
		if o.Kind == Peek || o.Timed {
			s += expiryText(o.GotExpiry)
		}
	}
	if o.Stale {
		s += " stale"
	}
	switch {
	case o.Won:
		s += " won"
	case o.Lost:
		s += " lost"
	}
	if o.GotToken != 0 {
		s += fmt.Sprintf(" token %d", o.GotToken)
	}
	if o.Unknown {
		s += " (outcome unknown)"
	}
	return s
}

// Line describes the operation with its times, in seconds.
func (o *Op) Line() string {
	until := "forever"
	if o.Return != forever {
		until = fmt.Sprintf("%.6f", o.Return.Seconds())
	}
	in := ""
	if o.Dialect != "" {
		in = " in " + string(o.Dialect)
	}
	return fmt.Sprintf("%.6f %s client %d%s: %s", o.Call.Seconds(), until, o.Client, in, o)
}

func expiryText(n int) string {
	switch n {
	case Never:
		return ""
	case Past:
		return " expired"
	default:
		return " deadline " + strconv.Itoa(n)
	}
}
