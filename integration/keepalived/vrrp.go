package keepalived

import (
	"os"
	"path/filepath"
	"strings"

	"magent/integration/harness"
)

// launchLine is how the magent guide's scripts launch magent.
const launchLine = "magent -u root -n 51200 -l 172.17.7.66 -p 12000 -s 172.17.7.101:11211 -b 172.17.7.102:11211"

// guide installs a configuration of keepalived on the node, and scripts.
func (n *node) guide(conf string, scripts map[string]string) {
	n.Helper()
	n.write("keepalived/keepalived.conf", conf)
	for name, text := range scripts {
		n.write(name, text)
		must(n, os.Chmod(n.path(name), 0o755))
	}
}

// read returns a file of a guide, or of what we give to users.
func read(t interface {
	Helper()
	Fatal(...any)
}, name ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(name...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// startKeepalived starts keepalived, as `systemctl start keepalived` would.
func (n *node) startKeepalived() {
	n.Helper()
	n.start("keepalived", "keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp")
	harness.Eventually(n, eventTime, "keepalived runs on "+n.name, func() bool { return len(n.pids("keepalived")) > 1 })
}

// stopKeepalived stops it, as `systemctl stop keepalived` would, and waits until
// it is gone.
func (n *node) stopKeepalived() {
	n.Helper()
	n.sh("kill -TERM $(cat /run/keepalived.pid)")
	harness.Eventually(n, eventTime, "keepalived has ended on "+n.name, func() bool { return len(n.pids("keepalived")) == 0 })
}

// awaitAddress waits until a node has an address, and no other of the given ones.
func awaitAddress(addr string, n *node, others ...*node) {
	n.Helper()
	harness.Eventually(n, eventTime, addr+" is on "+n.name+" alone", func() bool {
		for _, other := range others {
			if other.has(addr) {
				return false
			}
		}
		return n.has(addr)
	})
}

// magents returns the numbers of the magents on the node, and fails the test
// when their command lines are not that of the script that launched them.
func (n *node) magents() []string {
	n.Helper()
	var found []string
	for _, pid := range n.pids("magent") {
		line, err := n.try("tr '\\0' ' ' </proc/" + pid + "/cmdline")
		line = strings.TrimSpace(line)
		switch {
		case err != nil || line == "": // it is ending
		case line != launchLine:
			n.Fatalf("%s: process %s is %q, want %q", n.name, pid, line, launchLine)
		default:
			found = append(found, pid)
		}
	}
	return found
}

// awaitMagent waits until exactly one magent runs on the node.
func (n *node) awaitMagent() {
	n.Helper()
	harness.Eventually(n, eventTime, "one magent runs on "+n.name, func() bool { return len(n.magents()) == 1 })
}
