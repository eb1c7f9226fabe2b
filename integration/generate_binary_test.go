package integration

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// binaryGenerator makes packets of the binary protocol: every opcode of
// memcached's proto_bin.c, and those it does not know.
type binaryGenerator struct{ *vocabulary }

// quietForms name the opcode that does the same without the usual answer.
var quietForms = map[byte]byte{
	opGet: opGetQ, opGetK: opGetKQ, opGAT: opGATQ, opGATK: opGATKQ, opSet: opSetQ, opAdd: opAddQ, opReplace: opReplaceQ,
	opAppend: opAppendQ, opPrepend: opPrependQ, opDelete: opDeleteQ, opIncr: opIncrQ, opDecr: opDecrQ, opFlush: opFlushQ,
}

// step returns the next step. None leaves the connection out of step, or closed.
func (g binaryGenerator) step() step {
	if g.quietRun() {
		return g.send(&request{op: opNoop}, "")
	}
	r := &request{}
	key := g.anyKey()
	switch n := g.rng.IntN(40); {
	case n < 8:
		r.op = []byte{opGet, opGetK}[g.rng.IntN(2)]
	case n < 12:
		r.op, r.extras = []byte{opGAT, opGATK}[g.rng.IntN(2)], g.lifetime32()
	case n < 14:
		r.op, r.extras = opTouch, g.lifetime32()
	case n < 22:
		r.op, r.extras = []byte{opSet, opSet, opAdd, opReplace}[g.rng.IntN(4)], append(g.flags32(), g.lifetime32()...)
		r.value = []byte(g.value())
		if g.counted(key) {
			r.value = []byte(g.number(strings.Contains(key, g.prefix+"up")))
		}
		if g.rng.IntN(30) == 0 {
			key, r.value = g.largeKey(), []byte(largeValue(g.largeSize()))
		}
	case n < 25:
		key = g.textKey()
		r.op, r.value = []byte{opAppend, opPrepend}[g.rng.IntN(2)], []byte(g.value())
		if g.rng.IntN(30) == 0 {
			key, r.value = g.largeKey(), []byte(largeValue(g.largeSize()))
		}
	case n < 28:
		r.op = opDelete
	case n < 34:
		return g.count()
	case n < 36:
		return g.keyless()
	default:
		// With nothing that memcached would read as the next packet.
		return g.send(&request{op: []byte{opVerbosity, 0x1f, 0x25, 0x30, 0x40, 0xff, opSASLList}[g.rng.IntN(7)]}, "")
	}
	return g.send(r, key)
}

// anyKey returns a key of any kind but the stamped ones: no packet chooses the
// token of an item.
func (g binaryGenerator) anyKey() string {
	if g.rng.IntN(8) == 0 {
		key, _ := g.countedKey()
		return key
	}
	return g.textKey()
}

// textKey returns a key that holds no number.
func (g binaryGenerator) textKey() string {
	if g.rng.IntN(3) == 0 {
		return g.bytesKey()
	}
	return g.plainKey()
}

func (g binaryGenerator) lifetime32() []byte {
	absolute := uint32(g.now) + 5000 //nolint:gosec // until 2106
	times := []uint32{0, 0, 0, 100, 100, 100, 1000, 1000, 2592000, 0xffffffff, absolute, absolute, 2592001}
	return binary.BigEndian.AppendUint32(nil, times[g.rng.IntN(len(times))])
}

func (g binaryGenerator) flags32() []byte {
	return binary.BigEndian.AppendUint32(nil, []uint32{0, 1, 65535, 0xdeadbeef, 0xffffffff}[g.rng.IntN(5)])
}

// count returns an incr or decr.
func (g binaryGenerator) count() step {
	key, up := g.countedKey()
	initial, delta, lifetime := uint64(0), uint64(g.delta()), g.lifetime32() //nolint:gosec // not below 0
	switch {
	case up:
		initial = []uint64{0, 1, 99, 1000, 1e18}[g.rng.IntN(5)]
	default:
		initial = []uint64{0, 1, 7, 9e18}[g.rng.IntN(4)]
	}
	r := &request{op: opDecr}
	if up {
		r.op = opIncr
	}
	switch g.rng.IntN(6) {
	case 0: // no new item
		lifetime = []byte{0xff, 0xff, 0xff, 0xff}
	case 1: // of a key that holds no number
		key, lifetime = g.textKey(), []byte{0xff, 0xff, 0xff, 0xff}
	}
	r.extras = binary.BigEndian.AppendUint64(nil, delta)
	r.extras = append(binary.BigEndian.AppendUint64(r.extras, initial), lifetime...)
	s := g.send(r, key)
	s.counts = g.counted(key)
	return s
}

// keyless returns a command without a key.
func (g binaryGenerator) keyless() step {
	switch n := g.rng.IntN(10); {
	case n < 2:
		return g.send(&request{op: opNoop}, "")
	case n < 4:
		return g.send(&request{op: opVersion}, "")
	case n < 6:
		key := []string{"", "settings", "reset", "bogus"}[g.rng.IntN(4)]
		return g.send(&request{op: opStat, key: []byte(key)}, "")
	case n < 8:
		// memcached without authentication does not know these, and skips them.
		return g.send(&request{op: []byte{opSASLAuth, opSASLStep}[g.rng.IntN(2)], key: []byte("PLAIN"), value: []byte("\x00user\x00secret")}, "")
	}
	return g.send(&request{op: opNoop}, "")
}

// send makes a step of a packet: with a token now and then, in its quiet form
// or not, and with what memcached overlooks.
func (g binaryGenerator) send(r *request, key string) step {
	n := g.next(key)
	if key != "" {
		r.key = []byte(key)
	}
	r.opaque = uint32(n)<<8 | g.rng.Uint32()&0xff //nolint:gosec // a few thousand steps
	g.asked[fmt.Sprint("binary ", r.opaque)] = key
	if quiet, ok := quietForms[r.op]; ok && (g.quiet > 0 || g.rng.IntN(3) == 0) {
		r.op = quiet
	}
	if g.rng.IntN(10) == 0 {
		r.datatype, r.vbucket = byte(g.rng.IntN(256)), uint16(g.rng.IntN(1<<16)) //nolint:gosec // in range
	}
	of := token{}
	if g.rng.IntN(4) == 0 {
		of = g.token(key, false)
	}
	var s step
	for i := range s.request {
		r.cas = of[i]
		s.request[i] = r.bytes()
	}
	switch r.op {
	case opGet, opGetQ, opGetK, opGetKQ, opGAT, opGATQ, opGATK, opGATKQ, opTouch:
		s.reads = g.counted(key)
	}
	return s
}

// closer returns a step behind which the connection ends: a packet that does
// not hold what its opcode needs, or whose lengths do not fit, an unknown one
// with a body, or an end in the middle.
func (g binaryGenerator) closer() step {
	key := []byte(g.plainKey())
	g.used[string(key)] = true
	eight, four, twenty := make([]byte, 8), make([]byte, 4), make([]byte, 20)
	long := []byte(strings.Repeat("k", 251))
	packets := []*request{
		{op: opQuit}, {op: opQuitQ}, {op: opQuit, key: key}, {op: opQuitQ, extras: four},
		{op: opGet, magic: 0x81}, {op: opGet, magic: 'g', key: key}, {op: opNoop, magic: 1},
		{op: opGet}, {op: opGetKQ}, {op: opGet, key: key, extras: four}, {op: opGetQ, key: key, value: []byte("v")}, {op: opGetK, key: long},
		{op: opGet, key: []byte(strings.Repeat("k", 3000))},
		{op: opSet, key: key, value: []byte("v")}, {op: opSetQ, extras: eight, value: []byte("v")}, {op: opAdd, key: key, extras: four}, {op: opReplaceQ, key: key, extras: twenty},
		{op: opSet, key: long, extras: eight, value: []byte("v")}, {op: opAppend, value: []byte("v")}, {op: opPrependQ, key: key, extras: four, value: []byte("v")},
		{op: opDelete}, {op: opDeleteQ, key: key, extras: four}, {op: opDelete, key: key, value: []byte("v")},
		{op: opIncr, key: key}, {op: opDecr, extras: twenty}, {op: opIncrQ, key: key, extras: eight}, {op: opDecrQ, key: key, extras: twenty, value: []byte("v")},
		{op: opTouch, key: key}, {op: opGAT, extras: four}, {op: opGATK, key: key, extras: eight}, {op: opGATQ, key: key},
		{op: opNoop, key: key}, {op: opVersion, extras: four}, {op: opStat, extras: four}, {op: opFlush, extras: eight}, {op: opFlushQ, key: key}, {op: opSASLList, key: key}, {op: opSASLAuth}, {op: opSASLStep, extras: four, key: key},
		{op: opGet, key: key, keyLen: 300, bodyLen: 10}, {op: opGet, key: key, bodyLen: 3}, {op: opSet, key: key, extras: eight, extrasLen: 200}, {op: opSet, key: key, extras: eight, bodyLen: 9},
		{op: opSet, key: key, extras: eight, value: []byte("v"), bodyLen: 500}, {op: opSet, key: key, extras: eight, value: []byte("v"), bodyLen: 0x7fffff00}, {op: opAppend, key: key, value: []byte("v"), bodyLen: 3 << 20},
		{op: opGet, key: key, keyLen: 250, bodyLen: 250},
	}
	r := packets[g.rng.IntN(len(packets))]
	r.opaque = g.rng.Uint32()
	text := string(r.bytes())
	s := step{closes: true, cut: r.bodyLen > len(r.extras)+len(r.key)+len(r.value)}
	switch n := g.rng.IntN(8); {
	case n == 0:
		text, s.cut = text[:g.rng.IntN(len(text))], true
	case n < 3:
		text = g.unknown(key)
	}
	s.request = both(text).request
	return s
}

// unknown returns a command that memcached does not know, with a body.
// memcached skips the key and the extras twice: as many bytes follow, and
// then a command that shows where it goes on.
func (g binaryGenerator) unknown(key []byte) string {
	four := make([]byte, 4)
	packets := []*request{
		{op: opVerbosity, extras: four}, {op: opVerbosity, extras: four, value: []byte("abcd")}, {op: 0x40, key: key}, {op: 0x41, key: key, extras: four}, {op: 0xff, value: []byte("value")},
	}
	r := packets[g.rng.IntN(len(packets))]
	r.opaque = g.rng.Uint32()
	end := &request{op: opQuit, opaque: 1}
	return string(r.bytes()) + strings.Repeat("\x00", len(r.key)+len(r.extras)) + string(end.bytes())
}
