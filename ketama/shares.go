package ketama

// Every digest is four points on the ring.
const pointsPerDigest = 4

// libmemcachedDigests returns how many digests each server has on libmemcached's
// weighted ring (update_continuum in its hosts.cc): 40 for one of average weight.
// Every step is rounded to a 32-bit float as the C code does, because the
// result is cut to a whole number. A server of very small weight has none.
func libmemcachedDigests(servers []Server) []int {
	var total uint64
	for _, s := range servers {
		total += s.weight()
	}
	digests := make([]int, len(servers))
	for i, s := range servers {
		share := float32(s.weight()) / float32(total)
		digests[i] = int(float32(share*40) * float32(len(servers)))
	}
	return digests
}

// magentDigests returns how many digests each of n servers has on the C magent's
// ring (create_ketama in its ketama.c, called with a step of 500 and weights
// of 100): 500, or for some n one less, where the floats round down.
func magentDigests(n int) []int {
	share := float32(100) / float32(100*n)
	digests := make([]int, n)
	for i := range digests {
		digests[i] = int(float32(share*500) * float32(n))
	}
	return digests
}
