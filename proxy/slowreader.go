package proxy

import (
	"magent/proxy/protocol"
)

// A client may ask for more than it reads. What is asked for before the size
// of its answers is known can be far more than the proxy should hold; so a
// value that finds no room is thrown away, and asked for again when the client
// has read what it was sent.

// postpone tells whether the answer to r, which has come, has to be thrown
// away and asked for again.
func (s *session) postpone(r *request) bool {
	limit := outputLimit
	if s.w.Held() > s.w.p.memoryPerWorker.Load()/2 {
		limit = 1 // memory is short: whoever has something to read waits
	}
	held := s.out.Len()
	if r != s.head {
		held += s.stored
		if s.postponed > 0 {
			held = limit // one before it has to come first
		}
	}
	if held < limit || r.Write || !isGet(r.op) && r.op != protocol.OpMetaGet {
		return false
	}
	// Asked again it would see what this client wrote later.
	for q := r.after; q != nil; q = q.after {
		if q.Write || q.op == protocol.OpFlushAll {
			return false
		}
	}
	r.later = true
	r.tries = 0
	s.postponed++
	s.w.stats.postponed++
	s.wake()
	return true
}

// askAgain asks for as many postponed values as there is room for, the first
// ones first. The head is always asked for: others wait for it.
func (s *session) askAgain() {
	room := outputLimit - s.out.Len() - s.stored
	if s.out.Len() >= outputLimit/2 {
		return
	}
	ask := s.w.askList[:0]
	for r := s.head; r != nil && s.postponed > 0 && (r == s.head || room > 0); r = r.after {
		if r.done {
			continue
		}
		room -= s.usual
		if !r.later {
			continue // it is under way
		}
		r.later = false
		s.postponed--
		ask = append(ask, r)
	}
	s.w.askList = ask
	for i, r := range ask { // to ask may answer at once, and change the order
		ask[i] = nil
		s.w.read(r)
	}
}
