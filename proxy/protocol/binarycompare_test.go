package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// binaryPair is a pair whose raw side gets binary requests as they are. What
// ParseBinary makes of them goes to the other as text, in the meta dialect that
// can express it all, and the answer is written with the functions of this
// package.
type binaryPair struct {
	raw, behind *server
	path        string
	parser      *Parser
	version     string

	// The tokens that the key of the next request has on either side. Their
	// counters do not always keep in step.
	rawToken, behindToken uint64
}

func newBinaryPair(t *testing.T) *binaryPair {
	t.Helper()
	p := &binaryPair{path: startMemcached(t), parser: NewParser(testItemSize)}
	p.raw, p.behind = dial(t, p.path), dial(t, startMemcached(t))
	p.behind.send(AppendVersion(nil))
	line, err := p.behind.line()
	if err != nil {
		t.Fatal(err)
	}
	p.version = strings.TrimSuffix(strings.TrimPrefix(string(line), "VERSION "), "\r\n")
	return p
}

// fence is a noop that tells where the answer to what is in front of it ends.
var fence = altered(frame{opcode: 0x0a}, 15, 0xfe)

// fenceAnswer is what memcached answers to it.
var fenceAnswer = AppendBinaryOK(nil, 0x0a, testOpaque&^0xff|0xfe, 0)

// run sends the request at the start of in, and what of it is to be thrown
// away, and compares. in has no other request.
func (p *binaryPair) run(t *testing.T, in []byte) error {
	t.Helper()
	var r Request
	n, need := p.parser.ParseBinary(in, &r)
	if n == 0 {
		return fmt.Errorf("taken for unfinished (need %d)", need)
	}
	if !r.Close && n+int(r.Skip) < len(in) {
		in = in[:n+int(r.Skip)]
	}
	want, err := p.ask(&r)
	if err != nil {
		return err
	}
	if len(want) >= BinaryHeaderSize && QuietSilences(r.Opcode, BinaryStatus(binary.BigEndian.Uint16(want[6:]))) {
		want = nil
	}
	p.raw.send(in)
	if r.Close || r.Op == OpQuit {
		got, err := io.ReadAll(p.raw.r)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) { // it resets when it has not read all
			return fmt.Errorf("the connection is still open behind %q: %w", got, err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("memcached answers %q, the parser makes it %q", got, want)
		}
		p.raw.c.Close()
		p.raw = dial(t, p.path)
		return nil
	}
	p.raw.send(make([]byte, n+int(r.Skip)-len(in)))
	p.raw.send(fence)
	if r.Op == OpStats {
		return p.readStats(want)
	}
	want = append(want, fenceAnswer...)
	got, err := p.raw.read(len(want))
	if len(want) > len(fenceAnswer) && len(got) == len(want) && hasToken(got) && hasToken(want) {
		copy(want[16:24], got[16:24])
	}
	if err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("memcached answers %.300q (%v), the parser makes it %.300q", got, err, want)
	}
	return nil
}

// hasToken tells whether there is a token in the header of an answer.
func hasToken(answer []byte) bool { return binary.BigEndian.Uint64(answer[16:]) != 0 }

// lookUpTokens reads the tokens of key, 0 where there is no value.
func (p *binaryPair) lookUpTokens(key string) error {
	p.raw.send(frame{opcode: 0x00, key: key}.bytes())
	head, err := p.raw.read(BinaryHeaderSize)
	if err != nil {
		return err
	}
	if _, err = p.raw.read(int(binary.BigEndian.Uint32(head[8:]))); err != nil {
		return err
	}
	p.rawToken = binary.BigEndian.Uint64(head[16:])
	p.behind.send([]byte("mg " + key + " c\r\n"))
	line, err := p.behind.line()
	if err != nil {
		return err
	}
	p.behindToken = 0
	if token, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "HD c"); ok {
		p.behindToken, err = strconv.ParseUint(token, 10, 64)
	}
	return err
}

// readStats reads entries, which differ between servers, as AppendBinaryStat
// writes them, up to the fence. want is the answer when there are none.
func (p *binaryPair) readStats(want []byte) error {
	for {
		head, err := p.raw.read(BinaryHeaderSize)
		if err != nil {
			return err
		}
		body, err := p.raw.read(int(binary.BigEndian.Uint32(head[8:])))
		if err != nil {
			return err
		}
		got := append(head, body...)
		if bytes.Equal(got, want) {
			if got, err = p.raw.read(len(fenceAnswer)); err == nil && !bytes.Equal(got, fenceAnswer) {
				err = fmt.Errorf("behind the end of a stat: %q", got)
			}
			return err
		}
		key := int(binary.BigEndian.Uint16(head[2:]))
		if key == 0 || key > len(body) || !bytes.Equal(got, AppendBinaryStat(nil, testOpaque, body[:key], body[key:])) {
			return fmt.Errorf("memcached writes the entry %q; the end is %q", got, want)
		}
	}
}

// ask runs r on the server behind and returns the answer in binary, quiet or
// not.
func (p *binaryPair) ask(r *Request) ([]byte, error) {
	fail := func(s BinaryStatus) ([]byte, error) {
		return AppendBinaryError(nil, r.Opcode, r.OpaqueWord, s), nil
	}
	switch r.Op {
	case OpInvalid:
		return r.Reply, nil
	case OpTooLarge:
		if r.Refused == OpSet {
			p.behind.send(AppendDelete(nil, r.Key))
			if _, err := p.behind.line(); err != nil {
				return nil, err
			}
		}
		return r.Reply, nil
	case OpSaslList, OpSaslAuth, OpSaslStep:
		return fail(StatusUnknownCommand)
	case OpNoop, OpQuit:
		return AppendBinaryOK(nil, r.Opcode, r.OpaqueWord, 0), nil
	case OpVersion:
		return AppendBinaryVersion(nil, r.Opcode, r.OpaqueWord, p.version), nil
	case OpStats:
		if string(r.Args) == "bogus" {
			return fail(StatusNotFound)
		}
		return AppendBinaryStatEnd(nil, r.OpaqueWord), nil
	case OpFlushAll:
		p.behind.send(AppendFlushAll(nil, r.Expiry))
		_, err := p.behind.line()
		return AppendBinaryOK(nil, r.Opcode, r.OpaqueWord, 0), err
	}
	key := string(r.Key)
	token := ""
	switch {
	case r.CAS == 0:
	case r.CAS == p.rawToken:
		token = fmt.Sprintf(" C%d", p.behindToken)
	default:
		token = fmt.Sprintf(" C%d", r.CAS)
	}
	switch r.Op {
	case OpGets:
		p.behind.send([]byte("mg " + key + " f c v\r\n"))
	case OpGats:
		p.behind.send(fmt.Appendf(nil, "mg %s f c v T%d\r\n", key, r.Expiry))
	case OpTouch:
		p.behind.send(fmt.Appendf(nil, "mg %s f c T%d\r\n", key, r.Expiry))
	case OpSet, OpAdd, OpReplace, OpAppend, OpPrepend, OpCas:
		mode := map[Op]string{OpSet: "S", OpAdd: "E", OpReplace: "R", OpAppend: "A", OpPrepend: "P", OpCas: "S"}[r.Op]
		p.behind.send(fmt.Appendf(nil, "ms %s %d F%d T%d M%s%s c\r\n%s\r\n", key, len(r.Value), r.Flags, r.Expiry, mode, token, r.Value))
	case OpDelete:
		p.behind.send([]byte("md " + key + token + "\r\n"))
	case OpIncr, OpDecr:
		initial := ""
		if r.HasInitial {
			initial = fmt.Sprintf(" N%d J%d", r.InitialExpiry, r.Initial)
		}
		mode := map[Op]string{OpIncr: "I", OpDecr: "D"}[r.Op]
		p.behind.send(fmt.Appendf(nil, "ma %s D%d M%s%s%s c v\r\n", key, r.Delta, mode, initial, token))
	default:
		return nil, fmt.Errorf("no such operation: %s", describeBinary(r))
	}
	line, err := p.behind.line()
	if err != nil {
		return nil, err
	}
	var cas, flags uint64
	words := strings.Fields(string(line))
	switch words[0] {
	case "CLIENT_ERROR":
		return fail(StatusNonNumeric)
	case "SERVER_ERROR":
		if (r.Op == OpAppend || r.Op == OpPrepend) && len(r.Value) < testItemSize-1000 {
			return fail(StatusNotStored) // both values together are too large
		}
		if r.Opcode == 0x01 || r.Opcode == 0x11 { // meta drops the old value for every mode or none
			p.behind.send(AppendDelete(nil, r.Key))
			_, err = p.behind.line()
		}
		b, _ := fail(StatusTooLarge)
		return b, err
	}
	for _, w := range words[1:] {
		switch w[0] {
		case 'c':
			cas, err = strconv.ParseUint(w[1:], 10, 64)
		case 'f':
			flags, err = strconv.ParseUint(w[1:], 10, 32)
		}
		if err != nil {
			return nil, err
		}
	}
	var value []byte
	if words[0] == "VA" {
		size, err := strconv.Atoi(words[1])
		if err != nil {
			return nil, err
		}
		if value, err = p.behind.read(size + 2); err != nil {
			return nil, err
		}
		value = value[:size]
	}
	switch words[0] {
	case "EN":
		return AppendBinaryMiss(nil, r.Opcode, r.OpaqueWord, r.Key), nil
	case "NF":
		if r.Op == OpAppend || r.Op == OpPrepend {
			return fail(StatusNotStored)
		}
		return fail(StatusNotFound)
	case "EX":
		return fail(StatusExists)
	case "NS":
		switch r.Op {
		case OpAdd:
			return fail(StatusExists)
		case OpReplace:
			return fail(StatusNotFound)
		}
		return fail(StatusNotStored)
	}
	switch r.Op {
	case OpGets, OpGats:
		b := AppendBinaryHit(nil, r.Opcode, r.OpaqueWord, cas, uint32(flags), r.Key, len(value))
		return append(b, value...), nil
	case OpTouch:
		return AppendBinaryTouched(nil, r.Opcode, r.OpaqueWord, cas, uint32(flags)), nil
	case OpIncr, OpDecr:
		number, err := strconv.ParseUint(strings.TrimSpace(string(value)), 10, 64)
		return AppendBinaryNumber(nil, r.Opcode, r.OpaqueWord, cas, number), err
	case OpDelete:
		return AppendBinaryOK(nil, r.Opcode, r.OpaqueWord, 0), nil
	}
	return AppendBinaryOK(nil, r.Opcode, r.OpaqueWord, cas), nil
}

// promise: W3, W4, R1
func TestMemcachedAgreesOnBadBinaryRequests(t *testing.T) {
	p := newBinaryPair(t)
	for _, c := range badBinaryRequests {
		if c.in[0] != BinaryRequest {
			// The first byte makes a connection binary.
			p.raw.send(fence)
			if _, err := p.raw.read(len(fenceAnswer)); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.run(t, c.in); err != nil {
			t.Fatalf("%.100q: %v", c.in, err)
		}
	}
}

// promise: W3, W4, R1
func TestMemcachedAgreesOnRandomBinaryRequests(t *testing.T) {
	p := newBinaryPair(t)
	g := generator{randomSeed(t)}
	statuses, left := map[string]int{}, 0
	const count = 6000
	for i := range count {
		in, err := g.binaryRequest(p)
		if err != nil {
			t.Fatal(err)
		}
		var r Request
		if n, need := p.parser.ParseBinary(in, &r); n == 0 {
			t.Fatalf("%.200q: taken for unfinished (need %d)", in, need)
		}
		if !comparableBinary(&r) {
			left++
			continue
		}
		statuses[fmt.Sprintf("%d", r.Op)]++
		if err := p.run(t, in); err != nil {
			t.Fatalf("after %d requests: %.200q, which is %.300s: %v", i, in, describeBinary(&r), err)
		}
	}
	t.Logf("%d of %d requests left out; of each operation: %v", left, count, statuses)
	if left > count/4 {
		t.Errorf("%d of %d requests left out: the generator is no good", left, count)
	}
}

// A flush with a time that text cannot express is not one that happens now.
//
// promise: W3, W4
func TestMemcachedAgreesOnLateBinaryFlush(t *testing.T) {
	p := newBinaryPair(t)
	for _, delay := range []string{be32(1<<31 - 1), be32(1 << 31), be32(1<<32 - 1), be32(0), ""} {
		for _, f := range []frame{
			{opcode: 0x01, key: "k", extras: be32(7) + delay + be32(0)[len(delay):], value: "v"},
			{opcode: 0x00, key: "k"},
			{opcode: 0x08, extras: delay},
			{opcode: 0x0d, key: "k"},
			{opcode: 0x18, extras: delay},
			{opcode: 0x0c, key: "k"},
		} {
			if err := p.run(t, f.bytes()); err != nil {
				t.Fatalf("%q: %v", f.bytes(), err)
			}
		}
	}
}
