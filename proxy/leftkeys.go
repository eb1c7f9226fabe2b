package proxy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"magent/proxy/engine"
)

// leftKeys are those of writes that were under way when the last run was killed.
// The primary decides: what it holds is copied to the backup, unless it has missed a
// later write. If it is not the same process any more, what the backup holds is all
// that is left of them.
type leftKeys struct {
	mu      sync.Mutex
	waiting []string // for the first word of their primaries
	copied  []string // stand in the journals of their backups
}

// leftAt is when such a key was missed, Unix milliseconds: whatever another proxy
// has missed since is later.
const leftAt = 1

// busyPause is how long the file of writes under way is left to whoever has it
// before it is tried again.
const busyPause = 200 * time.Millisecond

// KeepInFlight keeps the keys of writes under way in a file, which the process's
// own user may write and nobody else, and mends those that the last run has left
// there. It is called before Start or Adopt. While another magent has the file,
// perhaps one that is about to end, it is waited for in the background.
func (p *Proxy) KeepInFlight(path string) error {
	if p.pools.backup == nil {
		return nil
	}
	f, left, err := openInFlight(path, len(p.workers))
	if errors.Is(err, errInFlightBusy) {
		p.inFlightLater = path
		return nil
	}
	if err != nil {
		return err
	}
	p.inFlight = f
	for i, w := range p.workers {
		w.inFlight = f.slots(i)
	}
	p.left.waiting = left
	if len(left) > 0 {
		p.log.Warn().Int("keys", len(left)).Msg("the last run was ended in the middle of writes; their copies are made equal")
	}
	return nil
}

// awaitInFlight takes the file when whoever has it has ended.
func (p *Proxy) awaitInFlight(ctx context.Context) {
	for warned := false; ; warned = true {
		f, left, err := openInFlight(p.inFlightLater, len(p.workers))
		if err == nil {
			p.inFlight = f
			for i, w := range p.workers {
				slots := f.slots(i)
				w.loop.Post(engine.TaskFunc(func() {
					w.inFlight = slots
					for key := range slots.left {
						w.lookLater([]byte(key), false)
						w.inFlight.forget(key)
					}
				}))
			}
			for _, key := range left {
				f.forgetBehind(len(p.workers), key)
			}
			return
		}
		if !warned || !errors.Is(err, errInFlightBusy) {
			p.log.Warn().Err(err).Msg("if this process is killed now, the next one will not know which writes were under way")
		}
		if !errors.Is(err, errInFlightBusy) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(busyPause):
		}
	}
}

// primarySays sees to the keys that the last run has left of a primary that
// answers for the first time. known says that it is the process that the last run
// knew, lacking that it may lack keys.
func (rc *recovery) primarySays(server int32, known, lacking bool) {
	l := &rc.p.left
	l.mu.Lock()
	defer l.mu.Unlock()
	var others []string
	j := rc.p.journals[server]
	for _, key := range l.waiting {
		primary, backup := rc.p.pools.find([]byte(key))
		missedAt, missed := j.missedAt([]byte(key))
		switch {
		case primary != server:
			others = append(others, key)
			continue
		case j.lost() || missed && missedAt > 0: // the backup decides
		case backup >= 0 && known:
			// If nobody knew whether an earlier write was run here, this one still was.
			j.drop([]byte(key), 0)
			at := int64(leftAt)
			if lacking {
				at = 0 // it may not have been filled with this key
			}
			rc.p.journals[backup].add([]byte(key), at)
			if s := rc.p.servers[backup]; !s.Miss() {
				s.Doubt("the last run was ended before it had all writes")
			}
			rc.record(backup, server).noteAgain()
		}
		l.copied = append(l.copied, key)
	}
	l.waiting = others
}

// leftDone forgets the keys whose copies have been made equal.
func (rc *recovery) leftDone() {
	l := &rc.p.left
	l.mu.Lock()
	defer l.mu.Unlock()
	l.copied = slices.DeleteFunc(l.copied, func(key string) bool {
		if _, backup := rc.p.pools.find([]byte(key)); backup >= 0 {
			if _, missed := rc.p.journals[backup].find([]byte(key)); missed {
				return false
			}
		}
		rc.p.inFlight.forgetBehind(len(rc.p.workers), key)
		for _, w := range rc.p.workers {
			w.loop.Post(engine.TaskFunc(func() { w.inFlight.forget(key) }))
		}
		return true
	})
}
