package proxy

import "magent/proxy/protocol"

// noSet has the methods of backend.Receiver that are called only for the sets and
// gets of clients. What magent asks for itself embeds it.
type noSet struct{}

// Request is never called (backend.Receiver).
func (noSet) Request(dst []byte) []byte { return dst }

// SetHeader is never called (backend.Receiver).
func (noSet) SetHeader(dst []byte, _ bool) []byte { return dst }

// SetValue is never called (backend.Receiver).
func (noSet) SetValue() []byte { return nil }

// Uncertain is never called (backend.Receiver).
func (noSet) Uncertain([]byte) {}

// lineOnly is noSet for what is answered a line, whatever happens.
type lineOnly struct{ noSet }

// Found is never called (backend.Receiver).
func (lineOnly) Found([]byte, *protocol.ValueHeader, bool) {}

// Missed is never called (backend.Receiver).
func (lineOnly) Missed() {}
