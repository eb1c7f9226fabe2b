package proxy

import (
	"fmt"
	"strings"
	"time"

	"magent/backend"
)

// The proxies that serve one server tell each other by an item on it: a line
// for each, "<name> <count>", where the count changes as long as it lives.

const (
	proxiesKey = backend.Prefix + "proxies"
	beatForget = 30 * time.Second // a line that has not changed for so long is taken out
)

// beat is the last count of another proxy.
type beat struct {
	count   string
	changed time.Time
}

// beat tells the other proxies of this one, and takes note of them.
func (w *watcher) beat(held backend.Stored) error {
	rc := w.rc
	now := time.Now()
	if w.beats == nil {
		w.beats = map[string]beat{}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s %d\n", rc.name, now.UnixNano())
	for _, line := range strings.Split(string(held.Value), "\n") {
		name, count, ok := strings.Cut(line, " ")
		if !ok || name == rc.name {
			continue
		}
		last, known := w.beats[name]
		switch {
		case !known, last.count != count:
			last = beat{count: count, changed: now}
			w.beats[name] = last
			if known {
				rc.others.Store(now.UnixNano())
			}
		}
		if now.Sub(last.changed) < beatForget {
			text.WriteString(line)
			text.WriteByte('\n')
		} else {
			delete(w.beats, name)
		}
	}
	rc.here.Store(now.Sub(time.Unix(0, rc.others.Load())) < othersFor)
	// Another proxy may write at this moment: then the next time will do.
	var err error
	if held.CAS == 0 {
		_, err = w.client.Store("add", proxiesKey, text.String())
	} else {
		_, err = w.client.Swap(proxiesKey, text.String(), held.CAS)
	}
	return err
}
