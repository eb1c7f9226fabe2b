package harness

import (
	"net"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
)

// One can listen on a free port at once, also while other tests start programs,
// which have copies of all sockets for a moment.
func TestFreePortsAreFree(t *testing.T) {
	var over atomic.Bool
	var forking sync.WaitGroup
	defer forking.Wait()
	defer over.Store(true)
	for range 4 {
		forking.Go(func() {
			for !over.Load() {
				if err := exec.Command("true").Run(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 500 {
		ln, err := net.Listen("tcp", Loopback(FreePort(t)))
		if err != nil {
			t.Fatal(err)
		}
		_ = ln.Close()
	}
}
