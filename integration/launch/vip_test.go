package launch

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"magent/integration/harness"
)

// vip is an address that no machine has unless a test adds it.
const vip = "10.66.77.88"

// newNamespaceSite is newSite in a network namespace of its own, in which the
// test may add addresses. The test and all that it starts stay in there; it
// goes with the last of them.
func newNamespaceSite(t *testing.T) *site {
	t.Helper()
	// The thread is never unlocked: it ends with the test.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("cannot make a network namespace: %v: run the tests as root, in a container with CAP_SYS_ADMIN", err)
	}
	s := newBareSite(t)
	s.ip("link", "set", "lo", "up")
	port := strconv.Itoa(harness.FreePort(t))
	cmd := exec.Command(harness.MemcachedBinary(), "-u", "root", "-l", "127.0.0.1", "-p", port, "-U", "0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s.server = &harness.Memcached{Addr: "127.0.0.1:" + port}
	harness.Eventually(t, eventTime, "memcached serves", func() bool { return roundTrip("tcp", s.server.Addr) == nil })
	s.host = vip
	return s
}

// ip runs ip(8).
func (s *site) ip(args ...string) {
	s.Helper()
	if out, err := exec.Command(ipProgram(), args...).CombinedOutput(); err != nil {
		s.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// ipProgram is where ip(8) is, which is not in everybody's path.
func ipProgram() string {
	if path, err := exec.LookPath("ip"); err == nil {
		return path
	}
	return "/usr/sbin/ip"
}

// promise: L4
func TestAddressComesAndGoes(t *testing.T) {
	s := newNamespaceSite(t)
	r := s.run(s.args()...).wants(t, 0)
	if r.took > 10*promisedTime {
		t.Errorf("the launch took %v", r.took)
	}
	pid := s.only()
	s.run(s.args()...).wants(t, 0) // keepalived asks again before the address is there
	if s.only() != pid {
		t.Error("another process took its place")
	}
	if roundTrip("tcp", s.addr()) == nil {
		t.Fatal("the address is there before it was added")
	}
	for range 3 {
		s.ip("address", "add", vip+"/32", "dev", "lo")
		// At once: magent is listening already.
		s.serves(s.addr())
		s.ip("address", "delete", vip+"/32", "dev", "lo")
		if roundTrip("tcp", s.addr()) == nil {
			t.Fatal("the address is still there")
		}
	}
	if s.only() != pid {
		t.Error("another process took its place")
	}
}

// promise: L4
func TestAbsentAddressIPv6(t *testing.T) {
	s := newNamespaceSite(t)
	s.host = "2001:db8:66:77::88"
	s.launch()
	s.ip("address", "add", s.host+"/128", "dev", "lo", "nodad")
	// The kernel adds the route a little after the address.
	addr := fmt.Sprintf("[%s]:%d", s.host, s.port)
	harness.Eventually(t, eventTime, "the address is served", func() bool { return roundTrip("tcp", addr) == nil })
}

// Two magents that wait for one address are one too many here too.
// promise: L3, L4
func TestAbsentAddressIsLocked(t *testing.T) {
	s := newSite(t)
	s.host = vip
	pid := s.launch()
	s.run(s.args()...).wants(t, 0)
	if s.only() != pid {
		t.Error("another process took its place")
	}
	// The kernel's table shows that it listens.
	table, err := os.ReadFile("/proc/net/tcp")
	must(t, err)
	const listening = "584D420A"
	if want := fmt.Sprintf("%s:%04X 00000000:0000 0A", listening, s.port); !strings.Contains(string(table), want) {
		t.Errorf("/proc/net/tcp lacks %q", want)
	}
}

// The same address and port in two namespaces are two places.
// promise: L3
func TestNamespacesDoNotShareLocks(t *testing.T) {
	outside := newSite(t)
	outside.launch()
	done := make(chan struct{})
	t.Run("inside", func(t *testing.T) {
		defer close(done)
		inside := newNamespaceSite(t)
		inside.host, inside.port = outside.host, outside.port
		inside.launch()
		inside.serves(inside.addr())
		if inside.pid() == outside.pid() {
			t.Error("one process serves both")
		}
	})
	<-done
}
