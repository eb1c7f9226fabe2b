package ketama

import (
	"crypto/md5"
	"encoding/binary"
)

// A keyHash is one of the functions below. It is not a func, so that the compiler
// sees that a key does not escape.
type keyHash uint8

const (
	hashMD5 keyHash = iota
	hashOneAtATime
	hashDJB
)

func (h keyHash) sum(key []byte) uint32 {
	switch h {
	case hashOneAtATime:
		return oneAtATime(key)
	case hashDJB:
		return djb(key)
	}
	digest := md5.Sum(key)
	return binary.LittleEndian.Uint32(digest[:])
}

// oneAtATime is Bob Jenkins's hash of that name (Dr. Dobb's Journal, September
// 1997), libmemcached's MEMCACHED_HASH_DEFAULT (one_at_a_time.cc). There the
// characters are signed, where C has signed characters, as on x86.
func oneAtATime(key []byte) uint32 {
	var h uint32
	for _, c := range key {
		h += uint32(int8(c))
		h += h << 10
		h ^= h >> 6
	}
	h += h << 3
	h ^= h >> 11
	h += h << 15
	return h
}

// djb is hashme of the C magent (magent.c): Daniel J. Bernstein's hash over
// signed characters, without the highest bit.
func djb(key []byte) uint32 {
	h := uint32(5381)
	for _, c := range key {
		h = h*33 + uint32(int8(c))
	}
	return h & 0x7fffffff
}
