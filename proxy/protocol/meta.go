package protocol

// The functions in this file write commands of memcached's meta dialect, for
// what the classic commands cannot say: a get that tells the time to live, and
// a write that brings its own cas token. See protocol.txt, "Meta Commands", of
// memcached 1.6.14 and later. Keys are written as they are, as in encode.go. Flag E, the token to
// store, exists from 1.6.27 on; an older server answers CLIENT_ERROR to it.

// MetaSet describes a storage command.
type MetaSet struct {
	Op      Op     // OpSet, OpAdd, OpReplace, OpAppend, OpPrepend or OpCas
	Flags   uint32 // client flags; without meaning for OpAppend and OpPrepend
	Expiry  int64  // seconds as in the classic commands; without meaning for OpAppend and OpPrepend
	Size    int    // bytes of the value without its line end
	Compare uint64 // OpCas: the token that the item must have
	Token   uint64 // the token that the item is to get; 0 leaves the choice to the server
	Quiet   bool   // no answer when it is stored
	Tell    bool   // the answer names the item's token; see ParseToken
}

// metaModes are the arguments of flag M. A set needs none.
var metaModes = [...]byte{OpAdd: 'E', OpReplace: 'R', OpAppend: 'A', OpPrepend: 'P', OpCas: 0}

// AppendMetaSet writes the line of a storage command. The value and "\r\n"
// have to follow. The answers are Done, NotStored, Exists and NotFound.
//
// When the value is too large for the server it drops the item that it had,
// whatever the operation; of the classic commands only set does so.
func AppendMetaSet(dst, key []byte, s *MetaSet) []byte {
	dst = append(append(dst, "ms "...), key...)
	dst = appendUint(append(dst, ' '), uint64(s.Size))
	if mode := metaModes[s.Op]; mode != 0 {
		dst = append(dst, ' ', 'M', mode)
	}
	if s.Op != OpAppend && s.Op != OpPrepend {
		if s.Flags != 0 {
			dst = appendUint(append(dst, " F"...), uint64(s.Flags))
		}
		if s.Expiry != 0 {
			dst = appendInt(append(dst, " T"...), s.Expiry)
		}
	}
	if s.Op == OpCas {
		dst = appendUint(append(dst, " C"...), s.Compare)
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

// AppendMetaGet writes a get of the value, the client flags, the time to live
// and the cas token. ParseItem reads the answer; a miss is End. As every get
// it counts as a use of the item.
func AppendMetaGet(dst, key []byte) []byte {
	return append(append(append(dst, "mg "...), key...), " v f t c\r\n"...)
}

// AppendMetaLook writes a get of the size, the client flags, the time to live
// and the cas token, without the value. ParseLook reads the answer; a miss is
// End.
//
// A get without flag v would still count as a use of the item: it would move
// it in the list of the least recently used ones, mark it as fetched and set
// its time of last access. Flag u prevents all three.
func AppendMetaLook(dst, key []byte) []byte {
	return append(append(append(dst, "mg "...), key...), " s f t c u\r\n"...)
}

// AppendMetaArith writes an incr or decr (OpIncr, OpDecr) that is answered the
// item's new cas token. ParseItem reads the answer, whose value is the new
// number; a miss is NotFound.
//
// The token cannot be chosen: memcached 1.6.38 takes no flag E from arithmetic
// when it makes a new item for the number, and answers the wrong token then.
// AppendRetoken does it afterwards.
func AppendMetaArith(dst, key []byte, op Op, delta uint64) []byte {
	dst = append(append(dst, "ma "...), key...)
	if op == OpDecr {
		dst = append(dst, " MD"...)
	}
	dst = appendUint(append(dst, " D"...), delta)
	return append(dst, " v c\r\n"...)
}

// AppendRetoken writes a command, value included, that gives an item another
// cas token and leaves it as it is otherwise: it appends nothing. The answers
// are Done and NotStored.
func AppendRetoken(dst, key []byte, token uint64) []byte {
	return append(AppendMetaSet(dst, key, &MetaSet{Op: OpAppend, Token: token}), "\r\n"...)
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
	dst = append(append(dst, "md "...), key...)
	dst = appendUint(append(dst, " C"...), token)
	return append(dst, '\r', '\n')
}
