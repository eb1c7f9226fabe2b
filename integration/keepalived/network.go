package keepalived

import (
	"fmt"
	"os/exec"
	"strconv"
	"testing"
)

// network is machines on one bridge.
type network struct {
	testing.TB
	hub   *node
	ports map[*node]string
}

// newNetwork makes the hub. It has two bridges: the second one is for machines
// that a partition cuts off from the others.
func newNetwork(t testing.TB) *network {
	t.Helper()
	w := &network{TB: t, hub: newNode(t, "hub"), ports: map[*node]string{}}
	for _, bridge := range []string{"br0", "br1"} {
		w.hub.sh("ip link add " + bridge + " type bridge && ip link set " + bridge + " up")
	}
	return w
}

// add connects a new machine to the hub. Its interface and address are those
// that the guide names.
func (w *network) add(name, device, address string) *node {
	w.Helper()
	n := newNode(w.TB, name)
	port := fmt.Sprintf("port%d", len(w.ports))
	w.ports[n] = port
	// The kernel finds a namespace by a process, as it is seen from outside.
	cable := exec.Command("nsenter", "--target", strconv.Itoa(w.hub.init.Process.Pid), "--net", "--",
		"ip", "link", "add", port, "type", "veth", "peer", "name", device, "netns", strconv.Itoa(n.init.Process.Pid))
	if out, err := cable.CombinedOutput(); err != nil {
		w.Fatalf("ip link add: %v: %s", err, out)
	}
	w.hub.sh("ip link set " + port + " master br0 up")
	n.sh(fmt.Sprintf("ip address add %s dev %s && ip link set %s up", address, device, device))
	return n
}

// down pulls the cable of a machine, and up puts it in again: the machine sees it.
func (w *network) down(n *node) { w.Helper(); w.hub.sh("ip link set " + w.ports[n] + " down") }
func (w *network) up(n *node)   { w.Helper(); w.hub.sh("ip link set " + w.ports[n] + " up") }

// cutOff separates machines from the others. No machine sees its cable go.
func (w *network) cutOff(nodes ...*node) {
	w.Helper()
	for _, n := range nodes {
		w.hub.sh("ip link set " + w.ports[n] + " master br1")
	}
}

// heal puts all machines together again.
func (w *network) heal() {
	w.Helper()
	for _, port := range w.ports {
		w.hub.sh("ip link set " + port + " master br0")
	}
}
