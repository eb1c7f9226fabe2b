package protocol

// Meta commands that send many sets as one batch: each set answers only when
// it fails (flag q), and the mn behind them answers that all are done. See
// protocol.txt, "Meta Set" and "Meta No-Op", of memcached 1.6.14 and later.

// AppendQuietSet writes the line of a set that answers only when it fails.
// The value and "\r\n" have to follow.
func AppendQuietSet(dst, key []byte, flags uint32, expiry int64, size int) []byte {
	dst = append(append(dst, "ms "...), key...)
	dst = appendUint(append(dst, ' '), uint64(size))
	if flags != 0 {
		dst = appendUint(append(dst, " F"...), uint64(flags))
	}
	if expiry != 0 {
		dst = appendInt(append(dst, " T"...), expiry)
	}
	return append(dst, " q\r\n"...)
}

// AppendFence writes the command that ends a batch. Its answer is FenceLine.
func AppendFence(dst []byte) []byte { return append(dst, "mn\r\n"...) }

// FenceLine is what memcached answers to the end of a batch, without its line
// end.
const FenceLine = "MN"
