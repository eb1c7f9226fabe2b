// Package integration holds the black-box tests: real memcached processes, the
// real magent binary, and clients that compare what they get with what
// memcached itself would answer. The tests only use what a user can use, the
// command line, the wire and signals; package harness starts and breaks things.
//
// Random tests print their seed; MAGENT_SEED=<n> repeats a run. Those that hold
// whole conversations in the meta and the binary protocol print the seed of the
// one that differed, and MAGENT_CONVERSATIONS=<n> sets how many they hold.
package integration
