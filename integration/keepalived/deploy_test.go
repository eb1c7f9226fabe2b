package keepalived

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

const deployDir = "../../deploy/keepalived"

// keepalived itself finds nothing to say about the configurations that we give.
func TestConfigurationsAreRight(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(deployDir + "/*/*.conf")
	must(t, err)
	if len(files) < 8 {
		t.Fatalf("only %q", files)
	}
	w := newNetwork(t)
	n := w.add("machine", "eth0", masterAddr+"/16")
	n.sh("ip link add br0 type veth peer name br1")
	for _, file := range files {
		conf := read(t, file)
		dir := filepath.Dir(file)
		for name, place := range scriptPlaces {
			if text, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
				n.guide(conf, map[string]string{place: string(text)})
			}
		}
		for _, name := range []string{"master", "backup", "fault", "stop"} {
			n.guide(conf, map[string]string{"keepalived/scripts/memcached_" + name + ".sh": read(t, "testdata/repcached/memcached_"+name+".sh")})
		}
		n.guide(conf, nil)
		out, err := n.try("keepalived --config-test --log-console --dont-fork 2>&1")
		for line := range strings.Lines(out) {
			if !strings.Contains(line, "max_auto_priority") && strings.Contains(line, ") ") || strings.Contains(line, "SECURITY") || strings.Contains(line, "isabl") {
				t.Errorf("%s: keepalived says %s", file, line)
			}
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

// scriptPlaces are where the scripts of a layout belong.
var scriptPlaces = map[string]string{
	"master.sh": "opt/magent.sh", "backup.sh": "opt/magent.sh", "magent.sh": "keepalived/magent.sh",
}

// newDeployed makes the machines of a layout that we give, and starts it.
func newDeployed(t testing.TB, layout string) *site {
	t.Helper()
	s := newBareSite(t)
	for name, n := range map[string]*node{"master": s.master, "backup": s.backup} {
		scripts := map[string]string{}
		for script, place := range scriptPlaces {
			if strings.HasPrefix(script, name) || script == "magent.sh" {
				if text, err := os.ReadFile(filepath.Join(deployDir, layout, script)); err == nil {
					scripts[place] = string(text)
				}
			}
		}
		n.guide(read(t, deployDir, layout, name+".conf"), scripts)
		if layout == "systemd" {
			n.runUnit()
		}
	}
	s.master.memcached(masterAddr)
	s.backup.memcached(backupAddr)
	s.master.startKeepalived()
	s.backup.startKeepalived()
	awaitAddress(vip, s.master, s.backup)
	harness.Eventually(t, eventTime, "a value is stored", func() bool {
		return s.client.telnet(vipPort, "set k 0 0 1\r\nv") == "STORED"
	})
	return s
}

// runUnit runs what the systemd unit runs, with the example's settings for these
// machines, and starts it again when it ends, as the unit has systemd do.
func (n *node) runUnit() {
	n.Helper()
	toml := read(n, "../../deploy/systemd/magent.toml")
	for old, own := range map[string]string{
		`server = ["127.0.0.1:11211"]`: `server = ["` + masterAddr + `:11211"]`,
		`backup = ["127.0.0.1:11212"]`: `backup = ["` + backupAddr + `:11211"]`,
		`#listen = ["0.0.0.0", "::"]`:  `listen = ["` + vip + `"]`,
	} {
		if !strings.Contains(toml, old) {
			n.Fatalf("the example has no line %s", old)
		}
		toml = strings.Replace(toml, old, own, 1)
	}
	n.write("keepalived/magent.toml", toml)
	line := ""
	for text := range strings.Lines(read(n, "../../deploy/systemd/magent.service")) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(text), "ExecStart="); ok {
			line = strings.Replace(rest, "/etc/magent.toml", "/etc/keepalived/magent.toml", 1)
		}
	}
	if !strings.Contains(line, "/etc/keepalived/magent.toml") {
		n.Fatalf("the unit's ExecStart is %q", line)
	}
	n.start("magent-unit", "sh", "-c", "while :; do "+line+"; done")
}

// values reads a key again and again, by a new connection each time, until the
// function that it returns is called, which tells how often it was not there. A
// client that is just between its connection and its request when the address moves
// is reset by the machine that has it now, and asks again, as any client does.
func (s *site) values(key, want string) (stop func() (gets int, failed []string)) {
	end, result := make(chan struct{}), make(chan struct{})
	gets, failed := 0, []string(nil)
	go func() {
		defer close(result)
		for {
			select {
			case <-end:
				return
			case <-time.After(5 * time.Millisecond):
			}
			gets++
			answer := s.client.telnet(vipPort, "get "+key)
			if strings.Contains(answer, "reset by peer") {
				answer = s.client.telnet(vipPort, "get "+key)
			}
			if answer != want {
				failed = append(failed, answer)
			}
		}
	}()
	return func() (int, []string) {
		close(end)
		<-result
		return gets, failed
	}
}

// Each layout that we give, from its files: the address comes back after every
// kind of failure, and the value with it. Where magent runs on both machines no get
// fails when the address is moved on purpose.
//
// promise: L4, L9, C4, C7
func TestLayouts(t *testing.T) {
	const hit = "VALUE k 0 1\nv"
	for _, layout := range []string{"guide", "hot-standby", "systemd"} {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			s := newDeployed(t, layout)
			served := func() {
				t.Helper()
				harness.Eventually(t, eventTime, "the value is there", func() bool { return s.client.telnet(vipPort, "get k") == hit })
			}
			if layout != "guide" {
				s.movesWithoutAFailedGet(hit)
			}
			s.master.stopKeepalived()
			awaitAddress(vip, s.backup, s.master)
			served()
			s.master.startKeepalived()
			awaitAddress(vip, s.master, s.backup)
			served()
			// magent ends, and comes back.
			s.master.sh("pkill -9 -x magent")
			served()
			// The cable of the master is pulled. Its address stays there: what it
			// wants to say reaches nobody.
			s.down(s.master)
			harness.Eventually(t, eventTime, "the other machine takes over", func() bool { return s.backup.has(vip) })
			served()
			s.up(s.master)
			awaitAddress(vip, s.master, s.backup)
			served()
			// The master's memcached ends: nobody notices.
			stop := s.values("k", hit)
			s.master.killMemcached()
			s.master.memcached(masterAddr)
			harness.Eventually(t, eventTime, "the master's memcached has the value again", func() bool {
				return s.client.telnet(masterAddr+":11211", "get k") == hit
			})
			if gets, failed := stop(); len(failed) > 0 {
				t.Errorf("of %d gets %d failed: %q", gets, len(failed), failed[:min(5, len(failed))])
			}
		})
	}
}

// movesWithoutAFailedGet moves the address on purpose, and back.
func (s *site) movesWithoutAFailedGet(hit string) {
	s.Helper()
	for _, n := range []*node{s.master, s.backup} {
		n.awaitServing()
	}
	stop := s.values("k", hit)
	s.master.sh("echo -20 > /etc/keepalived/move")
	awaitAddress(vip, s.backup, s.master)
	s.master.sh("echo 0 > /etc/keepalived/move")
	awaitAddress(vip, s.master, s.backup)
	if gets, failed := stop(); len(failed) > 0 {
		s.Errorf("of %d gets %d failed while the address moved: %q", gets, len(failed), failed[:min(5, len(failed))])
	}
}

// awaitServing waits until the node's own magent says that it serves.
func (n *node) awaitServing() {
	n.Helper()
	harness.Eventually(n, eventTime, "magent serves on "+n.name, func() bool {
		_, err := n.try(fmt.Sprintf("magent check -l %s -p 12000", vip))
		return err == nil
	})
}
