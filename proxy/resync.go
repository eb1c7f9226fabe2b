package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"magent/backend"
)

const (
	resyncWindow = 512              // keys under way
	resyncBytes  = 1 << 20          // of their items
	resyncTurns  = 400              // batches a second
	carefulTurns = 8                // beside another proxy
	resyncTries  = 5                // of a key that could not be copied
	dumpLimit    = 10 * time.Second // until the next key of a list of keys
	progressTime = 10 * time.Second // between lines in the log
)

// resync is the state of the copying of all that one server lacks. Its
// counters are read by stats.
type resync struct {
	mu   sync.Mutex
	from map[int32]bool // twins whose keys have all been copied
	runs uint64         // how often it has begun anew

	forced   atomic.Bool // nobody but this proxy knows that the server lacks keys
	done     atomic.Int64
	total    atomic.Int64
	started  atomic.Int64 // Unix nanoseconds, 0: not under way
	replayed atomic.Uint64
	unlisted atomic.Bool // it was said that a twin does not list its keys
}

func (r *resync) init() { r.from = map[int32]bool{} }

// again begins anew with every twin.
func (r *resync) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.from)
	r.runs++
	r.forced.Store(true)
	r.done.Store(0)
	r.total.Store(0)
}

func (r *resync) isDone(twin int32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.from[twin]
}

// setDone notes it, unless the copying has to begin anew since it was the
// given run.
func (r *resync) setDone(twin int32, run uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.runs != run {
		return false
	}
	r.from[twin] = true
	return true
}

func (r *resync) run() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.runs
}

// eta is how long the rest will take, at the pace so far; 0 when that cannot
// be told.
func (r *resync) eta() time.Duration {
	at, done, total := r.started.Load(), r.done.Load(), r.total.Load()
	if at == 0 || done == 0 || total <= done {
		return 0
	}
	return time.Duration(float64(time.Since(time.Unix(0, at))) / float64(done) * float64(total-done))
}

var (
	errNoBackup = errors.New("there is no backup to copy from or to: start magent with -b too")
	errTwinsOut = errors.New("no two servers of a key serve: ask again when they do")
)

// Resync has every server compared with its twins and given what it lacks. It returns
// at once.
//
// A server of which a twin is out is left out, and returned: what it does not hold would
// be answered with an error until the twin is back, although nothing says that it lacks
// anything.
func (p *Proxy) Resync() (leftOut []int32, err error) {
	if p.pools.backup == nil {
		return nil, errNoBackup
	}
	began := false
	out := func(server int32) bool { return !p.servers[server].Serves() }
	for i := range p.servers {
		switch {
		case len(p.recovery.twins[i]) == 0:
		case slices.ContainsFunc(p.recovery.twins[i], out) && !p.recovery.lacks(int32(i)):
			leftOut = append(leftOut, int32(i))
		default:
			began = true
			p.recovery.setLacks(int32(i), true)
			p.recovery.resyncs[i].again()
			p.servers[i].Doubt("a resync was asked for")
			p.wg.Go(func() { p.recovery.tellLacking(p.servers[i]) }) // another proxy may have to do it
		}
	}
	if !began {
		return nil, errTwinsOut
	}
	p.recovery.wake()
	return leftOut, nil
}

// resync copies to a server what it lacks of its twins' keys. It returns true
// when it lacks nothing any more.
func (rc *recovery) resync(ctx context.Context, server int32) bool {
	r := &rc.resyncs[server]
	if rc.p.options.Load().ResyncRate == 0 {
		return false
	}
	whole := true
	for _, twin := range rc.twins[server] {
		if r.isDone(twin) {
			continue
		}
		run := r.run()
		if !rc.p.servers[twin].Serves() || !rc.resyncFrom(ctx, server, twin, run) || !r.setDone(twin, run) {
			whole = false
		}
	}
	if !whole || ctx.Err() != nil || !rc.p.servers[server].Serves() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, twin := range rc.twins[server] {
		if !r.from[twin] {
			return true // it was emptied once more meanwhile
		}
	}
	rc.setLacks(server, false)
	r.forced.Store(false)
	return true
}

// resyncFrom copies what a server lacks of one twin's keys.
func (rc *recovery) resyncFrom(ctx context.Context, server, twin int32, run uint64) bool {
	r := &rc.resyncs[server]
	log := rc.p.log.With().Str("server", rc.p.servers[server].Name()).Str("from", rc.p.servers[twin].Name()).Logger()
	life, _ := rc.p.servers[server].Life()
	r.started.Store(time.Now().UnixNano())
	defer r.started.Store(0)
	copied := 0
	for pass, passes := 0, 1; pass < passes; pass++ {
		keys, all, err := rc.listKeys(ctx, server, twin, pass, passes)
		if errors.Is(err, backend.ErrNoDump) {
			if !r.unlisted.Swap(true) {
				log.Warn().Err(err).Msg("no resync: keys are copied as they are asked for; start memcached with its LRU crawler and without -X to have the rest copied")
			}
			return false
		}
		if err != nil {
			rc.p.warnings.warn(log.Warn().Err(err), "resync "+rc.p.servers[server].Name(), "cannot list the keys to copy; trying again")
			return false
		}
		if pass == 0 {
			passes = keys.passes(all)
			r.total.Store(int64(all))
			log.Info().Int("keys", all).Int("passes", passes).Msg("resync begins")
		}
		keys.newestFirst()
		n, err := rc.copyList(ctx, server, twin, keys, run)
		copied += n
		if err != nil {
			log.Warn().Err(err).Int("keys", copied).Msg("resync interrupted; it goes on when both servers serve")
			return false
		}
	}
	if now, _ := rc.p.servers[server].Life(); now != life {
		return false
	}
	log.Info().Int("keys", copied).Dur("took_ms", time.Since(time.Unix(0, r.started.Load()))).Msg("resync ended")
	return true
}

// listKeys lists the keys of a twin that belong on the server too. all is
// their number, of which the list holds as many as there is room for.
func (rc *recovery) listKeys(ctx context.Context, server, twin int32, pass, passes int) (keys *keyList, all int, err error) {
	rc.listing[twin].Lock() // a server makes one list at a time
	defer rc.listing[twin].Unlock()
	o := rc.p.options.Load()
	for _, walk := range []string{backend.DumpByHash, backend.DumpByClass} {
		var c *backend.Client
		if c, err = rc.p.servers[twin].Dial(ctx, o.ConnectTimeout, dumpLimit); err != nil {
			return nil, 0, err
		}
		keys, all = newKeyList(pass, passes, rc.p.leases.hash), 0
		err = c.DumpKeys(walk, func(key []byte, access int64, size int) {
			if bytes.HasPrefix(key, reservedPrefix) || isUnnamable(key) {
				return
			}
			primary, backup := rc.p.pools.find(key)
			if primary == server && backup == twin || primary == twin && backup == server {
				all++
				keys.add(key, access, size)
			}
		})
		c.Close()
		if !errors.Is(err, backend.ErrNoDump) {
			break
		}
	}
	return keys, all, err
}

// copyList copies keys at the rate that is allowed, and slower when the
// servers are busy: it rests at least as long as it makes them work.
func (rc *recovery) copyList(ctx context.Context, server, twin int32, keys *keyList, run uint64) (copied int, err error) {
	r := &rc.resyncs[server]
	said := time.Now()
	tries := 0
	for batch := keys.next(rc.batch(), resyncBytes); len(batch) > 0; {
		if r.run() != run {
			return copied, errors.New("the server has to be filled anew")
		}
		if !rc.p.servers[server].Serves() || !rc.p.servers[twin].Serves() {
			return copied, errors.New("a server is out")
		}
		// What was missed comes before what is lacking.
		if !rc.p.journals[server].empty() && !rc.late(server) {
			rc.replay(ctx, server, rc.p.journals[server].oldest(replayBatch, rc.p.undecidedTwins(server)...))
		}
		began := time.Now()
		n := rc.copyAll(ctx, server, batch, false)
		if ctx.Err() != nil {
			return copied, ctx.Err()
		}
		took := time.Since(began)
		if !rc.alone() {
			took = max(took-settleTime, 0) // in which the servers had nothing to do
		}
		pace := time.Duration(len(batch)) * time.Second / time.Duration(max(rc.p.options.Load().ResyncRate, 1))
		if !rest(ctx, max(pace-took, took)) {
			return copied, ctx.Err()
		}
		if n < len(batch) {
			if tries++; tries > resyncTries {
				return copied, fmt.Errorf("%d of %d keys could not be copied", len(batch)-n, len(batch))
			}
			continue // those that were copied are there already
		}
		tries = 0
		copied += n
		r.done.Add(int64(n))
		if time.Since(said) > progressTime {
			said = time.Now()
			rc.p.log.Info().Str("server", rc.p.servers[server].Name()).Int64("keys", r.done.Load()).Int64("of", r.total.Load()).
				Dur("left", r.eta()).Msg("resync")
		}
		batch = keys.next(rc.batch(), resyncBytes)
	}
	return copied, nil
}

// batch is the number of keys that are copied at once. Beside another proxy each
// batch takes a moment longer, so it is larger.
func (rc *recovery) batch() int {
	turns := resyncTurns
	if !rc.alone() {
		turns = carefulTurns
	}
	return min(max(rc.p.options.Load().ResyncRate/turns, 1), resyncWindow)
}
