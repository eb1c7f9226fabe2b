package protocol

import "encoding/binary"

// BinaryStatus is the status in the header of an answer of the binary
// protocol.
type BinaryStatus uint16

// The statuses of memcached's protocol_binary.h, and two of protocol_binary.txt
// that memcached itself never answers (StatusInternal, StatusTemporary).
const (
	StatusOK             BinaryStatus = 0x00
	StatusNotFound       BinaryStatus = 0x01
	StatusExists         BinaryStatus = 0x02 // the token differs, or an add found a value
	StatusTooLarge       BinaryStatus = 0x03
	StatusInvalid        BinaryStatus = 0x04
	StatusNotStored      BinaryStatus = 0x05
	StatusNonNumeric     BinaryStatus = 0x06
	StatusAuthError      BinaryStatus = 0x20
	StatusAuthContinue   BinaryStatus = 0x21
	StatusUnknownCommand BinaryStatus = 0x81
	StatusOutOfMemory    BinaryStatus = 0x82
	StatusInternal       BinaryStatus = 0x84
	StatusTemporary      BinaryStatus = 0x86
)

// text is what an error of the status says when nothing better is known. The
// words are those of write_bin_error of memcached's proto_bin.c, and for the
// last two those of protocol_binary.txt.
func (s BinaryStatus) text() string {
	switch s {
	case StatusNotFound:
		return "Not found"
	case StatusExists:
		return "Data exists for key."
	case StatusTooLarge:
		return "Too large."
	case StatusInvalid:
		return "Invalid arguments"
	case StatusNotStored:
		return "Not stored."
	case StatusNonNumeric:
		return "Non-numeric server-side value for incr or decr"
	case StatusAuthError:
		return "Auth failure."
	case StatusUnknownCommand:
		return "Unknown command"
	case StatusOutOfMemory:
		return "Out of memory"
	case StatusInternal:
		return "Internal error"
	case StatusTemporary:
		return "Temporary failure"
	}
	return ""
}

// The functions below write answers of the binary protocol behind dst and
// return the longer slice. opcode and opaque are Request.Opcode and
// Request.OpaqueWord of the request that is answered. Whether it is answered
// at all is for QuietSilences to say.

// AppendBinaryHeader writes the 24 bytes in front of an answer. extras and key
// are the lengths of what follows at once, and body is the length of all that
// follows, extras and key included, below 4 GiB. cas is 0 in all answers but
// those that tell of a value which is there.
func AppendBinaryHeader(dst []byte, opcode byte, opaque uint32, status BinaryStatus, cas uint64, extras, key, body int) []byte {
	dst = append(dst, binaryResponse, opcode, byte(key>>8), byte(key), byte(extras), 0, byte(status>>8), byte(status))
	dst = binary.BigEndian.AppendUint32(dst, uint32(body))
	dst = binary.BigEndian.AppendUint32(dst, opaque)
	return binary.BigEndian.AppendUint64(dst, cas)
}

// AppendBinaryHit begins the answer to a get or gat that found a value of size
// bytes. The value has to follow, and no "\r\n". key is written for the
// opcodes that want it.
func AppendBinaryHit(dst []byte, opcode byte, opaque uint32, cas uint64, flags uint32, key []byte, size int) []byte {
	if !binaryCommands[opcode].keyed {
		key = nil
	}
	dst = AppendBinaryHeader(dst, opcode, opaque, StatusOK, cas, 4, len(key), 4+len(key)+size)
	dst = binary.BigEndian.AppendUint32(dst, flags)
	return append(dst, key...)
}

// AppendBinaryMiss answers a get, gat or touch that found nothing. The opcodes
// that want the key get it in place of the text.
func AppendBinaryMiss(dst []byte, opcode byte, opaque uint32, key []byte) []byte {
	if !binaryCommands[opcode].keyed {
		return AppendBinaryError(dst, opcode, opaque, StatusNotFound)
	}
	dst = AppendBinaryHeader(dst, opcode, opaque, StatusNotFound, 0, 0, len(key), len(key))
	return append(dst, key...)
}

// AppendBinaryOK answers the success of a storage request, where cas is the
// token of the new value, and with cas 0 that of a delete, flush, noop or quit.
func AppendBinaryOK(dst []byte, opcode byte, opaque uint32, cas uint64) []byte {
	return AppendBinaryHeader(dst, opcode, opaque, StatusOK, cas, 0, 0, 0)
}

// AppendBinaryTouched answers the success of a touch. memcached sends the flags
// and the token of the value, as in the answer to a gat.
func AppendBinaryTouched(dst []byte, opcode byte, opaque uint32, cas uint64, flags uint32) []byte {
	dst = AppendBinaryHeader(dst, opcode, opaque, StatusOK, cas, 4, 0, 4)
	return binary.BigEndian.AppendUint32(dst, flags)
}

// AppendBinaryNumber answers the success of an increment or decrement: value
// is what is stored now, under the token cas.
func AppendBinaryNumber(dst []byte, opcode byte, opaque uint32, cas, value uint64) []byte {
	dst = AppendBinaryHeader(dst, opcode, opaque, StatusOK, cas, 0, 0, 8)
	return binary.BigEndian.AppendUint64(dst, value)
}

// AppendBinaryVersion answers a version.
func AppendBinaryVersion(dst []byte, opcode byte, opaque uint32, version string) []byte {
	return AppendBinaryText(dst, opcode, opaque, StatusOK, version)
}

// AppendBinaryStat writes one entry of the answer to a stat. AppendBinaryStatEnd
// ends it. name is not empty, as that is the end, and below 64 KiB.
func AppendBinaryStat[T ~string | ~[]byte](dst []byte, opaque uint32, name, value T) []byte {
	dst = AppendBinaryHeader(dst, opcodeStat, opaque, StatusOK, 0, 0, len(name), len(name)+len(value))
	return append(append(dst, name...), value...)
}

// AppendBinaryStatEnd writes the entry without a name that ends the answer to a
// stat.
func AppendBinaryStatEnd(dst []byte, opaque uint32) []byte {
	return AppendBinaryHeader(dst, opcodeStat, opaque, StatusOK, 0, 0, 0, 0)
}

// AppendBinaryError writes an error with the text that memcached has for the
// status.
func AppendBinaryError(dst []byte, opcode byte, opaque uint32, status BinaryStatus) []byte {
	return AppendBinaryText(dst, opcode, opaque, status, status.text())
}

// AppendBinaryText writes an answer that is only a text: an error with words of
// its own, the mechanisms of SASL (StatusOK), or a challenge
// (StatusAuthContinue).
func AppendBinaryText[T ~string | ~[]byte](dst []byte, opcode byte, opaque uint32, status BinaryStatus, text T) []byte {
	dst = AppendBinaryHeader(dst, opcode, opaque, status, 0, 0, 0, len(text))
	return append(dst, text...)
}
