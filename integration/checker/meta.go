package checker

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// sayMeta runs operations as meta commands (protocol.txt, "Meta Commands"):
// one, or retrievals of several keys, which are pipelined. Some are quiet, and
// then followed by mn.
func (c *client) sayMeta(ops []*Op) error {
	quiet := c.rng.IntN(8) == 0 || len(ops) > 1 && c.rng.IntN(2) == 0
	var request []byte
	opaques := make([]string, len(ops))
	for i, o := range ops {
		opaques[i] = c.nextOpaque()
		request = c.appendMeta(request, o, opaques[i], quiet)
	}
	if quiet {
		request = append(request, "mn\r\n"...)
	}
	if err := c.conn.Send(request); err != nil {
		return err
	}
	if !quiet {
		for i, o := range ops {
			a, err := c.metaAnswer()
			if err == nil {
				err = c.understand(o, opaques[i], a)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	for _, o := range ops {
		o.Answer = ""
	}
	next := 0 // answers come in order
	failure := ""
	for {
		a, err := c.metaAnswer()
		if err != nil {
			return err
		}
		switch {
		case a.line == "MN":
			for _, o := range ops {
				// An error does not tell its command: each one that was not
				// answered may be the one.
				if o.Answer == "" && failure != "" {
					o.Answer = failure
				} else if o.Answer == "" {
					o.Answer = o.silence()
				}
			}
			return nil
		case a.isError() && len(ops) > 1:
			failure = a.line
			continue
		case !a.isError():
			for next < len(ops) && a.flag('O') != opaques[next] {
				next++
			}
		}
		if next == len(ops) {
			return c.nonsense("quiet meta commands with opaques %q were answered %q", opaques, a.line)
		}
		if err := c.understand(ops[next], opaques[next], a); err != nil {
			return err
		}
		next++
	}
}

// nextOpaque is an opaque that is used once on the connection.
func (c *client) nextOpaque() string {
	c.opaque++
	return "q" + strconv.FormatUint(uint64(c.opaque), 10)
}

// appendMeta appends a command, with its flags in any order.
func (c *client) appendMeta(dst []byte, o *Op, opaque string, quiet bool) []byte {
	flags := []string{"O" + opaque}
	maybe := func(chance int, flag string) {
		if c.rng.IntN(chance) == 0 {
			flags = append(flags, flag)
		}
	}
	if quiet {
		flags = append(flags, "q")
	}
	key := o.Key
	if c.rng.IntN(8) == 0 {
		key = base64.StdEncoding.EncodeToString([]byte(key))
		flags = append(flags, "b")
	}
	if o.Token != 0 {
		flags = append(flags, fmt.Sprintf("C%d", o.Token))
	}
	maybe(3, "k")
	head, value := "", ""
	switch o.Kind {
	case Get, Gets:
		head = "mg " + key
		flags = append(flags, "v", "f")
		if o.Kind == Gets {
			flags = append(flags, "c")
		} else {
			maybe(3, "c")
		}
		maybe(2, "t")
		maybe(4, "s")
	case Gat:
		head = "mg " + key
		flags = append(flags, "v", "f", fmt.Sprintf("T%d", c.exptime(o.Expiry)))
		maybe(3, "c")
	case Touch:
		head = "mg " + key
		flags = append(flags, fmt.Sprintf("T%d", c.exptime(o.Expiry)))
		maybe(3, "c")
	case Delete:
		head = "md " + key
	case Invalidate:
		head = "md " + key
		flags = append(flags, "I", fmt.Sprintf("T%d", c.exptime(o.Expiry)))
	case Incr, Decr:
		head = "ma " + key
		flags = append(flags, "v", "D"+o.Value)
		if o.Kind == Decr {
			flags = append(flags, [...]string{"MD", "M-"}[c.rng.IntN(2)])
		} else {
			maybe(2, "MI")
		}
		if o.Initial != "" {
			flags = append(flags, fmt.Sprintf("N%d", c.exptime(o.Expiry)), "J"+o.Initial)
		}
		maybe(2, "c")
	default:
		head = fmt.Sprintf("ms %s %d", key, len(o.Value))
		value = o.Value + "\r\n"
		switch o.Kind {
		case Add:
			flags = append(flags, "ME")
		case Replace:
			flags = append(flags, "MR")
		case Append:
			flags = append(flags, "MA")
		case Prepend:
			flags = append(flags, "MP")
		case Cas:
			maybe(4, "MR") // which decides nothing more
		default:
			maybe(4, "MS")
		}
		if o.Kind != Append && o.Kind != Prepend {
			flags = append(flags, fmt.Sprintf("F%d", o.Flags))
			if t := c.exptime(o.Expiry); t != 0 || c.rng.IntN(2) == 0 {
				flags = append(flags, fmt.Sprintf("T%d", t))
			}
		}
		maybe(2, "c")
	}
	c.rng.Shuffle(len(flags), func(i, j int) { flags[i], flags[j] = flags[j], flags[i] })
	return append(dst, head+" "+strings.Join(flags, " ")+"\r\n"+value...)
}

// metaAnswer is an answer to a meta command.
type metaAnswer struct {
	line  string
	words []string // of the line
	flags []string
	value []byte
}

// isError reports whether it is one of the errors that all text commands have.
func (a *metaAnswer) isError() bool {
	return a.words[0] == "ERROR" || strings.HasSuffix(a.words[0], "_ERROR")
}

// flag is what stands behind a flag, "" if it is not there.
func (a *metaAnswer) flag(letter byte) string {
	for _, f := range a.flags {
		if f[0] == letter {
			return f[1:]
		}
	}
	return ""
}

// number is the number behind a flag.
func (a *metaAnswer) number(letter byte) (n int64, found bool) {
	n, err := strconv.ParseInt(a.flag(letter), 10, 64)
	return n, err == nil
}

// metaAnswer reads one answer.
func (c *client) metaAnswer() (*metaAnswer, error) {
	line, err := c.conn.Line()
	if err != nil {
		return nil, err
	}
	a := &metaAnswer{line: line, words: strings.Split(line, " ")}
	if a.isError() {
		return a, nil
	}
	a.flags = a.words[1:]
	if a.words[0] == "VA" {
		if len(a.words) < 2 {
			return nil, c.nonsense("a meta command was answered %q", line)
		}
		size, err := strconv.ParseUint(a.words[1], 10, 20)
		if err != nil {
			return nil, c.nonsense("a meta command was answered %q", line)
		}
		data := make([]byte, size+2)
		if err := c.conn.Full(data); err != nil {
			return nil, err
		}
		if !bytes.HasSuffix(data, []byte("\r\n")) {
			return nil, c.nonsense("the value behind %q ends with %q", line, data[size:])
		}
		a.flags, a.value = a.words[2:], data[:size]
	}
	for _, f := range a.flags {
		if f == "" {
			return nil, c.nonsense("a meta command was answered %q, with an empty flag", line)
		}
	}
	return a, nil
}

// understand tells the answer in the words of classic text.
func (c *client) understand(o *Op, opaque string, a *metaAnswer) error {
	if a.isError() {
		o.Answer = a.line
		return nil
	}
	key := a.flag('k')
	if a.hasBare("b") {
		plain, err := base64.StdEncoding.DecodeString(key)
		if err != nil {
			return c.nonsense("%s was answered %q", o, a.line)
		}
		key = string(plain)
	}
	if size, asked := a.number('s'); a.flag('O') != opaque || key != "" && key != o.Key || asked && int(size) != len(a.value) {
		return c.nonsense("%s with the opaque %q, key %q, was answered %q and %d bytes", o, opaque, o.Key, a.line, len(a.value))
	}
	code := a.words[0]
	good := code == "HD" || code == "VA"
	switch {
	case o.reads() && code == "VA":
		flags, found := a.number('f')
		if !found {
			return c.nonsense("%s was answered %q, without flags", o, a.line)
		}
		o.Answer, o.GotValue, o.GotFlags = Hit, string(a.value), uint32(flags)
		if ttl, found := a.number('t'); found {
			o.Timed, o.GotExpiry = true, c.round.expiryOf(ttl)
		}
	case o.reads() && code == "EN":
		o.Answer = Miss
	case o.Kind == Touch && code == "EN", code == "NF":
		o.Answer = "NOT_FOUND"
	case code == "NS":
		o.Answer = "NOT_STORED"
	case code == "EX":
		o.Answer = "EXISTS"
	case (o.Kind == Incr || o.Kind == Decr) && code == "VA":
		o.Answer = string(a.value)
	case !o.reads() && code == "HD":
		o.Answer = succeeded(o.Kind)
	default:
		return c.nonsense("%s was answered %q", o, a.line)
	}
	if o.reads() && code == "VA" || o.Kind == Touch && code == "HD" {
		o.Marked, o.Stale, o.Won, o.Lost = true, a.hasBare("X"), a.hasBare("W"), a.hasBare("Z")
	}
	if token, found := a.number('c'); found && good {
		o.GotToken = uint64(token)
	}
	return nil
}

// hasBare reports whether a flag without a token is there.
func (a *metaAnswer) hasBare(flag string) bool {
	for _, f := range a.flags {
		if f == flag {
			return true
		}
	}
	return false
}
