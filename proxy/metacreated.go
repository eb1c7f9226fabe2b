package proxy

import (
	"magent/backend"
	"magent/proxy/protocol"
)

// created is the question whether a key is there, ahead of a meta incr or decr
// that creates it otherwise. With flag q memcached answers only when it does
// (process_marithmetic_command), and the answer itself does not tell.
type created struct {
	backend.Call

	r *request
}

// askCreated queues the question. The command has to follow on the same
// connection.
func (w *worker) askCreated(c *backend.Conn, r *request) {
	q := &created{r: r}
	q.Owner, q.Kind, q.Answers = q, backend.Meta, protocol.AnswersTo(protocol.OpMetaDebug)
	q.Key = r.key()
	c.End(append(protocol.AppendMetaStart(c.Begin(2*r.keyLen+32), "me ", r.key()), lineEnd...))
	c.Queue(&q.Call)
}

// Answered is told what the server knows of the key (backend.Receiver).
func (q *created) Answered(_ []byte, kind protocol.Answer, _ uint64) {
	q.r.created = kind == protocol.End
}

// Found is never called: the answer is a line (backend.Receiver).
func (q *created) Found([]byte, *protocol.ValueHeader, bool) {}

// Missed is never called (backend.Receiver).
func (q *created) Missed() {}

// Request is never called (backend.Receiver).
func (q *created) Request(dst []byte) []byte { return dst }

// SetHeader is never called (backend.Receiver).
func (q *created) SetHeader(dst []byte, _ bool) []byte { return dst }

// SetValue is never called (backend.Receiver).
func (q *created) SetValue() []byte { return nil }

// Uncertain is never called (backend.Receiver).
func (q *created) Uncertain([]byte) {}
