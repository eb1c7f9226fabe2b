package checker

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// Span is a time in a round, since its start.
type Span struct{ From, To time.Duration }

// meets reports whether two spans have a moment in common.
func (s Span) meets(other Span) bool { return s.From <= other.To && other.From <= s.To }

// Fault is something that was done to the servers, the links or the magents.
type Fault struct {
	Kind string
	What string // in words
	Span        // until redundancy was whole again
}

// History is all that happened in one round.
type History struct {
	Began  time.Time // by the clock of the programs' logs
	Keys   []string
	Ops    []*Op
	Losses []Span // when both copies of a key may have gone
	Faults []Fault
	// Logged returns what the magents logged of their servers; nil for nothing.
	Logged func() []LogLine

	byKey map[string][]*Op
}

// LogLine is a line of a magent's log.
type LogLine struct {
	At   time.Duration
	Text string
}

// Verdict is the result of the check of one key.
type Verdict struct {
	Key     string
	Result  porcupine.CheckResult
	Short   string // the history around the first operation that does not fit
	Written []string
}

// ofKey returns the operations on one key in the order of their calls, among
// them the flushes and the losses, without those that say nothing. If strict,
// a noreply command has taken effect before the next command was answered, and
// a token stays good unless there was a fault; otherwise the error of the
// noreply command may not have been told when there was a fault, and what
// magent took for a fault counts as one.
func (h *History) ofKey(key string, strict bool) []*Op {
	var ops []*Op
	for _, o := range h.ops(key) {
		if o.Unknown && !o.writes() {
			continue
		}
		switch {
		case !strict && o.NoReply && !o.Unknown && h.disturbed(Span{o.Call, o.Return}, false):
			copied := *o
			copied.fail("noreply while there was a fault")
			o = &copied
		case o.conditional() && !h.disturbed(Span{o.SeenAt, o.Return}, strict):
			copied := *o
			copied.steady = true
			o = &copied
		case o.Marked && !h.disturbed(Span{To: o.Return}, strict):
			copied := *o
			copied.steady = true
			o = &copied
		}
		ops = append(ops, o)
	}
	for _, l := range h.Losses {
		ops = append(ops, &Op{Client: lossClient, Kind: Loss, Key: key, Call: l.From, Return: l.To, Answer: "it may be lost"})
	}
	slices.SortStableFunc(ops, func(a, b *Op) int { return cmp.Compare(a.Call, b.Call) })
	return ops
}

// ops returns the operations on one key and on all keys.
func (h *History) ops(key string) []*Op {
	if h.byKey == nil {
		h.byKey = make(map[string][]*Op)
		for _, o := range h.Ops {
			h.byKey[o.Key] = append(h.byKey[o.Key], o)
		}
	}
	return slices.Concat(h.byKey[key], h.byKey[""])
}

// disturbed reports whether a fault was under way, or also, unless strict,
// whether magent changed its mind about a server, as on a machine with too
// much to do.
func (h *History) disturbed(s Span, strict bool) bool {
	if slices.ContainsFunc(h.Faults, func(f Fault) bool { return f.meets(s) }) {
		return true
	}
	return !strict && h.Logged != nil && slices.ContainsFunc(h.Logged(), func(l LogLine) bool {
		return s.meets(Span{l.At - logSlack, l.At + logSlack})
	})
}

// logSlack is how far what is logged may be from its cause.
const logSlack = time.Second

// needless reports whether an error was answered while nothing was done to one
// of the servers.
func (h *History) needless(o *Op) bool {
	return !slices.ContainsFunc(h.Faults, func(f Fault) bool {
		return !oneServer(f.Kind) && f.From <= o.Call && o.Call <= f.To
	})
}

// Numbers of "clients" that are none.
const (
	serverClient = 90 // asks a server directly
	fillClient   = 91 // writes the keys that are only read afterwards
	lossClient   = 92
)

// Check checks one key, in at most about the given time.
//
// Commands with an unknown outcome make a check hard. A history that is right
// without some of them is right, for they may never have taken effect; so the
// easier questions come first.
func (h *History) Check(key string, limit time.Duration) porcupine.CheckResult {
	model := h.model()
	strict := h.ofKey(key, true)
	easier := [][]*Op{
		slices.DeleteFunc(slices.Clone(strict), func(o *Op) bool { return o.Unknown }),
		slices.DeleteFunc(slices.Clone(strict), func(o *Op) bool { return o.Unknown && !seen(o, strict) }),
		strict,
	}
	for _, ops := range easier {
		if porcupine.CheckOperationsTimeout(model, forPorcupine(ops), limit/6) == porcupine.Ok {
			return porcupine.Ok
		}
	}
	return porcupine.CheckOperationsTimeout(model, forPorcupine(h.ofKey(key, false)), limit/2)
}

// model is the model for this history.
func (h *History) model() porcupine.Model {
	if len(h.Losses) > 0 {
		return lossyModel()
	}
	return plainModel()
}

// seen reports whether an answer shows traces of the operation, or may show them.
func seen(o *Op, ops []*Op) bool {
	switch o.Kind {
	case Set, Add, Replace, Append, Prepend, Cas:
		value := strings.TrimSpace(o.Value)
		return slices.ContainsFunc(ops, func(other *Op) bool {
			return strings.Contains(other.GotValue, value) || (other.Kind == Incr || other.Kind == Decr)
		})
	default:
		return true
	}
}

func forPorcupine(ops []*Op) []porcupine.Operation {
	out := make([]porcupine.Operation, len(ops))
	for i, o := range ops {
		out[i] = porcupine.Operation{ClientId: o.Client, Input: o, Call: int64(o.Call), Return: int64(o.Return)}
	}
	return out
}

// mostIllegal is how many keys of a round are found wrong before the check of
// the others is left out: to find that a history is wrong takes long.
const mostIllegal = 3

// CheckAll checks every key, until a few are found wrong. What is wrong is
// written to files in dir.
func (h *History) CheckAll(limit time.Duration, dir string) ([]Verdict, error) {
	var out []Verdict
	illegal := 0
	for _, key := range h.Keys {
		v := Verdict{Key: key, Result: h.Check(key, limit)}
		var err error
		switch v.Result {
		case porcupine.Illegal:
			illegal++
			err = h.explain(&v, limit, dir)
		case porcupine.Unknown:
			err = h.write(&v, h.ofKey(key, false), -1, dir)
		}
		if err != nil {
			return out, err
		}
		out = append(out, v)
		if illegal == mostIllegal {
			break
		}
	}
	return out, nil
}

// explain writes the history of a key to files, and the part of it that is
// wrong into the verdict.
func (h *History) explain(v *Verdict, limit time.Duration, dir string) error {
	ops := h.ofKey(v.Key, false)
	model := h.model()
	_, info := porcupine.CheckOperationsVerbose(model, forPorcupine(ops), limit)

	fits := make(map[*Op]bool)
	for _, partition := range info.PartialLinearizationsOperations() {
		for _, order := range partition {
			for _, o := range order {
				fits[o.Input.(*Op)] = true
			}
		}
	}
	at := slices.IndexFunc(ops, func(o *Op) bool { return !fits[o] && o.Return != forever })
	v.Short = h.around(ops, at)

	picture := filepath.Join(dir, fileName(v.Key)+".html")
	err := porcupine.VisualizePath(model, info, picture)
	v.Written = append(v.Written, picture)
	return errors.Join(err, h.write(v, ops, at, dir))
}

// write writes the history of a key to a file, with a mark at one operation.
func (h *History) write(v *Verdict, ops []*Op, at int, dir string) error {
	path := filepath.Join(dir, fileName(v.Key)+".txt")
	v.Written = append(v.Written, path)
	return writeLines(path, h.lines(ops, at))
}

func fileName(key string) string { return strings.ReplaceAll(key, ".", "-") }

// around is the history before and behind one operation.
func (h *History) around(ops []*Op, at int) string {
	const before, behind, mostOld = 25, 8, 8
	if at < 0 {
		at = len(ops) - 1
	}
	from, to := max(0, at-before), min(len(ops), at+behind)
	part := h.lines(ops[from:to], at-from)
	// Those without an answer may be the cause, however old they are.
	var old []string
	for _, o := range ops[:from] {
		if o.Return == forever && !o.NoReply {
			old = append(old, "    "+o.Line())
		}
	}
	old = old[max(0, len(old)-mostOld):]
	return strings.Join(append(old, part...), "\n")
}

// lines is one line for each operation, with the faults among them; the one at
// the index is marked.
func (h *History) lines(ops []*Op, at int) []string {
	type line struct {
		at   time.Duration
		text string
	}
	var lines []line
	for i, o := range ops {
		mark := "    "
		if i == at {
			mark = "--> "
		}
		lines = append(lines, line{o.Call, mark + o.Line()})
	}
	if len(ops) > 0 {
		first, last := ops[0].Call, ops[len(ops)-1].Call
		for _, f := range h.Faults {
			if f.To < first || f.From > last {
				continue
			}
			lines = append(lines, line{f.From, fmt.Sprintf("*** %.6f %.6f %s: %s", f.From.Seconds(), f.To.Seconds(), f.Kind, f.What)})
		}
	}
	if h.Logged != nil && len(ops) > 0 {
		for _, l := range h.Logged() {
			if l.At >= ops[0].Call-time.Second && l.At <= ops[len(ops)-1].Call {
				lines = append(lines, line{l.At, fmt.Sprintf("+++ %.3f %s", l.At.Seconds(), l.Text)})
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = l.text
	}
	return out
}

func writeLines(path string, lines []string) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := bufio.NewWriter(file)
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return w.Flush()
}
