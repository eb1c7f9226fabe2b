// Package backend holds the memcached servers behind the proxy.
//
//	Server   one memcached process, shared by all loops: its address and
//	         whether it is up, warming, down, or down and known to have missed writes
//	Conn     one loop's connection to it: requests go out in the order in
//	         which they were queued, answers come back in the same order
//	Call     one request on a Conn; its owner is told the answer
//	drain    an abandoned connection whose server may still work off what
//	         it was sent; the server is not trusted again before it has
//	Prober   one goroutine per server that brings it back
//	Client   a blocking connection, for probes, notes and lists of keys
//
// A Conn belongs to one engine.Loop. A Server's state is one atomic word, and
// every change of it begins a new epoch: a loop whose connection was made in
// an older epoch gives that connection up before it routes anything else.
//
// What to do with a call whose connection failed is the proxy's business.
package backend
