package protocol

import (
	"bytes"
	"strings"
)

// binaryFrame makes a request that is mostly valid. Keys that start with n hold
// numbers and the others words, because memcached 1.6.18 reads behind some
// values that an increment finds; see avoidOverrun.
func (g generator) binaryFrame(p *binaryPair) (frame, error) {
	f := frame{opcode: byte(g.IntN(0x26))}
	if g.rarely(20) {
		f.opcode = byte(g.IntN(256))
	}
	f.key, f.value = g.oneOf("a", "b", "c"), g.oneOf("v", "word", strings.Repeat("long", 300))
	expiry := be32([...]uint32{0, 0, 1, 10000, 2100000000, 1<<31 - 1, 1 << 31, 1<<32 - 1, 2592001}[g.IntN(9)])
	if expiry == be32(1) {
		expiry = be32(1000) // a second may end between two servers
	}
	form := binaryCommands[f.opcode].form
	number := g.rarely(3)
	if form == formArith {
		number = !g.rarely(10)
	}
	if number && form != formConcat {
		f.key, f.value = g.oneOf("n1", "n2"), g.oneOf("5", "10", "123456")
	}
	switch form {
	case formBare:
		f.key, f.value = "", ""
	case formKey:
		f.value = ""
	case formStore:
		f.extras = be32(g.Uint32()) + expiry
	case formArith:
		f.extras, f.value = be64(uint64(g.IntN(200)))+be64(uint64(g.IntN(200)))+expiry, ""
	case formTouch:
		f.extras, f.value = expiry, ""
	case formFlush:
		f.key, f.value, f.extras = "", "", g.oneOf("", be32(0))
	case formStat:
		f.key, f.value = g.oneOf("", "settings", "bogus"), ""
	}
	switch {
	case f.key == "" || g.rarely(2):
	case g.rarely(3):
		f.cas = 1<<60 + g.Uint64()>>8 // of no value
	default:
		if err := p.lookUpTokens(f.key); err != nil {
			return f, err
		}
		f.cas = p.rawToken
	}
	return f, nil
}

// binaryRequest makes a request and often damages its header. What the lengths
// then ask for is there.
func (g generator) binaryRequest(p *binaryPair) ([]byte, error) {
	f, err := g.binaryFrame(p)
	if err != nil {
		return nil, err
	}
	b := f.bytes()
	if !g.rarely(3) {
		return b, nil
	}
	for range 1 + g.IntN(2) {
		switch g.IntN(8) {
		case 0:
			b[1] = byte(g.IntN(256))
		case 1:
			b[2] = byte(g.IntN(100))
		case 2:
			b[3] = byte(g.IntN(256))
		case 3:
			b[4] = [...]byte{0, 4, 8, 20, byte(g.IntN(256))}[g.IntN(5)]
		case 4:
			b[9] = byte(g.IntN(0x20))
		case 5:
			b[10] = byte(g.IntN(256))
		case 6:
			b[11] += byte(g.IntN(9)) - 4
		case 7:
			b[5], b[6], b[7] = 1, 2, 3 // without a meaning
		}
	}
	var r Request
	n, need := p.parser.ParseBinary(b, &r)
	switch {
	case n == 0:
		b = append(b, bytes.Repeat([]byte("x"), need-len(b))...)
	case r.Close && len(r.Reply) == 0: // memcached closes when its buffer is full
		b = append(b, make([]byte, maxBinaryHead)...)
	}
	return b, nil
}

// comparableBinary tells whether two servers can be asked and answer the same.
func comparableBinary(r *Request) bool {
	switch r.Op {
	case OpStats:
		return string(r.Args) == "" || string(r.Args) == "settings" || string(r.Args) == "bogus"
	case OpFlushAll:
		// A delay brings back what an earlier flush hid and nobody has looked at.
		return r.Expiry == 0
	case OpIncr, OpDecr:
		// A damaged header may ask for what the generator avoids.
		return r.Delta < 1000 && r.Initial < 1000 && expiryIsFar(r.InitialExpiry) && textKey(r.Key)
	case OpInvalid:
		return true
	case OpAppend, OpPrepend, OpSet, OpAdd, OpReplace, OpCas:
		number := len(r.Value) > 0 && r.Value[0]-'0' < 10
		return len(r.Value) > 0 && number == (r.Key[0] == 'n') && !(number && (len(r.Value) > 6 || r.Op == OpAppend || r.Op == OpPrepend)) &&
			expiryIsFar(r.Expiry) && textKey(r.Key)
	}
	return expiryIsFar(r.Expiry) && textKey(r.Key)
}

// expiryIsFar tells whether no clock has to be right for an expiry to be judged.
func expiryIsFar(expiry int64) bool {
	return expiry == 0 || (expiry >= 1000 && expiry < 1500000000) || expiry >= 2100000000
}

// textKey tells whether a key can be written in text.
func textKey(key []byte) bool {
	return indexControl(key, 0) == len(key)
}
