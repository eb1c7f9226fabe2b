package backend

import "errors"

// Reasons for which a connection or a server is given up.
var (
	ErrRefused  = errors.New("cannot connect")
	ErrTimeout  = errors.New("no answer in time")
	ErrClosed   = errors.New("server closed the connection")
	ErrProtocol = errors.New("server sent what is not memcached's protocol")
	ErrNewLife  = errors.New("the server was started anew")
	ErrNotYet   = errors.New("the server must not serve yet")
	ErrAuth     = errors.New("the server does not let magent in")
	ErrTakenOut = errors.New("server was taken out")
)
