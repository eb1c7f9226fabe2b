// Command loadgen puts load on a memcached or on a proxy in front of it, checks
// every answer, and reports operations per second, latencies and processor
// time.
//
// It is one locked thread with one epoll, so that it costs little and can share
// a core with the servers:
//
//	main.go       flags; starts a run or holds idle connections
//	loop.go       the epoll loop: clients, their sockets, the phases of a run
//	workload.go   requests prepared in advance, and which one comes next
//	protocol.go   the protocols: classic text, meta commands, binary
//	answer.go     checks an answer against the request it belongs to; meta.go
//	              and binary.go do so, and prepare requests, for their protocol
//	histogram.go  latencies, exact to about one percent
//	cpu.go        processor time of loadgen itself and of watched processes
//	socket.go     connecting, and raw send and receive
//	prefill.go    stores every key before the run
//	idle.go       many connections that do nothing, for measuring memory
//
// The loop owns the clients and all buffers. A client sends a batch of
// --pipeline requests, waits for all of their answers, and sends the next.
//
// Every value is made from its key, so a wrong value is noticed: it starts with
// the key and goes on with a filler that is compared byte by byte.
package main
