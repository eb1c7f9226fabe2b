package protocol

import "strconv"

// The functions in this file write commands for a server behind dst and
// return the longer slice. Keys are written as they are: a key out of a
// Request is always fit for a line. No command is ever sent with noreply, as
// every answer is needed.

// verbs are the names of the operations that go to a server.
var verbs = [...]string{
	OpGet: "get", OpGets: "gets", OpGat: "gat", OpGats: "gats",
	OpSet: "set", OpAdd: "add", OpReplace: "replace",
	OpAppend: "append", OpPrepend: "prepend", OpCas: "cas",
	OpIncr: "incr", OpDecr: "decr",
}

// AppendStorage writes the line of a storage command, OpSet to OpCas, for a
// value of size bytes. The value and "\r\n" have to follow. cas is used by
// OpCas only.
func AppendStorage(dst []byte, verb Op, key []byte, flags uint32, expiry int64, size int, cas uint64) []byte {
	dst = append(dst, verbs[verb]...)
	dst = append(dst, ' ')
	dst = append(dst, key...)
	dst = appendUint(append(dst, ' '), uint64(flags))
	dst = appendInt(append(dst, ' '), expiry)
	dst = appendUint(append(dst, ' '), uint64(size))
	if verb == OpCas {
		dst = appendUint(append(dst, ' '), cas)
	}
	return append(dst, '\r', '\n')
}

// AppendGetStart begins a get of any number of keys with verb OpGet or
// OpGets. AppendKey adds each key and AppendGetEnd ends the command.
func AppendGetStart(dst []byte, verb Op) []byte {
	return append(dst, verbs[verb]...)
}

// AppendGatStart begins a get that sets the expiry, OpGat or OpGats.
// AppendKey adds each key and AppendGetEnd ends the command.
func AppendGatStart(dst []byte, verb Op, expiry int64) []byte {
	dst = append(dst, verbs[verb]...)
	return appendInt(append(dst, ' '), expiry)
}

// AppendKey adds a key to a command begun with AppendGetStart or
// AppendGatStart.
func AppendKey(dst, key []byte) []byte {
	dst = append(dst, ' ')
	return append(dst, key...)
}

// AppendGetEnd ends a command begun with AppendGetStart or AppendGatStart.
func AppendGetEnd(dst []byte) []byte {
	return append(dst, '\r', '\n')
}

// AppendGat writes a gat or gats (OpGat, OpGats) of one key.
func AppendGat(dst []byte, verb Op, key []byte, expiry int64) []byte {
	return AppendGetEnd(AppendKey(AppendGatStart(dst, verb, expiry), key))
}

// AppendDelete writes a delete, as a meta command for a key that is not fit for
// another.
func AppendDelete(dst, key []byte) []byte {
	verb := "delete "
	if !IsTextKey(key) {
		verb = "md "
	}
	return append(AppendMetaStart(dst, verb, key), '\r', '\n')
}

// AppendArith writes an incr or decr (OpIncr, OpDecr).
func AppendArith(dst []byte, verb Op, key []byte, delta uint64) []byte {
	dst = append(dst, verbs[verb]...)
	dst = append(dst, ' ')
	dst = append(dst, key...)
	dst = appendUint(append(dst, ' '), delta)
	return append(dst, '\r', '\n')
}

// AppendTouch writes a touch.
func AppendTouch(dst, key []byte, expiry int64) []byte {
	dst = append(dst, "touch "...)
	dst = append(dst, key...)
	dst = appendInt(append(dst, ' '), expiry)
	return append(dst, '\r', '\n')
}

// AppendFlushAll writes a flush_all. A delay of 0 or less means now, as in
// memcached, and is not written.
func AppendFlushAll(dst []byte, delay int64) []byte {
	dst = append(dst, "flush_all"...)
	if delay > 0 {
		dst = appendInt(append(dst, ' '), delay)
	}
	return append(dst, '\r', '\n')
}

// AppendVersion writes a version.
func AppendVersion(dst []byte) []byte {
	return append(dst, "version\r\n"...)
}

// AppendStats writes a stats; args, such as "settings", may be empty.
func AppendStats(dst []byte, args string) []byte {
	dst = append(dst, "stats"...)
	if args != "" {
		dst = append(dst, ' ')
		dst = append(dst, args...)
	}
	return append(dst, '\r', '\n')
}

// AppendValueHeader writes the line before a value in the answer to gets. The
// value and "\r\n" have to follow.
func AppendValueHeader(dst, key []byte, flags uint32, size int, cas uint64) []byte {
	dst = append(append(dst, "VALUE "...), key...)
	dst = appendUint(append(dst, ' '), uint64(flags))
	dst = appendUint(append(dst, ' '), uint64(size))
	dst = appendUint(append(dst, ' '), cas)
	return append(dst, '\r', '\n')
}

// AppendPlainValueHeader is AppendValueHeader for the answer to get.
func AppendPlainValueHeader(dst, key []byte, flags uint32, size int) []byte {
	dst = append(append(dst, "VALUE "...), key...)
	dst = appendUint(append(dst, ' '), uint64(flags))
	dst = appendUint(append(dst, ' '), uint64(size))
	return append(dst, '\r', '\n')
}

func appendUint(dst []byte, v uint64) []byte {
	if v < 10 {
		return append(dst, byte('0'+v))
	}
	return strconv.AppendUint(dst, v, 10)
}

func appendInt(dst []byte, v int64) []byte {
	if v >= 0 {
		return appendUint(dst, uint64(v))
	}
	return strconv.AppendInt(dst, v, 10)
}
