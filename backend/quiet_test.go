package backend

import (
	"testing"

	"golang.org/x/sys/unix"

	"magent/proxy/engine"
	"magent/proxy/protocol"
)

const readable = engine.Events(unix.EPOLLIN)

func unixRead(t testing.TB, fd int, b []byte) int {
	n, err := unix.Read(fd, b)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func unixWrite(t testing.TB, fd int, b []byte) {
	if n, err := unix.Write(fd, b); err != nil || n != len(b) {
		t.Fatalf("wrote %d bytes of %d: %v", n, len(b), err)
	}
}

// quietCall counts.
type quietCall struct {
	Call
	found, missed, lines int
}

// Answered counts a line (Receiver).
func (c *quietCall) Answered([]byte, protocol.Answer, uint64) { c.lines++ }

// Found counts a value (Receiver).
func (c *quietCall) Found([]byte, *protocol.ValueHeader, bool) { c.found++ }

// Missed counts a miss (Receiver).
func (c *quietCall) Missed() { c.missed++ }

// SetHeader describes a small set (Receiver).
func (c *quietCall) Request(dst []byte) []byte { return dst }

func (c *quietCall) SetHeader(dst []byte, quiet bool) []byte {
	if quiet {
		return append(dst, "ms k 1 q\r\n"...)
	}
	return append(dst, "set k 0 0 1\r\n"...)
}

var smallValue = []byte("x\r\n")

// SetValue is a small value (Receiver).
func (c *quietCall) SetValue() []byte { return smallValue }

// Uncertain counts a line (Receiver).
func (c *quietCall) Uncertain([]byte) { c.lines++ }
