package backend

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"
)

// lookupLimit bounds one look-up of a host name.
const lookupLimit = 2 * time.Second

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
}

// Run probes the server whenever it is down, until ctx ends. first is called
// after the first probe, whatever its result.
func (p *Prober) Run(ctx context.Context, first func()) {
	pause := p.Options.Min
	p.attempt(ctx)
	first()
	for ctx.Err() == nil {
		if p.Server.IsUp() {
			pause = p.Options.Min
			select {
			case <-ctx.Done():
			case <-p.Server.kick:
				p.verify(ctx)
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

// verify looks at a server that is up but whose connection was lost.
func (p *Prober) verify(ctx context.Context) {
	conn, err := p.dial(ctx)
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, ErrRefused) {
			p.Server.TakeOut(false, err.Error())
		}
		return
	}
	_ = conn.Close()
}

// attempt brings the server up if it can be reached and has worked off what
// old connections left it; one that has missed writes is flushed first.
func (p *Prober) attempt(ctx context.Context) {
	s := p.Server
	if s.IsUp() {
		return
	}
	conn, err := p.dial(ctx)
	if err != nil {
		if ctx.Err() == nil {
			p.Report(s, err)
		}
		return
	}
	defer func() { _ = conn.Close() }()
	answers := bufio.NewReader(conn)
	version, err := p.ask(conn, answers, "version\r\n")
	if err == nil && !strings.HasPrefix(version, "VERSION ") {
		err = fmt.Errorf("%w: it answered %.40q to version", ErrProtocol, version)
	}
	if err != nil {
		p.Report(s, err)
		return
	}
	s.setVersion(strings.TrimPrefix(version, "VERSION "))
	for ctx.Err() == nil {
		s.answered.CompareAndSwap(0, time.Now().UnixNano())
		word := s.word.Load()
		if State(word) == Up {
			return
		}
		if !s.seenByAll(word>>8) || len(s.Draining()) > 0 {
			// Soon over; the server must answer all the while.
			if !p.rest(ctx) {
				return
			}
			if _, err := p.ask(conn, answers, "version\r\n"); err != nil {
				p.Report(s, err)
				return
			}
			continue
		}
		why := "it answers and has missed nothing"
		if State(word) == Dirty {
			answer, err := p.ask(conn, answers, "flush_all\r\n")
			if err == nil && answer != "OK" {
				err = fmt.Errorf("it has missed writes and must be flushed, but answered %.60q to flush_all; start it without -F", answer)
			}
			if err != nil {
				p.Report(s, err)
				return
			}
			why = "it answers and was flushed, because it had missed writes"
		}
		if s.bringUp(word, why) {
			if State(word) == Dirty {
				s.Flushes.Add(1)
			}
			return
		}
	}
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
// another address. Of several addresses the first that answers is taken.
func (p *Prober) dial(ctx context.Context) (net.Conn, error) {
	addresses, err := p.resolve(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	var failed []error
	for _, ip := range addresses {
		conn, err := p.dialOne(ctx, netip.AddrPortFrom(ip.Unmap(), uint16(p.Server.Port)))
		if err == nil {
			return conn, nil
		}
		failed = append(failed, err)
	}
	return nil, fmt.Errorf("%w: %w", ErrRefused, errors.Join(failed...))
}

func (p *Prober) dialOne(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Options.Connect)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	p.Server.address.Store(&to)
	return conn, nil
}

func (p *Prober) resolve(ctx context.Context) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(p.Server.Host); err == nil {
		return []netip.Addr{ip}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", p.Server.Host)
}

// ask sends a line and returns the answer's line.
func (p *Prober) ask(conn net.Conn, answers *bufio.Reader, line string) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(p.Options.Answer)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte(line)); err != nil {
		return "", fmt.Errorf("%w: %w", ErrClosed, err)
	}
	answer, err := answers.ReadSlice('\n')
	if err != nil {
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			return "", fmt.Errorf("%w: nothing for %v", ErrTimeout, p.Options.Answer)
		}
		return "", fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return strings.TrimRight(string(answer), "\r\n"), nil
}
