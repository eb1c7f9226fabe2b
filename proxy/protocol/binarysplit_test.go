package protocol

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// frame is a binary request as a client writes it.
type frame struct {
	opcode byte
	extras string
	key    string
	value  string
	cas    uint64
}

const testOpaque = 0x01020304

// bytes writes the request with lengths that are true.
func (f frame) bytes() []byte {
	b := []byte{BinaryRequest, f.opcode, byte(len(f.key) >> 8), byte(len(f.key)), byte(len(f.extras)), 0, 0, 0}
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.extras)+len(f.key)+len(f.value)))
	b = binary.BigEndian.AppendUint32(b, testOpaque)
	b = binary.BigEndian.AppendUint64(b, f.cas)
	return append(append(append(b, f.extras...), f.key...), f.value...)
}

func be32(v uint32) string { return string(binary.BigEndian.AppendUint32(nil, v)) }
func be64(v uint64) string { return string(binary.BigEndian.AppendUint64(nil, v)) }

// describeBinary is describe with the fields of the binary protocol.
func describeBinary(r *Request) string {
	return fmt.Sprintf("%s dialect=%d opcode=%#x opaque=%#x initial=%v %d %d",
		describe(r), r.Dialect, r.Opcode, r.OpaqueWord, r.HasInitial, r.Initial, r.InitialExpiry)
}

// binaryFeed gives ParseBinary the form of ParseFrom. What describe leaves out
// goes into Args.
func binaryFeed(p *Parser) parseFunc {
	return func(in []byte, _ int, r *Request) (n, need int) {
		if n, need = p.ParseBinary(in, r); n > 0 {
			r.Args = []byte(describeBinary(r))
		}
		return n, need
	}
}

// writeBinary writes r as a client would, or returns nil when r is not what a
// client can ask for.
func writeBinary(r *Request) []byte {
	if r.Op == OpInvalid || r.Op == OpTooLarge || len(r.Reply) > 0 {
		return nil
	}
	f := frame{opcode: r.Opcode, key: string(r.Key), value: string(r.Value), cas: r.CAS}
	switch binaryCommands[r.Opcode].form {
	case formStore:
		f.extras = be32(r.Flags) + be32(uint32(r.Expiry))
	case formArith:
		expiry := uint32(noInitial)
		if r.HasInitial {
			expiry = uint32(r.InitialExpiry)
		}
		f.extras = be64(r.Delta) + be64(r.Initial) + be32(expiry)
	case formTouch:
		f.extras = be32(uint32(r.Expiry))
	case formFlush:
		if r.HasTime {
			f.extras = be32(uint32(r.Expiry))
		}
	case formStat:
		f.key = string(r.Args)
	}
	b := f.bytes()
	binary.BigEndian.PutUint32(b[12:], r.OpaqueWord)
	return b
}

// checkBinaryRoundTrip reports when a request in in, written anew, is not the
// same request.
func checkBinaryRoundTrip(p *Parser, in []byte) error {
	for len(in) > 0 {
		var r, again Request
		n, _ := p.ParseBinary(in, &r)
		if n == 0 || r.Close || r.Skip > int64(len(in)-n) {
			return nil
		}
		if b := writeBinary(&r); b != nil {
			if m, _ := p.ParseBinary(b, &again); m != len(b) {
				return fmt.Errorf("%q is written as %q, of which %d bytes are taken", in[:n], b, m)
			}
			if got, want := describeBinary(&again), describeBinary(&r); got != want {
				return fmt.Errorf("%q is written as %q:\n got %s\nwant %s", in[:n], b, got, want)
			}
		}
		in = in[n+int(r.Skip):]
	}
	return nil
}

// checkBinaryReply reports when a Reply is not one whole answer to r.
func checkBinaryReply(r *Request) error {
	b := r.Reply
	if len(b) == 0 {
		return nil
	}
	if len(b) < BinaryHeaderSize || b[0] != binaryResponse || b[1] != r.Opcode ||
		binary.BigEndian.Uint32(b[12:]) != r.OpaqueWord ||
		int(binary.BigEndian.Uint32(b[8:])) != len(b)-BinaryHeaderSize {
		return fmt.Errorf("reply %q to opcode %#x, opaque %#x", b, r.Opcode, r.OpaqueWord)
	}
	return nil
}

// FuzzBinaryRequest checks that no input crashes ParseBinary, that it sees the
// same at every split, that its requests survive being written and read, and
// that its replies are whole.
//
// promise: R4, W3
func FuzzBinaryRequest(f *testing.F) {
	for _, c := range goodBinaryRequests {
		f.Add(c.in.bytes())
	}
	for _, c := range badBinaryRequests {
		f.Add(c.in)
	}
	f.Add(frame{opcode: 1, extras: be64(0), key: "k", value: string(make([]byte, 1001))}.bytes())
	f.Add(append(frame{opcode: 0x0a}.bytes(), frame{opcode: 0x0d, key: "k"}.bytes()...))
	f.Fuzz(func(t *testing.T, in []byte) {
		p := fuzzParser(false)
		if err := checkSplitsOf(binaryFeed(p), in); err != nil {
			t.Fatal(err)
		}
		if err := checkBinaryRoundTrip(p, in); err != nil {
			t.Fatal(err)
		}
		var r Request
		n, need := p.ParseBinary(in, &r)
		if need > maxBinaryHead+p.MaxItemSize+maxSaslData {
			t.Fatalf("%q: need is %d", in, need)
		}
		if n == 0 {
			return
		}
		if err := checkBinaryReply(&r); err != nil {
			t.Fatalf("%q: %v", in, err)
		}
	})
}

// drawFrame makes a valid binary request.
func drawFrame(t *rapid.T) frame {
	var opcodes []byte
	for opcode, c := range binaryCommands {
		if c.op != OpNone {
			opcodes = append(opcodes, byte(opcode))
		}
	}
	f := frame{opcode: rapid.SampledFrom(opcodes).Draw(t, "opcode"), cas: rapid.Uint64().Draw(t, "cas")}
	key := string(rapid.SliceOfN(rapid.Byte(), 1, maxKey).Draw(t, "key"))
	value := string(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value"))
	numbers := be64(rapid.Uint64().Draw(t, "a")) + be64(rapid.Uint64().Draw(t, "b")) + be32(rapid.Uint32().Draw(t, "c"))
	switch binaryCommands[f.opcode].form {
	case formKey, formStat:
		f.key = key
	case formStore:
		f.extras, f.key, f.value = numbers[:8], key, value
	case formConcat:
		f.key, f.value = key, value
	case formArith:
		f.extras, f.key = numbers, key
	case formTouch:
		f.extras, f.key = numbers[:4], key
	case formFlush:
		f.extras = numbers[:4*rapid.IntRange(0, 1).Draw(t, "delay")]
	case formSasl:
		f.key, f.value = key[:min(len(key), maxSaslMechanism)], value
	}
	return f
}

// promise: W3, W6
func TestBinaryRequestsInPieces(t *testing.T) {
	p := fuzzParser(false)
	rapid.Check(t, func(t *rapid.T) {
		var in []byte
		var want []string
		for range rapid.IntRange(1, 5).Draw(t, "count") {
			one := drawFrame(t).bytes()
			var r Request
			if n, need := binaryFeed(p)(one, 0, &r); n != len(one) || need != 0 || r.Op == OpInvalid {
				t.Fatalf("%q: took %d bytes (need %d), op %d", one, n, need, r.Op)
			}
			in = append(in, one...)
			want = append(want, describe(&r))
		}
		cuts := rapid.SliceOfN(rapid.IntRange(1, len(in)), 0, 10).Draw(t, "cuts")
		slices.Sort(cuts)
		got, used, err := feedTo(binaryFeed(p), in, cuts)
		if err != nil || used != len(in) || !slices.Equal(got, want) {
			t.Fatalf("%q: took %d of %d bytes (%v):\n got %q\nwant %q", in, used, len(in), err, got, want)
		}
		if err := checkBinaryRoundTrip(p, in); err != nil {
			t.Fatal(err)
		}
	})
}

// promise: W3, W6
func TestSplitsOfBinaryPipelines(t *testing.T) {
	var in []byte
	for _, c := range goodBinaryRequests {
		in = append(in, c.in.bytes()...)
	}
	for _, c := range badBinaryRequests {
		if !c.close {
			in = append(append(in, c.in...), bytes.Repeat([]byte{0}, int(c.skip))...)
		}
	}
	if err := checkSplitsOf(binaryFeed(fuzzParser(false)), in); err != nil {
		t.Error(err)
	}
}
