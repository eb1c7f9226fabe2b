package integration

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// shownSteps is how many steps before a difference are shown.
const shownSteps = 20

// report tells the last steps and the answers around a difference.
func (d *dialogue) report(first, at int, answers [2][]answer, why string) string {
	var b strings.Builder
	a, o := d.sides[0].name, d.sides[1].name
	fmt.Fprintf(&b, "%s\nanswer %d of the last batch of %d steps differs, %s first:\n", why, at+1, len(d.log)-first, a)
	for i := max(0, at-shownSteps/2); i < at+4; i++ {
		of := [2]string{"-", "-"}
		for s := range of {
			if i < len(answers[s]) {
				of[s] = answers[s][i].String()
			}
		}
		mark := "  "
		if i == at {
			mark = "->"
		}
		if of[0] == of[1] {
			fmt.Fprintf(&b, "%s %4d both: %s\n", mark, i+1, of[0])
			continue
		}
		fmt.Fprintf(&b, "%s %4d %s: %s\n        %s: %s\n", mark, i+1, a, of[0], o, of[1])
	}
	// An answer stands for at most one step, but for a get of many keys: the
	// step is the same or a later one.
	fmt.Fprintf(&b, "the steps of that batch, or the last of those before it and the first of it:\n")
	from, to := first, len(d.log)
	if to-from < shownSteps {
		from = max(0, to-shownSteps)
	}
	if to-from > 3*shownSteps {
		to = from + 3*shownSteps
	}
	for i := range d.log[from:to] {
		mark := " "
		if from+i >= first {
			mark = "*"
		}
		b.WriteString(mark + d.line(from+i))
	}
	return b.String()
}

// line shows one step, as both sides got it where that differs.
func (d *dialogue) line(n int) string {
	s := d.log[n]
	texts := [2]string{show(s.request[0]), show(s.request[1])}
	out := fmt.Sprintf(" %5d %s %s\n", n+1, s.conn, texts[0])
	if texts[0] != texts[1] {
		out += fmt.Sprintf("        %s gets %s\n", d.sides[1].name, texts[1])
	}
	return out
}

// about shows the last steps that name a key, as it is or as base64.
func (d *dialogue) about(key string) string {
	var lines []string
	encoded := base64.StdEncoding.EncodeToString([]byte(key))
	flush := [2][]byte{[]byte("flush_all"), {binaryMagic, opFlush}}
	for n, s := range d.log {
		text := s.request[0]
		if bytes.Contains(text, []byte(key)) || bytes.Contains(text, []byte(encoded)) || bytes.HasPrefix(text, flush[0]) || bytes.HasPrefix(text, flush[1]) {
			lines = append(lines, d.line(n))
		}
	}
	return strings.Join(lines[max(0, len(lines)-shownSteps):], "")
}

// show shows bytes, the middle of many left out.
func show(b []byte) string {
	if len(b) > 400 {
		return fmt.Sprintf("%q… %d bytes …%q", b[:250], len(b)-300, b[len(b)-50:])
	}
	return strconv.Quote(string(b))
}
