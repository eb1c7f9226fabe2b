package main

import "fmt"

// protocol is what is spoken on all connections.
type protocol string

const (
	classic        protocol = "text"
	meta           protocol = "meta"
	binaryProtocol protocol = "binary"
)

// parseProtocol reads --protocol.
func parseProtocol(s string) (protocol, error) {
	switch p := protocol(s); p {
	case classic, meta, binaryProtocol:
		return p, nil
	}
	return "", fmt.Errorf("--protocol %q: give text, meta or binary", s)
}
