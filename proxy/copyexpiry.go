package proxy

import (
	"math"
	"time"

	"magent/backend"
)

// latestExpiry is the last point in time that memcached takes for an expiry, Unix
// seconds. A later one is over at once (realtime of memcached.c, which is told 32 bits).
const latestExpiry = math.MaxInt32

// sameClock is how far two servers' clocks may differ, in seconds, and still
// count as the same: each rounds for itself.
const sameClock = 3

// expiryOf is the expiry of an item as its copy is told it: the point in time
// at which it ends (protocol.txt, "Expiration times"), by the target's clock.
// ttl is what it has left, in seconds.
func expiryOf(ttl int64, from, to *backend.Server) int64 {
	if ttl < 0 {
		return 0
	}
	at := from.Clock() + ttl
	if ahead := to.Clock() - from.Clock(); max(ahead, -ahead) > sameClock {
		at += ahead
	}
	return min(at, latestExpiry)
}

// left is what the item has left by now, in seconds: what it had when it came, and the
// target may have been waited for since. -1 when it has no end.
func (c *keyCopy) left() int64 {
	if c.item.TTL < 0 {
		return c.item.TTL
	}
	return max(c.item.TTL-int64(time.Since(c.fetched).Round(time.Second)/time.Second), 0)
}

// sameExpiry compares what two items have left, in seconds. Each server rounds
// for itself.
func sameExpiry(a, b int64) bool {
	if a < 0 || b < 0 {
		return a < 0 && b < 0
	}
	return max(a-b, b-a) <= 2
}
