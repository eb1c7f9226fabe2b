package proxy

import (
	"testing"

	"github.com/rs/zerolog"

	"magent/proxy/engine"
)

func TestTurnWaitsForEveryLoop(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Threads = []string{"127.0.0.1:1"}, 3
	p, err := New(o, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(nil); err != nil {
		t.Fatal(err)
	}
	defer p.Shutdown()
	all := []*engine.Loop{p.acceptor.loop}
	for _, w := range p.workers {
		all = append(all, w.loop)
	}
	for i, held := range all {
		stands, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
		held.Post(engine.TaskFunc(func() {
			close(stands)
			<-release
		}))
		<-stands
		p.Turn(func() { close(done) })
		for j, other := range all {
			if j == i {
				continue
			}
			passed := make(chan struct{})
			other.Post(engine.TaskFunc(func() { close(passed) }))
			<-passed // and so is what was posted there before
		}
		select {
		case <-done:
			t.Errorf("loop %d stands still, and all of them are said to turn", i)
		default:
		}
		close(release)
		<-done
	}
}
