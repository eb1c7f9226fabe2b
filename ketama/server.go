package ketama

import (
	"fmt"
	"math"
	"strconv"
)

// A Server is one place for keys. Its weight is relative to the others': a server
// of weight 2 gets twice the keys of one of weight 1.
type Server struct {
	// Label is what the Ketama distributions hash instead of host and port. Leave
	// it empty to have libmemcached's label: the host alone when the port is
	// 11211, and host:port otherwise.
	Label string
	// Host is the name or address as the user wrote it, without brackets. It is
	// never resolved: "localhost" and "127.0.0.1" are two places.
	Host string
	// Port is the TCP port; 0 for a unix socket, whose path is Host.
	Port int
	// Weight is 1 to 2^32-1; 0 means 1, as for libmemcached. The magent
	// distributions have no weights: there all servers must have the same.
	Weight int
}

const defaultPort = 11211

// label returns what libmemcached hashes for s (update_continuum in its
// hosts.cc), before the number of the digest is added. There are no brackets
// around an IPv6 address.
func (s Server) label() string {
	switch {
	case s.Label != "":
		return s.Label
	case s.Port == defaultPort:
		return s.Host
	}
	return s.Host + ":" + strconv.Itoa(s.Port)
}

// magentLabel returns what the C magent hashes for s.
func (s Server) magentLabel() string {
	return s.Host + "-" + strconv.Itoa(s.Port)
}

// weight returns the weight that counts.
func (s Server) weight() uint64 {
	return max(1, uint64(s.Weight))
}

// check returns an error when servers are no pool for d.
func check(d Distribution, servers []Server) error {
	if len(servers) == 0 {
		return ErrNoServers
	}
	type address struct {
		host string
		port int
	}
	addresses := make(map[address]bool, len(servers))
	labels := make(map[string]bool, len(servers))
	for _, s := range servers {
		a := address{s.Host, s.Port}
		if addresses[a] || labels[s.label()] {
			return fmt.Errorf("%w: %s: name it once, with a weight if it is to have more keys", ErrDuplicate, s.label())
		}
		addresses[a], labels[s.label()] = true, true
		if s.Weight < 0 || int64(s.Weight) > math.MaxUint32 {
			return fmt.Errorf("%w: %d for %s: give a number from 1 to %d", ErrWeight, s.Weight, s.label(), math.MaxUint32)
		}
		if d.unweighted() && s.weight() != servers[0].weight() {
			return fmt.Errorf("%w: %d for %s, %d for %s: distribution %s has no weights: give none, or choose %s",
				ErrWeight, s.Weight, s.label(), servers[0].Weight, servers[0].label(), d, Ketama)
		}
	}
	return nil
}
