// Package protocol turns memcached's bytes into requests and answers, and
// back. It does no I/O, keeps no state between calls and starts nothing.
//
// # Who owns what
//
//	client bytes ── Parser.Parse, ParseBinary ──▶ Request ── Append… ──▶ bytes to a server
//	server bytes ── ParseValue, ParseLine ──▶ ValueHeader, Answer
//	answers for a binary client ── AppendBinary… ──▶ client bytes
//
// Slices in a Request or a ValueHeader alias the bytes that were parsed. They
// are valid until the owner of those bytes changes or moves them. The Reply of
// a Request is the one exception: it belongs to this package, is never
// changed, and must only be read. Append functions write behind dst and return
// it, as append does, and keep nothing.
//
// # What is true
//
// memcached 1.6.18 is the reference: the same bytes get the same answer. The
// rules come from its doc/protocol.txt and doc/protocol_binary.txt and, where
// those are silent, from the behaviour of proto_text.c, proto_bin.c,
// memcached.c and util.c. The tests ask a running
// memcached.
package protocol
