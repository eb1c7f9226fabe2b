package proxy

import (
	"context"
	"strconv"
	"time"

	"magent/backend"
)

// A flush_all with a delay is run by magent when it is due, like one that a client sends
// then. The servers are not sent it: memcached keeps one time for all, and a server that
// was flushed before would show again what it hides since then
// (process_flush_all_command). They hold when it is due, for other proxies and the next
// run of this one. Who sees to the first server runs it.
//
// Servers without twins hold nothing of magent's: they are sent it as it is.

// flushKey holds, on each server that has twins, when a flush_all is due. A flush removes
// it with all else: a server that holds it behind its time has not been flushed since.
const flushKey = backend.Prefix + "flush"

// delaysFlush tells whether a flush_all with a delay is run by magent on a server.
func (rc *recovery) delaysFlush(server int32) bool { return len(rc.twins[server]) > 0 }

// longestDelay is the longest relative time, in seconds (protocol.txt,
// "Expiration times").
const longestDelay = 60 * 60 * 24 * 30

// flushDelay is a delay as it was sent; a point in time that is over is none.
func flushDelay(delay int64) int64 {
	if delay > longestDelay && delay <= time.Now().Unix() {
		return 0
	}
	return delay
}

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
	if at == 0 {
		return // it may be under way
	}
	for _, s := range rc.p.servers {
		s.FlushesAt(at)
	}
	timer := time.AfterFunc(time.Until(time.Unix(at, 0)), func() {
		for i := range rc.p.servers {
			rc.lookSoon(int32(i))
		}
	})
	if before := rc.flushTimer.Swap(timer); before != nil {
		before.Stop()
	}
}

// flushOverdue tells whether a server that returns has to be flushed before it serves,
// because it holds that a flush_all was due: then it has not been flushed since. One that
// was out when none could be run, and was never seen to hold it, may not have been told:
// it has missed it.
func (rc *recovery) flushOverdue(server int32, held int64) bool {
	now := time.Now().Unix()
	if at := rc.flushAt.Load(); at > 0 && at <= now {
		for i, s := range rc.p.servers {
			if !s.Serves() && rc.delaysFlush(int32(i)) {
				rc.care[i].overdue.Store(at)
			}
		}
		rc.flushAt.CompareAndSwap(at, 0)
	}
	c := &rc.care[server]
	missed := c.overdue.Swap(0)
	if held > 0 && held <= now {
		return true
	}
	if missed > 0 && missed != c.flushSeen.Load() {
		rc.p.journals[server].lose(lostByFlush)
	}
	return false
}

// hearOfFlush takes over when a flush_all is due as a server holds it: from another proxy,
// or the run before.
func (rc *recovery) hearOfFlush(held backend.Stored) {
	if due := dueOf(held); due > 0 && due != rc.flushAt.Load() && due != rc.flushRan.Load() {
		rc.setFlushAt(due)
	}
}

// dueOf reads flushKey; 0 is none.
func dueOf(held backend.Stored) int64 {
	due, err := strconv.ParseInt(string(held.Value), 10, 64)
	if err != nil {
		return 0
	}
	return due
}

// tellFlush has a server that is about to serve hold when a flush_all is due.
func (rc *recovery) tellFlush(s *backend.Server) {
	due := rc.flushAt.Load()
	if due <= time.Now().Unix() || !rc.delaysFlush(int32(s.Index)) {
		return
	}
	if c, err := rc.p.dial(context.Background(), int32(s.Index)); err == nil {
		_, _ = c.Store("set", flushKey, strconv.FormatInt(due, 10))
		c.Close()
	}
}

// keepFlush follows what the server holds of a flush_all that is due, and runs it when it
// is.
func (w *watcher) keepFlush(found map[string]backend.Stored) {
	rc := w.rc
	due := dueOf(found[flushKey])
	if seen := rc.care[w.at].flushSeen.Swap(due); due == 0 && seen != 0 {
		rc.flushAt.CompareAndSwap(seen, 0) // it was run, or another took its place
	}
	rc.hearOfFlush(found[flushKey])
	if due == 0 || due > time.Now().Unix() || due == rc.flushRan.Load() || w.at != rc.firstWith(due) || !rc.acts(w.at) {
		return
	}
	if !rc.flushing.Swap(true) {
		rc.p.log.Info().Msg("a flush_all is due")
		rc.p.flushes.begin(&flush{home: rc.p.workers[0], due: due})
	}
}

// firstWith is the first server that serves and was seen to hold that a flush_all is due
// at a time.
func (rc *recovery) firstWith(due int64) int32 {
	for i, s := range rc.p.servers {
		if s.Serves() && rc.care[i].flushSeen.Load() == due {
			return int32(i)
		}
	}
	return -1
}
