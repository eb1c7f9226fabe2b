package backend

import "magent/proxy/protocol"

// Kind is the form of the answer that a call waits for.
type Kind uint8

// The kinds of calls.
const (
	Line   Kind = iota // one line
	Value              // a VALUE block or nothing; END closes the group
	Number             // a line, or what a meta arithmetic command answers: Answered is told the number as the line
	Item               // what a meta get of one key answers: Found is told its header as that of a value, Answered a line
	Meta               // what a meta command answers: Found is told a value behind its line as it came, Answered any other line
)

// Call is one request on its way to a server and back. Its owner embeds it;
// the Conn only borrows it between Queue, Get or Set and the answer.
type Call struct {
	Owner   Receiver
	Kind    Kind
	Answers protocol.Answers // Line: the answers that make sense; errors always do
	Write   bool             // it may change what the server holds
	Key     []byte           // Value: the key asked for; stays with the owner
	Token   uint64           // Number: the token that the item has now, as the server tells it

	next  *Call
	quiet bool   // a set in a run: it answers only when it fails
	last  bool   // Value: the last of its group
	end   uint64 // place in the output behind its request
}

// Next is the call behind this one in a list that ConnFailed was given.
func (c *Call) Next() *Call { return c.next }

// Receiver owns a call and is told its answer. When it is told, the Conn has
// already let go of the call.
type Receiver interface {
	// Answered is told a line without its line end. The line is valid until
	// it returns.
	Answered(line []byte, kind protocol.Answer, number uint64)
	// Found is told a whole VALUE block, both line ends included. When keep
	// is true the block is the receiver's, otherwise it is valid until Found
	// returns.
	Found(block []byte, header *protocol.ValueHeader, keep bool)
	// Missed says that the server does not hold the key.
	Missed()
	// Request appends the request of a call that was given to Conn.Get with the
	// verb OpMetaGet.
	Request(dst []byte) []byte
	// SetHeader and SetValue describe the plain set of a call that was given
	// to Conn.Set: SetHeader appends its line, as a set or as a quiet one;
	// SetValue is the value with its line end, and stays as it is until the
	// answer.
	SetHeader(dst []byte, quiet bool) []byte
	SetValue() []byte
	// Uncertain says that some set failed, perhaps this one. The line, without
	// its end, is the server's complaint and valid until Uncertain returns.
	Uncertain(line []byte)
}

// Owner is told that a connection has failed.
type Owner interface {
	// ConnFailed is given the calls that have no answer, in the order of
	// their requests, linked by Next. The server may have run some of them.
	ConnFailed(c *Conn, calls *Call, why error)
}
