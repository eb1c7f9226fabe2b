package proxy

import (
	"strconv"
	"time"

	"magent/backend"
)

// A flush_all with a delay is still to come: a server that is out then, or comes back
// before, has to get it too.
//
// A server that was flushed before must not be sent one: it would show again what it
// hides since then (backend.FlushedKey). Who sees to it flushes it when it is due.

// flushKey holds, on each server, when a flush_all is due. It goes with the flush.
const flushKey = backend.Prefix + "flush"

// flushKeyStays is how long, in seconds, a server may hold flushKey that carries out the
// flush_all by itself: its clock may be a little behind.
const flushKeyStays = 5

// flushMissed sees to a flush_all with a delay that was due while a server was out.
func (rc *recovery) flushMissed(server int32) {
	c := &rc.care[server]
	if due := c.flushDue.Load(); due > 0 && due <= time.Now().Unix() && c.flushDue.CompareAndSwap(due, 0) {
		rc.p.journals[server].lose(lostByFlush)
	}
}

// keepFlushed has the server itself tell that it was flushed.
func (w *watcher) keepFlushed(found map[string]backend.Stored) error {
	s := w.rc.p.servers[w.at]
	if _, told := found[backend.FlushedKey]; told {
		s.SetFlushed()
		return nil
	}
	life, ok := s.Life()
	if !ok || !s.WasFlushed() {
		return nil
	}
	_, err := w.client.Store("set", backend.FlushedKey, life.String())
	return err
}

// keepFlush has a server flushed that could not be told to do so by itself, when that is
// due.
func (w *watcher) keepFlush(found map[string]backend.Stored) error {
	rc := w.rc
	c := &rc.care[w.at]
	if due := c.flushDue.Load(); due > 0 {
		stored, err := w.client.Store("set", flushKey, strconv.FormatInt(due, 10))
		if stored {
			c.flushDue.CompareAndSwap(due, 0)
		}
		return err
	}
	due, err := strconv.ParseInt(string(found[flushKey].Value), 10, 64)
	c.flushSeen.Store(due)
	if err != nil {
		return nil // there is none
	}
	now := time.Now().Unix()
	if known := rc.flushAt.Load(); now < due && known < now-flushKeyStays && rc.flushAt.CompareAndSwap(known, due) {
		rc.setFlushAt(due) // of another proxy
	}
	begins := due
	if !rc.p.servers[w.at].WasFlushed() {
		begins += flushKeyStays
	}
	if now >= begins {
		rc.flushThose(due)
	}
	return nil
}

// flushThose has all servers flushed at once that a flush_all is due on which they were
// not sent.
func (rc *recovery) flushThose(due int64) {
	var those []int32
	for i, s := range rc.p.servers {
		c := &rc.care[i]
		if s.Serves() && c.flushSeen.Load() == due && rc.acts(int32(i)) && c.flushRan.Swap(due) != due {
			those = append(those, int32(i))
		}
	}
	if len(those) > 0 {
		rc.flushAt.CompareAndSwap(due, time.Now().Unix()) // see nearFlush
		rc.p.flushes.begin(&flush{home: rc.p.workers[0], only: those})
	}
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
	for i := range rc.care {
		rc.care[i].flushDue.Store(0) // of the one that is replaced
	}
}

// hearOfFlush takes over from another proxy, or the run before, when a flush_all is due.
// Servers that are out may not have been told.
func (rc *recovery) hearOfFlush(at int64) {
	if !rc.flushAt.CompareAndSwap(0, at) {
		return
	}
	rc.setFlushAt(at)
	for i, s := range rc.p.servers {
		if !s.Serves() {
			rc.care[i].flushDue.Store(at)
		}
	}
}

func (rc *recovery) setFlushAt(at int64) {
	rc.flushAt.Store(at)
	for _, s := range rc.p.servers {
		s.FlushesAt(at)
	}
}

// nearFlush tells whether a flush_all with a delay may be under way at this time,
// in Unix milliseconds: each server carries it out in another moment, and one may lose a
// write that the other one keeps. So keys that are written then are compared afterwards.
func (rc *recovery) nearFlush(now int64) bool {
	at := rc.flushAt.Load()
	if at == 0 {
		return false
	}
	since := now - at*1000
	return max(since, -since) < flushSettles/1e6
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
