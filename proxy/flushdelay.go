package proxy

import (
	"time"

	"magent/backend"
)

// A flush_all with a delay is still to come: a server that is out then, or comes back
// before, has to get it too.

// flushKey holds, on each server, when a flush_all is due that is still to come.
const flushKey = backend.Prefix + "flush"

// flushed notes a flush_all. A later one replaces one that is still to come,
// as in memcached, where a delay of more than 30 days is a point in time.
func (rc *recovery) flushed(delay int64) {
	at := int64(0)
	switch {
	case delay > longestDelay:
		at = delay
	case delay > 0:
		at = time.Now().Unix() + delay
	}
	rc.setFlushAt(at)
}

func (rc *recovery) setFlushAt(at int64) {
	rc.flushAt.Store(at)
	for _, s := range rc.p.servers {
		s.FlushesAt(at)
	}
}

// nearFlush tells whether a flush_all with a delay may be under way at this time,
// in Unix milliseconds: each server carries it out in another moment.
func (rc *recovery) nearFlush(now int64) bool {
	at := rc.flushAt.Load()
	if at == 0 {
		return false
	}
	since := now - at*1000
	return since > -3000 && since < 3000
}

// longestDelay is the longest relative time, in seconds (protocol.txt,
// "Expiration times").
const longestDelay = 60 * 60 * 24 * 30

// flushLater is the delay of the flush_all that is still to come, 0 for none.
func (rc *recovery) flushLater() int64 {
	at := rc.flushAt.Load()
	left := max(at-time.Now().Unix(), 0)
	if left > longestDelay {
		return at
	}
	return left
}
