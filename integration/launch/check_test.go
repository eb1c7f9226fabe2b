package launch

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"magent/integration/harness"
)

// checkArgs are the flags of an ordinary launch behind the name of a command,
// with more time than a loaded machine needs.
func (s *site) checkArgs(command string) []string {
	return append([]string{command, "--timeout", "10s"}, s.args()...)
}

// asKeepalived runs a command as keepalived runs a script of user nobody.
func (s *site) asKeepalived(args ...string) result {
	s.Helper()
	return s.runAs(asNobody(), append([]string{"sh", "-c", `umask 0177; exec "$@"`, "sh", s.binary}, args...)...)
}

// awaitCheck waits until a check says something with the text.
func (s *site) awaitCheck(code int, text string) {
	s.Helper()
	var r result
	if !harness.Poll(eventTime, func() bool {
		r = s.asKeepalived(s.checkArgs("check")...)
		return strings.Contains(r.stdout+r.stderr, text)
	}) || r.code != code {
		s.Fatalf("it does not say %q with status %d: status %d, stdout %q, stderr %q", text, code, r.code, r.stdout, r.stderr)
	}
}

// The node that stands by: magent runs there, the address is on another node.
//
// promise: L4
func TestCheckWhereTheAddressIsNot(t *testing.T) {
	s := newNamespaceSite(t)
	s.run(s.checkArgs("check")...).wants(t, 1).oneLine(t, false, "no magent on this machine listens at "+s.addr())
	pid := s.launch("--probe-max", "200ms")
	serves := "magent at " + s.addr() + " serves, 1 of 1 server up\n"
	s.awaitCheck(0, serves)
	for command, want := range map[string]string{
		"status": "listens at  " + s.addr() + "  (this machine does not have the address now)\n",
		"resync": "the magent at " + s.addr() + " refuses this: there is no backup to copy from or to",
	} {
		if r := s.run(s.checkArgs(command)...); !strings.Contains(r.stdout+r.stderr, want) {
			t.Errorf("%s: status %d, stdout %q, stderr %q", command, r.code, r.stdout, r.stderr)
		}
	}
	explain := s.run(append([]string{"explain", "--timeout", "10s", "k"}, s.args()...)...)
	if explain.code != 0 || !strings.Contains(explain.stdout, s.server.Addr) {
		t.Errorf("explain: status %d, stdout %q, stderr %q", explain.code, explain.stdout, explain.stderr)
	}
	// With the address and without it, it is the same magent.
	s.ip("address", "add", vip+"/32", "dev", "lo")
	s.awaitCheck(0, serves)
	s.freeze(pid)
	hangs := fmt.Sprintf("the magent at %s, pid %d, has not answered within 1s", s.addr(), pid)
	s.run(append([]string{"check"}, s.args()...)...).wants(t, 1).oneLine(t, false, hangs)
	s.ip("address", "delete", vip+"/32", "dev", "lo")
	s.run(append([]string{"check"}, s.args()...)...).wants(t, 1).oneLine(t, false, hangs)
	s.signal(pid, syscall.SIGCONT)
	s.awaitCheck(0, serves)
	s.signal(pid, syscall.SIGKILL)
	s.ends(pid)
	s.asKeepalived(s.checkArgs("check")...).wants(t, 1).oneLine(t, false, "no magent on this machine listens at "+s.addr())
}

// Whoever has the address on another machine is not asked by check.
//
// promise: L4
func TestCheckDoesNotAskTheOtherNode(t *testing.T) {
	s := newNamespaceSite(t)
	other := exec.Command("unshare", "-n", "sh", "-c", "echo; exec sleep 1000")
	ready, err := other.StdoutPipe()
	must(t, err)
	other.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, other.Start())
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	})
	_, err = ready.Read(make([]byte, 1)) // it is in its own namespace now
	must(t, err)
	inOther := []string{"nsenter", "-t", strconv.Itoa(other.Process.Pid), "-n"}
	run := func(argv ...string) {
		t.Helper()
		if r := s.runAs(nil, argv...); r.code != 0 {
			t.Fatalf("%q: status %d, %s", argv, r.code, r.stderr)
		}
	}
	s.ip("link", "add", "here", "type", "veth", "peer", "name", "there", "netns", strconv.Itoa(other.Process.Pid))
	s.ip("address", "add", "10.66.77.1/24", "dev", "here")
	s.ip("link", "set", "here", "up")
	run(append(inOther, ipProgram(), "address", "add", vip+"/24", "dev", "there")...)
	run(append(inOther, ipProgram(), "link", "set", "there", "up")...)
	memcached := exec.Command(inOther[0], append(inOther[1:], harness.MemcachedBinary(), "-u", "root", "-l", vip, "-p", strconv.Itoa(s.port), "-U", "0")...)
	memcached.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, memcached.Start())
	t.Cleanup(func() {
		_ = memcached.Process.Kill()
		_ = memcached.Wait()
	})
	harness.Eventually(t, eventTime, "the other node answers", func() bool { return roundTrip("tcp", s.addr()) == nil })

	s.run(s.checkArgs("check")...).wants(t, 1).oneLine(t, false, "no magent on this machine listens at "+s.addr())
	// People may ask another machine, when none listens there on this one.
	s.run(s.checkArgs("resync")...).wants(t, 1).oneLine(t, false, "what listens at "+s.addr()+" does not know this command")
	s.launch()
	s.awaitCheck(0, "magent at "+s.addr()+" serves, 1 of 1 server up\n")
	if r := s.run(s.checkArgs("status")...); r.code != 0 || !strings.Contains(r.stdout, "pid "+strconv.Itoa(s.pid())) {
		t.Errorf("status %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
}

// A socket that its user alone may use is no hindrance where there is a port.
//
// promise: L5
func TestCheckAsAnotherUser(t *testing.T) {
	s := newSite(t)
	socket := s.path("magent.sock")
	s.launch("-f", socket)
	r := s.asKeepalived(append(s.checkArgs("check"), "-f", socket)...)
	r.wantsOutput(t, "magent at "+s.addr()+" serves, 1 of 1 server up\n")
	r = s.run(append(s.checkArgs("check"), "-f", socket)...)
	r.wantsOutput(t, "magent at "+socket+" serves, 1 of 1 server up\n")
	s.asKeepalived("check", "-p", "0", "-f", socket).wants(t, 1).oneLine(t, false, "cannot connect to "+socket, "permission denied", "or as root")
}
