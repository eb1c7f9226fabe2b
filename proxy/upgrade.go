package proxy

import (
	"bytes"
	"cmp"
	"encoding/gob"
	"fmt"
	"net/netip"
	"time"

	"magent/backend"
	"magent/conntrack"
	"magent/proxy/engine"
)

// handedState is what a program tells the one that takes its place.
type handedState struct {
	Listeners []int
	Clients   []handedClient
	Servers   map[string]handedServer
	Name      string           // by which other proxies know this one
	FlushAt   int64            // when a flush_all is due, Unix seconds, 0 for none
	Flushing  int64            // see flushOrder.given
	Draining  map[string][]int // by server, connections that are read to their end
}

// handedServer is what is known of one server.
type handedServer struct {
	Missed  []string                // keys that it has missed
	Times   []int64                 // of each; see entry.at
	Foreign []bool                  // of each; see entry.foreign
	Unclear []string                // see care.unclear
	Waited  bool                    // see backend.Server.Awaited
	Lost    bool                    // it has missed more than is known
	LostBy  lossReason              // why
	LostAt  int64                   // see lossTimes
	Wide    int64                   // the same
	Later   map[string]int64        // see journal.later
	Overdue int64                   // see care.overdue
	Dirty   bool                    // it is out, and writes were made without it
	Lacking bool                    // it lacks keys that its twins hold
	Records map[string]handedRecord // by twin, what stands there of it
	Life    string                  // that it was known in, "" for none
}

// handedRecord is what is known of a record. What this program has noted in it is not
// taken for another proxy's by the next one.
type handedRecord struct {
	Generation uint64
	Size       int64
	Kept       bool
	Mine       map[string]int
}

type handedClient struct {
	FD      int
	ID      uint64
	From    netip.AddrPort
	Input   []byte // read and not yet parsed
	Output  []byte // not yet sent
	Skip    int64  // bytes still to be thrown away
	Speaks  uint8  // protocolSpoken
	Ended   bool
	Leaving bool
	// It has proved itself; false where the program did not ask.
	Authenticated bool
}

// Freeze prepares a binary upgrade: it stops accepting and parsing, lets the
// requests in flight end, and returns all that the next program has to know,
// with the descriptors that must stay open for it: listeners and clients. After an error, or
// when the upgrade does not happen, Thaw goes on as before.
func (p *Proxy) Freeze() (state []byte, fds []int, err error) {
	<-p.opened
	p.stopAccepting(false)
	quiet := p.eachQuiet(func(w *worker) { w.frozen = true })
	select {
	case <-quiet:
	case <-time.After(p.options.Load().DrainTimeout):
		return nil, nil, fmt.Errorf("%w: %v; try again, or raise --drain-timeout", ErrBusy, p.options.Load().DrainTimeout)
	}
	h := handedState{Listeners: p.listeners, Draining: map[string][]int{}}
	parts := make([][]handedClient, len(p.workers))
	p.onEach(func(w *worker) { parts[w.index] = w.handClients() })
	for _, part := range parts {
		h.Clients = append(h.Clients, part...)
	}
	h.Servers = map[string]handedServer{}
	order := p.recovery.flushOrdered()
	h.FlushAt, h.Flushing = order.due, order.given
	h.Name = p.recovery.presence.name
	for i, s := range p.servers {
		h.Servers[s.Name()] = p.handServer(int32(i))
	}
	fds = append(fds, p.listeners...)
	for _, s := range p.servers {
		h.Draining[s.Name()] = s.Draining()
		fds = append(fds, h.Draining[s.Name()]...)
	}
	for _, c := range h.Clients {
		fds = append(fds, c.FD)
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(&h); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	return b.Bytes(), fds, nil
}

// onEach runs f on every loop and waits for all.
func (p *Proxy) onEach(f func(*worker)) {
	done := make(chan struct{}, len(p.workers))
	for _, w := range p.workers {
		w.loop.Post(engine.TaskFunc(func() {
			f(w)
			done <- struct{}{}
		}))
	}
	for range p.workers {
		<-done
	}
}

func (w *worker) handClients() []handedClient {
	var list []handedClient
	w.sessions.Each(func(s *session) {
		list = append(list, handedClient{
			FD: s.fd, ID: s.ID, From: s.From, Skip: s.skip,
			Input: append([]byte(nil), s.in...), Output: s.out.Bytes(),
			Speaks: uint8(s.speaks), Ended: s.ended, Leaving: s.leaving,
			Authenticated: s.authenticated && w.p.Guarded(),
		})
	})
	return list
}

// Thaw goes on after a Freeze that did not end in an upgrade.
func (p *Proxy) Thaw() error {
	p.onEach((*worker).thaw)
	a, err := newAcceptor(p, p.listeners)
	if err != nil {
		return fmt.Errorf("cannot accept clients again: %w", err)
	}
	p.acceptor = a
	p.accepting.Store(a)
	p.acceptWg.Add(1)
	go a.run(&p.acceptWg)
	a.loop.Post(engine.TaskFunc(func() { a.setOpen(true) }))
	return nil
}

// thaw goes on with the clients.
func (w *worker) thaw() {
	w.frozen = false
	w.quiet = nil
	w.sessions.Each((*session).wake)
}

// Adopt is Start for the program behind an upgrade: it serves the listeners
// and clients that state tells of, whose descriptors have kept their numbers.
// Errors wrap ErrState.
func (p *Proxy) Adopt(state []byte) error {
	var h handedState
	if err := gob.NewDecoder(bytes.NewReader(state)).Decode(&h); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	for i, s := range p.servers {
		p.adoptServer(int32(i), h.Servers[s.Name()])
	}
	p.recovery.hearOfFlush(flushOrder{h.FlushAt, h.Flushing})
	p.recovery.presence.name = h.Name
	return p.start(h.Listeners, func() {
		for _, s := range p.servers {
			for _, fd := range h.Draining[s.Name()] {
				backend.AdoptDrain(s, p.workers[0].loop, fd)
			}
			if h.Servers[s.Name()].Waited {
				backend.AdoptWait(s, p.workers[0].loop)
			}
		}
		for _, w := range p.workers {
			w.frozen = true // until the servers have been probed
		}
		for i, c := range h.Clients {
			p.clients.Adopt(c.ID)
			w := p.workers[i%len(p.workers)]
			s := w.addSession(c.FD, conntrack.Client{ID: c.ID, From: c.From})
			if len(c.Input) > 0 {
				s.in = append(w.loop.Pool.Buffer(len(c.Input)), c.Input...)
				w.held += int64(cap(s.in))
			}
			s.out.Write(&w.loop.Pool, c.Output)
			s.skip, s.speaks, s.ended, s.leaving = c.Skip, protocolSpoken(c.Speaks), c.Ended, c.Leaving
			s.authenticated = s.authenticated || c.Authenticated
			s.readable = true // what came meanwhile
			s.wake()
		}
	})
}

// handServer is what the next program has to know of a server.
func (p *Proxy) handServer(server int32) handedServer {
	j, s := p.journals[server], p.servers[server]
	known := handedServer{Lacking: p.recovery.lacks(server)}
	known.Missed, known.Lost = j.all()
	known.LostBy = j.lossReason()
	times, _ := j.lossTimes()
	known.LostAt, known.Wide = times.at, times.wide
	known.Later = j.allLater()
	for _, key := range known.Missed {
		e, _ := j.entryOf([]byte(key))
		known.Times, known.Foreign = append(known.Times, e.at), append(known.Foreign, e.foreign)
	}
	known.Unclear, known.Waited = p.recovery.allUnclear(server), s.Awaited()
	state, _ := s.Load()
	known.Dirty = state == backend.Dirty
	known.Overdue = p.recovery.care[server].overdue.Load()
	if life, ok := s.Life(); ok {
		known.Life = life.String()
	}
	known.Records = map[string]handedRecord{}
	for _, at := range p.recovery.twins[server] {
		known.Records[p.servers[at].Name()] = p.recovery.record(server, at).hand()
	}
	return known
}

// adoptServer takes over what the program before knew of a server.
func (p *Proxy) adoptServer(server int32, known handedServer) {
	s := p.servers[server]
	if life, ok := backend.ParseLife(known.Life); ok {
		s.KnowLife(life)
	}
	if known.Lost {
		times := lossTimes{known.LostAt, known.Wide}
		if known.LostBy == "" { // an older program
			times = lossTimes{unixMilliNow(), unixMilliNow()}
		}
		p.journals[server].loseAt(cmp.Or(known.LostBy, lostByBefore), times, known.Later)
	}
	for i, key := range known.Missed {
		if i < len(known.Foreign) && known.Foreign[i] {
			p.journals[server].addNoted([]byte(key), known.Times[i])
		} else {
			p.journals[server].add([]byte(key), known.Times[i])
		}
	}
	for _, key := range known.Unclear {
		p.recovery.unclear(server, []byte(key))
	}
	if known.Lost || known.Dirty || len(known.Missed) > 0 {
		s.Miss()
	}
	p.recovery.care[server].overdue.Store(known.Overdue)
	p.recovery.setLacks(server, known.Lacking)
	for _, at := range p.recovery.twins[server] {
		p.recovery.record(server, at).adopt(known.Records[p.servers[at].Name()])
	}
}
