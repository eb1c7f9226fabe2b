package proxy

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const warnEvery = time.Second

// warnings limits the rate of log lines that clients or servers can cause: one
// of each kind a second. The next one says how many were left out.
type warnings struct {
	mu    sync.Mutex
	kinds map[string]*warning
}

type warning struct {
	last time.Time
	left int
}

func (s *warnings) warn(event *zerolog.Event, kind, message string) {
	s.mu.Lock()
	if s.kinds == nil {
		s.kinds = map[string]*warning{}
	}
	w := s.kinds[kind]
	if w == nil {
		w = &warning{}
		s.kinds[kind] = w
	}
	if !w.last.IsZero() && time.Since(w.last) < warnEvery {
		w.left++
		s.mu.Unlock()
		return
	}
	w.last = time.Now()
	if w.left > 0 {
		event = event.Int("left_out", w.left)
		w.left = 0
	}
	s.mu.Unlock()
	event.Msg(message)
}
