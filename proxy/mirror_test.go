package proxy

import (
	"testing"

	"magent/proxy/protocol"
)

// What goes to the backup is what the primary did, in a form whose outcome
// the backup cannot decide otherwise.
//
// promise: C1
func TestEffects(t *testing.T) {
	for _, test := range []struct {
		op     protocol.Op
		answer protocol.Answer
		effect protocol.Op
	}{
		{protocol.OpSet, protocol.Stored, protocol.OpSet},
		{protocol.OpAdd, protocol.Stored, protocol.OpSet},
		{protocol.OpReplace, protocol.Stored, protocol.OpSet},
		{protocol.OpCas, protocol.Stored, protocol.OpSet},
		{protocol.OpAppend, protocol.Stored, protocol.OpAppend},
		{protocol.OpPrepend, protocol.Stored, protocol.OpPrepend},
		{protocol.OpIncr, protocol.Number, protocol.OpIncr},
		{protocol.OpDecr, protocol.Number, protocol.OpDecr},
		{protocol.OpTouch, protocol.Touched, protocol.OpTouch},
		{protocol.OpDelete, protocol.Deleted, protocol.OpDelete},
		// The primary may have evicted what the backup still has.
		{protocol.OpDelete, protocol.NotFound, protocol.OpDelete},
		// memcached has dropped the old value.
		{protocol.OpSet, protocol.ServerError, protocol.OpDelete},

		{protocol.OpAdd, protocol.NotStored, protocol.OpNone},
		{protocol.OpReplace, protocol.NotStored, protocol.OpNone},
		{protocol.OpAppend, protocol.NotStored, protocol.OpNone},
		{protocol.OpCas, protocol.Exists, protocol.OpNone},
		{protocol.OpCas, protocol.NotFound, protocol.OpNone},
		{protocol.OpIncr, protocol.NotFound, protocol.OpNone},
		{protocol.OpIncr, protocol.ClientError, protocol.OpNone},
		{protocol.OpTouch, protocol.NotFound, protocol.OpNone},
		{protocol.OpAdd, protocol.ServerError, protocol.OpNone},
		{protocol.OpAppend, protocol.ServerError, protocol.OpNone},
		{protocol.OpDelete, protocol.Error, protocol.OpNone},
	} {
		if effect := effectOf(test.op, test.answer); effect != test.effect {
			t.Errorf("operation %d answered %d: effect %d, want %d", test.op, test.answer, effect, test.effect)
		}
	}
}
