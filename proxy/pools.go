package proxy

import (
	"fmt"
	"slices"

	"magent/backend"
	"magent/ketama"
)

// buildPools makes the servers, each once even when it stands in both pools,
// and the rings.
func (p *Proxy) buildPools() (err error) {
	known := map[string]int32{}
	if p.pools.primary, p.pools.primaries, err = p.buildPool(p.options.Load().Primaries, "-s", known); err != nil {
		return err
	}
	if len(p.options.Load().Backups) > 0 {
		if p.pools.backup, p.pools.backups, err = p.buildPool(p.options.Load().Backups, "-b", known); err != nil {
			return err
		}
	}
	if len(p.pools.backups) == 1 && len(p.pools.primaries) == 1 && p.pools.backups[0] == p.pools.primaries[0] {
		p.log.Warn().Str("server", p.servers[0].Name()).Msg("primary and backup are the same server: no key has a second copy; name another one with -b")
	}
	p.pools.hashed = len(p.pools.primaries) > 1 || len(p.pools.backups) > 1
	for i := range p.servers {
		p.pools.not = append(p.pools.not, func(place int) bool { return p.pools.backups[place] == int32(i) })
	}
	return nil
}

func (p *Proxy) buildPool(names []string, flag string, known map[string]int32) (*ketama.Ring, []int32, error) {
	var places []int32
	var nodes []ketama.Server
	for _, name := range names {
		a, err := backend.ParseAddress(name)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %s %w", ErrOptions, flag, err)
		}
		index, ok := known[a.Name()]
		if !ok {
			index = int32(len(p.servers))
			known[a.Name()] = index
			s := backend.NewServer(a, int(index), p.options.Load().Threads, p.serverChanged)
			p.servers = append(p.servers, s)
		}
		places = append(places, index)
		nodes = append(nodes, ketama.Server{Host: a.Host, Port: a.Port, Weight: a.Weight})
	}
	ring, err := ketama.New(ketama.Distribution(p.options.Load().Distribution), nodes)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", ErrOptions, flag, err)
	}
	return ring, places, nil
}

// twins returns the servers that can hold second copies of a server's keys.
func (p *pools) twins(server int32) []int32 {
	var twins []int32
	add := func(pool, others []int32) {
		if !slices.Contains(pool, server) {
			return
		}
		for _, other := range others {
			if other != server && !slices.Contains(twins, other) {
				twins = append(twins, other)
			}
		}
	}
	add(p.primaries, p.backups)
	add(p.backups, p.primaries)
	return twins
}

// twinFor returns the server that holds the other copy of a key of a server, -1
// when there is none.
func (p *pools) twinFor(key []byte, server int32) int32 {
	primary, backup := p.find(key)
	if primary == server {
		return backup
	}
	return primary
}
