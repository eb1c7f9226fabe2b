package proxy

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"magent/backend"
)

// Whether a server holds what it should is told for one life of it: on its twins,
// in statements that are believed once each, and on the server itself.

// lifeText is what this proxy says of a server, as it is stored.
func (rc *recovery) lifeText(life backend.Life, whole bool) string {
	state := "lacking"
	if whole {
		state = "whole"
	}
	return fmt.Sprintf("%s %s %s %d", life, state, rc.presence.name, time.Now().UnixNano())
}

func parseLifeText(text string) (life backend.Life, whole bool, statement string, ok bool) {
	words := strings.Fields(text)
	if len(words) != 4 {
		return life, false, "", false
	}
	life, ok = backend.ParseLife(words[0])
	return life, words[1] == "whole", words[2] + " " + words[3], ok
}

// told is what a server has told of the keys of another: the statement of some
// proxy.
type told struct {
	mu    sync.Mutex
	last  string // read last
	stale string // what was read last before this proxy found the other server to lack keys anew
}

// news tells whether a statement is another one than was read before, and takes
// it as read.
func (t *told) news(statement string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	news := t.last != statement
	t.last = statement
	return news
}

// outdate has no statement believed that was made so far.
func (t *told) outdate() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stale = t.last
}

func (t *told) isStale(statement string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stale == statement
}

// tellLacking notes for other proxies, before a server serves, that it lacks
// keys: on its twins, and on the server itself, for one that cannot reach them.
func (rc *recovery) tellLacking(s *backend.Server) {
	life, ok := s.Life()
	if !ok {
		return
	}
	for _, at := range rc.twins[s.Index] {
		rc.told[rc.p.pair(int32(s.Index), at)].outdate()
	}
	if c, err := rc.p.dial(context.Background(), int32(s.Index)); err == nil {
		_, _ = c.Store("set", backend.LackingKey, life.String())
		c.Close()
	}
	for _, at := range rc.twins[s.Index] {
		if !rc.p.servers[at].Serves() {
			continue
		}
		c, err := rc.p.dial(context.Background(), at)
		if err != nil {
			continue
		}
		_, _ = c.Store("set", lifeOfKey(s.Name()), rc.lifeText(life, false))
		c.Close()
	}
}

// keepLife writes the note of the server's own life anew when it is gone.
func (w *watcher) keepLife(found map[string]backend.Stored) error {
	if _, ok := found[backend.LifeKey]; ok {
		return nil
	}
	life, ok := w.rc.p.servers[w.at].Life()
	if !ok || !w.rc.p.servers[w.at].Serves() || !w.rc.acts(w.at) {
		return nil
	}
	_, err := w.client.Store("add", backend.LifeKey, life.String())
	return err
}

// keepLacking has the server itself tell whether it lacks keys.
func (w *watcher) keepLacking(found map[string]backend.Stored) error {
	_, told := found[backend.LackingKey]
	s := w.rc.p.servers[w.at]
	life, ok := s.Life()
	lacks := w.rc.lacks(w.at)
	if lacks == told || !ok || !s.Serves() || !w.rc.acts(w.at) {
		return nil
	}
	if lacks {
		_, err := w.client.Store("set", backend.LackingKey, life.String())
		return err
	}
	_, err := w.client.Ask("delete %s\r\n", backend.LackingKey)
	return err
}

// believe takes over that another proxy has found a server, in the life that
// this one knows, to lack keys: once for each time that it says so.
func (rc *recovery) believe(server, at int32, f fact) {
	s := rc.p.servers[server]
	life, ok := s.Life()
	if !ok || !f.known || !rc.told[rc.p.pair(server, at)].news(f.statement) {
		return
	}
	if f.whole || f.life != life || rc.isOwn(f.statement) {
		return
	}
	rc.setLacks(server, true)
	rc.resyncs[server].again()
	s.Doubt("another proxy has found that it lacks keys")
}

// isOwn tells whether a statement is this proxy's.
func (rc *recovery) isOwn(statement string) bool {
	return strings.HasPrefix(statement, rc.presence.name+" ")
}

// keepLifeOf tells which life of a server holds what it should.
func (w *watcher) keepLifeOf(server int32, f fact) error {
	rc := w.rc
	s := rc.p.servers[server]
	life, ok := s.Life()
	if !ok || !s.Serves() {
		return nil
	}
	rc.believe(server, w.at, f)
	whole := !rc.lacks(server)
	same := f.known && f.life == life
	stale := rc.told[rc.p.pair(server, w.at)].isStale(f.statement)
	switch {
	case same && f.whole && !whole && !stale && (!rc.resyncs[server].forced.Load() || !rc.acts(server)):
		rc.setLacks(server, false) // another proxy has seen to it
		return nil
	case same && f.whole == whole, f.known && !same && f.life.Start > life.Start, !rc.acts(server):
		return nil
	}
	// What another proxy says meanwhile is believed first.
	var err error
	if text := rc.lifeText(life, whole); f.lifeToken == 0 {
		_, err = w.client.Store("add", lifeOfKey(s.Name()), text)
	} else {
		_, err = w.client.Swap(lifeOfKey(s.Name()), text, f.lifeToken)
	}
	return err
}
