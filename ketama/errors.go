package ketama

import "errors"

// Why New refused a pool. The error that New returns wraps one of these and
// names the server or the value.
var (
	ErrNoServers    = errors.New("a pool needs at least one server")
	ErrDistribution = errors.New("unknown distribution")
	ErrWeight       = errors.New("bad weight")
	ErrDuplicate    = errors.New("server named twice in one pool")
)

// errPoints says that go-ketama made another ring than it was asked for. It
// does not happen with the version that go.mod pins.
var errPoints = errors.New("go-ketama made an unexpected ring: build magent with the version that go.mod names")
