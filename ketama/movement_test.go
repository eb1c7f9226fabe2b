package ketama_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"magent/ketama"
)

// places is how many hashes, evenly spread over the circle, stand for all keys.
const places = 1 << 13

// shares returns each server's share of the circle.
func shares(r *ketama.Ring, servers int) []float64 {
	share := make([]float64, servers)
	for i := range places {
		share[r.LookupHash(uint32(i)*(1<<32/places))] += 1.0 / places
	}
	return share
}

// drawServers draws n servers of weight 1 that differ.
func drawServers(t *rapid.T, n int) []ketama.Server {
	host := rapid.OneOf(
		rapid.StringMatching(`[a-z][a-z0-9-]{0,12}(\.[a-z]{2,8}){0,2}`),
		rapid.Custom(func(t *rapid.T) string {
			b := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")
			return fmt.Sprintf("%d.%d.%d.%d", b[0], b[1], b[2], b[3])
		}),
	)
	server := rapid.Custom(func(t *rapid.T) ketama.Server {
		return ketama.Server{
			Host:   host.Draw(t, "host"),
			Port:   rapid.OneOf(rapid.Just(11211), rapid.IntRange(1, 65535)).Draw(t, "port"),
			Weight: 1,
		}
	})
	return rapid.SliceOfNDistinct(server, n, n, rapid.ID[ketama.Server]).Draw(t, "servers")
}

func drawRing(t *rapid.T, d ketama.Distribution, servers []ketama.Server) *ketama.Ring {
	r, err := ketama.New(d, servers)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// promise: K3
//
// From 24 to 25 servers libmemcached, and so magent, makes one digest less for each
// (see doc.go); up to there the promise holds to the letter.
func TestAddingAServerMovesOnlyWhatItTakes(t *testing.T) {
	for _, d := range []ketama.Distribution{ketama.Ketama, ketama.KetamaOneAtATime, ketama.MagentKetama} {
		t.Run(string(d), rapid.MakeCheck(func(t *rapid.T) {
			most := 23
			if d == ketama.MagentKetama {
				most = 8 // 2,000 points a server take their time
			}
			n := rapid.IntRange(1, most).Draw(t, "n")
			added := rapid.IntRange(0, n).Draw(t, "added")
			after := drawServers(t, n+1)
			before := slices.Delete(slices.Clone(after), added, added+1)
			if weight := rapid.IntRange(1, 3).Draw(t, "weight"); d == ketama.Ketama {
				for i := range before {
					before[i].Weight = weight
				}
				for i := range after {
					after[i].Weight = weight
				}
			}
			small, large := drawRing(t, d, before), drawRing(t, d, after)
			moved := 0
			for i := range places {
				h := uint32(i) * (1 << 32 / places)
				was, is := small.LookupHash(h), large.LookupHash(h)
				if is == added {
					moved++
					continue
				}
				if is > added {
					is--
				}
				if was != is {
					t.Fatalf("hash %#x moved from %v to %v, not to the new server", h, before[was], before[is])
				}
			}
			got, want := float64(moved)/places, 1/float64(n+1)
			if got < want/4 || got > 2*want {
				t.Fatalf("%.4f of the keys moved, want about %.4f", got, want)
			}
		}))
	}
}

// promise: K3
func TestKeysFollowTheWeights(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 12).Draw(t, "n")
		servers := drawServers(t, n)
		total := 0
		for i := range servers {
			servers[i].Weight = rapid.IntRange(1, 10).Draw(t, "weight")
			total += servers[i].Weight
		}
		for i, got := range shares(drawRing(t, ketama.Ketama, servers), n) {
			// A server of few points has a share that depends on luck.
			want := float64(servers[i].Weight) / float64(total)
			if want*float64(n) > 0.5 && (got < want/3 || got > 2*want) {
				t.Fatalf("server %d has %.4f of the keys, want about %.4f", i, got, want)
			}
		}
	})
}

// promise: K3
//
// A pool that grows as pools do: one server at a time, all of one weight.
func TestGrowingPoolKeepsMostKeysInPlace(t *testing.T) {
	keys := goldenKeys(t)
	for _, d := range []ketama.Distribution{ketama.Ketama, ketama.KetamaOneAtATime, ketama.MagentKetama} {
		servers := equal(30)
		for n := 1; n < len(servers); n++ {
			small, large := newRing(t, d, servers[:n]), newRing(t, d, servers[:n+1])
			stray := 0
			for _, key := range keys {
				if was, is := small.Lookup(key), large.Lookup(key); is != n && is != was {
					stray++
				}
			}
			// One digest of 40 less for each server, where the floats round down.
			if limit := len(keys) / 20; stray > limit {
				t.Fatalf("%s: server %d moved %d keys between the others, want at most %d of %d", d, n, stray, limit, len(keys))
			}
		}
	}
}
