package launch

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"magent/integration/harness"
)

// promise: L3
func TestLaunchTwentyTimes(t *testing.T) {
	s := newSite(t)
	pid := s.launch()
	for range 20 {
		s.run(s.args()...).wants(t, 0)
	}
	// With other options too: the one that serves goes on as it is.
	s.run(s.args("-n", "7", "-k", "-P", s.path("other"))...).wants(t, 0)
	s.run(s.args("-D")...).wants(t, 0)
	if again := s.only(); again != pid {
		t.Errorf("process %d took the place of %d", again, pid)
	}
	s.serves(s.addr())
	if _, err := os.Stat(s.path("other")); !os.IsNotExist(err) {
		t.Errorf("a launch that had nothing to do wrote a pid file: %v", err)
	}
}

// Who has edited the servers in a script learns that they are not used.
// promise: L3
func TestLaunchWithOtherServers(t *testing.T) {
	s := newSite(t)
	pid := s.launch()
	want := fmt.Sprintf("magent: warning: pid %d serves %s already with other servers (-s %s), and nothing is changed: end it with kill %d first to have these\n", pid, s.addr(), s.server.Addr, pid)
	for _, other := range [][]string{{"-b", "127.0.0.1:1"}, {"-s", "127.0.0.1:1"}} {
		// One that takes long to say which servers it has is not warned of.
		var r result
		harness.Eventually(t, 10*time.Second, "the launch warns", func() bool {
			r = s.run(s.args(other...)...)
			return r.stderr != ""
		})
		if r.code != 0 || r.stdout != "" || r.stderr != want {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q; want %q", other, r.code, r.stdout, r.stderr, want)
		}
	}
	// The same in other words.
	s.server, s.env = nil, append(s.env, "MAGENT_SERVER="+s.server.Addr+":1")
	s.run(s.args()...).wants(t, 0)
	if again := s.only(); again != pid {
		t.Errorf("process %d took the place of %d", again, pid)
	}
}

// promise: L3
func TestLaunchTenAtTheSameInstant(t *testing.T) {
	s := newSite(t)
	socket := s.path("magent.sock")
	for round := range 5 {
		const launches = 10
		results := make([]result, launches)
		errs := make([]error, launches)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range launches {
			cmd := exec.Command(s.binary, s.args("-f", socket)...)
			if i%2 == 1 { // as from two scripts with the addresses in another order
				cmd = exec.Command(s.binary, append([]string{"-f", socket}, s.args()...)...)
			}
			cmd.Env = append(os.Environ(), s.env...)
			wg.Go(func() {
				<-start
				results[i], errs[i] = finish(cmd)
			})
		}
		close(start)
		wg.Wait()
		for i := range launches {
			must(t, errs[i])
			results[i].wants(t, 0)
		}
		harness.Eventually(t, eventTime, "one process remains", func() bool { return len(s.processes()) == 1 })
		pid := s.only()
		if pid != s.pid() {
			t.Errorf("round %d: process %d remains and the pid file says %d", round, pid, s.pid())
		}
		s.serves(s.addr())
		s.serves(socket)
		s.signal(pid, syscall.SIGTERM)
		s.ends(pid)
	}
}

// promise: L3
func TestAnotherProgramHoldsThePort(t *testing.T) {
	s := newSite(t)
	listener, err := net.Listen("tcp", s.addr())
	must(t, err)
	defer listener.Close()
	holder := fmt.Sprintf("%s (pid %d)", comm(os.Getpid()), os.Getpid())
	for _, args := range [][]string{nil, {"-D"}} {
		r := s.run(s.args(args...)...).wants(t, 1)
		r.oneLine(t, false, s.addr()+" is in use by "+holder, "stop that program", "-p")
	}
	// All addresses cannot be had either.
	r := s.run("-p", strconv.Itoa(s.port), "-s", s.server.Addr).wants(t, 1)
	r.oneLine(t, false, strconv.Itoa(s.port)+" is in use by "+holder)
	// One who may not look into other processes is told what can be told.
	r = s.runAs(asNobody(), s.binary, "-l", s.host, "-p", strconv.Itoa(s.port), "-s", s.server.Addr).wants(t, 1)
	r.oneLine(t, false, s.addr()+" is in use by another program")
	if pids := s.processes(); len(pids) != 0 {
		t.Errorf("left running: %v", pids)
	}
	// Nothing is left over that would hinder the next launch.
	listener.Close()
	s.launch()
	s.serves(s.addr())
}

// promise: L3
func TestAnotherProgramHoldsTheSocket(t *testing.T) {
	s := newSite(t)
	socket := s.path("magent.sock")
	listener, err := net.Listen("unix", socket)
	must(t, err)
	defer listener.Close()
	r := s.run(s.args("-p", "0", "-f", socket)...).wants(t, 1)
	r.oneLine(t, false, fmt.Sprintf("%s is in use by %s (pid %d)", socket, comm(os.Getpid()), os.Getpid()), "-f")
	must(t, os.WriteFile(s.path("notes"), []byte("keep"), 0o600))
	r = s.run(s.args("-p", "0", "-f", s.path("notes"))...).wants(t, 1)
	r.oneLine(t, false, s.path("notes"), "not a socket")
	if text, err := os.ReadFile(s.path("notes")); err != nil || string(text) != "keep" {
		t.Errorf("the file holds %q, error %v", text, err)
	}
}

// promise: L3
func TestOneThatServesAllAddressesServesEach(t *testing.T) {
	s := newSite(t)
	port := strconv.Itoa(s.port)
	s.run("-p", port, "-s", s.server.Addr, "-P", s.path("pid")).wants(t, 0)
	pid := s.only()
	for _, listen := range []string{"127.0.0.1", "10.66.77.88", "::1", "localhost"} {
		s.run("-l", listen, "-p", port, "-s", s.server.Addr).wants(t, 0)
	}
	if again := s.only(); again != pid {
		t.Errorf("process %d took the place of %d", again, pid)
	}
	s.serves(s.addr())
	s.serves("[::1]:" + port)
}

// promise: L3
func TestOneThatServesAnAddressDoesNotServeAll(t *testing.T) {
	s := newSite(t)
	pid := s.launch()
	port := strconv.Itoa(s.port)
	r := s.run("-p", port, "-s", s.server.Addr).wants(t, 1)
	r.oneLine(t, false, "0.0.0.0:"+port+" is in use by magent (pid "+strconv.Itoa(pid)+")")
	r = s.run(s.args("-l", "127.0.0.2")...).wants(t, 1)
	r.oneLine(t, false, "127.0.0.1:"+port+" already but not 127.0.0.2:"+port, "kill "+strconv.Itoa(pid))
	if s.only() != pid {
		t.Error("another process took its place")
	}
}

// promise: L3
func TestLaunchWhileItHangs(t *testing.T) {
	s := newSite(t)
	s.binary = harness.PlainBinary(t)
	pid := s.launch()
	s.freeze(pid)
	r := s.run(s.args()...)
	if r.code != 0 || r.stdout != "" {
		t.Errorf("exit code %d, stdout %q", r.code, r.stdout)
	}
	want := fmt.Sprintf("magent: warning: process %d serves %s already but does not answer: if it hangs, end it with kill -9 %d\n", pid, s.addr(), pid)
	if r.stderr != want {
		t.Errorf("stderr %q, want %q", r.stderr, want)
	}
	// keepalived takes two seconds for a failure. The quickest of a few: what
	// disturbs a busy machine only makes it slower.
	took := r.took
	for range 2 {
		took = min(took, s.run(s.args()...).took)
	}
	if took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	s.signal(pid, syscall.SIGCONT)
	s.run(s.args()...).wants(t, 0)
	s.serves(s.addr())
}

// A magent that is killed, or ends, is replaced by the very next launch.
// promise: L3
func TestLaunchRightAfterTheEnd(t *testing.T) {
	s := newSite(t)
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM} {
		old := s.launch()
		s.serves(s.addr())
		s.signal(old, sig)
		// Whether the old one has ended yet or not: when the signal comes first,
		// the launch may still find it serving.
		harness.Eventually(t, eventTime, "another process serves", func() bool {
			s.run(s.args()...).wants(t, 0)
			return s.pid() != old
		})
		s.serves(s.addr())
		s.ends(old)
		now := s.only()
		s.signal(now, syscall.SIGKILL)
		s.ends(now)
	}
}

// A program called magent that has the port without a lock is either ending,
// which takes no time, or the C program, which is named.
// promise: L3
func TestLaunchWaitsForThePortOfOneThatEnds(t *testing.T) {
	s := newSite(t)
	memcached, err := exec.LookPath("memcached")
	must(t, err)
	content, err := os.ReadFile(memcached)
	must(t, err)
	must(t, os.WriteFile(s.path("magent"), content, 0o755))
	other := harness.StartProcess(t, "another magent", nil, s.path("magent"), "-u", "root", "-l", s.host, "-p", strconv.Itoa(s.port), "-U", "0")
	harness.Eventually(t, eventTime, "the other program serves", func() bool { return roundTrip("tcp", s.addr()) == nil })
	r := s.run(s.args()...).wants(t, 1)
	r.oneLine(t, false, fmt.Sprintf("%s is in use by magent (pid %d)", s.addr(), other.PID()))

	cmd := exec.Command(s.binary, s.args()...)
	cmd.Env = append(os.Environ(), s.env...)
	var launched result
	var wg sync.WaitGroup
	wg.Go(func() { launched, err = finish(cmd) })
	// The launch has its lock and finds the port in use: now that is given up.
	harness.Eventually(t, eventTime, "the launch has taken its lock", func() bool {
		conn, err := net.Dial("unix", "@magent/tcp/"+s.addr())
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	other.Kill()
	wg.Wait()
	must(t, err)
	launched.wants(t, 0)
	s.only()
	s.serves(s.addr())
}

// While one magent finishes what is in flight, the next one starts.
// promise: L3, L7
func TestLaunchWhileAnotherFinishes(t *testing.T) {
	s := newSite(t)
	old := s.launch("--drain-timeout", "1m")
	c, err := dial("tcp", s.addr())
	must(t, err)
	defer c.Close()
	must(t, c.Set("before", "1"))
	s.server.Freeze()
	must(t, c.Send([]byte("get before\r\n")))
	s.awaitRequest(len("get before\r\n"))
	s.signal(old, syscall.SIGTERM)
	s.logged(`"signal":"TERM"`)
	harness.Eventually(t, eventTime, "the next process serves", func() bool {
		s.run(s.args()...).wants(t, 0)
		return s.pid() != old
	})
	if gone(old) {
		t.Error("the old process did not wait for the answer")
	}
	s.server.Thaw()
	items, err := c.Values()
	if err != nil || len(items) != 1 || string(items[0].Value) != "1" {
		t.Errorf("the answer in flight: %v, error %v", items, err)
	}
	s.ends(old)
	s.only()
	s.serves(s.addr())
	if s.pid() != s.only() {
		t.Error("the old process removed the pid file of the next")
	}
}

// awaitRequest waits until the frozen server has been sent so many bytes that
// it has not read, so that a request is certainly in flight.
func (s *site) awaitRequest(size int) {
	s.Helper()
	_, port, err := net.SplitHostPort(s.server.Addr)
	must(s, err)
	number, err := strconv.Atoi(port)
	must(s, err)
	harness.Eventually(s, eventTime, "the request is in the server's queue", func() bool {
		return unread(number) >= int64(size)
	})
}

// asNobody runs a command as the user nobody.
func asNobody() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
}

// promise: L3, L5
func TestLaunchAsAnotherUser(t *testing.T) {
	s := newSite(t)
	must(t, os.Mkdir(s.path("nobody"), 0o700))
	must(t, os.Chown(s.path("nobody"), nobody, nobody))
	// One user's magent serves for all, whoever asks.
	pid := s.launch()
	s.runAs(asNobody(), append([]string{s.binary}, s.args()...)...).wants(t, 0)
	if s.only() != pid {
		t.Error("another process took its place")
	}
	s.signal(pid, syscall.SIGTERM)
	s.ends(pid)
	s.runAs(asNobody(), append([]string{s.binary}, s.args("-P", s.path("nobody/pid"), "--log-file", s.path("nobody/log"))...)...).wants(t, 0)
	pid = s.only()
	s.run(s.args("-P", s.path("nobody/pid"))...).wants(t, 0)
	if s.only() != pid {
		t.Error("another process took its place")
	}
	s.serves(s.addr())
}
