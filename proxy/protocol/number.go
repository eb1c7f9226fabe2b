package protocol

import "math"

// memcached reads numbers with strtoul and strtol, so that a word may start
// with white space and a sign, and may go on behind white space (a tab, as
// spaces end words). The functions below follow safe_strtoull, safe_strtoul
// and safe_strtol of memcached's util.c, where the narrow ones cut the number
// to 32 bits. A word holds no NUL.

// isSpace is C's isspace in the C locale.
func isSpace(c byte) bool { return c == ' ' || c-'\t' < 5 }

// magnitude reads an optional sign and decimal digits at the start of word,
// behind white space. ok is false when there is no digit, when the digits
// exceed 64 bits, or when they end in something else than white space.
func magnitude(word []byte) (v uint64, negative, ok bool) {
	i := 0
	for i < len(word) && isSpace(word[i]) {
		i++
	}
	if i < len(word) && (word[i] == '+' || word[i] == '-') {
		negative = word[i] == '-'
		i++
	}
	first := i
	for ; i < len(word) && word[i]-'0' < 10; i++ {
		d := uint64(word[i] - '0')
		if v > (math.MaxUint64-d)/10 {
			return 0, negative, false
		}
		v = v*10 + d
	}
	if i == first || (i < len(word) && !isSpace(word[i])) {
		return 0, negative, false
	}
	return v, negative, true
}

// parseUint64 is safe_strtoull. A negative number is refused only where its
// two's complement has the top bit set, as memcached does.
func parseUint64(word []byte) (uint64, bool) {
	v, negative, ok := magnitude(word)
	if !ok {
		return 0, false
	}
	if negative {
		v = -v
	}
	if int64(v) < 0 && hasMinus(word) {
		return 0, false
	}
	return v, true
}

// parseUint32 is safe_strtoul.
func parseUint32(word []byte) (uint32, bool) {
	v, ok := parseUint64(word)
	return uint32(v), ok
}

// parseInt32 is safe_strtol.
func parseInt32(word []byte) (int32, bool) {
	v, negative, ok := magnitude(word)
	if !ok {
		return 0, false
	}
	if negative {
		if v > 1<<63 {
			return 0, false
		}
		return int32(-v), true
	}
	if v > math.MaxInt64 {
		return 0, false
	}
	return int32(v), true
}

func hasMinus(word []byte) bool {
	for _, c := range word {
		if c == '-' {
			return true
		}
	}
	return false
}
