package proxy

import "errors"

// Errors of New, Start, Reload and the binary upgrade.
var (
	ErrOptions = errors.New("bad option")
	ErrState   = errors.New("bad state from the program before the upgrade")
	ErrBusy    = errors.New("requests in flight did not end in time")
)
