package keepalived

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"magent/integration/harness"
)

// The main goroutine keeps the main thread, which stands for the whole process
// in /proc: it never enters another namespace.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if dir := os.Getenv(nodeEnv); dir != "" {
		if err := runInit(dir); err != nil {
			fmt.Fprintln(os.Stderr, "the init of a node:", err)
			os.Exit(1)
		}
		return
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "the tests with keepalived make network namespaces: run them as root (make test asks for sudo)")
		os.Exit(1)
	}
	os.Exit(harness.Main(m))
}
