package proxy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"magent/proxy/engine"
)

// asked is a proxy that answers questions and has no clients: nothing listens.
// Its one loop runs until the test ends, or not at all.
func asked(t *testing.T, runs bool) *Proxy {
	t.Helper()
	o := Defaults()
	o.Primaries, o.Backups, o.Threads = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}, 1
	p, err := New(o, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	p.opened = make(chan struct{})
	close(p.opened)
	p.listens = []string{"10.0.0.66:12000"}
	loop := p.workers[0].loop
	if !runs {
		t.Cleanup(loop.Close)
		return p
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		loop.Run(idleOwner{})
	}()
	t.Cleanup(func() {
		loop.Post(engine.TaskFunc(loop.Stop))
		<-done
	})
	return p
}

// idleOwner has nothing to do at the end of a turn.
type idleOwner struct{}

func (idleOwner) EndTurn() time.Duration { return -1 }

// promise: W5
func TestAskAnswersAsAClientIsAnswered(t *testing.T) {
	p := asked(t, true)
	for question, want := range map[string]string{
		"stats":                 "STAT magent_servers 2\r\n",
		"stats servers":         "STAT 127.0.0.1:2:role backup\r\n",
		"stats settings":        "STAT listen 10.0.0.66:12000\r\n",
		"stats reset":           "ERROR\r\n",
		"flush_all":             "ERROR\r\n",
		"get k":                 "ERROR\r\n",
		"":                      "ERROR\r\n",
		"magent explain":        "ERROR\r\n",
		"magent explain k more": "ERROR\r\n",
		"magent explain " + strings.Repeat("k", 251): "ERROR\r\n",
	} {
		answer, err := p.Ask(t.Context(), question)
		if err != nil || !strings.Contains(string(answer), want) || !strings.HasSuffix(string(answer), "\r\n") {
			t.Errorf("%.40q: %q, error %v; want %q", question, answer, err, want)
		}
	}
	if p.questions.Load() != 0 {
		t.Errorf("%d questions are left", p.questions.Load())
	}
}

// promise: R2
func TestAskOfALoopThatStandsStill(t *testing.T) {
	p := asked(t, false) // whose loop does not run
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range mostQuestions {
		if answer, err := p.Ask(ctx, "stats"); err == nil && answer != nil {
			t.Fatalf("the answer is %q", answer)
		}
	}
	// A context that is over may win against a place that is free.
	for p.questions.Load() < mostQuestions {
		_, _ = p.Ask(ctx, "stats")
	}
	if answer, err := p.Ask(t.Context(), "stats"); err != nil || string(answer) != "SERVER_ERROR too many questions at once\r\n" {
		t.Errorf("%q, error %v", answer, err)
	}
}

func TestAskBeforeTheFirstClients(t *testing.T) {
	p := asked(t, false)
	synctest.Test(t, func(t *testing.T) {
		p.opened = make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if answer, err := p.Ask(ctx, "stats"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%q, error %v", answer, err)
		}
	})
}
