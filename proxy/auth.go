package proxy

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"magent/proxy/protocol"
)

// auth knows who may use magent. It does not change; a file that is read anew
// makes another one. It holds no password, only digests under a key of its own.
type auth struct {
	key     [sha256.Size]byte
	digests [protocol.MaxLogins][sha256.Size]byte
}

func newAuth(logins []protocol.Login) *auth {
	a := &auth{}
	_, _ = rand.Read(a.key[:]) // it never fails
	for i := range a.digests {
		if i < len(logins) {
			a.digests[i] = a.digest([]byte(logins[i].User), []byte(logins[i].Password))
		} else {
			_, _ = rand.Read(a.digests[i][:]) // nobody's
		}
	}
	return a
}

func (a *auth) digest(user, password []byte) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, a.key[:])
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(user)))) // where the password begins
	h.Write(user)
	h.Write(password)
	h.Sum(sum[:0])
	return sum
}

// check tells whether the password is the user's. The time that it takes
// depends on the lengths of what is checked, and on nothing that is kept.
func (a *auth) check(user, password []byte) bool {
	sum := a.digest(user, password)
	right := 0
	for i := range a.digests {
		right |= subtle.ConstantTimeCompare(sum[:], a.digests[i][:])
	}
	return right == 1
}

// plain checks a message of the SASL mechanism PLAIN (RFC 4616): authzid, zero
// byte, user, zero byte, password. Nobody may act for another user, so authzid
// is empty or the user. The user and the password are not empty.
func (a *auth) plain(data []byte) bool {
	parts := bytes.Split(data, []byte{0})
	if len(parts) != 3 || len(parts[1]) == 0 || len(parts[2]) == 0 {
		return false
	}
	return a.check(parts[1], parts[2]) && (len(parts[0]) == 0 || bytes.Equal(parts[0], parts[1]))
}

// ReadLogins reads a file of users; see protocol.ParseLogins. Errors are one
// line, name the file and the line, and hold no password.
func ReadLogins(path string) ([]protocol.Login, error) {
	f, err := os.Open(path)
	if err != nil {
		var plain *os.PathError
		if errors.As(err, &plain) {
			err = plain.Err
		}
		return nil, fmt.Errorf("cannot open %s: %w: mend the path, or let the user that magent runs as read it", path, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, protocol.MaxLoginFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w: name a file of lines user:password", path, err)
	}
	logins, err := protocol.ParseLogins(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return logins, nil
}

// secrets are what the options' files of users say.
type secrets struct {
	clients *auth           // nil: clients need not prove themselves
	servers *protocol.Login // nil: nothing is proved to servers
}

// readSecrets reads the files that the options name. Errors wrap ErrOptions.
func readSecrets(o *Options) (s secrets, err error) {
	if o.AuthFile != "" {
		logins, err := ReadLogins(o.AuthFile)
		if err != nil {
			return s, fmt.Errorf("%w: --auth-file: %w", ErrOptions, err)
		}
		s.clients = newAuth(logins)
	}
	if o.ServerAuthFile != "" {
		logins, err := ReadLogins(o.ServerAuthFile)
		switch {
		case err != nil:
			return s, fmt.Errorf("%w: --server-auth-file: %w", ErrOptions, err)
		case len(logins) > 1:
			return s, fmt.Errorf("%w: --server-auth-file: %s has %d lines: write one, user:password, which all servers know", ErrOptions, o.ServerAuthFile, len(logins))
		case !logins[0].Textual():
			return s, fmt.Errorf("%w: --server-auth-file: %s: the user or the password on line 1 is empty or holds a space, which the protocol has no room for: choose others", ErrOptions, o.ServerAuthFile)
		}
		s.servers = &logins[0]
	}
	return s, nil
}

// useSecrets has new connections go by what was read.
func (p *Proxy) useSecrets(s secrets) {
	p.auth.Store(s.clients)
	for _, server := range p.servers {
		server.SetLogin(s.servers)
	}
}

// Guarded tells whether clients have to prove themselves.
func (p *Proxy) Guarded() bool { return p.auth.Load() != nil }

// Authenticate tells whether the password is the user's; always when clients
// need not prove themselves. It may be called from any goroutine.
func (p *Proxy) Authenticate(user, password string) bool {
	a := p.auth.Load()
	return a == nil || a.check([]byte(user), []byte(password))
}

// allowed tells whether a request may run. Text never gets here before its
// client has proved itself (see prove); of a binary client that has not, only
// what memcached lets pass (authenticated in proto_bin.c) may.
func (s *session) allowed(r *protocol.Request) bool {
	switch r.Op {
	case protocol.OpVersion, protocol.OpSaslList, protocol.OpSaslAuth, protocol.OpSaslStep:
		return true
	case protocol.OpInvalid:
		return r.Close || s.authenticated
	}
	return s.authenticated
}

// refuseBinary answers a binary request that may not run, and closes.
func (s *session) refuseBinary(r *protocol.Request) {
	reply := protocol.AppendBinaryError(nil, r.Opcode, r.OpaqueWord, protocol.StatusAuthError)
	s.answerNow(&protocol.Request{Op: protocol.OpInvalid, Reply: reply, Close: true})
}

// sasl answers the requests by which a binary client proves itself: with the
// mechanism PLAIN, in one step (process_bin_sasl_auth of proto_bin.c). Where
// nobody has to, there are no such requests.
func (s *session) sasl(dst []byte, r *protocol.Request) []byte {
	a := s.w.p.auth.Load()
	switch {
	case a == nil:
		return protocol.AppendBinaryError(dst, r.Opcode, r.OpaqueWord, protocol.StatusUnknownCommand)
	case len(r.Reply) > 0:
		return append(dst, r.Reply...)
	case r.Op == protocol.OpSaslList:
		return protocol.AppendBinaryText(dst, r.Opcode, r.OpaqueWord, protocol.StatusOK, "PLAIN")
	}
	s.authenticated = false
	right := r.Op == protocol.OpSaslAuth && string(r.Key) == "PLAIN" && a.plain(r.Value)
	s.judge(right)
	if right {
		return protocol.AppendBinaryText(dst, r.Opcode, r.OpaqueWord, protocol.StatusOK, "Authenticated")
	}
	return protocol.AppendBinaryError(dst, r.Opcode, r.OpaqueWord, protocol.StatusAuthError)
}

// prove takes the commands of a text client that has not proved itself, up to
// the one that proves it, and returns the number of bytes that are done with.
//
// Of answers that were not sent yet memcached keeps the last alone, and none
// when it closes: it has one place for them.
func (s *session) prove(data []byte) (used int) {
	var reply []byte
	for !s.authenticated {
		var a protocol.Auth
		n, need := protocol.ParseAuth(data[used:], &a)
		if n == 0 {
			if s.need = need; need == 0 {
				s.searched = len(data) - used
			}
			break
		}
		used += n
		if a.Close {
			s.leaving = true
			s.wake()
			return used
		}
		s.Requests++
		s.w.stats.requests++
		if reply = a.Reply; reply == nil {
			reply = s.judge(s.w.p.auth.Load().check(a.User, a.Password))
		}
	}
	if reply != nil {
		s.answerNow(&protocol.Request{Op: protocol.OpInvalid, Reply: reply})
	}
	return used
}

// judge counts an attempt of a client to prove itself and returns what answers
// it. The user is not logged: people type passwords in its place.
func (s *session) judge(right bool) (reply []byte) {
	s.w.stats.authCmds++
	if right {
		s.authenticated = true
		return protocol.AuthStored
	}
	s.w.stats.authErrors++
	s.w.p.warnings.warn(s.w.log.Warn().Stringer("client", s.From), "auth",
		"a client gave a user and a password that --auth-file does not hold")
	return protocol.AuthFailure
}
