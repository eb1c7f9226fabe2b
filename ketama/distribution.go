package ketama

import "fmt"

// A Distribution is a way to choose a key's server, by the name that users give
// it.
type Distribution string

// The distributions. The package documentation says which clients they agree with.
const (
	Ketama           Distribution = "ketama"
	KetamaOneAtATime Distribution = "ketama-one-at-a-time"
	MagentKetama     Distribution = "magent-ketama"
	MagentModula     Distribution = "magent-modula"
)

// hash returns the function that d applies to keys, or an error that wraps
// ErrDistribution.
func (d Distribution) hash() (keyHash, error) {
	switch d {
	case Ketama, MagentKetama:
		return hashMD5, nil
	case KetamaOneAtATime:
		return hashOneAtATime, nil
	case MagentModula:
		return hashDJB, nil
	}
	return 0, fmt.Errorf("%w: %q: choose %s, %s, %s or %s",
		ErrDistribution, string(d), Ketama, KetamaOneAtATime, MagentKetama, MagentModula)
}

// unweighted reports whether all servers of a pool count the same under d.
func (d Distribution) unweighted() bool {
	return d == MagentKetama || d == MagentModula
}

// points returns the sorted ring of servers under d, which is empty for MagentModula.
func (d Distribution) points(servers []Server) ([]point, error) {
	labels := make([]string, len(servers))
	for i, s := range servers {
		labels[i] = s.label()
	}
	switch d {
	case Ketama:
		return md5Points(labels, libmemcachedDigests(servers))
	case KetamaOneAtATime:
		// A weight above 1 switches libmemcached's ring to weighted, but not
		// the hash of the keys (server_add in its hosts.cc).
		for _, s := range servers {
			if s.weight() > 1 {
				return md5Points(labels, libmemcachedDigests(servers))
			}
		}
		return oneAtATimePoints(labels), nil
	case MagentKetama:
		for i, s := range servers {
			labels[i] = s.magentLabel()
		}
		return md5Points(labels, magentDigests(len(servers)))
	}
	return nil, nil
}
