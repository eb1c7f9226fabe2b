package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"testing"
)

// Ports are taken from below Linux's ephemeral range (32768 and up), so that
// no outgoing connection can sit on the port of a server that is about to be
// started again.
const (
	portLow  = 15000
	portHigh = 32000
)

// FreePort returns a TCP port of 127.0.0.1 on which nothing listens. It stays
// reserved until the test ends, also against other test processes of this
// package, which is what makes a restart on the same port safe.
func FreePort(tb testing.TB) int {
	tb.Helper()
	for range 2000 {
		port := portLow + rand.IntN(portHigh-portLow)
		// An abstract Unix socket is a lock that ends with its process.
		lock, err := net.Listen("unix", fmt.Sprintf("@magent-test-port-%d", port))
		if err != nil {
			continue
		}
		if !isFree(port) {
			_ = lock.Close()
			continue
		}
		tb.Cleanup(func() { _ = lock.Close() })
		return port
	}
	tb.Fatalf("no free port between %d and %d", portLow, portHigh)
	return 0
}

// isFree tells whether one can listen on a port. A process that is forked
// meanwhile would have a copy of the socket until it executes its program, and
// the port would be taken for that long: so nothing is forked meanwhile.
func isFree(port int) bool {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	probe, err := net.Listen("tcp", Loopback(port))
	if err != nil {
		return false
	}
	return probe.Close() == nil
}

// Loopback returns the address of a port on 127.0.0.1.
func Loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
