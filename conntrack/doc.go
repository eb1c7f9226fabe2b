// Package conntrack knows the clients: how many may be connected, who is, and
// since when they are silent.
//
//	Limit    one for the whole proxy, shared by the acceptor and all loops
//	Set      the clients of one loop; nothing else touches it
//	Client   the facts of one connection, embedded in the proxy's session
package conntrack
