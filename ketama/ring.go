package ketama

import (
	"fmt"
	"math"
	"math/bits"
)

// A Ring says on which server of a pool each key lives. It does not change once
// made; all methods may be called from many goroutines at once.
type Ring struct {
	hash    keyHash
	servers int
	// points is the ring in ascending order. A last one, at the end of the circle,
	// leads back to the first server. It is empty when nothing is to be searched:
	// for one server and for MagentModula.
	points []point
	// first holds, for every value of a hash's upper bits, the index of the
	// first point that is not below them. MD5 spreads the points evenly, so a
	// search that starts there passes one or two points.
	first []uint32
	shift uint
}

// New returns the ring of servers. It keeps no reference to the slice, and all
// indexes that the ring answers with are indexes into it. The error wraps
// ErrNoServers, ErrDistribution, ErrWeight or ErrDuplicate.
func New(d Distribution, servers []Server) (*Ring, error) {
	hash, err := d.hash()
	if err != nil {
		return nil, err
	}
	if err := check(d, servers); err != nil {
		return nil, err
	}
	r := &Ring{hash: hash, servers: len(servers)}
	if len(servers) == 1 {
		return r, nil
	}
	points, err := d.points(servers)
	if err != nil {
		return nil, fmt.Errorf("distribution %s: %w", d, err)
	}
	if len(points) > 0 {
		r.points = append(points, point{math.MaxUint32, points[0].server})
		r.index()
	}
	return r, nil
}

// index fills r.first, with at least as many entries as there are points.
func (r *Ring) index() {
	width := bits.Len(uint(len(r.points)))
	r.shift = uint(32 - width)
	r.first = make([]uint32, 1<<width)
	i := 0
	for upper := range r.first {
		for r.points[i].value < uint32(upper)<<r.shift {
			i++
		}
		r.first[upper] = uint32(i)
	}
}

// Lookup returns the index of key's server. It does not allocate. In a pool of
// one server the answer is 0, and key is not looked at.
func (r *Ring) Lookup(key []byte) int {
	if r.servers == 1 {
		return 0
	}
	return r.LookupHash(r.Hash(key))
}

// Next returns the first server i that follows key's place and for which not(i) is
// false, beginning with key's own server; -1 when there is none. Each server is
// asked for at most once, and in the end each was asked for: first those on
// the ring, in its order, then those whose weight is too small for a point. For
// MagentModula the one that follows is the next index. Next does not allocate
// for pools of up to 1,024 servers.
func (r *Ring) Next(key []byte, not func(i int) bool) int {
	if r.servers == 1 {
		return r.NextHash(0, not)
	}
	return r.NextHash(r.Hash(key), not)
}

// Hash returns what LookupHash and NextHash take, for callers that ask more
// than once for one key, or ask several rings of one Distribution.
func (r *Ring) Hash(key []byte) uint32 {
	return r.hash.sum(key)
}

// LookupHash is Lookup for a key whose hash is h.
func (r *Ring) LookupHash(h uint32) int {
	if len(r.points) > 0 {
		return int(r.points[r.search(h)].server)
	}
	return int(h % uint32(r.servers))
}

// NextHash is Next for a key whose hash is h.
func (r *Ring) NextHash(h uint32, not func(i int) bool) int {
	if len(r.points) == 0 {
		return r.nextIndex(r.LookupHash(h), not)
	}
	var few [16]uint64
	asked := few[:]
	if r.servers > 64*len(few) {
		asked = make([]uint64, (r.servers+63)/64)
	}
	start, left := r.search(h), r.servers
	for i := 0; i < len(r.points) && left > 0; i++ {
		at := start + i
		if at >= len(r.points) {
			at -= len(r.points)
		}
		server := int(r.points[at].server)
		if asked[server/64]&(1<<(server%64)) != 0 {
			continue
		}
		if !not(server) {
			return server
		}
		asked[server/64] |= 1 << (server % 64)
		left--
	}
	for server := 0; left > 0; server++ {
		if asked[server/64]&(1<<(server%64)) != 0 {
			continue
		}
		if !not(server) {
			return server
		}
		left--
	}
	return -1
}

// nextIndex returns the first server from index i on, and round to it, for which
// not is false, or -1.
func (r *Ring) nextIndex(i int, not func(i int) bool) int {
	for range r.servers {
		if !not(i) {
			return i
		}
		i = (i + 1) % r.servers
	}
	return -1
}

// search returns the index of the first point that is not below h. The last point
// stops it.
func (r *Ring) search(h uint32) int {
	i := int(r.first[h>>r.shift])
	for r.points[i].value < h {
		i++
	}
	return i
}
