package harness

import (
	"errors"
	"io"
	"net"
	"time"
)

// Bounds of what one direction of one connection keeps: little while bytes
// may pass, so that a slow receiver is felt by the sender, and much while
// they are blocked, so that a reset by the sender is noticed behind them.
const (
	keptOpen    = 64 << 10
	keptBlocked = 64 << 20
)

// flow is one direction of one connection: a goroutine that reads and one
// that writes, with a queue between them. Its fields are under Link.mu.
type flow struct {
	link     *Link
	pair     *pair
	from, to *net.TCPConn
	gate     *gate

	queue []byte
	eof   bool // the sender has closed in an orderly way
	ended bool // nothing more passes
}

// start runs a flow; the caller holds Link.mu.
func (l *Link) start(f *flow) {
	f.pair.flows++
	l.wg.Go(f.read)
	l.wg.Go(f.write)
}

func (f *flow) read() {
	l := f.link
	buf := make([]byte, 64<<10)
	for {
		n, err := f.from.Read(buf)
		l.mu.Lock()
		f.queue = append(f.queue, buf[:n]...)
		switch {
		case errors.Is(err, io.EOF):
			f.eof = true
		case err != nil && !f.ended:
			f.queue = nil
			f.end()
			f.pair.reset() // a reset travels as a reset
		}
		l.changed.Broadcast()
		for !f.ended && !f.eof && len(f.queue) >= f.bound() {
			l.changed.Wait()
		}
		stop := f.ended || f.eof
		l.mu.Unlock()
		if stop {
			return
		}
	}
}

func (f *flow) bound() int {
	if f.gate.blocked {
		return keptBlocked
	}
	return keptOpen
}

// end marks the flow as over; the last flow of a pair closes its connections.
// The caller holds Link.mu.
func (f *flow) end() {
	if f.ended {
		return
	}
	f.ended = true
	f.link.changed.Broadcast()
	if f.pair.flows--; f.pair.flows == 0 {
		f.pair.finish()
		delete(f.link.pairs, f.pair)
	}
}

func (f *flow) write() {
	l := f.link
	for {
		l.mu.Lock()
		for !f.ended && !l.closed && (f.gate.blocked || (len(f.queue) == 0 && !f.eof)) {
			l.changed.Wait()
		}
		if f.ended || l.closed {
			f.end()
			l.mu.Unlock()
			return
		}
		chunk, eof, rate := f.queue, f.eof, f.gate.rate
		f.queue = nil
		chunk, cut := f.gate.cut(chunk)
		var mangled *Mangled
		if l.mangle != nil && f.gate == &l.requests && len(chunk) > 0 {
			mangled = l.mangle(chunk)
		}
		l.changed.Broadcast()
		l.mu.Unlock()

		ok := false
		if mangled != nil {
			ok = f.pair.answer(mangled)
		} else {
			ok = deliver(f.to, chunk, rate) && !cut
			if cut {
				// An end of the stream rather than a reset, which could
				// overtake the bytes before the cut.
				_ = f.to.CloseWrite()
			}
		}
		if ok && !eof {
			continue
		}
		l.mu.Lock()
		if ok {
			_ = f.to.CloseWrite()
		}
		f.end()
		if !ok {
			f.pair.finish()
		}
		l.mu.Unlock()
		return
	}
}

// cut returns the part of a chunk that may pass, and whether the connection
// ends behind it.
func (g *gate) cut(chunk []byte) ([]byte, bool) {
	n := int64(len(chunk))
	if g.cutIn < 0 || n == 0 {
		return chunk, false
	}
	if g.cutIn >= n {
		g.cutIn -= n
		return chunk, false
	}
	chunk, g.cutIn = chunk[:g.cutIn], -1
	return chunk, true
}

// answer carries out what a mangling function wants; false when the
// connection is over.
func (p *pair) answer(m *Mangled) bool {
	_, err := p.client.Write(m.Answer)
	if m.Reset {
		p.reset()
	}
	return err == nil && !m.Reset && !m.Finish
}

// deliver sends a chunk, at a limited rate if rate is not 0.
func deliver(to *net.TCPConn, chunk []byte, rate int) bool {
	for len(chunk) > 0 {
		n := len(chunk)
		if rate > 0 {
			n = min(n, max(1, rate/50)) // fifty steps a second
		}
		if _, err := to.Write(chunk[:n]); err != nil {
			return false
		}
		chunk = chunk[n:]
		if rate > 0 {
			time.Sleep(time.Second * time.Duration(n) / time.Duration(rate)) // this is the slowness itself
		}
	}
	return true
}
