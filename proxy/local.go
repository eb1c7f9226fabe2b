package proxy

import (
	"magent/proxy/protocol"
)

// local handles what needs no key: malformed input, and commands for the
// proxy itself.
func (s *session) local(r *protocol.Request) {
	if r.Dialect == protocol.Binary && s.localBinary(r) {
		return
	}
	switch r.Op {
	case protocol.OpNoop:
		s.answerNow(r)
	case protocol.OpInvalid:
		s.w.stats.invalid++
		s.answerNow(r)
	case protocol.OpVersion:
		r.Reply = append(append(append(s.w.line[:0], "VERSION "...), s.w.p.serverVersion()...), lineEnd...)
		s.w.line = r.Reply
		s.answerNow(r)
	case protocol.OpVerbosity:
		// memcached's own answer; how much magent logs is not the clients' to say.
		r.Reply = append(append(s.w.line[:0], okLine...), lineEnd...)
		s.w.line = r.Reply
		if r.Quiet {
			r.Reply = nil
		}
		s.answerNow(r)
	case protocol.OpAdmin:
		if !s.admin(r) {
			s.w.stats.invalid++
			s.answerNow(r)
		}
	case protocol.OpQuit:
		s.leaving = true
		s.wake()
	case protocol.OpFlushAll:
		s.w.stats.flushes++
		if s.w.p.forbidsFlush() {
			s.refuseFlush(r)
			return
		}
		q := s.order(r, nil)
		s.parked = q
		s.w.p.flushes.begin(&flush{home: q.home, request: q, delay: flushDelay(r.Expiry)})
	case protocol.OpStats:
		q := s.order(r, nil)
		s.parked = q
		s.w.p.startStats(q, string(r.Args))
	}
}
