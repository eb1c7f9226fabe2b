package proxy

import (
	"bytes"

	"magent/backend"
	"magent/proxy/protocol"
)

// before is the question what a server knows of a key, ahead of a meta command
// whose answer does not tell what it did:
//
//   - an incr or decr that creates the key, with flag q, is answered only then
//     (process_marithmetic_command of memcached);
//   - a set with flag I stores an item as stale when the token that it compares is
//     older than the item's (do_store_item).
type before struct {
	backend.Call
	lineOnly

	r *request
}

// wantsBefore tells whether the question comes first. memcached cannot answer it
// in one line for a key that holds a line end.
func (r *request) wantsBefore() bool {
	wants := r.hush && r.hasInitial && isArith(r.op) || r.op == protocol.OpCas && r.seen.Has('I')
	return wants && bytes.IndexByte(r.key(), '\n') < 0
}

// askBefore queues the question. The command has to follow on the same
// connection.
func (w *worker) askBefore(c *backend.Conn, r *request) {
	q := &before{r: r}
	q.Owner, q.Kind, q.Answers = q, backend.Meta, protocol.AnswersTo(protocol.OpMetaDebug)
	q.Key = r.key()
	c.End(append(protocol.AppendMetaStart(c.Begin(2*r.keyLen+32), "me ", r.key()), lineEnd...))
	c.Queue(&q.Call)
}

// Answered is told what the server knows of the key (backend.Receiver).
func (q *before) Answered(line []byte, kind protocol.Answer, _ uint64) {
	r := q.r
	r.created = kind == protocol.End
	if r.op == protocol.OpCas && kind == protocol.Other {
		_, token, _, ok := cutDebugToken(line)
		r.storedStale = ok && r.w.p.servers[r.at].ServerToken(r.compare) < token
	}
}
