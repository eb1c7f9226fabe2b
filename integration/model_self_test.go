package integration

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"magent/integration/harness"
)

// The model that the failover tests rely on has to be memcached's own
// behaviour: run it against memcached alone.
func TestModelIsMemcached(t *testing.T) {
	t.Parallel()
	s := harness.StartMemcached(t)
	seed := newRand(t).Uint64()
	group(t, 4, func(i int) error {
		o, err := newOwner(s.Addr, strconv.Itoa(i), 6, rand.New(rand.NewPCG(seed, uint64(i))))
		if err != nil {
			return err
		}
		defer o.close()
		for range 500 {
			if err := o.step(); err != nil {
				return err
			}
			if err := o.pipeline(10); err != nil {
				return err
			}
		}
		return o.final(o.reader)
	})
}
