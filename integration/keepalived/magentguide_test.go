package keepalived

import (
	"strings"
	"testing"

	"magent/integration/harness"
)

// backupScripts are what the guide's readers run on the backup. Its own script
// fails where /bin/sh kills itself with `pkill -9 magent` (the script's name is
// magent.sh) or where pkill finds nothing and says so with its exit status.
var backupScripts = map[string]struct {
	conf, script func(string) string
	standby      bool // magent runs on the backup, too
}{
	"mended in one line": {
		script: func(s string) string { return strings.Replace(s, "pkill -9 magent", "pkill -9 -x magent; exit 0", 1) },
	},
	"its exit status counts less": {
		conf: func(s string) string { return strings.Replace(s, "interval 2", "interval 2\n   weight -2", 1) },
	},
	"the master's": {
		script:  func(string) string { return "" },
		standby: true,
	},
}

// site is the guide's machines.
type site struct {
	*network
	master, backup, client *node
}

// newSite makes the guide's machines, with its configurations and scripts.
func newSite(t *testing.T, variant string) *site {
	t.Helper()
	v := backupScripts[variant]
	s := newBareSite(t)
	masterConf, backupConf := read(t, "testdata/magent/master.conf"), read(t, "testdata/magent/backup.conf")
	masterScript, backupScript := read(t, "testdata/magent/master.sh"), read(t, "testdata/magent/backup.sh")
	if v.conf != nil {
		masterConf, backupConf = v.conf(masterConf), v.conf(backupConf)
	}
	if v.standby {
		backupScript = masterScript
	} else if v.script != nil {
		backupScript = v.script(backupScript)
	}
	s.master.guide(masterConf, map[string]string{"opt/magent.sh": masterScript})
	s.backup.guide(backupConf, map[string]string{"opt/magent.sh": backupScript})
	return s
}

// newBareSite makes the machines alone.
func newBareSite(t testing.TB) *site {
	t.Helper()
	w := newNetwork(t)
	return &site{
		network: w,
		master:  w.add("mem-master", "eth0", masterAddr+"/16"),
		backup:  w.add("mem-bak", "eth0", backupAddr+"/16"),
		client:  w.add("client", "eth0", clientAddr+"/16"),
	}
}

// memcached starts memcached on a node as the guide does, with more memory: the
// guide's one megabyte is too little for a memcached of today.
func (n *node) memcached(addr string) {
	n.Helper()
	n.sh("memcached -d -m 64 -u root -l " + addr + " -p 11211")
}

// killMemcached ends it as the guide does, and waits until it is gone.
func (n *node) killMemcached() {
	n.Helper()
	n.sh("pkill memcached")
	harness.Eventually(n, eventTime, "memcached has ended", func() bool { return len(n.pids("memcached")) == 0 })
}

// telnet is one connection of the guide's client: one command and its answer.
func (n *node) telnet(addr, command string) string {
	n.Helper()
	conn, err := n.dial(addr, eventTime)
	if err != nil {
		return err.Error()
	}
	c := harness.NewClient(conn)
	defer func() { _ = c.Close() }()
	answer, err := c.Command("%s", command)
	if err != nil {
		return err.Error()
	}
	if strings.HasPrefix(answer, "VALUE ") {
		value, err := c.Line()
		must(n, err)
		return answer + "\n" + value
	}
	return answer
}

// The guide, step by step, from the start of keepalived to the memcached that
// comes back empty. There it says that the cached data is lost.
//
// promise: L1, L2, L3, L4, L5, C4, C5, C7
func TestTheMagentGuide(t *testing.T) {
	for variant, v := range backupScripts {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, variant)

			// 6. VIP and magent come up although memcached does not run.
			s.master.startKeepalived()
			awaitAddress(vip, s.master)
			s.master.awaitMagent()
			if answer := s.client.telnet(vipPort, "get test"); !strings.HasPrefix(answer, "SERVER_ERROR ") {
				t.Errorf("without a memcached: %q", answer)
			}
			// The master's keepalived is stopped and the backup's started.
			s.master.stopKeepalived()
			s.backup.startKeepalived()
			awaitAddress(vip, s.backup, s.master)
			s.backup.awaitMagent()
			harness.Eventually(t, eventTime, "magent answers", func() bool {
				return strings.HasPrefix(s.client.telnet(vipPort, "get test"), "SERVER_ERROR ")
			})
			// The master's is started: both go back.
			s.master.startKeepalived()
			awaitAddress(vip, s.master, s.backup)
			s.master.awaitMagent()
			if v.standby {
				s.backup.awaitMagent()
			} else {
				harness.Eventually(t, eventTime, "magent has ended on the backup", func() bool { return len(s.backup.magents()) == 0 })
			}

			// 7. memcached is started.
			s.master.memcached(masterAddr)
			s.backup.memcached(backupAddr)

			// 8. A value that is set through the VIP is there, and on both servers.
			harness.Eventually(t, eventTime, "the value is stored", func() bool {
				return s.client.telnet(vipPort, "set test 0 0 5\r\nlinux") == "STORED"
			})
			const hit = "VALUE test 0 5\nlinux"
			for _, addr := range []string{vipPort, masterAddr + ":11211", backupAddr + ":11211"} {
				harness.Eventually(t, eventTime, "the value is at "+addr, func() bool { return s.client.telnet(addr, "get test") == hit })
			}

			s.settled() // the magent at the address uses both servers by now

			// 9. The master's memcached ends, and starts again, empty.
			s.master.killMemcached()
			for range 10 {
				if answer := s.client.telnet(vipPort, "get test"); answer != hit {
					t.Fatalf("with one memcached: %q", answer)
				}
			}
			s.master.memcached(masterAddr)
			harness.Eventually(t, eventTime, "the value is on the master's memcached again", func() bool {
				if answer := s.client.telnet(vipPort, "get test"); answer != hit {
					t.Fatalf("after the restart: %q", answer)
				}
				return s.client.telnet(masterAddr+":11211", "get test") == hit
			})
		})
	}
}
