package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"magent/integration/harness"
)

// item is what a key may hold: the model's idea of one memcached item.
type item struct {
	present bool
	flags   uint32
	value   string
}

func (i item) String() string {
	if !i.present {
		return "(absent)"
	}
	return fmt.Sprintf("%s flags %d", short(i.value), i.flags)
}

// operation is one command on one key.
type operation struct {
	verb  string
	key   string
	flags uint32
	value string
	delta uint64
	cas   uint64
	quiet bool // noreply
}

// wire returns the bytes of the command.
func (o operation) wire() []byte {
	var noreply []string
	if o.quiet {
		noreply = []string{"noreply"}
	}
	tail := strings.Join(append([]string{""}, noreply...), " ")
	switch o.verb {
	case "get", "gets":
		return []byte(o.verb + " " + o.key + "\r\n")
	case "gat":
		return []byte("gat 0 " + o.key + "\r\n")
	case "delete":
		return []byte("delete " + o.key + tail + "\r\n")
	case "touch":
		return []byte("touch " + o.key + " 0" + tail + "\r\n")
	case "incr", "decr":
		return fmt.Appendf(nil, "%s %s %d%s\r\n", o.verb, o.key, o.delta, tail)
	case "cas":
		return harness.Storage("cas", o.key, o.flags, 0, []byte(o.value), append([]string{strconv.FormatUint(o.cas, 10)}, noreply...)...)
	default:
		return harness.Storage(o.verb, o.key, o.flags, 0, []byte(o.value), noreply...)
	}
}

func (o operation) String() string { return short(string(o.wire())) }

// read reads the answer to the command in the form that apply returns; token
// is that of gets.
func (o operation) read(c *harness.Client) (answer string, token uint64, err error) {
	switch {
	case o.quiet:
		return "", 0, nil
	case o.verb != "get" && o.verb != "gets" && o.verb != "gat":
		answer, err = c.Line()
		return answer, 0, err
	}
	items, err := c.Values()
	switch {
	case err != nil:
		return "", 0, err
	case len(items) == 0:
		return "miss", 0, nil
	case len(items) > 1 || items[0].Key != o.key:
		return "", 0, fmt.Errorf("%d values, the first of key %s", len(items), short(items[0].Key))
	}
	return fmt.Sprintf("value %d %s", items[0].Flags, items[0].Value), items[0].CAS, nil
}

// apply says what memcached answers, and what the key holds then. More than
// one state comes back where memcached's own behaviour depends on timing.
func (o operation) apply(before item) (answer string, after []item) {
	answer, after = o.outcome(before)
	if o.quiet {
		answer = ""
	}
	return answer, after
}

func (o operation) outcome(before item) (string, []item) {
	same := []item{before}
	stored := []item{{true, o.flags, o.value}}
	switch o.verb {
	case "get", "gets", "gat", "touch", "delete", "incr", "decr":
		return o.onKey(before)
	case "set":
		return "STORED", stored
	case "cas":
		if !before.present {
			return "NOT_FOUND", same
		}
		return "STORED", stored
	case "add":
		if before.present {
			return "NOT_STORED", same
		}
		return "STORED", stored
	}
	if !before.present { // replace, append and prepend need the key
		return "NOT_STORED", same
	}
	switch o.verb {
	case "append":
		stored = []item{{true, before.flags, before.value + o.value}}
	case "prepend":
		stored = []item{{true, before.flags, o.value + before.value}}
	}
	return "STORED", stored
}

// onKey is outcome for the commands that carry no value.
func (o operation) onKey(before item) (string, []item) {
	same := []item{before}
	switch o.verb {
	case "get", "gets", "gat":
		if !before.present {
			return "miss", same
		}
		return fmt.Sprintf("value %d %s", before.flags, before.value), same
	case "touch":
		if !before.present {
			return "NOT_FOUND", same
		}
		return "TOUCHED", same
	case "delete":
		if !before.present {
			return "NOT_FOUND", same
		}
		return "DELETED", []item{{}}
	}
	if !before.present {
		return "NOT_FOUND", same
	}
	digits, _, _ := strings.Cut(before.value, " ") // as strtoull does, memcached stops at a space
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return "CLIENT_ERROR cannot increment or decrement non-numeric value", same
	}
	if o.verb == "incr" {
		n += o.delta
	} else {
		n -= min(n, o.delta)
	}
	text := strconv.FormatUint(n, 10)
	after := []item{{true, before.flags, text}}
	if len(text) < len(before.value) {
		// memcached writes a shorter number in place, padded with spaces,
		// unless somebody else is just reading the old one.
		after = append(after, item{true, before.flags, text + strings.Repeat(" ", len(before.value)-len(text))})
	}
	return text, after
}

// owner is a client that alone writes its keys and so knows every answer.
type owner struct {
	writer, reader *harness.Client // reader is another connection
	rng            *rand.Rand
	keys           []string
	may            map[string][]item // what each key may hold now

	// lossy allows a key to be gone: a server that was away came back empty.
	lossy bool
	// casMayFail allows EXISTS: a failover lies between gets and cas.
	casMayFail bool
	// unserved allows SERVER_ERROR, after which a write may have taken effect or not.
	unserved bool

	tokens     map[string]uint64
	unanswered map[string]bool // the last write was noreply: only its own connection sees it for sure
	n          int
	trail      map[string][]string // the last operations on each key, for the error message
}

// newOwner connects an owner with its own keys.
func newOwner(addr, name string, keys int, rng *rand.Rand) (*owner, error) {
	w, err := harness.Dial(addr)
	if err != nil {
		return nil, err
	}
	r, err := harness.Dial(addr)
	if err != nil {
		_ = w.Close()
		return nil, err
	}
	o := &owner{
		writer: w, reader: r, rng: rng,
		may: make(map[string][]item), tokens: make(map[string]uint64),
		unanswered: make(map[string]bool), trail: make(map[string][]string),
	}
	for i := range keys {
		key := fmt.Sprintf("own:%s:%d", name, i)
		o.keys = append(o.keys, key)
		o.may[key] = []item{{}}
	}
	return o, nil
}

func (o *owner) close() {
	_ = o.writer.Close()
	_ = o.reader.Close()
}

// random returns some operation on one of the owner's keys. Values say whose
// they are.
func (o *owner) random() operation {
	o.n++
	op := operation{key: o.keys[o.rng.IntN(len(o.keys))], flags: o.rng.Uint32N(1000), delta: o.rng.Uint64N(50)}
	op.value = fmt.Sprintf("<%s #%d>", op.key, o.n)
	verbs := []string{
		"get", "get", "get", "gets", "gat", "set", "set", "set-number", "set-number", "incr", "incr", "incr", "decr",
		"append", "append", "prepend", "add", "replace", "cas", "delete", "touch",
	}
	op.verb = verbs[o.rng.IntN(len(verbs))]
	switch op.verb {
	case "set-number":
		// No decr makes it shorter: whether it is padded then depends on who reads it at
		// this moment, and the servers may differ (do_add_delta of memcached).
		op.verb, op.value = "set", strconv.Itoa(5000+o.rng.IntN(2000))
	case "cas":
		op.cas = o.tokens[op.key]
		if op.cas == 0 {
			op.verb = "set"
		}
	}
	op.quiet = o.rng.IntN(8) == 0 && !slices.Contains([]string{"get", "gets", "gat"}, op.verb)
	return op
}

// step runs one operation on the writing connection or, for reads, on either.
func (o *owner) step() error {
	op := o.random()
	c := o.writer
	if op.verb == "get" && o.rng.IntN(2) == 0 && !o.unanswered[op.key] {
		c = o.reader
	}
	return o.run(c, op)
}

// run sends one operation and checks its answer.
func (o *owner) run(c *harness.Client, op operation) error {
	if err := c.Send(op.wire()); err != nil {
		return fmt.Errorf("%v: %w%s", op, err, o.history(op.key))
	}
	return o.check(c, op)
}

// pipeline sends several operations in one write and checks their answers.
func (o *owner) pipeline(n int) error {
	var ops []operation
	var out []byte
	for range n {
		op := o.random()
		if op.verb == "cas" { // its token cannot be known before the answers
			op.verb = "append"
		}
		ops = append(ops, op)
		out = append(out, op.wire()...)
	}
	if err := o.writer.Send(out); err != nil {
		return err
	}
	for _, op := range ops {
		if err := o.check(o.writer, op); err != nil {
			return err
		}
	}
	return nil
}

// check reads the answer to op and keeps only the states that explain it.
func (o *owner) check(c *harness.Client, op operation) error {
	answer, token, err := op.read(c)
	var other *harness.AnswerError
	if o.unserved && errors.As(err, &other) {
		answer, err = other.Line, nil
	}
	if err != nil {
		return fmt.Errorf("%v: %w%s", op, err, o.history(op.key))
	}
	failed := o.unserved && (op.quiet || strings.HasPrefix(answer, "SERVER_ERROR "))
	shown := short(answer)
	if op.quiet {
		shown = "(noreply)"
	}
	before := o.may[op.key]
	if o.lossy && !slices.Contains(before, item{}) {
		before = append(slices.Clone(before), item{})
	}
	var after []item
	keep := func(states ...item) {
		for _, s := range states {
			if !slices.Contains(after, s) {
				after = append(after, s)
			}
		}
	}
	for _, state := range before {
		want, next := op.apply(state)
		if want == answer || failed {
			keep(next...)
		}
		if failed {
			keep(state)
		}
		if o.lossy && op.verb != "delete" && op.verb != "add" && op.verb != "set" && (isAbsent(answer) || op.quiet) {
			keep(state) // refused where the key was lost, which perhaps its twin still has
		}
		if o.casMayFail && op.verb == "cas" && state.present && (answer == "EXISTS" || op.quiet) {
			keep(state)
		}
	}
	if len(after) == 0 {
		return fmt.Errorf("%v answered %s, but the key held %v%s", op, short(answer), before, o.history(op.key))
	}
	o.may[op.key] = after
	if op.quiet || c == o.writer && op.verb != "get" && op.verb != "gets" {
		o.unanswered[op.key] = op.quiet
	}
	switch {
	case op.verb == "gets":
		o.tokens[op.key] = token
	case op.verb != "get":
		delete(o.tokens, op.key)
	}
	where := "other"
	if c == o.writer {
		where = "same"
	}
	trail := append(o.trail[op.key], fmt.Sprintf("%s %s connection: %v %s", time.Now().Format("05.000"), where, op, shown))
	o.trail[op.key] = trail[max(0, len(trail)-8):]
	return nil
}

// history shows the last operations on a key.
func (o *owner) history(key string) string {
	return "; before it at second\n\t" + strings.Join(o.trail[key], "\n\t")
}

// isAbsent reports whether an answer says that the key is not there.
func isAbsent(answer string) bool {
	return answer == "miss" || answer == "NOT_FOUND" || answer == "NOT_STORED"
}

// final compares what a server holds, asked directly, with the model.
func (o *owner) final(c *harness.Client) error {
	for _, key := range o.keys {
		if err := o.run(c, operation{verb: "get", key: key}); err != nil {
			return err
		}
	}
	return nil
}
