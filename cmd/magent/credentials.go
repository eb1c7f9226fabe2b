package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"magent/proxy"
	"magent/proxy/protocol"
)

// authQuestion is how one proves on a lock who it is: a user and a password
// follow.
const authQuestion = "magent auth "

// askKey is the key of the request that proves on a connection who asks. magent
// ignores it.
const askKey = "__magent__:ask"

var (
	// errUnproven says that a magent answers those alone who prove themselves.
	errUnproven = errors.New("it asks for a user and a password")
	// errNoLogin says that there is nothing to prove oneself with.
	errNoLogin = errors.New("no --auth-file is given")
)

// gatekeeper tells whether the password is the user's.
type gatekeeper func(user, password string) bool

// mayAsk tells whether the process at the other end of a lock may ask without a
// password: root and the user that magent runs as could read its memory, with the
// passwords of its servers and all that passes through it. The kernel says who
// it is.
func mayAsk(conn net.Conn) bool {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	may := false
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			may = cred.Uid == 0 || int(cred.Uid) == os.Geteuid()
		}
	})
	return err == nil && may
}

// admit answers a question of one who has not proved itself.
func (g gatekeeper) admit(question string) (answer string, admitted bool) {
	login, ok := strings.CutPrefix(question, authQuestion)
	if !ok {
		return protocol.Unauthenticated + "\r\n", false
	}
	if user, password, _ := strings.Cut(login, " "); g(user, password) {
		return "OK\r\n", true
	}
	return string(protocol.AuthFailure), false
}

// login is the first user of a file that can be told in text.
func loginFrom(path string) (*protocol.Login, error) {
	if path == "" {
		return nil, errNoLogin
	}
	logins, err := proxy.ReadLogins(path)
	if err != nil {
		return nil, fmt.Errorf("--auth-file: %w", err)
	}
	for i := range logins {
		if logins[i].Textual() {
			return &logins[i], nil
		}
	}
	return nil, fmt.Errorf("--auth-file: %s: each user or password is empty or holds a space, which the text protocol has no room for: add another user", path)
}

// unproven is the error for a magent that asks who one is.
func (q *inquiry) unproven(where endpoint) error {
	const as = "run this as root or as the user that magent runs as"
	if _, err := loginFrom(q.authFile); err != nil && !errors.Is(err, errNoLogin) {
		return fmt.Errorf("the magent at %s answers only who proves itself (%w), and %w; or %s", where.address, errUnproven, err, as)
	}
	if q.authFile != "" {
		return fmt.Errorf("the magent at %s does not know the user and password of %s: %w: give it the file that magent has with --auth-file, and send magent HUP if the file has changed", where.address, q.authFile, errUnproven)
	}
	return fmt.Errorf("the magent at %s answers only who proves itself: %w: give its --auth-file here too, or %s", where.address, errUnproven, as)
}
