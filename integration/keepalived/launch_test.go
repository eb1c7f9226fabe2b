package keepalived

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"magent/integration/harness"
)

// status reads a line of a process's status on the node.
func (n *node) status(pid, name string) string {
	n.Helper()
	for line := range strings.Lines(n.sh("cat /proc/" + pid + "/status")) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(rest)
		}
	}
	n.Fatalf("/proc/%s/status has no %s", pid, name)
	return ""
}

// ticks waits until keepalived's script has ended so many times more.
func (s *site) ticks(n *node, more int) {
	s.Helper()
	count := func() int { return strings.Count(read(s, n.path("log/ticks")), "\n") }
	least := count() + more
	harness.Eventually(s, eventTime, "keepalived has run its script", func() bool { return count() >= least })
}

// foreignFiles tells which files a magent has that it has not opened itself.
func (n *node) foreignFiles(pid string) string {
	n.Helper()
	for _, file := range strings.Fields(n.sh("for f in /proc/" + pid + "/fd/*; do readlink $f || true; done")) {
		own := file == "/dev/null" || file == "/var/log/magent.log" || strings.HasPrefix(file, "/dev/shm/magent-") || strings.HasPrefix(file, "socket:") ||
			strings.HasPrefix(file, "anon_inode:") || strings.HasPrefix(file, "/sys/fs/cgroup/") // the last are the Go runtime's
		if !own {
			return file
		}
	}
	return "no file of keepalived's"
}

// What keepalived does to a script and all that it launches, under the guide's
// script: magent is launched once, however often, by whomever and with whatever
// umask it is run, and outlives keepalived.
//
// promise: L2, L3, L4, L5
func TestLaunchUnderKeepalived(t *testing.T) {
	for name, c := range map[string]struct{ global, uid string }{
		"root":                          {"", "0"},
		"root, named":                   {"enable_script_security\n   script_user root\n", "0"},
		"a user without any privileges": {"enable_script_security\n   script_user nobody\n", "65534"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newBareSite(t)
			conf := strings.Replace(read(t, "testdata/magent/backup.conf"), "global_defs {\n", "global_defs {\n   "+c.global, 1)
			script := read(t, "testdata/magent/master.sh") + "ended=$?\necho >>/var/log/ticks\nexit $ended\n"
			s.backup.write("log/ticks", "")
			s.backup.sh("touch /var/log/magent.log && chmod 666 /var/log/* && chmod 777 /var/log")
			s.backup.guide(conf, map[string]string{"opt/magent.sh": script})
			// The other node has the address, so that it is absent here.
			s.master.guide(read(t, "testdata/magent/master.conf"), map[string]string{"opt/magent.sh": read(t, "testdata/magent/master.sh")})
			s.master.startKeepalived()
			awaitAddress(vip, s.master)
			s.backup.startKeepalived()
			s.ticks(s.backup, 2) // by then the process that launched it has ended
			s.backup.awaitMagent()
			pid := s.backup.magents()[0]
			for want, got := range map[string]string{
				"Uid " + strings.Repeat(c.uid+"\t", 3) + c.uid: "Uid " + s.backup.status(pid, "Uid"),
				"Umask 0022":              "Umask " + s.backup.status(pid, "Umask"),
				"comm magent":             "comm " + strings.TrimSpace(s.backup.sh("cat /proc/"+pid+"/comm")),
				"cwd /":                   "cwd " + strings.TrimSpace(s.backup.sh("readlink /proc/"+pid+"/cwd")),
				"no file of keepalived's": s.backup.foreignFiles(pid),
			} {
				if got != want {
					t.Errorf("the magent that keepalived's script launched has %q, want %q", got, want)
				}
			}
			// Many at the same instant, and keepalived goes on.
			var launches sync.WaitGroup
			for range 10 {
				launches.Go(func() {
					if out, err := s.backup.try(launchLine); err != nil {
						t.Errorf("a launch beside others: %v: %s", err, out)
					}
				})
			}
			launches.Wait()
			s.ticks(s.backup, 3)
			s.backup.awaitMagent()
			if pids := s.backup.magents(); !slices.Contains(pids, pid) {
				t.Fatalf("magent is %v by now, want %s alone", pids, pid)
			}
			// The address comes: magent listens already, and keepalived has seen no failure.
			s.master.sh("pkill -9 -x keepalived; ip address delete " + vip + "/32 dev eth0")
			awaitAddress(vip, s.backup)
			if answer := s.client.telnet(vipPort, "version"); !strings.HasPrefix(answer, "VERSION ") {
				t.Fatalf("as soon as the address is there: %q", answer)
			}
			if log := read(t, s.backup.path("log/keepalived.out")); strings.Contains(log, "FAULT") {
				t.Error("keepalived was in its fault state")
			}
			// magent outlives keepalived, whichever way that ends. The script kills magent
			// when keepalived has ended, so it must not be running then.
			s.ticks(s.backup, 1)
			s.backup.stopKeepalived()
			s.backup.startKeepalived()
			s.ticks(s.backup, 1)
			s.backup.sh("pkill -9 -x keepalived")
			harness.Eventually(t, eventTime, "keepalived is gone", func() bool { return len(s.backup.pids("keepalived")) == 0 })
			s.backup.awaitMagent()
			if pids := s.backup.magents(); !slices.Contains(pids, pid) {
				t.Fatalf("after keepalived's end magent is %v, want %s", pids, pid)
			}
		})
	}
}

// When the address moves, no client is left hanging: neither one that waits for
// an answer on the node that has lost it, nor one that begins a request.
//
// promise: L9, L4, R3
func TestNobodyHangsWhenTheAddressMoves(t *testing.T) {
	for name, v := range moves {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "the master's")
			for _, n := range []*node{s.master, s.backup} {
				n.startKeepalived()
			}
			awaitAddress(vip, s.master, s.backup)
			s.master.memcached(masterAddr)
			s.backup.memcached(backupAddr)
			harness.Eventually(t, eventTime, "a value is stored", func() bool { return s.client.telnet(vipPort, "set k 0 0 1\r\nv") == "STORED" })
			waiting, asking := s.client.connect(vipPort), s.client.connect(vipPort)
			for _, c := range []*harness.Client{waiting, asking} {
				if value, _, err := c.Value("k"); err != nil || value != "v" {
					t.Fatalf("%q, %v", value, err)
				}
			}
			waiting.Timeout, asking.Timeout = eventTime, 5*time.Second
			ended := make(chan error, 1)
			go func() {
				_, err := waiting.Line()
				ended <- err
			}()
			v(s)
			if err := <-ended; err == nil || strings.Contains(err.Error(), "timeout") {
				t.Errorf("who waits for an answer sees %v, want the end of the connection", err)
			}
			if _, _, err := asking.Value("k"); err == nil || strings.Contains(err.Error(), "timeout") {
				t.Errorf("who asks sees %v, want the end of the connection", err)
			}
			awaitAddress(vip, s.backup, s.master)
			harness.Eventually(t, eventTime, "the value is there", func() bool { return s.client.telnet(vipPort, "get k") == "VALUE k 0 1\nv" })
		})
	}
}

// moves are ways in which the address leaves the master.
var moves = map[string]func(s *site){
	"keepalived is stopped": func(s *site) { s.master.stopKeepalived() },
	"a higher priority":     func(s *site) { s.takeOver() },
}

// takeOver has the backup's keepalived read a configuration in which it comes
// first.
func (s *site) takeOver() {
	s.Helper()
	name := s.backup.path("keepalived/keepalived.conf")
	conf := strings.Replace(read(s, name), "priority 99", "priority 150", 1)
	s.backup.write("keepalived/keepalived.conf", conf)
	s.backup.sh("kill -HUP $(cat /run/keepalived.pid)")
}
