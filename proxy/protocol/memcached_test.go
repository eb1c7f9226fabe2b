package protocol

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Tests in this file and in compare_test.go ask a real memcached. It listens
// on a socket in a directory of the test, so that no port can be taken.

const ioTimeout = 10 * time.Second // far more than any answer takes

// startMemcached runs a memcached until the test ends and returns its socket.
func startMemcached(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mc") // short: a socket path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	// The background threads hold items for a moment now and then, and then an
	// incr makes a new item where it would otherwise pad the old one.
	cmd := exec.Command(cmp.Or(os.Getenv("MAGENT_MEMCACHED"), "memcached"), "-s", path, "-m", "64", "-t", "1", "-u", "root",
		"-o", "no_lru_maintainer,no_lru_crawler,no_slab_reassign")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // when the test dies
	if err := cmd.Start(); err != nil {
		t.Fatalf("memcached does not start (apt-get install memcached): %v", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for deadline := time.Now().Add(ioTimeout); ; {
		c, err := net.Dial("unix", path)
		if err == nil {
			c.Close()
			return path
		}
		if time.Now().After(deadline) {
			t.Fatalf("memcached does not listen on %s: %v", path, err)
		}
		time.Sleep(time.Millisecond) // between two polls of the condition
	}
}

// server is a connection to a memcached.
type server struct {
	c net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, path string) *server {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &server{c, bufio.NewReaderSize(c, 2<<20)}
}

// send writes b. A server that closes while it is sent to is found by the
// next read.
func (s *server) send(b []byte) {
	s.c.SetDeadline(time.Now().Add(ioTimeout))
	_, _ = s.c.Write(b)
}

// read returns the next n bytes, or those before the error.
func (s *server) read(n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := io.ReadFull(s.r, b)
	return b[:got], err
}

// closed waits until the server closes, and fails when it sends something or
// stays open.
func (s *server) closed() error {
	b, err := io.ReadAll(s.r)
	if len(b) > 0 {
		return fmt.Errorf("more came before the end: %q", b)
	}
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("the connection is still open: %v", err)
	}
	return nil
}

// ask runs a request that the parser has understood, in the form in which it
// would be sent on, and returns what a client has to be answered. listing is
// true when that is a list of STAT lines, which differ between servers.
func (s *server) ask(r *Request) (answer []byte, listing bool, err error) {
	var q []byte
	switch r.Op {
	case OpInvalid:
		return r.Reply, false, nil
	case OpTooLarge:
		if r.Refused == OpSet { // memcached drops the old value
			s.send(AppendDelete(nil, r.Key))
			if _, err := s.line(); err != nil {
				return nil, false, err
			}
		}
		return r.Reply, false, nil
	case OpGet, OpGets:
		q = AppendGetEnd(appendKeys(AppendGetStart(nil, r.Op), r))
	case OpGat, OpGats:
		q = AppendGetEnd(appendKeys(AppendGatStart(nil, r.Op, r.Expiry), r))
	case OpSet, OpAdd, OpReplace, OpAppend, OpPrepend, OpCas:
		q = AppendStorage(nil, r.Op, r.Key, r.Flags, r.Expiry, len(r.Value), r.CAS)
		q = append(append(q, r.Value...), "\r\n"...)
	case OpDelete:
		q = AppendDelete(nil, r.Key)
	case OpIncr, OpDecr:
		q = AppendArith(nil, r.Op, r.Key, r.Delta)
	case OpTouch:
		q = AppendTouch(nil, r.Key, r.Expiry)
	case OpFlushAll:
		q = AppendFlushAll(nil, r.Expiry)
	case OpVersion:
		q = AppendVersion(nil)
	case OpVerbosity:
		answer = []byte("OK\r\n")
	case OpStats:
		q = AppendStats(nil, string(r.Args))
	case OpQuit:
		return nil, false, nil
	}
	if q != nil {
		s.send(q)
		if answer, listing, err = s.answer(); err != nil {
			return nil, false, fmt.Errorf("no answer to %.200q: %w", q, err)
		}
	}
	if r.Quiet {
		return nil, false, nil
	}
	return answer, listing, nil
}

func appendKeys(dst []byte, r *Request) []byte {
	for key, rest := r.Key, r.Keys; key != nil; key, rest = NextKey(rest) {
		dst = AppendKey(dst, key)
	}
	return dst
}

// line reads one line with its end.
func (s *server) line() ([]byte, error) {
	return s.r.ReadBytes('\n')
}

// answer reads one answer with ParseValue and ParseLine.
func (s *server) answer() (all []byte, listing bool, err error) {
	for {
		line, err := s.line()
		if err != nil {
			return all, listing, err
		}
		all = append(all, line...)
		_, n, kind, _ := ParseLine(line)
		if n != len(line) {
			return nil, false, fmt.Errorf("ParseLine took %d bytes of %q", n, line)
		}
		switch kind {
		case Value:
			var h ValueHeader
			if st := ParseValue(line, &h); st != Complete || h.Len != len(line) {
				return nil, false, fmt.Errorf("ParseValue of %q: %d, %+v", line, st, h)
			}
			value, err := s.read(h.Size + 2)
			if err != nil {
				return nil, false, err
			}
			all = append(all, value...)
		case Stat:
			listing = true
		case Other:
			if string(line) != "RESET\r\n" {
				return nil, false, fmt.Errorf("answer of an unknown kind: %q", line)
			}
			return all, listing, nil
		default:
			return all, listing, nil
		}
	}
}

// pair holds two memcacheds in the same state: raw gets the bytes of the
// client as they are, and behind gets what the parser made of them. What raw
// answers has to be what the parser and behind answer together.
type pair struct {
	raw     *server
	behind  *server
	rawPath string
	parser  *Parser
	newer   bool // see disputed
}

// disputed is what memcacheds of different age read differently: those up to
// about 1.6.18 look for a minus sign up to the end of the word when a number has
// the top bit set, newer ones only up to the end of the number. The parser
// does as the older ones.
var disputed = regexp.MustCompile(`[0-9]{19}[^ \n]*-`)

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{rawPath: startMemcached(t), parser: NewParser(testItemSize)}
	p.parser.TextOnly = true
	p.behind = dial(t, startMemcached(t))
	p.reconnect(t)
	p.raw.send([]byte("incr k 18446744073709551615\t-\r\n"))
	answer, err := p.raw.line()
	if err != nil {
		t.Fatal(err)
	}
	p.newer = string(answer) == "NOT_FOUND\r\n"
	return p
}

// reconnect replaces the connection to raw, which was closed. The first byte
// on the new one is text, so that 0x80 does not make it a binary one.
func (p *pair) reconnect(t *testing.T) {
	t.Helper()
	if p.raw != nil {
		p.raw.c.Close()
	}
	p.raw = dial(t, p.rawPath)
	p.raw.send([]byte("version\r\n"))
	if _, err := p.raw.line(); err != nil {
		t.Fatal(err)
	}
}

// runOne sends the first request of in, which has to be there as a whole, and
// compares. It returns what is left of in.
func (p *pair) runOne(t *testing.T, in []byte) (rest []byte, err error) {
	var r Request
	n, need := p.parser.Parse(bytes.Clone(in), &r)
	if n == 0 {
		return nil, fmt.Errorf("%.200q is taken for unfinished (need %d)", in, need)
	}
	used := n + int(r.Skip)
	if p.newer && disputed.Match(in[:n]) {
		return in[used:], nil
	}
	if r.Op == OpIncr || r.Op == OpDecr {
		if err := p.avoidOverrun(r.Key); err != nil {
			return nil, err
		}
	}
	want, listing, err := p.behind.ask(&r)
	if err != nil {
		return nil, err
	}
	if !r.Close && r.Op != OpQuit {
		p.raw.send(in[:used])
		// A following command shows that raw has taken as many bytes.
		p.raw.send([]byte("version\r\n"))
		if listing {
			if want, listing, err = p.raw.answer(); err != nil || !listing {
				return nil, fmt.Errorf("raw has no list of STAT lines: %q, %v", want, err)
			}
			want = nil
		}
		want = append(bytes.Clone(want), "VERSION 1."...)
		got, err := p.raw.read(len(want))
		if err != nil || !bytes.Equal(got, want) {
			return nil, fmt.Errorf("memcached answers %.300q (%v), the parser makes it %.300q", got, err, want)
		}
		_, err = p.raw.line()
		return in[used:], err
	}
	p.raw.send(in)
	got, err := p.raw.read(len(want))
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("memcached answers %q, the parser makes it %q", got, want)
	}
	if err == nil {
		err = p.raw.closed()
	}
	p.reconnect(t)
	return nil, err
}

// avoidOverrun deletes a value that memcached 1.6.18 cannot increment without
// reading what is in memory behind it: a blank one, of which it takes the next
// digits, and a large one, behind which it looks for a minus sign.
func (p *pair) avoidOverrun(key []byte) error {
	p.behind.send(AppendGetEnd(AppendKey(AppendGetStart(nil, OpGet), key)))
	answer, _, err := p.behind.answer()
	if err != nil {
		return err
	}
	_, value, found := bytes.Cut(answer, []byte("\n"))
	value = bytes.TrimSpace(bytes.TrimSuffix(value, []byte("\r\nEND\r\n")))
	if !found || (len(value) > 0 && len(value) < 18) {
		return nil
	}
	for _, s := range []*server{p.raw, p.behind} {
		s.send(AppendDelete(nil, key))
		if _, err := s.line(); err != nil {
			return err
		}
	}
	return nil
}

// compareState compares all that both hold under keys.
func (p *pair) compareState(keys []string) error {
	for _, key := range keys {
		q := []byte("gets " + key + "\r\n")
		p.raw.send(q)
		p.behind.send(q)
		a, _, errA := p.raw.answer()
		b, _, errB := p.behind.answer()
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			return fmt.Errorf("key %q: %.200q (%v) and %.200q (%v)", key, a, errA, b, errB)
		}
		q = []byte("mg " + key + " t\r\n")
		p.raw.send(q)
		p.behind.send(q)
		a, errA = p.raw.line()
		b, errB = p.behind.line()
		if errA != nil || errB != nil || !sameTTL(string(a), string(b)) {
			return fmt.Errorf("key %q: %.200q (%v) and %.200q (%v)", key, a, errA, b, errB)
		}
	}
	return nil
}

// sameTTL compares two answers to mg with flag t. The clocks of two
// memcacheds tick at different moments, and late on a busy machine.
func sameTTL(a, b string) bool {
	ta, okA := strings.CutPrefix(a, "HD t")
	tb, okB := strings.CutPrefix(b, "HD t")
	if !okA || !okB {
		return a == b
	}
	na, errA := strconv.Atoi(strings.TrimSpace(ta))
	nb, errB := strconv.Atoi(strings.TrimSpace(tb))
	if errA != nil || errB != nil || (na == -1) != (nb == -1) {
		return false
	}
	const patience = int(ioTimeout / time.Second)
	return na-nb <= patience && nb-na <= patience
}

// randomSeed returns the seed of a random test and prints it. To run the test
// again with the same choices set MAGENT_TEST_SEED.
func randomSeed(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("MAGENT_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("MAGENT_TEST_SEED=%q is not a number: %v", s, err)
		}
	}
	t.Logf("repeat with MAGENT_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
