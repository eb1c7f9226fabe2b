package harness

import (
	"bytes"
	"net"
	"sync"
	"testing"
	"time"
)

// Link is a TCP path to a server that a test can disturb: magent is given
// Link.Addr in place of the server's address.
//
//	magent ──▶ Link.Addr ──── requests ───▶ server
//	       ◀───────────────── answers ─────
//
// What is blocked is kept and delivered when the direction is opened again,
// as after a network partition, also when the sender has closed its side in
// the meantime. A sender that resets its connection takes back what was kept:
// TCP repeats nothing for a connection that is gone. All methods may be called
// at any time.
type Link struct {
	Addr string

	tb     testing.TB
	target string
	ln     net.Listener
	wg     sync.WaitGroup

	mu       sync.Mutex
	changed  *sync.Cond
	closed   bool
	refuse   bool // new connections are reset at once
	requests gate // magent → server
	answers  gate // server → magent
	mangle   func([]byte) *Mangled
	pairs    map[*pair]struct{}
}

// gate is what may pass in one direction.
type gate struct {
	blocked bool
	rate    int   // bytes per second, 0 for no limit
	cutIn   int64 // close the connection after so many more bytes; -1 for never
}

// Mangled is what a Link does with a request instead of passing it on.
type Mangled struct {
	Answer []byte // sent to magent, as if the server had sent it
	Reset  bool   // then reset the connection
	Finish bool   // then close the connection in an orderly way
}

// pair is one connection of magent and the one to the server that belongs to it.
type pair struct {
	client, server *net.TCPConn
	flows          int // directions that have not ended, under Link.mu
}

func (p *pair) reset() {
	_ = p.client.SetLinger(0)
	_ = p.server.SetLinger(0)
	p.finish()
}

func (p *pair) finish() {
	_ = p.client.Close()
	_ = p.server.Close()
}

// NewLink opens a path to the server at target, which lets everything pass.
func NewLink(tb testing.TB, target string) *Link {
	tb.Helper()
	addr := Loopback(FreePort(tb))
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	l := &Link{
		Addr: addr, tb: tb, target: target, ln: ln,
		requests: gate{cutIn: -1}, answers: gate{cutIn: -1},
		pairs: make(map[*pair]struct{}),
	}
	l.changed = sync.NewCond(&l.mu)
	l.wg.Go(l.accept)
	tb.Cleanup(l.close)
	return l
}

// change runs f under the lock and wakes whoever waits for a change.
func (l *Link) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	l.changed.Broadcast()
}

// Partition blocks both directions, as when a cable is pulled: connections
// stay open, new ones are made, nothing passes.
func (l *Link) Partition() {
	l.change(func() { l.requests.blocked, l.answers.blocked = true, true })
}

// BlockRequests keeps back what magent sends.
func (l *Link) BlockRequests() { l.change(func() { l.requests.blocked = true }) }

// BlockAnswers keeps back what the server sends: requests are carried out,
// their answers do not come.
func (l *Link) BlockAnswers() { l.change(func() { l.answers.blocked = true }) }

// Slow lets answers pass at so many bytes per second.
func (l *Link) Slow(bytesPerSecond int) { l.change(func() { l.answers.rate = bytesPerSecond }) }

// SlowRequests lets requests pass at so many bytes per second on each
// connection.
func (l *Link) SlowRequests(bytesPerSecond int) {
	l.change(func() { l.requests.rate = bytesPerSecond })
}

// CutAnswerAfter lets n more bytes of answers pass and then closes the
// connection that carries the next byte, once.
func (l *Link) CutAnswerAfter(n int64) { l.change(func() { l.answers.cutIn = n }) }

// Refuse resets every connection, and new ones at once.
func (l *Link) Refuse() {
	l.change(func() { l.refuse = true })
	l.Cut()
}

// Mangle sets a function that sees each chunk of requests and may answer in
// the server's place; nil from it lets the chunk pass.
func (l *Link) Mangle(f func(request []byte) *Mangled) { l.change(func() { l.mangle = f }) }

// MangleKey answers every chunk of requests that contains the key.
func (l *Link) MangleKey(key string, m Mangled) {
	l.Mangle(func(request []byte) *Mangled {
		if !bytes.Contains(request, []byte(key)) {
			return nil
		}
		return &m
	})
}

// Unblock opens both directions and leaves everything else as it is.
func (l *Link) Unblock() { l.change(func() { l.requests.blocked, l.answers.blocked = false, false }) }

// Heal lets everything pass again, also what was kept back.
func (l *Link) Heal() {
	l.change(func() {
		l.refuse, l.mangle = false, nil
		l.requests, l.answers = gate{cutIn: -1}, gate{cutIn: -1}
	})
}

// Cut resets every connection that is open now.
func (l *Link) Cut() {
	l.change(func() {
		for p := range l.pairs {
			p.reset()
		}
	})
}

func (l *Link) close() {
	_ = l.ln.Close()
	l.change(func() {
		l.closed = true
		for p := range l.pairs {
			p.finish()
		}
	})
	l.wg.Wait()
}

func (l *Link) accept() {
	for {
		conn, err := l.ln.Accept()
		if err != nil {
			return
		}
		client := conn.(*net.TCPConn)
		l.mu.Lock()
		refuse := l.refuse
		l.mu.Unlock()
		if refuse {
			_ = client.SetLinger(0)
			_ = client.Close()
			continue
		}
		server, err := net.DialTimeout("tcp", l.target, 5*time.Second)
		if err != nil { // the server is down: so is the path to it
			_ = client.SetLinger(0)
			_ = client.Close()
			continue
		}
		p := &pair{client: client, server: server.(*net.TCPConn)}
		l.change(func() {
			if l.closed || l.refuse {
				p.reset()
				return
			}
			l.pairs[p] = struct{}{}
			l.start(&flow{link: l, pair: p, from: p.client, to: p.server, gate: &l.requests})
			l.start(&flow{link: l, pair: p, from: p.server, to: p.client, gate: &l.answers})
		})
	}
}
