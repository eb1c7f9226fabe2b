package proxy

import (
	"sync/atomic"

	"magent/proxy/engine"
)

// Turn calls done when every event loop has come round once more, that which
// accepts clients included while there is one. A loop that hangs keeps done
// from being called, and so may an upgrade or the end that begins meanwhile:
// who watches the loops asks again. done runs on a loop and must not wait.
func (p *Proxy) Turn(done func()) {
	loops := make([]*engine.Loop, 0, len(p.workers)+1)
	for _, w := range p.workers {
		loops = append(loops, w.loop)
	}
	if accepting := p.accepting.Load(); accepting != nil {
		loops = append(loops, accepting.loop)
	}
	left := new(atomic.Int32)
	left.Store(int32(len(loops)))
	for _, loop := range loops {
		loop.Post(engine.TaskFunc(func() {
			if left.Add(-1) == 0 {
				done()
			}
		}))
	}
}
