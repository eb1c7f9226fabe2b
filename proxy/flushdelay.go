package proxy

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"magent/backend"
)

// A flush_all with a delay is run by magent when it is due, like one that a client sends
// then. The servers are not sent it: memcached keeps one time for all, and a server that
// was flushed before would show again what it hides since then
// (process_flush_all_command). They hold what was ordered, for other proxies and the next
// run of this one. Who sees to the first server that serves runs it.
//
// Servers without twins hold nothing of magent's: they are sent it as it is.

// flushKey holds, on each server that has twins, the last order to flush.
const flushKey = backend.Prefix + "flush"

// flushOrder is an order to flush: when it is due, Unix seconds, 0 when there is none any
// more, and when it was given, Unix milliseconds. The one that was given last counts.
type flushOrder struct{ due, given int64 }

func (o flushOrder) text() string { return fmt.Sprintf("%d %d", o.due, o.given) }

// isDue tells whether the order has to be carried out now.
func (o flushOrder) isDue() bool { return o.due > 0 && o.due <= time.Now().Unix() }

// orderOf reads flushKey.
func orderOf(held backend.Stored) (o flushOrder) {
	due, given, _ := strings.Cut(string(held.Value), " ")
	var err1, err2 error
	o.due, err1 = strconv.ParseInt(due, 10, 64)
	o.given, err2 = strconv.ParseInt(given, 10, 64)
	if err1 != nil || err2 != nil {
		return flushOrder{}
	}
	return o
}

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

// orderFlush notes a flush_all. A later one replaces one that is still to come,
// as in memcached, where a delay of more than 30 days is a point in time.
func (rc *recovery) orderFlush(delay int64) flushOrder {
	o := flushOrder{given: unixMilliNow()}
	switch {
	case delay > longestDelay:
		o.due = delay
	case delay > 0:
		o.due = time.Now().Unix() + delay
	}
	o.given = max(o.given, rc.flushOrdered().given+1)
	rc.hearOfFlush(o)
	return o
}

// flushOrdered is the last order that is known.
func (rc *recovery) flushOrdered() flushOrder {
	if o := rc.flushOrder.Load(); o != nil {
		return *o
	}
	return flushOrder{}
}

// hearOfFlush takes over an order, when it is the last one.
func (rc *recovery) hearOfFlush(o flushOrder) {
	for {
		known := rc.flushOrder.Load()
		if known != nil && known.given >= o.given || o.given == 0 {
			return
		}
		if rc.flushOrder.CompareAndSwap(known, &o) {
			break
		}
	}
	if o.due == 0 {
		return // it may be under way
	}
	for _, s := range rc.p.servers {
		s.FlushesAt(o.due)
	}
	timer := time.AfterFunc(time.Until(time.Unix(o.due, 0)), func() {
		for i := range rc.p.servers {
			rc.lookSoon(int32(i))
		}
	})
	if before := rc.flushTimer.Swap(timer); before != nil {
		before.Stop()
	}
}

// flushOverdue tells whether a server that returns has to be flushed before it serves,
// because it holds an order that was due: then it has not been flushed since. When no
// server serves that could be flushed, the order is carried out so with each that
// returns; one that never held it may not have been told, and has missed it.
func (rc *recovery) flushOverdue(server int32, held flushOrder) bool {
	if known := rc.flushOrdered(); known.isDue() && rc.firstServing() < 0 {
		for i := range rc.p.servers {
			rc.care[i].overdue.Store(known.given)
		}
		rc.orderFlush(0)
	}
	missed := rc.care[server].overdue.Swap(0)
	if held.isDue() {
		return true
	}
	if missed > 0 && missed > max(held.given, rc.care[server].flushSeen.Load()) {
		rc.p.journals[server].lose(lostByFlush)
	}
	return false
}

// tellFlush has a server that is about to serve hold the last order.
func (rc *recovery) tellFlush(s *backend.Server) {
	known := rc.flushOrdered()
	if known.given == 0 || !rc.delaysFlush(int32(s.Index)) {
		return
	}
	if c, err := rc.p.dial(context.Background(), int32(s.Index)); err == nil {
		_, _ = c.Store("set", flushKey, known.text())
		c.Close()
	}
}

// keepFlush has the server hold the last order, and runs what is due.
func (w *watcher) keepFlush(found map[string]backend.Stored) error {
	rc := w.rc
	held := orderOf(found[flushKey])
	rc.hearOfFlush(held)
	known := rc.flushOrdered()
	switch {
	case held.isDue() && held.given < known.given && !rc.flushing.Load():
		w.unflushed(held)
		return nil
	case held.given < known.given:
		if _, err := w.client.Store("set", flushKey, known.text()); err != nil {
			return err
		}
	}
	rc.care[w.at].flushSeen.Store(known.given)
	if !known.isDue() || w.at != rc.firstServing() || !rc.acts(w.at) || rc.flushing.Swap(true) {
		return nil
	}
	if rc.flushOrdered() != known { // it was run at this moment
		rc.flushing.Store(false)
		return nil
	}
	rc.p.log.Info().Msg("a flush_all is due")
	rc.p.flushes.begin(&flush{home: rc.p.workers[0]})
	return nil
}

// unflushed sees to a server that still holds an order that was due, and has been carried
// out on others: it has missed that, when it holds it at the next look too.
func (w *watcher) unflushed(held flushOrder) {
	if w.missedOrder != held {
		w.missedOrder = held
		return
	}
	if j := w.rc.p.journals[w.at]; !j.lost() {
		j.lose(lostByFlush)
		if s := w.rc.p.servers[w.at]; !s.Miss() {
			s.Doubt("it has missed flush_all")
		}
		w.rc.wake()
	}
}

// firstServing is the first server that serves, of those with twins; -1 when none does.
func (rc *recovery) firstServing() int32 {
	for i, s := range rc.p.servers {
		if s.Serves() && rc.delaysFlush(int32(i)) {
			return int32(i)
		}
	}
	return -1
}
