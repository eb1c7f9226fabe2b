package backend

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"magent/proxy/protocol"
)

// ProbeOptions says how often and how patiently a server is probed.
type ProbeOptions struct {
	Connect time.Duration // to reach it
	Answer  time.Duration // for each answer
	Min     time.Duration // first pause; it doubles
	Max     time.Duration // longest pause
}

// Prober brings a server back that is down. Run is its goroutine.
type Prober struct {
	Server  *Server
	Options ProbeOptions
	Report  func(s *Server, err error) // told why a probe failed

	// Recovery decides what becomes of a server that answers again. Without
	// one, a server that has missed writes is flushed.
	Recovery Recovery
}

// Return is what is known of a server that answers again.
type Return struct {
	Life  Life
	Empty bool // it holds no item of a client
	Known bool // it holds the note of its own life: some proxy has used it

	Lacking bool // it holds the note that it lacks keys
}

// Verdict is what has to be done with it.
type Verdict struct {
	Flush bool  // before it serves
	To    State // Up or Warming
	Why   string
	Wait  string // why it must not serve yet, "" when it may
}

// Recovery knows what a server has missed.
type Recovery interface {
	// Returning is called from the prober's goroutine before the server serves,
	// as often as it tries.
	Returning(ctx context.Context, s *Server, r Return) Verdict
	// Restored says that the verdict was carried out.
	Restored(s *Server, v Verdict)
}

// Run probes the server whenever it is down, until ctx ends. first is called
// after the first probe, whatever its result.
func (p *Prober) Run(ctx context.Context, first func()) {
	pause := p.Options.Min
	p.attempt(ctx)
	first()
	for ctx.Err() == nil {
		if p.Server.Serves() {
			select {
			case <-ctx.Done():
				return
			case <-p.Server.kick:
			}
			if p.Server.Serves() {
				p.verify(ctx)
			}
			if !p.Server.Serves() {
				pause = p.Options.Min
				p.attempt(ctx) // at once: it may be there already
			}
			continue
		}
		// Jitter of a quarter, so that many proxies do not probe in step.
		wait := pause*3/4 + rand.N(pause/2+1)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		p.attempt(ctx)
		pause = min(pause*2, p.Options.Max)
	}
}

// verify looks at a server that serves but whose connection was lost.
func (p *Prober) verify(ctx context.Context) {
	client, err := p.dial(ctx)
	if err != nil {
		if ctx.Err() == nil && (errors.Is(err, ErrRefused) || errors.Is(err, ErrAuth)) {
			p.Server.TakeOut(false, err.Error())
		}
		return
	}
	defer client.Close()
	if p.Recovery == nil {
		return
	}
	known, ok := p.Server.Life()
	if life, err := client.Life(); err == nil && ok && life != known {
		p.Server.TakeOut(false, ErrNewLife.Error())
	}
}

// attempt brings the server up if it can be reached and has worked off what
// old connections left it; what it has missed is the Recovery's business.
func (p *Prober) attempt(ctx context.Context) {
	s := p.Server
	if s.Serves() {
		return
	}
	client, err := p.dial(ctx)
	if err != nil {
		s.probed.Store(true)
		if ctx.Err() == nil {
			p.report(err)
		}
		return
	}
	defer client.Close()
	version, err := client.Ask("version\r\n")
	switch {
	case err != nil:
		err = s.whyMute(ctx, p.Options.Connect, p.Options.Answer, err)
	case version == protocol.Unauthenticated:
		err = errAsks
	case !strings.HasPrefix(version, "VERSION "):
		err = fmt.Errorf("%w: it answered %.40q to version", ErrProtocol, version)
	}
	if err != nil {
		s.probed.Store(true)
		p.report(err)
		return
	}
	s.setVersion(strings.TrimPrefix(version, "VERSION "))
	for ctx.Err() == nil {
		s.answered.CompareAndSwap(0, time.Now().UnixNano())
		word := s.word.Load()
		if State(word).Serves() {
			return
		}
		if !s.seenByAll(word>>8) || !s.drained() {
			// Soon over; the server must answer all the while.
			if !p.rest(ctx) {
				return
			}
			if _, err := client.Ask("version\r\n"); err != nil {
				p.report(err)
				return
			}
			continue
		}
		done, err := p.restore(ctx, client, word)
		if err != nil {
			p.report(err)
			return
		}
		if done {
			return
		}
	}
}

// restore makes the server fit to serve, and has it serve unless its state
// changed meanwhile.
func (p *Prober) restore(ctx context.Context, client *Client, word uint64) (done bool, err error) {
	s := p.Server
	v := Verdict{To: Up, Why: "it answers and has missed nothing"}
	if State(word) == Dirty {
		v.Flush = true
		v.Why = "it answers and was flushed, because it had missed writes"
	}
	if s.NeedsNoLogin() {
		// A connection that took it for one that asks has left an item that
		// must not make an empty server look like one that is not.
		if _, err := client.Ask("delete %s\r\n", AuthKey); err != nil {
			return false, err
		}
	}
	settings, err := askSettings(client)
	if err != nil {
		return false, err
	}
	s.noFlush.Store(settings["flush_enabled"] == "no")
	var f facts
	if p.Recovery != nil {
		stats, err := client.Stats()
		if err != nil {
			return false, err
		}
		if f, err = readFacts(stats); err != nil {
			return false, err
		}
		s.clock.Store(f.clock)
		held, err := client.Gets(LifeKey, LackingKey)
		if err != nil {
			return false, err
		}
		s.setTokens(settings)
		_, lacking := held[LackingKey]
		v = p.Recovery.Returning(ctx, s, Return{
			Life: f.life, Empty: f.items <= int64(len(held)), Known: string(held[LifeKey].Value) == f.life.String(), Lacking: lacking,
		})
	}
	if v.Wait != "" {
		return false, fmt.Errorf("%w: %s", ErrNotYet, v.Wait)
	}
	if v.Flush {
		answer, err := client.Ask("flush_all\r\n")
		if err == nil && answer != "OK" {
			err = fmt.Errorf("it has missed writes and must be flushed, but answered %.60q to flush_all; start it without -F", answer)
		}
		if err != nil {
			return false, err
		}
		s.Flushes.Add(1)
	}
	if p.Recovery != nil {
		if stored, err := client.Store("set", LifeKey, f.life.String()); err != nil {
			return false, err
		} else if !stored {
			return false, fmt.Errorf("it refused to store %s, which holds its life; give it more memory", LifeKey)
		}
		s.setLife(f.life)
		p.Recovery.Restored(s, v)
	}
	return s.bringUp(word, v.To, v.Why), nil
}

// report tells why a probe failed, and has the server know it.
func (p *Prober) report(err error) {
	why := err.Error()
	p.Server.outWhy.Store(&why)
	p.Server.setProblem(err)
	p.Report(p.Server, err)
}

// rest pauses for a moment and returns false when ctx has ended.
func (p *Prober) rest(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(p.Options.Min / 10):
		return true
	}
}

// dial connects, resolving a host name anew: a server may come back at
// another address.
func (p *Prober) dial(ctx context.Context) (*Client, error) {
	client, err := p.Server.Dial(ctx, p.Options.Connect, p.Options.Answer)
	p.Server.refused.Store(errors.Is(err, unix.ECONNREFUSED))
	if err == nil {
		p.Server.address.Store(&client.address)
	}
	return client, err
}
