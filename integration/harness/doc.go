// Package harness starts the real programs that the black-box tests of magent
// talk to, and gives the tests hands to break things with.
//
// Who owns what:
//
//	test ── owns ──▶ Magent, Memcached   one process each, ended by their own pid
//	     ── owns ──▶ Link                a TCP path that can stall, slow down or break
//	     ── owns ──▶ Client              one connection with a deadline on everything
//
// Everything that a test starts is ended by the test's cleanup. A program's
// output goes to a file and is shown only when the test failed. A magent that
// died, did not exit cleanly, panicked or raced fails its test, whatever the
// test itself found.
//
// Nothing here is kept in package variables: the path of the program under
// test travels in the environment (see Main).
package harness
