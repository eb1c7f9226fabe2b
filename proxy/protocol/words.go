package protocol

import (
	"encoding/binary"
	"math/bits"
)

// maxWords is the number of words after which memcached stops cutting a line
// (MAX_TOKENS of proto_text.c less the terminal token).
const maxWords = 23

// words is a line cut at its spaces. Only spaces separate words.
type words struct {
	word [8][]byte // the first ones; no command has more
	n    int       // how many there are, at most maxWords
	last []byte    // word n
}

// split cuts line, which holds no NUL.
func (w *words) split(line []byte) {
	w.n, w.last = 0, nil
	for w.n < maxWords {
		var word []byte
		word, line = NextKey(line)
		if word == nil {
			return
		}
		if w.n < len(w.word) {
			w.word[w.n] = word
		}
		w.last = word
		w.n++
	}
}

// noreply tells whether the last word asks for no answer.
func (w *words) noreply() bool { return string(w.last) == "noreply" }

// NextKey returns the first of the keys in Request.Keys and what is behind
// it. Keys are separated by one or more spaces. At the end key is nil. Both
// slices alias keys.
func NextKey(keys []byte) (key, rest []byte) {
	i := 0
	for i < len(keys) && keys[i] == ' ' {
		i++
	}
	if i == len(keys) {
		return nil, nil
	}
	end := i
	for {
		end = indexControl(keys, end)
		if end == len(keys) || keys[end] == ' ' {
			return keys[i:end:end], keys[end:]
		}
		end++ // a tab or the like is part of the key
	}
}

// indexControl returns the index of the first byte at or behind i that is a
// space or a control character (up to 0x20), or len(b).
func indexControl(b []byte, i int) int {
	// Eight bytes at a time: a byte below 0x21 borrows into its top bit. A
	// borrow can mark a byte above it too, never one below the first.
	const low, top = 0x2121212121212121, 0x8080808080808080
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		if m := (x - low) & ^x & top; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for i < len(b) && b[i] > ' ' {
		i++
	}
	return i
}
