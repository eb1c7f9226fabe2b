package proxy

// contended is told of a write whose stripe another loop has leased. The
// client's earlier requests come first; then that loop runs the write.
func (w *worker) contended(r *request) {
	if r.w == r.home && r.session != nil {
		r.session.parked = r
		if r.session.head != r {
			r.session.turn = r // goOn calls again
			return
		}
	}
	w.pass(r)
}

// goOn tries the write that the client waits with, once it is the first.
func (s *session) goOn() {
	r := s.turn
	if r == nil || s.head != r {
		return
	}
	s.turn = nil
	if s.w.pausing {
		s.w.delayed = append(s.w.delayed, r)
		return
	}
	s.w.writeRouted(r)
}

// handOver has another loop run a read. The client's later requests wait.
func (w *worker) handOver(r *request) {
	if r.w == r.home && r.session != nil && !r.away {
		r.away = true
		r.session.away++
	}
	w.pass(r)
}

// pass sends a request to the worker that holds its stripe. When the stripe
// has been freed in this very moment it is tried here again.
func (w *worker) pass(r *request) {
	r.phase = handedOver
	holder := w.p.leases.holder(r.stripe)
	if holder >= 0 && holder != w.index {
		w.stats.handovers++
		r.w = w.p.workers[holder]
	}
	r.w.loop.Post(r)
}

// Run is called on the loop that a request was sent to (engine.Task).
func (r *request) Run() {
	w := r.w
	switch {
	case r.phase == returning:
		w.returned(r)
	case !r.Write:
		if !r.moved {
			// This loop may have writes of the key at the primary: behind them
			// the primary's answer is never older than what others have seen.
			r.moved = true
			r.tries = 0
		}
		w.read(r)
	case w.pausing:
		w.delayed = append(w.delayed, r)
	default:
		w.writeRouted(r)
	}
}

// sendHome sends a request that is answered back to its client's loop.
func (w *worker) sendHome(r *request) {
	r.phase = returning
	r.w = r.home
	r.home.loop.Post(r)
}

func (w *worker) returned(r *request) {
	r.settled = true
	r.done = true
	switch s := r.session; {
	case s == nil:
		w.release(r)
	case s.head == r:
		s.popDone()
	}
}
