package proxy

import (
	"cmp"
	"slices"
)

const (
	listMost  = 1 << 20  // keys of one list
	listBytes = 64 << 20 // bytes of them
)

// keyList is a list of keys in little memory. When a server has more keys than
// it may hold, the first list holds those used last; then the others follow in
// several passes, each of which holds the keys of one part of all hashes.
type keyList struct {
	pass, parts int
	hash        func([]byte) uint64

	text    []byte
	entries []listed
	at      int
}

// listed is one key of a list.
type listed struct {
	access uint32 // when it was used last, Unix seconds
	start  uint32
	size   uint32 // bytes of its item
	length uint8
}

// newKeyList returns the list of one pass of so many.
func newKeyList(pass, passes int, hash func([]byte) uint64) *keyList {
	return &keyList{pass: pass, parts: passes - 1, hash: hash}
}

// passes is the number of passes for a number of keys.
func (l *keyList) passes(all int) int {
	if all <= len(l.entries) {
		return 1
	}
	mean := max(len(l.text)/max(len(l.entries), 1), 1)
	room := min(listMost, listBytes/mean)
	return 1 + (all+room/2)/(room/2) // the parts are not equal
}

func (l *keyList) add(key []byte, access int64, size int) {
	if l.pass > 0 && l.hash(key)%uint64(l.parts) != uint64(l.pass-1) {
		return
	}
	if len(l.entries) >= 2*listMost || len(l.text)+len(key) > 2*listBytes {
		l.shrink()
	}
	l.entries = append(l.entries, listed{access: uint32(max(access, 0)), start: uint32(len(l.text)), size: uint32(size), length: uint8(len(key))})
	l.text = append(l.text, key...)
}

// newestFirst puts the keys in order.
func (l *keyList) newestFirst() {
	slices.SortStableFunc(l.entries, func(a, b listed) int { return cmp.Compare(b.access, a.access) })
}

// shrink keeps the newer half.
func (l *keyList) shrink() {
	l.newestFirst()
	kept := l.entries[:len(l.entries)/2]
	var text []byte
	for i := range kept {
		e := &kept[i]
		start := uint32(len(text))
		text = append(text, l.text[e.start:e.start+uint32(e.length)]...)
		e.start = start
	}
	l.entries, l.text = kept, text
}

// next returns up to n keys that it has not returned before, fewer when their
// items together have more than so many bytes.
func (l *keyList) next(n, bytes int) []string {
	var keys []string
	for ; len(keys) < n && l.at < len(l.entries) && (bytes > 0 || len(keys) == 0); l.at++ {
		e := l.entries[l.at]
		keys = append(keys, string(l.text[e.start:e.start+uint32(e.length)]))
		bytes -= int(e.size)
	}
	return keys
}
