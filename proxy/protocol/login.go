package protocol

import (
	"bytes"
	"fmt"
	"strconv"
)

const (
	// MaxLogins is the most users of one file (MAX_ENTRIES of memcached's
	// authfile.c, which leaves further ones out without a word).
	MaxLogins = 8
	// maxLogin is the most bytes of a line of such a file. memcached cuts a
	// longer one, and reads nothing behind it (MAX_ENTRY_LEN).
	maxLogin = 254
	// MaxLoginFile is more bytes than a right file of users can have.
	MaxLoginFile = MaxLogins*(maxLogin+1) + 1
)

// Login is a user and its password.
type Login struct{ User, Password string }

// ParseLogins reads the text of a file of users: lines user:password, as
// memcached's -Y takes it (authfile.c). The first colon ends the user; the
// password ends at the end of the line or at a carriage return. There are no
// comments and no empty lines. What memcached would cut or leave out without a
// word is an error here. Errors name the line, say how to mend it, and hold
// nothing of its text.
func ParseLogins(text []byte) ([]Login, error) {
	var logins []Login
	for n := 1; len(text) > 0; n++ {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
		user, password, colon := bytes.Cut(line, []byte(":"))
		switch {
		case n > MaxLogins:
			return nil, fmt.Errorf("line %d is one too many: memcached takes %d users: leave some out", n, MaxLogins)
		case len(line) > maxLogin:
			return nil, fmt.Errorf("line %d has %d bytes: write user:password in at most %d", n, len(line), maxLogin)
		case bytes.IndexByte(line, 0) >= 0:
			return nil, fmt.Errorf("line %d holds a zero byte: write user:password as plain text", n)
		case len(bytes.TrimRight(line, "\r")) == 0:
			return nil, fmt.Errorf("line %d is empty: take it out", n)
		case !colon:
			return nil, fmt.Errorf("line %d has no colon: write user:password; there are no comments in this file", n)
		}
		password, _, _ = bytes.Cut(password, []byte("\r"))
		logins = append(logins, Login{User: string(user), Password: string(password)})
	}
	if len(logins) == 0 {
		return nil, fmt.Errorf("it names no user: write a line user:password")
	}
	return logins, nil
}

// Textual tells whether the login can be sent in text, where a space ends a
// word.
func (l Login) Textual() bool {
	return l.User != "" && l.Password != "" && !bytes.ContainsAny([]byte(l.User+l.Password), " \x00")
}

// AppendAuth appends the request that proves a textual login to memcached -Y
// (protocol.txt, "Authentication"). A server that asks ignores the key and the
// expiry; one that does not ask any more stores an item under the key, which
// nobody can read because it has expired.
func AppendAuth(dst []byte, key string, l Login) []byte {
	dst = append(append(append(dst, "set "...), key...), " 0 -1 "...)
	dst = append(strconv.AppendInt(dst, int64(len(l.User)+1+len(l.Password)), 10), "\r\n"...)
	return append(append(append(append(append(dst, l.User...), ' '), l.Password...), '\r'), '\n')
}
