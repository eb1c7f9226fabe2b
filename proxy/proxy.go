package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"magent/backend"
	"magent/conntrack"
	"magent/proxy/engine"
	"magent/proxy/protocol"
)

const (
	firstProbes     = 3 * time.Second // longest wait for them before the first client is served
	maxThreads      = 256
	fallbackVersion = "1.4.15" // told while no server has told its own: the first with touch and gat
)

// Proxy is the whole of magent behind its listeners. New makes it, Start
// serves, Shutdown ends it.
type Proxy struct {
	options atomic.Pointer[Options]
	log     zerolog.Logger

	servers []*backend.Server // each once, in whatever pools it is
	pools   pools
	limits  backend.Limits
	hold    time.Duration

	workers  []*worker
	acceptor *acceptor
	leases   *leases
	flushes  flushes
	journals []*journal // by index of the server
	recovery *recovery
	tokenIDs uint64 // of the first worker; see tokens
	clients  *conntrack.Limit
	started  time.Time
	resetAt  atomic.Int64

	parser atomic.Pointer[protocol.Parser]

	auth            atomic.Pointer[auth] // nil: clients need not prove themselves
	idle            atomic.Int64         // nanoseconds
	memoryPerWorker atomic.Int64         // bytes
	warnings        warnings
	reached         []atomic.Bool            // by index of the server: it has served
	unreached       []atomic.Bool            // the same: it was said that it cannot be reached
	refusals        []atomic.Pointer[string] // by index of the server: why it lets magent not in, as logged last

	inFlight      *inFlightFile // nil: none is kept
	inFlightLater string        // where it is as soon as nobody else has it
	left          leftKeys
	listeners     []int
	listens       []string     // where, as stats tells it
	questions     atomic.Int32 // of Ask under way
	// The acceptor, nil while there is none: for other goroutines than
	// the one that starts and stops.
	accepting atomic.Pointer[acceptor]
	opened    chan struct{} // closed when the first clients are let in
	cancel    context.CancelFunc
	wg        sync.WaitGroup // workers and probers
	acceptWg  sync.WaitGroup
}

// New checks the options and prepares a proxy. It opens nothing but the
// loops' own descriptors. Errors wrap ErrOptions and say how to mend it.
func New(o Options, log zerolog.Logger) (*Proxy, error) {
	if err := check(&o); err != nil {
		return nil, err
	}
	known, err := readSecrets(&o)
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		log:     log,
		hold:    o.Hold,
		leases:  newLeases(),
		clients: conntrack.NewLimit(o.MaxClients),
		limits: backend.Limits{
			Connect: o.ConnectTimeout, Answer: o.ServerTimeout, Failures: o.ServerFailures,
			MaxValue: max(o.MaxItemSize, 1<<30),
		},
	}
	p.options.Store(&o)
	p.apply(o)
	if err := p.buildPools(); err != nil {
		return nil, err
	}
	p.useSecrets(known)
	p.refusals = make([]atomic.Pointer[string], len(p.servers))
	p.reached = make([]atomic.Bool, len(p.servers))
	p.unreached = make([]atomic.Bool, len(p.servers))
	for i := range p.servers {
		twinOf := func(key []byte) int32 { return p.pools.twinFor(key, int32(i)) }
		p.journals = append(p.journals, newJournal(o.JournalKeys, o.JournalMemory, p.pools.twins(int32(i)), twinOf))
	}
	p.setParser()
	p.recovery = newRecovery(p)
	p.tokenIDs = rand.Uint64()
	for i := range o.Threads {
		w, err := newWorker(p, i)
		if err != nil {
			for _, w := range p.workers {
				w.loop.Close()
			}
			return nil, fmt.Errorf("cannot start event loop %d: %w; raise the limit of open files", i, err)
		}
		p.workers = append(p.workers, w)
	}
	p.flushes.workers = p.workers
	return p, nil
}

// check completes the options and refuses what makes no sense.
func check(o *Options) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", ErrOptions, fmt.Errorf(format, args...))
	}
	if len(o.Primaries) == 0 {
		return bad("no server; name at least one with -s host[:port]")
	}
	if o.Threads == 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	if o.Threads < 1 || o.Threads > maxThreads {
		return bad("%d threads; give 1 to %d", o.Threads, maxThreads)
	}
	if o.MaxClients < 1 {
		return bad("at most %d clients; give at least 1 with -n", o.MaxClients)
	}
	if o.MaxServerConnections < 1 {
		return bad("at most %d connections to a server; give at least 1 with -i", o.MaxServerConnections)
	}
	// Each loop has one connection to each server.
	o.Threads = min(o.Threads, o.MaxServerConnections)
	if o.MaxItemSize < 1 || o.MaxItemSize > 1<<30 {
		return bad("items of at most %d bytes; give 1 to 1g with --max-item-size", o.MaxItemSize)
	}
	if o.MaxMemory < 16<<20 {
		return bad("%d bytes of memory for requests and answers; give at least 16m with --max-memory", o.MaxMemory)
	}
	for _, t := range []struct {
		name string
		d    time.Duration
	}{
		{"--connect-timeout", o.ConnectTimeout}, {"--server-timeout", o.ServerTimeout},
		{"--probe-min", o.ProbeMin}, {"--probe-max", o.ProbeMax}, {"--drain-timeout", o.DrainTimeout},
	} {
		if t.d <= 0 {
			return bad("%s is %v; give a time above 0, such as 500ms", t.name, t.d)
		}
	}
	if o.ServerFailures < 1 {
		return bad("--server-failures is %d; give at least 1", o.ServerFailures)
	}
	if o.JournalKeys < 1 || o.JournalMemory < 1<<10 {
		return bad("a journal of %d keys and %d bytes; give --journal-keys 1 or more and --journal-memory 1k or more", o.JournalKeys, o.JournalMemory)
	}
	if o.ResyncRate < 0 || o.CompareRate < 0 {
		return bad("a rate below 0; give --resync-rate and --compare-rate 0 or more")
	}
	if o.LostAfter < 0 {
		return bad("--lost-after is %v; give 0 or more, such as 10s", o.LostAfter)
	}
	if o.Hold < 0 || o.IdleTimeout < 0 {
		return bad("a time below 0; give --hold and --idle-timeout 0 or more")
	}
	o.ProbeMax = max(o.ProbeMax, o.ProbeMin)
	return nil
}

// apply sets what can change while the proxy runs.
func (p *Proxy) apply(o Options) {
	p.clients.Set(o.MaxClients)
	p.idle.Store(int64(o.IdleTimeout))
	p.memoryPerWorker.Store(o.MaxMemory / int64(o.Threads))
}

// Start takes over listening descriptors, which must be non-blocking, and
// begins to serve. It returns at once.
func (p *Proxy) Start(listeners []int) error {
	return p.start(listeners, nil)
}

func (p *Proxy) start(listeners []int, adopt func()) error {
	p.started = time.Now()
	p.resetAt.Store(p.started.UnixNano())
	p.listeners = slices.Clone(listeners)
	p.listens = nil
	for _, fd := range listeners {
		p.listens = append(p.listens, engine.LocalName(fd))
	}
	a, err := newAcceptor(p, p.listeners)
	if err != nil {
		return fmt.Errorf("cannot accept clients: %w", err)
	}
	p.acceptor = a
	p.accepting.Store(a)
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	if adopt != nil {
		adopt()
	}
	for _, w := range p.workers {
		p.wg.Go(w.run)
	}
	p.acceptWg.Add(1)
	go a.run(&p.acceptWg)
	p.startAddressWatch(ctx)
	if p.inFlightLater != "" {
		p.wg.Go(func() { p.awaitInFlight(ctx) })
	}
	probed := p.startProbers(ctx)
	p.startRecovery(ctx)
	p.opened = make(chan struct{})
	p.wg.Go(func() {
		defer close(p.opened)
		// A client served before the first probes would be told that no server
		// is reachable.
		select {
		case <-probed:
		case <-time.After(min(p.limits.Connect+2*p.limits.Answer, firstProbes)):
		case <-ctx.Done():
			return
		}
		for _, w := range p.workers {
			w.loop.Post(engine.TaskFunc(w.thaw))
		}
		a.loop.Post(engine.TaskFunc(func() { a.setOpen(true) }))
	})
	return nil
}

// startProbers returns a channel that is closed when each server has been
// probed once.
func (p *Proxy) startProbers(ctx context.Context) <-chan struct{} {
	probed := make(chan struct{})
	var left atomic.Int32
	left.Store(int32(len(p.servers)))
	o := backend.ProbeOptions{
		Connect: p.options.Load().ConnectTimeout, Answer: p.options.Load().ServerTimeout,
		Min: p.options.Load().ProbeMin, Max: p.options.Load().ProbeMax,
	}
	for _, s := range p.servers {
		prober := &backend.Prober{Server: s, Options: o, Report: p.probeFailed}
		if p.pools.backup != nil {
			prober.Recovery = p.recovery
		}
		p.wg.Go(func() {
			prober.Run(ctx, func() {
				if left.Add(-1) == 0 {
					close(probed)
				}
			})
		})
	}
	return probed
}

func (p *Proxy) probeFailed(s *backend.Server, err error) {
	if errors.Is(err, backend.ErrAuth) {
		text := err.Error()
		if said := p.refusals[s.Index].Swap(&text); said == nil || *said != text {
			p.log.Warn().Str("server", s.Name()).Err(err).Msg("this server does not let magent in; it is tried again")
		}
		return
	}
	p.refusals[s.Index].Store(nil)
	if _, known := s.Life(); !known && !p.reached[s.Index].Load() && !p.unreached[s.Index].Swap(true) {
		p.log.Warn().Str("server", s.Name()).Err(err).Msg("this server has not been reached yet; it is tried again")
		return
	}
	p.warnings.warn(p.log.Debug().Str("server", s.Name()).Err(err), "probe "+s.Name(), "a probe failed")
}

// serverChanged logs a change of state and has every loop look at it.
func (p *Proxy) serverChanged(s *backend.Server, c backend.Change) {
	if c.To.Serves() {
		p.reached[s.Index].Store(true)
		p.setParser() // its version may be another
	}
	event := p.log.Warn()
	if c.To.Serves() {
		event = p.log.Info()
	}
	event.Str("server", s.Name()).Stringer("from", c.From).Stringer("to", c.To).Str("why", c.Why).Msg("server changed")
	if c.To.Serves() && !c.From.Serves() {
		p.refusals[s.Index].Store(nil)
		if s.NeedsNoLogin() {
			p.log.Warn().Str("server", s.Name()).Msg("this server lets everybody in, and is not told the password of --server-auth-file; start it with -Y to have it ask")
		}
		if s.ForbidsFlush() && p.pools.backup != nil {
			p.log.Warn().Str("server", s.Name()).Msg("this server was started with -F, so magent cannot flush it when it has missed more writes than are known, and it stays out then; start it without -F")
		}
	}
	if !c.From.Serves() || c.To.Serves() {
		return
	}
	for _, w := range p.workers {
		c := w.conns[s.Index]
		w.loop.Post(engine.TaskFunc(func() { c.Sync() }))
	}
}

// setParser has requests parsed as the servers would: what meta flags there are
// depends on their version.
func (p *Proxy) setParser() {
	parser := protocol.NewParser(p.options.Load().MaxItemSize)
	parser.TextOnly = true
	for _, s := range p.servers {
		parser.OldMeta = parser.OldMeta || s.HasOldMeta()
	}
	p.parser.Store(parser)
}

// serverVersion is what version answers: a primary's own version.
func (p *Proxy) serverVersion() string {
	for _, i := range p.pools.primaries {
		if v := p.servers[i].Version(); v != "" {
			return v
		}
	}
	for _, s := range p.servers {
		if v := s.Version(); v != "" {
			return v
		}
	}
	return fallbackVersion
}

// Shutdown stops accepting, lets what is in flight end, for DrainTimeout at
// most, closes every connection and waits until all is over.
func (p *Proxy) Shutdown() {
	p.stopAccepting(true)
	quiet := p.eachQuiet(func(w *worker) { w.drain() })
	select {
	case <-quiet:
	case <-time.After(p.options.Load().DrainTimeout):
		p.log.Warn().Dur("after", p.options.Load().DrainTimeout).Msg("some clients did not end in time; closing them")
	}
	p.recovery.leftDone()
	for _, w := range p.workers {
		w.loop.Post(engine.TaskFunc(func() {
			w.sessions.Each((*session).close)
			w.loop.Stop()
		}))
	}
	p.cancel()
	p.wg.Wait()
	p.recovery.leave()
	if p.inFlight != nil {
		p.inFlight.close()
	}
}

func (p *Proxy) stopAccepting(closeListeners bool) {
	p.accepting.Store(nil)
	p.acceptor.loop.Post(engine.TaskFunc(func() { p.acceptor.shut(closeListeners) }))
	p.acceptWg.Wait()
}

// eachQuiet runs f on every loop and returns a channel that is closed when
// nothing is in flight on any.
func (p *Proxy) eachQuiet(f func(*worker)) <-chan struct{} {
	quiet := make(chan struct{})
	var left atomic.Int32
	left.Store(int32(len(p.workers)))
	for _, w := range p.workers {
		w.loop.Post(engine.TaskFunc(func() {
			f(w)
			w.whenQuiet(func() {
				if left.Add(-1) == 0 {
					close(quiet)
				}
			})
		}))
	}
	return quiet
}

// Reload applies the options that can change while the proxy runs: MaxClients,
// IdleTimeout, MaxMemory, DrainTimeout, ResyncRate, CompareRate, LostAfter, and what AuthFile and ServerAuthFile hold. It
// returns the names of others that differ, for which the program has to be started anew. After an error nothing has changed.
func (p *Proxy) Reload(o Options) (needRestart []string, err error) {
	if err := check(&o); err != nil {
		return nil, err
	}
	old := *p.options.Load()
	// What the files hold may change; whether there is one, with a restart only.
	known, err := readSecrets(&old)
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name string
		same bool
	}{
		{"server", slices.Equal(old.Primaries, o.Primaries)},
		{"backup", slices.Equal(old.Backups, o.Backups)},
		{"distribution", old.Distribution == o.Distribution},
		{"threads", old.Threads == o.Threads},
		{"max-server-connections", old.MaxServerConnections == o.MaxServerConnections},
		{"auth-file", old.AuthFile == o.AuthFile},
		{"server-auth-file", old.ServerAuthFile == o.ServerAuthFile},
		{"max-item-size", old.MaxItemSize == o.MaxItemSize},
		{"connect-timeout", old.ConnectTimeout == o.ConnectTimeout},
		{"server-timeout", old.ServerTimeout == o.ServerTimeout},
		{"server-failures", old.ServerFailures == o.ServerFailures},
		{"probe-min", old.ProbeMin == o.ProbeMin},
		{"probe-max", old.ProbeMax == o.ProbeMax},
		{"hold", old.Hold == o.Hold},
		{"journal-keys", old.JournalKeys == o.JournalKeys},
		{"journal-memory", old.JournalMemory == o.JournalMemory},
	} {
		if !f.same {
			needRestart = append(needRestart, f.name)
		}
	}
	next := old
	next.MaxClients, next.IdleTimeout = o.MaxClients, o.IdleTimeout
	next.MaxMemory, next.DrainTimeout = o.MaxMemory, o.DrainTimeout
	next.ResyncRate, next.CompareRate, next.LostAfter = o.ResyncRate, o.CompareRate, o.LostAfter
	p.options.Store(&next)
	p.apply(next)
	p.useSecrets(known)
	return needRestart, nil
}
