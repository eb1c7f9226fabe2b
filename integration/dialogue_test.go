package integration

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"magent/integration/harness"
)

// A dialogue holds one conversation with two sides at once and compares what
// they answer. A generator makes steps, a batch at a time; a batch goes to one
// connection, in one pipeline, and the next batch is made when it has been
// answered, so that it can use the cas tokens that the answers told. The sides
// name a token differently: a token is a pair.

// step is one command of a conversation.
type step struct {
	request [2][]byte // as either side gets it: they differ in tokens only
	closes  bool      // the connection ends behind it
	cut     bool      // the connection ends in the middle of its value
	pads    bool      // it may leave the server waiting for bytes of a value
	reads   bool      // an answer may refer to a number that is being counted
	counts  bool      // it counts
}

// answer is the smallest piece of an answer that can be read by itself.
type answer interface {
	// differs says how two sides' answers differ, "" if they do not.
	differs(other answer, m *meaning) string
	// told returns the token in the answer with what the answer says of its
	// origin: an opaque of the text protocol, or the one of the binary one.
	told() (token uint64, opaque string)
	// kinds says what the answer is an example of.
	kinds() []string
	String() string
}

// protocol is how a connection is spoken on.
type protocol struct {
	name string
	// read reads one answer; io.EOF at the end.
	read func(r *bufio.Reader) (answer, error)
	// last returns a command that is always answered, by something that no
	// other answer looks like.
	last func(prefix string, n int) []byte
	// isLast recognises that answer.
	isLast func(a answer, n int) bool
	// padding satisfies a command that still waits for a value.
	padding []byte
	// ignore says whether an answer has no counterpart on the other side.
	ignore func(a answer) bool
}

// token is one cas token as the two sides name it.
type token [2]uint64

// meaning knows which names of tokens belong together, and how far the two
// sides' clocks may be apart.
type meaning struct {
	names [2]map[uint64]uint64
	apart int64 // seconds
}

// explicitTokens end here: below, a token was chosen by the client, and both
// sides have to name it alike.
const explicitTokens = 1000

func isExplicit(token uint64) bool { return token <= explicitTokens || isStamp(token) }

func (m *meaning) differs(a, b uint64) string {
	known, ok := m.names[0][a]
	back, okBack := m.names[1][b]
	switch {
	case a == b:
	case (a == 0) != (b == 0), isExplicit(b):
		return fmt.Sprintf("token %d and %d", a, b)
	case isExplicit(a):
		// memcached 1.6.38 stores a next item under the token of a refused command.
		return ""
	case ok && known != b:
		return fmt.Sprintf("token %d was %d on the other side, not %d", a, known, b)
	case okBack && back != a:
		return fmt.Sprintf("token %d of the other side was %d here, not %d", b, back, a)
	}
	m.names[0][a], m.names[1][b] = b, a
	return ""
}

// within compares two counts of seconds.
func (m *meaning) within(a, b int64) bool { return a-b <= m.apart && b-a <= m.apart }

// side is one of the two.
type side struct {
	name  string
	addr  string
	conns map[string]*bufio.ReadWriter
	raw   map[string]net.Conn
	spent time.Duration
}

// spoken is a step that has been sent, for the report.
type spoken struct {
	conn    string
	request [2][]byte
	cut     bool
}

// dialogue is one conversation under way.
type dialogue struct {
	t       testing.TB
	rng     *rand.Rand
	prefix  string
	sides   [2]*side
	meaning meaning
	log     []spoken
	batches int
	// learn is told the tokens of the answers that name an opaque.
	learn func(opaque string, of token)
	// met counts the kinds of answers.
	met map[string]int
}

func newDialogue(t testing.TB, rng *rand.Rand, prefix string, a, b *side) *dialogue {
	d := &dialogue{t: t, rng: rng, prefix: prefix, sides: [2]*side{a, b}, learn: func(string, token) {}, met: map[string]int{}}
	d.meaning.apart = 2 // the clocks of two servers tick at different times
	for i, s := range d.sides {
		d.meaning.names[i] = map[uint64]uint64{}
		s.conns, s.raw, s.spent = map[string]*bufio.ReadWriter{}, map[string]net.Conn{}, 0
	}
	return d
}

// close ends all connections.
func (d *dialogue) close() {
	for _, s := range d.sides {
		for _, c := range s.raw {
			_ = c.Close()
		}
	}
}

// answerWithin bounds the wait for any one byte.
const answerWithin = 30 * time.Second

// pieces cuts bytes at random places.
func pieces(rng *rand.Rand, b []byte) [][]byte {
	most := []int{len(b), len(b), 1 << 14, 1000, 100, 24, 3}[rng.IntN(7)]
	most = max(most, len(b)/500, 1)
	var out [][]byte
	for len(b) > 0 {
		n := min(1+rng.IntN(most), len(b))
		out = append(out, b[:n])
		b = b[n:]
	}
	return out
}

// run holds one batch on a connection and returns how the answers differ, ""
// if they do not. conn names the connection: it is opened when it is new.
func (d *dialogue) run(p *protocol, conn string, steps []step) string {
	d.batches++
	n := d.batches
	closes := steps[len(steps)-1].closes
	first := len(d.log)
	var pads bool
	for _, s := range steps {
		pads = pads || s.pads
		d.log = append(d.log, spoken{conn, s.request, s.cut})
	}
	var answers [2][]answer
	var errs [2]error
	for i, s := range d.sides {
		var text []byte
		for _, st := range steps {
			text = append(text, st.request[i]...)
		}
		if !closes {
			if pads {
				text = append(text, p.padding...)
			}
			text = append(text, p.last(d.prefix, n)...)
		}
		began := time.Now()
		answers[i], errs[i] = d.hold(s, p, conn, text, closes, n)
		s.spent += time.Since(began)
	}
	// A side that was slower has seen more of its items' time pass.
	gap := d.sides[0].spent - d.sides[1].spent
	d.meaning.apart = 2 + int64(gap.Abs()/time.Second)
	return d.compare(first, answers, errs)
}

// hold sends the bytes to one side and reads the answers.
func (d *dialogue) hold(s *side, p *protocol, conn string, text []byte, closes bool, n int) ([]answer, error) {
	if s.conns[conn] == nil {
		raw, err := net.DialTimeout("tcp", s.addr, answerWithin)
		if err != nil {
			return nil, err
		}
		s.raw[conn], s.conns[conn] = raw, bufio.NewReadWriter(bufio.NewReaderSize(raw, 16<<10), nil)
	}
	raw, r := s.raw[conn], s.conns[conn].Reader
	cut := pieces(d.rng, text)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for _, piece := range cut {
			_ = raw.SetWriteDeadline(time.Now().Add(answerWithin))
			if _, err := raw.Write(piece); err != nil {
				return // the server has closed: what it said before counts
			}
		}
		if closes {
			_ = raw.(*net.TCPConn).CloseWrite()
		}
	}()
	var out []answer
	var err error
	for {
		_ = raw.SetReadDeadline(time.Now().Add(answerWithin))
		var a answer
		if a, err = p.read(r); err != nil {
			break
		}
		if !closes && p.isLast(a, n) {
			break
		}
		if p.ignore == nil || !p.ignore(a) {
			out = append(out, a)
		}
	}
	if err != nil {
		// A close with bytes unread looks like a reset.
		if closes && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
			err = nil
		}
		_ = raw.Close()
		delete(s.conns, conn)
		delete(s.raw, conn)
	}
	<-sent
	return out, err
}

// compare looks for the first difference of two sides' answers to one batch.
func (d *dialogue) compare(first int, answers [2][]answer, errs [2]error) string {
	for i, a := range answers[0] {
		if i >= len(answers[1]) {
			return d.report(first, i, answers, fmt.Sprintf("no more answers (%v)", errs[1]))
		}
		b := answers[1][i]
		if why := a.differs(b, &d.meaning); why != "" {
			return d.report(first, i, answers, why)
		}
		for _, kind := range a.kinds() {
			d.met[kind]++
		}
		ta, opaque := a.told()
		if tb, same := b.told(); ta != 0 && same == opaque {
			d.learn(opaque, token{ta, tb})
		}
	}
	// Where the end comes while memcached skips the value of a command that it
	// has refused, it never sends the refusal.
	if d.log[len(d.log)-1].cut && len(answers[0]) == 0 && len(answers[1]) == 1 {
		return ""
	}
	if len(answers[1]) > len(answers[0]) {
		return d.report(first, len(answers[0]), answers, "more answers")
	}
	if errs[0] != nil || errs[1] != nil {
		return d.report(first, len(answers[0]), answers, fmt.Sprintf("the answers end: %v and %v", errs[0], errs[1]))
	}
	return ""
}

// batches cuts steps so that no step counts a number while an answer that
// refers to it may still be on its way: memcached counts in place otherwise than
// it does beside such an answer, and what is left of an item's marks depends on
// it. A step that closes the connection stands alone: where memcached closes in
// the middle of a command it forgets what it has not sent yet.
func batches(rng *rand.Rand, steps []step) [][]step {
	var out [][]step
	var batch []step
	reads := false
	end := func() {
		if len(batch) > 0 {
			out = append(out, batch)
		}
		batch, reads = nil, false
	}
	most := 1 + rng.IntN(40)
	for _, s := range steps {
		if s.closes || (s.counts && reads) || len(batch) >= most {
			end()
			most = 1 + rng.IntN(40)
		}
		batch = append(batch, s)
		reads = reads || s.reads
		if s.closes {
			end()
		}
	}
	end()
	return out
}

// conversations returns how many conversations a test holds: n, or what
// MAGENT_CONVERSATIONS says.
func conversations(t testing.TB, n int) int {
	t.Helper()
	s := os.Getenv("MAGENT_CONVERSATIONS")
	if s == "" {
		return n
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("MAGENT_CONVERSATIONS=%s is not a number above 0", s)
	}
	return n
}

// advance makes a server count its own tokens beyond those that clients choose.
func advance(t testing.TB, s *harness.Memcached) {
	t.Helper()
	c := harness.MustDial(t, s.Addr)
	text := bytes.Repeat([]byte("ms advance 0 q\r\n\r\n"), 2*explicitTokens)
	if err := c.Send(append(text, "mn\r\n"...)); err != nil {
		t.Fatal(err)
	}
	if line, err := c.Line(); err != nil || line != "MN" {
		t.Fatalf("%q, %v", line, err)
	}
}
