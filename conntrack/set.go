package conntrack

import "net/netip"

// Client holds the facts of one connection. Times are nanoseconds on the
// clock of the connection's loop.
type Client struct {
	ID       uint64
	From     netip.AddrPort // the zero value for a Unix socket
	Since    int64
	Active   int64 // when it last sent something
	Requests uint64
	BytesIn  uint64
	BytesOut uint64

	place int // in its Set
}

// Facts returns the client itself, so that whatever embeds it is a Member.
func (c *Client) Facts() *Client { return c }

// Member is what a Set holds: something that embeds a Client.
type Member interface{ Facts() *Client }

// Set is the clients of one loop, in no order. It is not safe for use by
// several goroutines.
type Set[M Member] struct{ members []M }

// Add puts a client into the set.
func (s *Set[M]) Add(m M) {
	m.Facts().place = len(s.members)
	s.members = append(s.members, m)
}

// Remove takes a client out, which must be in the set.
func (s *Set[M]) Remove(m M) {
	place := m.Facts().place
	last := len(s.members) - 1
	s.members[place] = s.members[last]
	s.members[place].Facts().place = place
	var none M
	s.members[last] = none
	s.members = s.members[:last]
	if cap(s.members) > 1024 && last < cap(s.members)/4 {
		s.members = append(make([]M, 0, cap(s.members)/2), s.members...)
	}
}

// Len is the number of clients.
func (s *Set[M]) Len() int { return len(s.members) }

// Each calls f for every client. f may remove the client that it is given,
// and no other.
func (s *Set[M]) Each(f func(M)) {
	for i := len(s.members) - 1; i >= 0; i-- {
		f(s.members[i])
	}
}

// Silent calls f for every client that has sent nothing since the given time.
// f may remove the client that it is given, and no other.
func (s *Set[M]) Silent(since int64, f func(M)) {
	s.Each(func(m M) {
		if m.Facts().Active < since {
			f(m)
		}
	})
}
