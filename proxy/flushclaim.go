package proxy

import (
	"context"
	"time"
)

// mayFlush tells whether this proxy may flush a server. Where others are there
// it first says so in the server's records: a record that has changed since it
// was read may mean that another one flushes the server, or has done so.
func (rc *recovery) mayFlush(ctx context.Context, server int32) bool {
	if !rc.acts(server) && !rc.care[server].flush.Load() {
		return false
	}
	if rc.alone() {
		return true
	}
	for _, at := range rc.twins[server] {
		if !rc.p.servers[at].Serves() {
			continue
		}
		if claimed, err := rc.claimFlush(ctx, server, at); err != nil || !claimed {
			return false
		}
	}
	return true
}

func (rc *recovery) claimFlush(ctx context.Context, server, at int32) (bool, error) {
	c, err := rc.p.dial(ctx, at)
	if err != nil {
		return false, err
	}
	defer c.Close()
	key := recordKey(rc.p.servers[server].Name())
	found, err := c.Gets(key)
	if err != nil {
		return false, err
	}
	held, noted := found[key]
	claim := markText(rc.presence.name, markFlush)
	if !noted {
		return c.Store("add", key, recordText(rc.record(server, at).generation.Load(), nil)+claim)
	}
	rec := parseRecord(held.Value)
	present := rc.presence.present(time.Now())
	for name, m := range rec.marks {
		if _, there := present[name]; there && m == markFlush && name != rc.presence.name {
			return false, nil
		}
	}
	if rec.generation > rc.record(server, at).generation.Load() {
		return false, nil // it is another record than the one that was judged
	}
	return c.Swap(key, string(held.Value)+claim, held.CAS)
}
