package protocol

// Meta commands that send many sets as one batch: each set answers only when
// it fails (flag q), and the mn behind them answers that all are done. See
// protocol.txt, "Meta Set" and "Meta No-Op", of memcached 1.6.14 and later.

// AppendQuietSet writes the line of a set that answers only when it fails.
// The value and "\r\n" have to follow.
func AppendQuietSet(dst, key []byte, flags uint32, expiry int64, size int) []byte {
	return AppendMetaSet(dst, key, &MetaSet{Op: OpSet, Flags: flags, Expiry: expiry, Size: size, Quiet: true})
}

// AppendFence writes the command that ends a batch. Its answer is FenceLine.
func AppendFence(dst []byte) []byte { return append(dst, "mn\r\n"...) }

// FenceLine is what memcached answers to the end of a batch, without its line
// end.
const FenceLine = "MN"
