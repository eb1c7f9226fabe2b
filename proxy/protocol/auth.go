package protocol

import (
	"bytes"
	"math"
)

const (
	// authBuffer is what memcached reads of a client that has not proved
	// itself: a longer line, or value, closes the connection
	// (READ_BUFFER_SIZE).
	authBuffer = 16 << 10
	// AuthInput is the most bytes that ParseAuth leaves to be read again.
	AuthInput = 2 * authBuffer
)

// The answers of memcached to a client that has to prove itself first.
var (
	AuthStored  = []byte("STORED\r\n")
	AuthFailure = []byte("CLIENT_ERROR authentication failure\r\n")

	replyUnauthenticated = []byte(Unauthenticated + "\r\n")
	replyTermination     = []byte("CLIENT_ERROR bad command line termination\r\n")
	replyToken           = []byte("CLIENT_ERROR bad authentication token format\r\n")
)

// Unauthenticated is the line, without its end, that answers all that is sent
// before the proof.
const Unauthenticated = "CLIENT_ERROR unauthenticated"

// AsksForProof tells whether a line, without its end, is what a server answers to
// a command of somebody who has not proved itself. A set is taken for the proof,
// and refused as one.
func AsksForProof(line []byte) bool {
	switch string(line) {
	case Unauthenticated, "CLIENT_ERROR authentication failure", "CLIENT_ERROR bad authentication token format", "CLIENT_ERROR bad command line termination":
		return true
	}
	return false
}

// Auth is what a text client that has not proved itself has sent.
type Auth struct {
	User, Password []byte // to be checked, when Reply is empty; they alias the input
	Reply          []byte // the answer to anything else
	Close          bool   // the connection is closed without an answer
}

// ParseAuth reads the next command of a text client that has to prove itself:
// set <key> <flags> <exptime> <bytes>, with "<user> <password>" as the value.
// The rules are those of try_read_command_asciiauth in memcached's
// proto_text.c. n is the number of bytes taken; when it is 0 more input is
// needed and a has no meaning. Then need, when it is not 0, is the length
// from which it is of use to call again.
//
// The one difference is a length of 2^31-2 up to 2^32-3, which memcached does
// not survive: here it closes the connection.
func ParseAuth(in []byte, a *Auth) (n, need int) {
	*a = Auth{}
	if len(in) < 2 {
		return 0, 2
	}
	eol := bytes.IndexByte(in[:min(len(in), authBuffer)], '\n')
	if eol < 0 {
		if len(in) <= maxCommandLine {
			return 0, 0
		}
		return a.close(in), 0
	}
	n = eol + 1
	var w words
	w.split(cString(in[:eol]))
	var size uint32
	ok := w.n >= 5 && string(w.word[0]) == "set"
	if ok {
		size, ok = parseUint32(w.word[4])
	}
	if !ok {
		a.Reply = replyUnauthenticated
		return n, 0
	}
	whole := size + 2 // which may wrap round, as in memcached
	switch {
	case whole > math.MaxInt32:
		return a.close(in), 0
	case whole > authBuffer:
		if len(in)-n > authBuffer {
			return a.close(in), 0
		}
		return 0, n + authBuffer + 1
	case len(in)-n < int(whole):
		return 0, n + int(whole)
	case whole < 2 || string(in[n+int(size):n+int(whole)]) != "\r\n":
		a.Reply = replyTermination
		return n + int(whole), 0
	}
	w.split(cString(in[n : n+int(size)]))
	if w.n < 2 {
		a.Reply = replyToken
	} else {
		a.User, a.Password = w.word[0], w.word[1]
	}
	return n + int(whole), 0
}

func (a *Auth) close(in []byte) int {
	a.Close = true
	return len(in)
}

// cString is b up to its first zero byte.
func cString(b []byte) []byte {
	if nul := bytes.IndexByte(b, 0); nul >= 0 {
		return b[:nul]
	}
	return b
}
