package protocol

import (
	"bytes"
	"math"
)

// DumpedKey is one line of the answer to "lru_crawler metadump all" or "hash"
// (protocol.txt, "LRU_Crawler"). What the line does not tell is 0.
//
// memcached sends the lines without an OK before them and END behind them, and
// refuses the command behind another one that it has not yet answered. It runs
// one dump at a time and answers BUSY to a second. "all" walks the slab classes
// side by side, each from its least recently used item on, and may miss items
// that move meanwhile; "hash" walks the hash table, in no order (item_crawl_hash
// and item_crawler_thread of memcached's crawler.c).
type DumpedKey struct {
	// Key may hold any byte, as keys of the binary protocol and base64-encoded
	// ones do; see IsTextKey.
	Key    []byte
	Expiry int64  // Unix time in seconds, -1 for never
	Access int64  // Unix time in seconds of the last access, of the write when there was none
	CAS    uint64 // token of the item
	Size   int    // bytes that the item takes in the server, with its header and key
}

// ParseDumpLine reads "key=<key> exp=<time> la=<time> cas=<n> ... size=<n>"
// from a line without its line end, which here is a bare "\n". The fields may
// be in any order, only the key has to be there, and unknown ones are passed
// over. The key is percent-encoded (uriencode in memcached's util.c); it is
// decoded into scratch, which k.Key aliases. Scratch of 250 bytes of capacity
// is always enough; with less a new slice is allocated.
//
// When it returns false the line is something else, as END or BUSY, and k is
// as it was.
func ParseDumpLine(line []byte, k *DumpedKey, scratch []byte) bool {
	if len(line) > maxAnswerLine {
		return false
	}
	var got DumpedKey
	for len(line) > 0 {
		var word []byte
		if space := bytes.IndexByte(line, ' '); space >= 0 {
			word, line = line[:space], line[space+1:]
		} else {
			word, line = line, nil
		}
		if len(word) == 0 {
			continue
		}
		equals := bytes.IndexByte(word, '=')
		if equals <= 0 {
			return false
		}
		value := word[equals+1:]
		ok := true
		switch string(word[:equals]) {
		case "key":
			if got.Key != nil {
				return false
			}
			got.Key, ok = decodeKey(value, scratch)
		case "exp":
			got.Expiry, ok = orForever(value, math.MaxInt64)
		case "la":
			var v uint64
			v, ok = wholeNumber(value, math.MaxInt64)
			got.Access = int64(v)
		case "cas":
			got.CAS, ok = wholeNumber(value, math.MaxUint64)
		case "size":
			var v uint64
			v, ok = wholeNumber(value, math.MaxInt)
			got.Size = int(v)
		}
		if !ok {
			return false
		}
	}
	if got.Key == nil {
		return false
	}
	*k = got
	return true
}

// decodeKey undoes the percent-encoding of a key.
func decodeKey(encoded, scratch []byte) ([]byte, bool) {
	key := scratch[:0]
	for i := 0; i < len(encoded); i++ {
		c := encoded[i]
		switch {
		case c <= ' ' || c == 0x7f:
			return nil, false
		case c == '%':
			if len(encoded)-i < 3 {
				return nil, false
			}
			high, okHigh := hexDigit(encoded[i+1])
			low, okLow := hexDigit(encoded[i+2])
			if !okHigh || !okLow {
				return nil, false
			}
			c = high<<4 | low
			i += 2
		}
		if len(key) == maxKey {
			return nil, false
		}
		key = append(key, c)
	}
	return key, len(key) > 0
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c-'0' < 10:
		return c - '0', true
	case c-'A' < 6:
		return c - 'A' + 10, true
	case c-'a' < 6:
		return c - 'a' + 10, true
	}
	return 0, false
}
