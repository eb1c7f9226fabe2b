package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"magent/proxy/protocol"
)

// AuthKey is the key of the request that proves who magent is. A server that
// asks ignores it.
const AuthKey = Prefix + "auth"

// authStored is what a server answers that lets magent in.
const authStored = "STORED\r\n"

// binaryEvery is how often a mute server is asked in the binary protocol.
const binaryEvery = 30 * time.Second

var (
	errAsks    = fmt.Errorf("%w: it asks for a user and a password: name a file with them with --server-auth-file", ErrAuth)
	errRefuses = fmt.Errorf("%w: it refuses the user and password of --server-auth-file: write a line there that its own -Y file has, and send magent HUP", ErrAuth)
	errBinary  = fmt.Errorf("%w: it speaks the binary protocol only, in which lifetimes cannot be read: start it with -Y FILE instead of -S, and without -B binary", ErrAuth)
)

// SetLogin sets what is proved to the server when it asks, nil for nothing.
// Connections that are there already keep on.
func (s *Server) SetLogin(l *protocol.Login) {
	if old := s.login.Swap(l); old != nil && l != nil && *old != *l {
		s.Check()
	}
}

// NeedsNoLogin tells whether there is something to prove to the server, but it
// has not asked.
func (s *Server) NeedsNoLogin() bool { return s.login.Load() != nil && !s.asks.Load() }

// Problem says in one line why the server does not let magent in, and how to
// mend it; "" when it does, or is not there.
func (s *Server) Problem() string {
	if text := s.problem.Load(); text != nil {
		return *text
	}
	return ""
}

func (s *Server) setProblem(err error) {
	if !errors.Is(err, ErrAuth) {
		s.problem.Store(nil)
		return
	}
	text := err.Error()
	s.problem.Store(&text)
}

// Dial connects to the server as DialClient does, and proves who magent is if
// the server asks. One that does not ask is not told the password: it would
// store it as the value of a key. Errors wrap ErrRefused, ErrAuth, ErrTimeout,
// ErrClosed or ErrProtocol.
func (s *Server) Dial(ctx context.Context, connect, answer time.Duration) (*Client, error) {
	c, err := DialClient(ctx, s.Address, connect, answer)
	login := s.login.Load()
	if err != nil || login == nil {
		return c, err
	}
	if err := s.prove(c, *login); err != nil {
		c.Close()
		return nil, s.whyMute(ctx, connect, answer, err)
	}
	return c, nil
}

// prove learns whether the server asks, and answers then.
func (s *Server) prove(c *Client, login protocol.Login) error {
	line, err := c.Ask("version\r\n")
	if err != nil {
		return err
	}
	if line != protocol.Unauthenticated {
		s.asks.Store(false)
		return nil // whoever dialled finds out what it is
	}
	if line, err = c.Ask("%s", protocol.AppendAuth(nil, AuthKey, login)); err != nil {
		return err
	}
	switch {
	case line+"\r\n" == authStored:
		s.asks.Store(true)
		return nil
	case strings.HasPrefix(line, "CLIENT_ERROR "):
		return errRefuses
	}
	return fmt.Errorf("%w: it answered %.40q to the authentication", ErrProtocol, line)
}

// whyMute looks closer at a server that has closed the connection at the first
// command, or has not answered it: one that speaks the binary protocol alone
// answers in that. A server that hangs is not looked at often: it costs a wait.
func (s *Server) whyMute(ctx context.Context, connect, answer time.Duration, err error) error {
	if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrTimeout) {
		return err
	}
	now := time.Now().UnixNano()
	if last := s.binaryAt.Load(); last == 0 || now-last > int64(binaryEvery) {
		s.binaryAt.Store(now)
		s.binary.Store(s.isBinary(ctx, connect, answer))
	}
	if s.binary.Load() {
		return errBinary
	}
	return err
}

// isBinary tells whether the server answers the binary version request, which
// needs no authentication (protocol_binary.txt).
func (s *Server) isBinary(ctx context.Context, connect, answer time.Duration) bool {
	c, err := DialClient(ctx, s.Address, connect, answer)
	if err != nil {
		return false
	}
	defer c.Close()
	if c.Send("\x80\x0b"+strings.Repeat("\x00", 22)) != nil {
		return false
	}
	var first [1]byte
	_, err = io.ReadFull(c.in, first[:])
	return err == nil && first[0] == 0x81
}
