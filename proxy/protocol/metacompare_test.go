package protocol

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// metaAsker compares what the parser says of meta requests with what memcached
// answers to them.
type metaAsker struct {
	*server
	parser *Parser
}

func newMetaAsker(t *testing.T) *metaAsker {
	t.Helper()
	a := &metaAsker{dial(t, startMemcached(t)), NewParser(testItemSize)}
	a.parser.TextOnly = true
	a.send([]byte("mg k E1\r\n")) // flag E is the first that an old one does not know
	line, err := a.line()
	if err != nil {
		t.Fatal(err)
	}
	a.parser.OldMeta = string(line) == "CLIENT_ERROR invalid flag\r\n"
	if !a.parser.OldMeta && string(line) != "EN\r\n" {
		t.Fatalf("%q is no answer of a memcached that is known", line)
	}
	return a
}

// run sends the request at the start of in, which is there as a whole, with an
// mn behind it that shows how many bytes memcached has taken, and compares. It
// returns the request.
func (a *metaAsker) run(in []byte) (r Request, err error) {
	n, need := a.parser.Parse(bytes.Clone(in), &r)
	if n == 0 {
		return r, fmt.Errorf("taken for unfinished (need %d)", need)
	}
	if r.Close {
		return r, fmt.Errorf("would close: %s", describe(&r))
	}
	a.send(in[:n])
	a.send(bytes.Repeat([]byte("x"), int(r.Skip)))
	a.send([]byte("mn\r\n"))
	got, err := a.untilFence()
	if err != nil {
		return r, fmt.Errorf("%.300q, which is %.300s: %w", got, describe(&r), err)
	}
	switch r.Op {
	case OpInvalid, OpTooLarge:
		if !bytes.Equal(got, r.Reply) && !a.differsOnPurpose(in[:n], &r, got) {
			err = fmt.Errorf("memcached answers %.300q, the parser %.300q", got, r.Reply)
		}
	case OpNoop:
		if len(got) != 0 { // the answer was taken for the one to the mn behind
			err = fmt.Errorf("memcached answers %.300q to a noop", got)
		}
		if err == nil {
			got, err = a.untilFence()
		}
		if err == nil && len(got) != 0 {
			err = fmt.Errorf("memcached answers %.300q to a noop", got)
		}
	default:
		if !r.Foreign && refusesForm(got) {
			err = fmt.Errorf("memcached answers %.300q, the parser makes it %.300s", got, describe(&r))
		}
	}
	return r, err
}

// differsOnPurpose tells whether a request that is wrong in two ways, of which
// the parser tells one, may be answered got. Of those with a long opaque
// memcached runs an ma first, and those with flags that are the server's to
// judge and too large a value, or one without its line end, or a key that cannot
// be decoded, have not come to the server.
func (a *metaAsker) differsOnPurpose(in []byte, r *Request, got []byte) bool {
	if r.Op == OpTooLarge {
		return r.Foreign && refusesForm(got) && bytes.Count(got, []byte("\n")) == 1
	}
	switch string(r.Reply) {
	case string(replyMetaOpaque):
		return bytes.HasPrefix(got, []byte("CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"))
	case string(metaBadKey):
		return !a.parser.OldMeta && refusesForm(got) && bytes.Count(got, []byte("\n")) == 1
	case string(replyBadChunk):
		var mended Request
		in = append(bytes.Clone(in[:len(in)-2]), "\r\n"...)
		n, _ := a.parser.Parse(in, &mended)
		return n == len(in) && mended.Foreign && refusesForm(got) && bytes.Count(got, []byte("\n")) == 1
	}
	return false
}

// refusesForm tells whether an answer says that the request is wrong as such,
// and not for what the key has.
func refusesForm(answer []byte) bool {
	if bytes.HasPrefix(answer, []byte("CLIENT_ERROR cannot increment or decrement non-numeric value\r\n")) {
		return false
	}
	return bytes.HasPrefix(answer, []byte("CLIENT_ERROR")) || bytes.HasPrefix(answer, []byte("ERROR"))
}

// untilFence reads all that comes before the answer to mn.
func (a *metaAsker) untilFence() (all []byte, err error) {
	for {
		line, err := a.line()
		if err != nil || string(line) == FenceLine+"\r\n" {
			return all, err
		}
		all = append(all, line...)
		if bytes.HasPrefix(line, []byte("VA ")) {
			size, length, status := ParseMetaValue(line)
			if status != Complete || length != len(line) {
				return all, fmt.Errorf("ParseMetaValue of %q: %d, %d, %d", line, size, length, status)
			}
			value, err := a.read(size + 2)
			if all = append(all, value...); err != nil {
				return all, err
			}
		}
	}
}

// promise: R1, W2, W4
func TestMemcachedAgreesOnMetaTables(t *testing.T) {
	a := newMetaAsker(t)
	for _, c := range badMetaRequests {
		in := c.in
		if strings.HasPrefix(in, "ms") && c.skip > 0 {
			in += strings.Repeat("x", int(c.skip)-2) + "\r\n"
		}
		if r, err := a.run([]byte(in)); err != nil {
			t.Errorf("%.200q: %v", c.in, err)
		} else if r.Op != OpInvalid && (a.parser.OldMeta || c.reply != "") {
			t.Errorf("%.200q is served", c.in)
		}
	}
	for range 3 { // on an empty server, and with something behind the keys
		for _, c := range goodMetaRequests {
			if c.new && a.parser.OldMeta {
				continue
			}
			if r, err := a.run([]byte(c.in)); err != nil || r.Op == OpInvalid {
				t.Errorf("%.200q: %v, %s", c.in, err, describe(&r))
			}
		}
	}
	big := strings.Repeat("x", testItemSize+1)
	for _, line := range []string{"ms k 1048577\r\n", "ms k 1048577 q\r\n", "ms YSBi 1048577 b MA q\r\n"} {
		if _, err := a.run([]byte(line + big + "\r\n")); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// metaToken is the token of a flag, right more often than not.
func (g generator) metaToken(flag byte) string {
	switch flag {
	case 'N', 'T', 'R', 'F', 'C', 'J', 'D', 'E':
		if g.rarely(8) {
			return g.oneOf("", g.oddNumber())
		}
		return fmt.Sprint(g.IntN(100))
	case 'M':
		if g.rarely(8) {
			return g.oneOf("", "X", "SS", "s", "-", "+", "\xff")
		}
		return g.oneOf("S", "E", "A", "P", "R", "I", "D", "i", "e")
	case 'O':
		return g.oneOf("", "1", "opaque", opaque31[1:], opaque31, opaque31+"x")
	case 'P', 'L':
		return g.oneOf("", "x", "path/to")
	}
	if g.rarely(20) {
		return g.oneOf("x", "1", "\t")
	}
	return ""
}

// metaKey is a key, base64-encoded when encoded says so, mostly.
func (g generator) metaKey(encoded bool) string {
	switch {
	case g.rarely(30):
		return g.oneOf(key251, key250, key250Encoded, key187Encoded, key186Encoded)
	case encoded && g.rarely(10):
		return g.oneOf("a", "a=", "YQ", "YQ=", "YQ==YQ==", "YSBi=", "=", "====", "YQ=a", "Y!==", "YSB\tYSBi", "YR==", "YWJ=", "YSBiYQ==x", "YSBi\r", "-_-_", "+/+/")
	case encoded:
		return g.oneOf("YQ==", "YSBi", "AAA=", "DQo=", key186Encoded)
	}
	return g.oneOf("a", "b", "c", "k", "YQ==")
}

// metaRequest returns one request of the meta dialect, which may be wrong.
func (g generator) metaRequest() []byte {
	verb := g.oneOf("mg", "mg", "ms", "ms", "md", "ma", "ma", "me", "mn")
	if g.rarely(40) {
		verb = g.oneOf("mx", "MG", "m", "mgg", "m\xff")
	}
	flags := map[string]string{"mg": "vtfshlckqOTNRu", "ms": "kqOcFTICM", "md": "qkOCTI", "ma": "qkONJDTMCtcv", "me": "b"}[verb]
	encoded := g.rarely(4)
	var words []string
	if encoded {
		words = append(words, "b")
	}
	count := g.IntN(5)
	if g.rarely(20) {
		count = g.IntN(24)
	}
	order := g.Perm(max(len(flags), 1))
	for i := range count {
		var flag byte
		switch {
		case g.rarely(12):
			flag = byte(g.IntN(256))
		case g.rarely(10):
			const every = "bNTRlOPLkstcfvhuqFCMJDIEx"
			flag = every[g.IntN(len(every))]
		case i < len(order) && flags != "":
			flag = flags[order[i]]
		default:
			flag = 'q'
		}
		if flag == '\n' || flag == 0 || flag == ' ' {
			flag = 'k'
		}
		if g.rarely(6) && encoded && i == 0 {
			words = words[:0] // the key only looks encoded
		}
		words = append(words, string([]byte{flag})+g.metaToken(flag))
	}
	g.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
	line := verb
	if !g.rarely(60) {
		line += g.space() + g.metaKey(encoded)
	}
	data := g.oneOf("", "1", "7", "12", "abc", "\r\n", "mn\r\n", "18446744073709551615", strings.Repeat("v", g.IntN(2000)))
	if verb == "ms" {
		switch {
		case g.rarely(12):
			line += g.space() + g.number()
		case g.rarely(12):
			line += fmt.Sprintf(" %d", len(data)+g.IntN(5)-2)
		default:
			line += fmt.Sprintf(" %d", len(data))
		}
	}
	for _, word := range words {
		line += g.space() + word
	}
	if g.rarely(15) {
		line += g.oneOf(" ", "  ", "\x00", "\x00 q", " \r", "\t")
	}
	line += g.oneOf("\r\n", "\r\n", "\r\n", "\n")
	if verb == "ms" {
		line += data + g.oneOf("\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "xy", "\n\r")
	}
	return []byte(line)
}

// finish makes the request at the start of in whole. It returns nil when that
// takes too much, and for one that is no meta request and closes the connection.
func (a *metaAsker) finish(in []byte) []byte {
	for {
		var r Request
		n, need := a.parser.Parse(bytes.Clone(in), &r)
		switch {
		case n > 0 && (r.Close || r.Skip > 4<<20), need > 4<<20:
			return nil
		case n > 0:
			return in
		case need > 0:
			in = append(in, bytes.Repeat([]byte("\r\n"), need)[:need-len(in)]...)
		default:
			in = append(in, "\r\n"...)
		}
	}
}

// promise: R1, W2, W4
func TestMemcachedAgreesOnMetaRequests(t *testing.T) {
	a := newMetaAsker(t)
	g := generator{randomSeed(t)}
	const count = 20000
	left, refused, foreign, served := 0, map[string]int{}, 0, map[Op]int{}
	for i := range count {
		in := a.finish(g.metaRequest())
		if in == nil || (!a.parser.OldMeta && disputed.Match(in)) {
			left++
			continue
		}
		r, err := a.run(in)
		if err != nil {
			t.Fatalf("after %d requests: %.400q: %v", i, in, err)
		}
		switch {
		case r.Foreign:
			foreign++
		case r.Op == OpInvalid:
			refused[string(r.Reply)]++
		default:
			served[r.Op]++
		}
	}
	t.Logf("%d left out, %d left to the server; refused: %v; served: %v", left, foreign, refused, served)
	if left > count/10 || len(served) < 12 || len(refused) < 14 {
		t.Errorf("%d of %d requests left out, %d operations, %d refusals: the generator is no good", left, count, len(served), len(refused))
	}
}
