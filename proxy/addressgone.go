package proxy

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"magent/proxy/engine"
)

// When an address leaves this machine, as keepalived's virtual address does, the
// clients that are connected through it would hang: what they send arrives at
// another machine, and what they wait for can not be sent any more. They are
// reset at once, or as soon as they have the answers to what is in flight: those
// still reach them. The listener stays, for the day when the address comes back.

// acceptRounds is how often the acceptor takes more of those that came before
// their address left.
const acceptRounds = 64

// answerTime is how long a client whose address has left may wait for what is in
// flight.
const answerTime = time.Second

// startAddressWatch resets clients whose address has left, until ctx ends.
func (p *Proxy) startAddressWatch(ctx context.Context) {
	watch, err := engine.WatchAddresses()
	if err != nil {
		p.log.Warn().Err(err).Msg("clients will not be reset when their address leaves this machine; allow AF_NETLINK sockets")
		return
	}
	stop := context.AfterFunc(ctx, watch.Close)
	p.wg.Go(func() {
		defer watch.Close()
		defer stop()
		for {
			gone, err := watch.Next()
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				p.log.Warn().Err(err).Msg("clients will not be reset any more when their address leaves this machine; start magent anew")
				return
			}
			p.addressesGone(gone)
		}
	})
}

// addressesGone has every client reset that came to one of the addresses, also
// one that has not been accepted yet.
func (p *Proxy) addressesGone(gone []netip.Addr) {
	since := time.Now()
	reset := func() {
		for _, w := range p.workers {
			w.loop.Post(engine.TaskFunc(func() { w.resetClientsOf(gone, since) }))
		}
	}
	reset() // also while nobody is accepted
	if accepting := p.accepting.Load(); accepting != nil {
		accepting.loop.Post(engine.TaskFunc(func() {
			accepting.acceptRest()
			reset()
		}))
	}
}

// acceptRest takes all who wait to be accepted.
func (a *acceptor) acceptRest() {
	for range acceptRounds {
		a.again = false
		if a.acceptAll(); !a.again {
			return
		}
	}
}

// resetHomeless resets the clients whose requests in flight take too long.
func (w *worker) resetHomeless() {
	w.sessions.Each(func(s *session) {
		if s.homeless {
			s.reset()
		}
	})
}

// resetClientsOf resets the clients that came to one of the addresses before it had
// left. It may be back by now, and have new ones.
func (w *worker) resetClientsOf(gone []netip.Addr, left time.Time) {
	before := w.loop.Now() - int64(time.Since(left))
	away := slices.DeleteFunc(slices.Clone(gone), engine.IsHere)
	count := 0
	w.sessions.Each(func(s *session) {
		local := engine.Local(s.fd).Addr().WithZone("")
		if s.Since < before && slices.Contains(gone, local) || slices.Contains(away, local) {
			count++
			if s.homeless = true; s.inFlight == 0 {
				s.reset()
			}
		}
	})
	if count > 0 {
		w.loop.Arm(&w.homeless, answerTime)
		w.stats.addressGone += uint64(count)
		w.log.Info().Int("clients", count).Any("addresses", gone).Msg("an address has left this machine; its clients were reset")
	}
}
