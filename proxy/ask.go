package proxy

import (
	"context"
	"fmt"
	"strings"
)

// mostQuestions is the most questions of Ask that are under way at once. One
// that no loop answers any more stays under way.
const mostQuestions = 16

// Ask answers a question that comes otherwise than from a client, in the form in
// which a client is answered: stats, stats servers, stats settings, magent
// explain KEY and magent resync. It waits until the first clients are let in, so
// that servers count as out only when they have been tried. It may be called
// from any goroutine between Start and Shutdown, and returns when the context
// ends, also when a loop stands still.
func (p *Proxy) Ask(ctx context.Context, question string) ([]byte, error) {
	select {
	case <-p.opened:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if p.questions.Add(1) > mostQuestions {
		p.questions.Add(-1)
		return []byte("SERVER_ERROR too many questions at once\r\n"), nil
	}
	answered := make(chan []byte, 1)
	p.answer(question, func(answer []byte) {
		p.questions.Add(-1)
		answered <- answer
	})
	select {
	case answer := <-answered:
		return answer, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%q was not answered in time: %w", question, ctx.Err())
	}
}

// answer calls reply once, from any goroutine.
func (p *Proxy) answer(question string, reply func(answer []byte)) {
	switch words := strings.Fields(question); {
	case question == "stats", question == "stats servers", question == "stats settings":
		what := strings.TrimPrefix(strings.TrimPrefix(question, "stats"), " ")
		p.gather(what, func(q *statsQuery) { reply(q.answer()) })
	case question == "magent resync":
		reply([]byte(p.resyncAsked() + "\r\n"))
	case len(words) == 3 && words[0] == "magent" && words[1] == "explain" && len(words[2]) <= 250:
		p.wg.Go(func() { reply(p.explain(words[2])) })
	default:
		reply([]byte("ERROR\r\n"))
	}
}
