package protocol

import "encoding/base64"

// The functions in this file write commands of memcached's meta dialect, for
// what the classic commands cannot say: a get that tells the time to live, a
// write that brings its own cas token, and keys that hold any byte. See
// protocol.txt, "Meta Commands", of memcached 1.6.14 and later. A key that is not
// fit for a line is written base64-encoded. Flag E, the token to store, exists
// from 1.6.27 on; an older server answers CLIENT_ERROR to it.

// MetaSet describes a storage command.
type MetaSet struct {
	Op       Op     // OpSet, OpAdd, OpReplace, OpAppend, OpPrepend or OpCas
	Base64   bool   // the key is written base64-encoded, and the server keeps in mind that it was
	Flags    uint32 // client flags; without meaning for OpAppend and OpPrepend
	Expiry   int64  // seconds as in the classic commands; without meaning for OpAppend and OpPrepend
	Size     int    // bytes of the value without its line end
	Compare  uint64 // the token that the item must have; only OpCas and with Compares
	Compares bool
	Stale    bool   // where Compare is older than the item's token, store it as stale, with the expiry that it had
	Create   bool   // OpAppend, OpPrepend: store a missing key, with Expiry (memcached 1.6.22 and later)
	Token    uint64 // the token that the item is to get; 0 leaves the choice to the server
	Quiet    bool   // no answer when it is stored
	Tell     bool   // the answer names the item's token; see ParseToken
}

// metaModes are the arguments of flag M. A set needs none.
var metaModes = [...]byte{OpAdd: 'E', OpReplace: 'R', OpAppend: 'A', OpPrepend: 'P', OpCas: 0}

// AppendMetaSet writes the line of a storage command. The value and "\r\n"
// have to follow. The answers are Done, NotStored, Exists and NotFound.
//
// When the value is too large for the server it drops the item that it had,
// whatever the operation; of the classic commands only set does so.
func AppendMetaSet(dst, key []byte, s *MetaSet) []byte {
	dst = AppendMetaKey(append(dst, "ms "...), key, s.Base64)
	dst = appendUint(append(dst, ' '), uint64(s.Size))
	if s.Base64 {
		dst = append(dst, " b"...)
	}
	if mode := metaModes[s.Op]; mode != 0 {
		dst = append(dst, ' ', 'M', mode)
	}
	if s.Op != OpAppend && s.Op != OpPrepend || s.Create {
		if s.Flags != 0 {
			dst = appendUint(append(dst, " F"...), uint64(s.Flags))
		}
		switch {
		case s.Create:
			dst = appendInt(append(dst, " N"...), s.Expiry)
		case s.Expiry != 0:
			dst = appendInt(append(dst, " T"...), s.Expiry)
		}
	}
	if s.Op == OpCas || s.Compares {
		dst = appendUint(append(dst, " C"...), s.Compare)
	}
	if s.Stale {
		dst = append(dst, " I"...)
	}
	dst = appendToken(dst, s.Token)
	if s.Tell {
		dst = append(dst, " c"...)
	}
	if s.Quiet {
		dst = append(dst, " q"...)
	}
	return append(dst, '\r', '\n')
}

// IsTextKey tells whether a text command can name a key. Others hold spaces,
// line ends or NULs, as keys of the binary protocol may.
func IsTextKey(key []byte) bool {
	at := indexControl(key, 0)
	for _, c := range key[at:] {
		if c <= ' ' && (c == ' ' || c == '\n' || c == 0) {
			return false
		}
	}
	return len(key) > 0
}

// MaxEncodedKey is the most bytes that a key can have which no text command can
// name. memcached takes 250 bytes of its encoding (KEY_MAX_LENGTH) and reads the
// value behind a longer one as commands (process_mset_command).
const MaxEncodedKey = maxKey / 4 * 3

// AppendMetaKey writes a key, base64-encoded when flag b says so.
func AppendMetaKey(dst, key []byte, encode bool) []byte {
	if encode {
		return base64.StdEncoding.AppendEncode(dst, key)
	}
	return append(dst, key...)
}

// AppendMetaStart writes the verb and the key of a meta command, with flag b
// when the key needs it.
func AppendMetaStart(dst []byte, verb string, key []byte) []byte {
	if IsTextKey(key) {
		return append(append(dst, verb...), key...)
	}
	return append(AppendMetaKey(append(dst, verb...), key, true), " b"...)
}

// AppendMetaGet writes a get of the value, the client flags, the time to live
// and the cas token. ParseItem reads the answer; a miss is End. As every get
// it counts as a use of the item.
func AppendMetaGet(dst, key []byte) []byte {
	return append(AppendMetaStart(dst, "mg ", key), " v f t c\r\n"...)
}

// AppendMetaCopy is AppendMetaGet for a copy, which is no use of the item: it
// also asks for the key, whose form tells whether it was stored base64-encoded. One that is not fit for a line
// always is, and memcached may answer it as it is nevertheless.
func AppendMetaCopy(dst, key []byte) []byte {
	if !IsTextKey(key) {
		return append(AppendMetaStart(dst, "mg ", key), " v f t c u\r\n"...)
	}
	return append(append(append(dst, "mg "...), key...), " v f t c k u\r\n"...)
}

// AppendMetaTouch writes a get that sets the expiry, and asks for the value when
// it is wanted, the client flags and the cas token. ParseItem reads the answer
// with a value, and ParseTouch the one without; a miss is End.
func AppendMetaTouch(dst, key []byte, expiry int64, value bool) []byte {
	dst = appendInt(append(AppendMetaStart(dst, "mg ", key), " T"...), expiry)
	if value {
		dst = append(dst, " v t"...)
	}
	return append(dst, " f c\r\n"...)
}

// AppendMetaLook writes a get of the size, the client flags, the time to live
// and the cas token, without the value. ParseLook reads the answer; a miss is
// End.
//
// A get without flag v would still count as a use of the item: it would move
// it in the list of the least recently used ones, mark it as fetched and set
// its time of last access. Flag u prevents all three.
func AppendMetaLook(dst, key []byte) []byte {
	return append(AppendMetaStart(dst, "mg ", key), " s f t c u\r\n"...)
}

// MetaArith describes an arithmetic command.
type MetaArith struct {
	Op            Op // OpIncr or OpDecr
	Base64        bool
	Delta         uint64
	Compare       uint64 // the token that the item must have
	Compares      bool
	HasInitial    bool // store Initial, with InitialExpiry, when the key is missing
	Initial       uint64
	InitialExpiry int64
}

// AppendMetaArith writes an arithmetic command that is answered the item's new
// cas token. ParseItem reads the answer, whose value is the new number; a miss is
// NotFound.
//
// The token cannot be chosen: memcached 1.6.38 takes no flag E from arithmetic
// when it makes a new item for the number, and answers the wrong token then.
// AppendRetoken does it afterwards.
func AppendMetaArith(dst, key []byte, a *MetaArith) []byte {
	dst = AppendMetaKey(append(dst, "ma "...), key, a.Base64)
	if a.Base64 {
		dst = append(dst, " b"...)
	}
	if a.Op == OpDecr {
		dst = append(dst, " MD"...)
	}
	dst = appendUint(append(dst, " D"...), a.Delta)
	if a.HasInitial {
		dst = appendInt(append(dst, " N"...), a.InitialExpiry)
		dst = appendUint(append(dst, " J"...), a.Initial)
	}
	if a.Compares {
		dst = appendUint(append(dst, " C"...), a.Compare)
	}
	return append(dst, " v c\r\n"...)
}

// AppendRetoken writes a command, value included, that gives an item another
// cas token and leaves it as it is otherwise: it appends nothing. The answers
// are Done and NotStored.
func AppendRetoken(dst, key []byte, token uint64) []byte {
	return append(AppendMetaSet(dst, key, &MetaSet{Op: OpAppend, Token: token, Base64: !IsTextKey(key)}), "\r\n"...)
}

func appendToken(dst []byte, token uint64) []byte {
	if token == 0 {
		return dst
	}
	return appendUint(append(dst, " E"...), token)
}

// AppendMetaDelete writes a delete of the item that has the token. The answers
// are Done, Exists and NotFound.
func AppendMetaDelete(dst, key []byte, token uint64) []byte {
	dst = appendUint(append(AppendMetaStart(dst, "md ", key), " C"...), token)
	return append(dst, '\r', '\n')
}

// AppendMetaInvalidate writes a delete that leaves the item and marks it as
// stale, if it has the token compare. It keeps that token where token is the
// same and the server takes tokens; 0 leaves the choice to the server. The
// answers are those to AppendMetaDelete.
func AppendMetaInvalidate(dst, key []byte, compare, token uint64) []byte {
	dst = appendUint(append(AppendMetaStart(dst, "md ", key), " I C"...), compare)
	return append(appendToken(dst, token), '\r', '\n')
}
