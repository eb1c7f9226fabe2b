package backend

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
)

// names is a name server that knows one name. Its answers can be changed. It
// serves this process until the test ends.
type names struct {
	mu        sync.Mutex
	addresses []netip.Addr // none: there is no such name
}

func newNames(t *testing.T, addresses ...string) *names {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{}
	n.set(addresses...)
	var served sync.WaitGroup
	served.Go(func() {
		query := make([]byte, 1500)
		for {
			size, from, err := socket.ReadFrom(query)
			if err != nil {
				return
			}
			if _, err := socket.WriteTo(n.answer(query[:size]), from); err != nil {
				return
			}
		}
	})
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "udp", socket.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = before
		socket.Close()
		served.Wait()
	})
	return n
}

func (n *names) set(addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addresses = nil
	for _, a := range addresses {
		n.addresses = append(n.addresses, netip.MustParseAddr(a))
	}
}

// answer makes the answer to a query with one question (RFC 1035, section 4).
func (n *names) answer(query []byte) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	asked := binary.BigEndian.Uint16(query[end+1:])
	end += 5
	code := byte(0)
	if len(n.addresses) == 0 {
		code = 3 // no such name
	}
	answer := slices.Concat(query[:2], []byte{0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end])
	for _, a := range n.addresses {
		kind := uint16(1)
		if a.Is6() {
			kind = 28
		}
		if kind != asked {
			continue
		}
		answer[7]++
		answer = append(answer, 0xc0, 12) // the name of the question
		answer = binary.BigEndian.AppendUint16(answer, kind)
		answer = append(answer, 0, 1, 0, 0, 0, 0, 0, byte(len(a.AsSlice())))
		answer = append(answer, a.AsSlice()...)
	}
	return answer
}

const cacheName = "cache.test." // with the final dot: no search list is used

// promise: L1
func TestLocalhost(t *testing.T) {
	f := newFakeServer(t, "127.0.0.1:0", healthy)
	p := probe(t, Address{"localhost", int(f.at().Port()), 1}, 1, quickProbes, nil)
	p.awaitUp(t)
	if to := p.address.Load(); *to != f.at() {
		t.Errorf("connections would be made to %v, want %v", to, f.at())
	}
}

// A name may stand for several addresses, as localhost does for 127.0.0.1 and
// ::1, of which memcached listens on one.
//
// promise: L1
func TestNameWithSeveralAddresses(t *testing.T) {
	f := newFakeServer(t, "127.0.0.1:0", healthy)
	n := newNames(t)
	for _, addresses := range [][]string{
		{"127.0.0.1"}, {"127.0.0.1", "127.0.0.2"}, {"127.0.0.2", "127.0.0.1"}, {"127.0.0.1", "::1"}, {"::1", "127.0.0.3", "127.0.0.2", "127.0.0.1"},
	} {
		t.Run(strings.Join(addresses, " "), func(t *testing.T) {
			n.set(addresses...)
			p := probe(t, Address{cacheName, int(f.at().Port()), 1}, 1, quickProbes, nil)
			within(t, p.first, "the first probe")
			p.awaitUp(t)
			if to := p.address.Load(); *to != f.at() {
				t.Errorf("connections would be made to %v, want %v", to, f.at())
			}
		})
	}
}

// A server may come back at another address: the name is resolved again.
//
// promise: C5
func TestNameResolvedAgain(t *testing.T) {
	f := newFakeServer(t, "127.0.0.1:0", healthy)
	n := newNames(t)
	p := probe(t, Address{cacheName, int(f.at().Port()), 1}, 1, quickProbes, nil)
	refused := func(err error) bool { return errors.Is(err, ErrRefused) }
	if err := p.report(t, "no such name", refused); !strings.Contains(err.Error(), "cache.test") {
		t.Errorf("the report %q does not name the host", err)
	}
	n.set("127.0.0.2")
	if err := p.report(t, "127.0.0.2", func(err error) bool { return strings.Contains(err.Error(), "127.0.0.2") }); !refused(err) {
		t.Errorf("reported %v, want that it is refused", err)
	}
	n.set("127.0.0.1")
	p.awaitUp(t)
	if to := p.address.Load(); *to != f.at() {
		t.Errorf("connections would be made to %v, want %v", to, f.at())
	}
}
