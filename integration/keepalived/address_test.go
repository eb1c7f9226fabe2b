package keepalived

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	masterAddr = "172.17.7.101"
	backupAddr = "172.17.7.102"
	clientAddr = "172.17.7.103"
	vip        = "172.17.7.66"
	vipPort    = vip + ":12000"
)

// An address leaves a machine: a client that waits for an answer there and one
// that sends nothing are reset at once, wherever else the address is by then.
// Others stay, and so does the listener.
//
// promise: L9, L4
func TestClientsAreResetWhenTheirAddressLeaves(t *testing.T) {
	for name, listen := range map[string]string{"that address": vip, "all addresses": "0.0.0.0"} {
		for _, user := range []string{"root", "nobody"} {
			t.Run(name+", "+user, func(t *testing.T) {
				t.Parallel()
				w := newNetwork(t)
				machine, client := w.add("machine", "eth0", masterAddr+"/16"), w.add("client", "eth0", clientAddr+"/16")
				machine.sh("memcached -d -u root -l 127.0.0.1 -p 11211")
				machine.sh("magent -u " + user + " -l " + listen + " -p 12000 -s 127.0.0.1:11211")
				for range 2 {
					machine.sh("ip address add " + vip + "/32 dev eth0")
					idle, busy := client.connect(vipPort), client.connect(vipPort)
					for _, c := range []interface{ Set(string, string) error }{idle, busy} {
						must(t, c.Set("k", "v"))
					}
					answered := make(chan error, 2)
					go func() {
						_, err := idle.Line()
						answered <- err
					}()
					machine.sh("ip address delete " + vip + "/32 dev eth0")
					if err := <-answered; !errors.Is(err, syscall.ECONNRESET) {
						t.Fatalf("a client that waits sees %v, want a reset", err)
					}
					busy.Timeout = 5 * time.Second
					if _, err := busy.Command("get k"); err == nil || strings.Contains(err.Error(), "timeout") {
						t.Fatalf("a client that sends sees %v, want a reset", err)
					}
				}
				if listen != vip {
					other := client.connect(masterAddr + ":12000")
					machine.sh("ip address add " + vip + "/32 dev eth0 && ip address delete " + vip + "/32 dev eth0")
					if value, _, err := other.Value("k"); err != nil || value != "v" {
						t.Fatalf("a client at another address sees %q, %v", value, err)
					}
				}
			})
		}
	}
}
