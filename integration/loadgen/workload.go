package main

import (
	"bytes"
	"fmt"
	"strconv"
)

const (
	keyFormat = "bench:%07d"
	keyLength = 13
	maxKeys   = 10_000_000 // what seven digits can name
)

// workload is what is asked: every request of one key, prepared in advance.
// All keys have the same length, so each table is one slice with a fixed
// stride.
type workload struct {
	protocol  protocol
	keys      int
	valueSize int
	multiget  int
	gets      uint64 // out of gets+sets requests, so many are gets
	sets      uint64

	// In classic text; the other protocols have the same in their words.
	names   []byte // key
	getLine []byte // "get key\r\n"
	setHead []byte // "set key 0 0 size\r\nkey": the start of the value is the key
	setTail []byte // "\r\n"
	hitHead []byte // "VALUE key 0 size\r\nkey"
	hitTail []byte // "\r\nEND\r\n"

	getStride, setStride, hitStride int

	filler []byte // the rest of every value
	random uint64
}

// request is one request that waits for its answer.
type request struct {
	set   bool
	first uint32 // the first key; a get of many keys asks for those that follow
	keys  uint32 // how many keys
	seen  uint32 // keys that are answered, or passed over as misses
}

// newWorkload prepares the requests. gets and sets are the two sides of the
// ratio, seed starts the choice of keys.
func newWorkload(p protocol, keys, valueSize, multiget int, gets, sets, seed uint64) (*workload, error) {
	switch {
	case keys < 1 || keys > maxKeys:
		return nil, fmt.Errorf("--keys %d: must be from 1 to %d", keys, maxKeys)
	case valueSize < keyLength:
		return nil, fmt.Errorf("--value-size %d: must be at least %d, because a value starts with its key", valueSize, keyLength)
	case multiget < 1 || multiget > keys:
		return nil, fmt.Errorf("--multiget %d: must be from 1 to the number of keys, %d", multiget, keys)
	case multiget > 1 && p != classic:
		return nil, fmt.Errorf("--multiget %d --protocol %s: only classic text has a get of many keys", multiget, p)
	case gets+sets == 0:
		return nil, fmt.Errorf("--ratio 0:0: one side must be more than 0")
	}
	w := &workload{
		protocol: p, keys: keys, valueSize: valueSize, multiget: multiget, gets: gets, sets: sets,
		filler: fillerOf(valueSize - keyLength),
		random: seed*0x9E3779B97F4A7C15 | 1,
	}
	for i := range keys {
		key := fmt.Sprintf(keyFormat, i)
		w.names = append(w.names, key...)
		switch p {
		case meta:
			w.prepareMeta(key)
		case binaryProtocol:
			w.prepareBinary(key, uint32(i))
		default:
			w.prepareText(key)
		}
	}
	w.getStride = len(w.getLine) / keys
	w.setStride = len(w.setHead) / keys
	w.hitStride = len(w.hitHead) / keys
	return w, nil
}

// prepareText appends the requests of one key, and the answer to its get.
func (w *workload) prepareText(key string) {
	w.getLine = fmt.Appendf(w.getLine, "get %s\r\n", key)
	w.setHead = fmt.Appendf(w.setHead, "set %s 0 0 %d\r\n%s", key, w.valueSize, key)
	w.setTail = []byte("\r\n")
	w.hitHead = fmt.Appendf(w.hitHead, "VALUE %s 0 %d\r\n%s", key, w.valueSize, key)
	w.hitTail = []byte("\r\nEND\r\n")
}

// fillerOf is n bytes that differ from place to place, so that a value that
// was cut or shifted is noticed.
func fillerOf(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		b.WriteString("-" + strconv.Itoa(i))
	}
	return b.Bytes()[:n]
}

func (w *workload) key(k uint32) []byte {
	return w.names[int(k)*keyLength : (int(k)+1)*keyLength]
}

// hitSize is the length of the answer to a get of one key that was found.
func (w *workload) hitSize() int { return w.hitStride + len(w.filler) + len(w.hitTail) }

// hit is the start of that answer, up to the key in the value.
func (w *workload) hit(k uint32) []byte {
	return w.hitHead[int(k)*w.hitStride : (int(k)+1)*w.hitStride]
}

// next chooses a request and appends its bytes to out.
func (w *workload) next(out []byte) ([]byte, request) {
	r := w.rand()
	k := uint32((r >> 32) * uint64(w.keys) >> 32)
	if uint64(uint32(r))*(w.gets+w.sets)>>32 >= w.gets {
		return w.appendSet(out, k), request{set: true, first: k, keys: 1}
	}
	if w.multiget == 1 {
		return append(out, w.getLine[int(k)*w.getStride:(int(k)+1)*w.getStride]...), request{first: k, keys: 1}
	}
	k = uint32(uint64(k) * uint64(w.keys-w.multiget+1) / uint64(w.keys))
	out = append(out, "get"...)
	for i := range uint32(w.multiget) {
		out = append(out, ' ')
		out = append(out, w.key(k+i)...)
	}
	return append(out, '\r', '\n'), request{first: k, keys: uint32(w.multiget)}
}

// appendSet appends the request that stores key k.
func (w *workload) appendSet(out []byte, k uint32) []byte {
	out = append(out, w.setHead[int(k)*w.setStride:(int(k)+1)*w.setStride]...)
	out = append(out, w.filler...)
	return append(out, w.setTail...)
}

// rand is xorshift64*, from Vigna, "An experimental exploration of
// Marsaglia's xorshift generators, scrambled".
func (w *workload) rand() uint64 {
	x := w.random
	x ^= x >> 12
	x ^= x << 25
	x ^= x >> 27
	w.random = x
	return x * 0x2545F4914F6CDD1D
}
