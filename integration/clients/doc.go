// Package clients runs real clients of memcached through magent, and holds
// that they cannot tell it from memcached.
//
//	driver ──▶ memcached                          one transcript
//	driver ──▶ magent ──▶ primary, backup         another: they have to be equal
//
// A driver in testdata is a small program in the client's language. It takes
// HOST PORT PROTOCOL, runs every operation that the client offers and writes
// one line for each step, such as "ok incr.one 11" or "error key.empty …":
// without tokens, times, addresses and values of stats, which differ from
// server to server. Then it writes "ready" and waits for a line on its standard
// input. Meanwhile the test kills the primary behind magent. What comes after
// that, the steps of failover, has to show every value and no error.
//
// The clients come from where their users get them: `make clients` installs
// what is missing. docs/clients.md has the table of what was run.
package clients
