package protocol

import (
	"encoding/binary"
	"strings"
	"testing"
)

// goodBinaryRequests are requests that memcached carries out, with what they
// mean. Dialect and OpaqueWord are the same in all, and Opcode is that of in.
var goodBinaryRequests = []struct {
	in   frame
	want Request
}{
	{frame{opcode: 0x00, key: "k", cas: 7}, Request{Op: OpGets, Key: []byte("k")}},
	{frame{opcode: 0x09, key: "k"}, Request{Op: OpGets, Key: []byte("k"), Quiet: true}},
	{frame{opcode: 0x0c, key: key250}, Request{Op: OpGets, Key: []byte(key250)}},
	{frame{opcode: 0x0d, key: " \r\n\x00"}, Request{Op: OpGets, Key: []byte(" \r\n\x00"), Quiet: true}},
	{frame{opcode: 0x1d, key: "k", extras: be32(5)}, Request{Op: OpGats, Key: []byte("k"), Expiry: 5}},
	{frame{opcode: 0x1e, key: "k", extras: be32(0)}, Request{Op: OpGats, Key: []byte("k"), Quiet: true}},
	{frame{opcode: 0x23, key: "k", extras: be32(1 << 31)}, Request{Op: OpGats, Key: []byte("k"), Expiry: 1<<31 - 1}},
	{frame{opcode: 0x24, key: "k", extras: be32(1<<31 - 1)}, Request{Op: OpGats, Key: []byte("k"), Expiry: 1<<31 - 1, Quiet: true}},
	{frame{opcode: 0x1c, key: "k", extras: be32(1<<32 - 1), cas: 7}, Request{Op: OpTouch, Key: []byte("k"), Expiry: 1<<31 - 1}},

	{frame{opcode: 0x01, key: "k", extras: be32(1) + be32(2), value: "v\r\n"},
		Request{Op: OpSet, Key: []byte("k"), Flags: 1, Expiry: 2, Value: []byte("v\r\n")}},
	{frame{opcode: 0x02, key: "k", extras: be32(1<<32-1) + be32(1<<31)},
		Request{Op: OpAdd, Key: []byte("k"), Flags: 1<<32 - 1, Expiry: 1<<31 - 1}},
	{frame{opcode: 0x03, key: "k", extras: be64(0), value: "v"}, Request{Op: OpReplace, Key: []byte("k"), Value: []byte("v")}},
	{frame{opcode: 0x01, key: "k", extras: be64(0), value: "v", cas: 1<<64 - 1},
		Request{Op: OpCas, Key: []byte("k"), Value: []byte("v"), CAS: 1<<64 - 1}},
	{frame{opcode: 0x12, key: "k", extras: be64(0), value: "v", cas: 9},
		Request{Op: OpCas, Key: []byte("k"), Value: []byte("v"), CAS: 9, Quiet: true}},
	{frame{opcode: 0x13, key: "k", extras: be64(0), value: "v", cas: 9},
		Request{Op: OpCas, Key: []byte("k"), Value: []byte("v"), CAS: 9, Quiet: true}},
	{frame{opcode: 0x11, key: "k", extras: be64(0), value: "v"}, Request{Op: OpSet, Key: []byte("k"), Value: []byte("v"), Quiet: true}},
	{frame{opcode: 0x0e, key: "k", value: "v", cas: 9}, Request{Op: OpAppend, Key: []byte("k"), Value: []byte("v"), CAS: 9}},
	{frame{opcode: 0x1a, key: "k"}, Request{Op: OpPrepend, Key: []byte("k"), Quiet: true}},

	{frame{opcode: 0x04, key: "k", cas: 9}, Request{Op: OpDelete, Key: []byte("k"), CAS: 9}},
	{frame{opcode: 0x14, key: "k"}, Request{Op: OpDelete, Key: []byte("k"), Quiet: true}},
	{frame{opcode: 0x05, key: "n", extras: be64(1) + be64(2) + be32(3), cas: 9},
		Request{Op: OpIncr, Key: []byte("n"), Delta: 1, HasInitial: true, Initial: 2, InitialExpiry: 3, CAS: 9}},
	{frame{opcode: 0x16, key: "n", extras: be64(1) + be64(2) + be32(1<<32-1)}, Request{Op: OpDecr, Key: []byte("n"), Delta: 1, Quiet: true}},
	{frame{opcode: 0x06, key: "n", extras: be64(1) + be64(2) + be32(1<<32-2)},
		Request{Op: OpDecr, Key: []byte("n"), Delta: 1, HasInitial: true, Initial: 2, InitialExpiry: 1<<31 - 1}},

	{frame{opcode: 0x0a}, Request{Op: OpNoop}},
	{frame{opcode: 0x0b}, Request{Op: OpVersion}},
	{frame{opcode: 0x10}, Request{Op: OpStats}},
	{frame{opcode: 0x10, key: "settings"}, Request{Op: OpStats, Args: []byte("settings")}},
	{frame{opcode: 0x08}, Request{Op: OpFlushAll}},
	{frame{opcode: 0x18, extras: be32(1 << 31)}, Request{Op: OpFlushAll, Quiet: true, HasTime: true, Expiry: 1<<31 - 1}},
	{frame{opcode: 0x07}, Request{Op: OpQuit}},
	{frame{opcode: 0x17}, Request{Op: OpQuit, Quiet: true}},
	{frame{opcode: 0x20}, Request{Op: OpSaslList}},
	{frame{opcode: 0x21, key: "PLAIN", value: "\x00u\x00p"}, Request{Op: OpSaslAuth, Key: []byte("PLAIN"), Value: []byte("\x00u\x00p")}},
	{frame{opcode: 0x22, key: "PLAIN"}, Request{Op: OpSaslStep, Key: []byte("PLAIN")}},
}

// altered writes f with another byte at one place of its header.
func altered(f frame, at int, to byte) []byte {
	b := f.bytes()
	b[at] = to
	return b
}

// badBinaryRequests are requests that memcached answers by itself.
// TestMemcachedAgreesOnBadBinaryRequests sends each of them to a real one.
var badBinaryRequests = []struct {
	in     []byte
	status BinaryStatus // StatusOK: no answer
	close  bool
	skip   int64
}{
	{in: altered(frame{opcode: 0x0a}, 0, 0x81), close: true},
	{in: []byte("get aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"), close: true},
	{in: frame{opcode: 0x00, key: strings.Repeat("k", maxBinaryHead-23)}.bytes(), close: true},

	{in: altered(frame{opcode: 0x00, key: "abc"}, 11, 2), status: StatusUnknownCommand, close: true},
	{in: altered(frame{opcode: 0x01, key: "abc", extras: be64(0)}, 11, 10), status: StatusUnknownCommand, close: true},
	{in: altered(frame{opcode: 0x77, key: "abc"}, 11, 0), status: StatusUnknownCommand, close: true},

	{in: frame{opcode: 0x00, key: key251}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x77, key: key251}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x0a, key: strings.Repeat("k", maxBinaryHead-24)}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x00}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x00, key: "k", extras: be32(0)}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x0d, key: "k", value: "v"}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x01, key: "k", extras: be32(0), value: "v"}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x11, extras: be64(0), value: "v"}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x0e, key: "k", extras: be64(0), value: "v"}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x0f, value: "v"}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x14, key: "k", value: "v"}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x05, key: "k", extras: be64(0)}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x15, key: "k", extras: be64(0) + be64(0) + be32(0), value: "v"}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x1c, key: "k"}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x1e, extras: be32(0)}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x08, extras: be64(0)}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x18, key: "k"}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x10, extras: be32(0)}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x0a, value: "v"}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x0b, key: "k"}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x17, key: "k"}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x20, value: "v"}.bytes(), status: StatusInvalid, close: true},
	{in: frame{opcode: 0x21, value: "v"}.bytes(), status: StatusInvalid, close: true},

	// The body counts twice where it has extras or a key.
	{in: frame{opcode: 0x1b}.bytes(), status: StatusUnknownCommand},
	{in: frame{opcode: 0x1b, extras: be32(1)}.bytes(), status: StatusUnknownCommand, skip: 4},
	{in: frame{opcode: 0x1f, key: "k", extras: be32(1)}.bytes(), status: StatusUnknownCommand, skip: 5},
	{in: frame{opcode: 0xff, extras: string(make([]byte, 255))}.bytes(), status: StatusUnknownCommand, skip: 255},
}

// promise: W3
func TestGoodBinaryRequests(t *testing.T) {
	p := NewParser(testItemSize)
	for _, c := range goodBinaryRequests {
		in := c.in.bytes()
		want := c.want
		want.Dialect, want.Opcode, want.OpaqueWord = Binary, c.in.opcode, testOpaque
		// What stood in r, and what follows the request, is of no account.
		r := Request{Op: OpInvalid, Close: true, Reply: replyError, Keys: []byte("x"), Skip: 7, Delta: 9, HasTime: true}
		n, need := p.ParseBinary(append(in, "\x80\x01 more"...), &r)
		if n != len(in) || need != 0 {
			t.Errorf("%q: took %d bytes (need %d), want %d", in, n, need, len(in))
		}
		if got, want := describeBinary(&r), describeBinary(&want); got != want {
			t.Errorf("%q:\n got %s\nwant %s", in, got, want)
		}
	}
}

// promise: W3, R1
func TestBadBinaryRequests(t *testing.T) {
	p := NewParser(testItemSize)
	for _, c := range badBinaryRequests {
		var r Request
		n, _ := p.ParseBinary(c.in, &r)
		var reply []byte
		if c.status != StatusOK {
			reply = AppendBinaryError(nil, c.in[1], testOpaque, c.status)
		}
		if n != len(c.in) || r.Op != OpInvalid || r.Close != c.close || r.Skip != c.skip || string(r.Reply) != string(reply) {
			t.Errorf("%.60q: took %d bytes of %d, %s", c.in, n, len(c.in), describeBinary(&r))
		}
	}
}

// A body behind the key of these is the next request for memcached.
//
// promise: W3, W4
func TestBodyBehindBinaryRequest(t *testing.T) {
	p := NewParser(testItemSize)
	for _, f := range []frame{
		{opcode: 0x1c, extras: be32(0), key: "k"},
		{opcode: 0x24, extras: be32(0), key: "k"},
		{opcode: 0x10, key: "k"},
	} {
		want := len(f.bytes())
		f.value = "more"
		var r Request
		if n, _ := p.ParseBinary(f.bytes(), &r); n != want || r.Value != nil {
			t.Errorf("opcode %#x: took %d bytes, want %d; value %q", f.opcode, n, want, r.Value)
		}
	}
}

// claim writes f with a body as long as the client says it is.
func claim(f frame, body uint32) []byte {
	b := f.bytes()
	binary.BigEndian.PutUint32(b[8:], body)
	return b
}

// promise: W3, R2
func TestBinaryValueTooLarge(t *testing.T) {
	p := NewParser(1000)
	for _, c := range []struct {
		in      frame
		refused Op
	}{
		{frame{opcode: 0x01, extras: be64(0), key: "k"}, OpSet},
		{frame{opcode: 0x11, extras: be64(0), key: "k", cas: 9}, OpSet},
		{frame{opcode: 0x02, extras: be64(0), key: "k"}, OpAdd},
		{frame{opcode: 0x03, extras: be64(0), key: "k", cas: 9}, OpReplace},
		{frame{opcode: 0x0e, key: "k"}, OpAppend},
		{frame{opcode: 0x1a, key: "k"}, OpPrepend},
	} {
		head := len(c.in.extras) + 1
		for _, size := range []uint32{1001, 1<<31 - 1, 1 << 31, 1<<32 - 10} {
			in := claim(c.in, uint32(head)+size)
			var r Request
			if n, need := p.ParseBinary(in[:24], &r); n != 0 || need != 24+head {
				t.Errorf("opcode %#x: %d, need %d", c.in.opcode, n, need)
			}
			n, _ := p.ParseBinary(in, &r)
			reply := AppendBinaryError(nil, c.in.opcode, testOpaque, StatusTooLarge)
			if n != len(in) || r.Op != OpTooLarge || r.Refused != c.refused || r.Skip != int64(size) || r.Close ||
				string(r.Key) != "k" || len(r.Value) != 0 || string(r.Reply) != string(reply) {
				t.Errorf("opcode %#x: took %d bytes, %s", c.in.opcode, n, describeBinary(&r))
			}
		}
		var r Request
		if n, need := p.ParseBinary(claim(c.in, uint32(head)+1000), &r); n != 0 || need != 24+head+1000 {
			t.Errorf("opcode %#x with 1000 bytes: %d, need %d", c.in.opcode, n, need)
		}
	}
}

// promise: W3, R2
func TestSaslTooLong(t *testing.T) {
	p := NewParser(testItemSize)
	for _, c := range []struct {
		mechanism string
		size      uint32
		status    BinaryStatus
	}{
		{strings.Repeat("m", 33), 5, StatusInvalid},
		{strings.Repeat("m", 32), maxSaslData + 1, StatusOutOfMemory},
		{"PLAIN", 1<<32 - 6, StatusOutOfMemory},
	} {
		in := claim(frame{opcode: 0x21, key: c.mechanism}, uint32(len(c.mechanism))+c.size)
		var r Request
		n, _ := p.ParseBinary(in, &r)
		if n != len(in) || r.Op != OpSaslAuth || r.Skip != int64(c.size) || r.Close ||
			string(r.Reply) != string(AppendBinaryError(nil, 0x21, testOpaque, c.status)) {
			t.Errorf("%q and %d bytes: took %d bytes, %s", c.mechanism, c.size, n, describeBinary(&r))
		}
	}
}

// promise: W3
func TestBinaryNeedIsWholeLength(t *testing.T) {
	p := NewParser(testItemSize)
	for _, c := range goodBinaryRequests {
		in := c.in.bytes()
		for have := range in {
			want := len(in)
			if have < BinaryHeaderSize {
				want = 0
			}
			var r Request
			if n, need := p.ParseBinary(in[:have], &r); n != 0 || need != want {
				t.Fatalf("%d bytes of %q: %d, need %d, want %d", have, in, n, need, want)
			}
		}
	}
}

// promise: W3
func TestBinaryDoesNotAllocate(t *testing.T) {
	p := NewParser(testItemSize)
	var r Request
	for _, c := range goodBinaryRequests {
		in := c.in.bytes()
		if allocs := testing.AllocsPerRun(20, func() { p.ParseBinary(in, &r) }); allocs != 0 {
			t.Errorf("opcode %#x: %v allocations", c.in.opcode, allocs)
		}
	}
	dst, key, version := make([]byte, 0, 1000), []byte("k"), "1.6.18"
	allocs := testing.AllocsPerRun(20, func() {
		b := AppendBinaryHit(dst, 0x0c, 1, 2, 3, key, 4)
		b = AppendBinaryMiss(b, 0x0c, 1, key)
		b = AppendBinaryOK(b, 1, 1, 2)
		b = AppendBinaryTouched(b, 0x1c, 1, 2, 3)
		b = AppendBinaryNumber(b, 5, 1, 2, 3)
		b = AppendBinaryVersion(b, 0x0b, 1, version)
		b = AppendBinaryStat(b, 1, version, version)
		b = AppendBinaryStat(b, 1, key, key)
		b = AppendBinaryStatEnd(b, 1)
		AppendBinaryError(b, 1, 1, StatusNonNumeric)
	})
	if allocs != 0 {
		t.Errorf("%v allocations while writing answers", allocs)
	}
}
