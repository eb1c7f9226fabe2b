// Package keepalived plays the stories that users live through with magent: two
// machines with keepalived, a virtual address between them, memcached and magent
// on both, and clients elsewhere.
//
//	network ── has ──▶ hub         a bridge in a network namespace of its own
//	        ── has ──▶ node …      a machine: network, mount, process and host
//	                               name namespaces, an init, a cable to the hub
//	node    ── runs ──▶ keepalived, memcached, magent, the guide's scripts
//
// Everything lives in the namespaces, which end with the test process, however
// that ends. Addresses exist only there.
//
// The scripts and configurations in testdata are those of the guides that users
// follow; those in deploy are the ones that we give them.
package keepalived
