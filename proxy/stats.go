package proxy

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"magent/conntrack"
	"magent/proxy/engine"
	"magent/proxy/protocol"
)

// statsQuery is one stats command on its way round the workers: each adds
// what only it knows, then whoever has asked is told that all have.
type statsQuery struct {
	p     *Proxy
	what  string
	parts []statsPart
	left  atomic.Int32
	out   []byte
}

// statsPart is one worker's share. It is written on that worker's loop and
// read when all are done.
type statsPart struct {
	counters counters
	held     int64
	clients  []clientStat
	waiting  []int // calls in flight by server
}

type clientStat struct {
	conntrack.Client
	fd       int
	inFlight int
	silent   time.Duration
}

// startStats has a client's stats command answered.
func (p *Proxy) startStats(r *request, what string) {
	p.gather(what, func(q *statsQuery) {
		r.home.loop.Post(engine.TaskFunc(func() {
			text := q.answer()
			if r.dialect == protocol.Binary {
				text = binaryStats(text, r)
			}
			r.answer = append(r.answer[:0], text...)
			r.home.replyStored(r)
			r.home.settle(r)
		}))
	})
}

// gather has all workers add their share to a query and calls whole, on the
// loop of the last one, when it is complete.
func (p *Proxy) gather(what string, whole func(q *statsQuery)) {
	q := &statsQuery{p: p, what: what, parts: make([]statsPart, len(p.workers))}
	q.left.Store(int32(len(p.workers)))
	for _, w := range p.workers {
		w.loop.Post(engine.TaskFunc(func() {
			q.collect(w, &q.parts[w.index])
			if q.left.Add(-1) == 0 {
				whole(q)
			}
		}))
	}
}

func (q *statsQuery) collect(w *worker, part *statsPart) {
	switch q.what {
	case "reset":
		w.stats = counters{}
	case "conns":
		w.sessions.Each(func(s *session) {
			part.clients = append(part.clients, clientStat{
				Client: s.Client, fd: s.fd, inFlight: s.inFlight,
				silent: time.Duration(w.loop.Now() - s.Active),
			})
		})
	}
	part.counters = w.stats
	part.held = w.Held()
	for _, c := range w.conns {
		part.waiting = append(part.waiting, c.Waiting())
	}
}

// answer makes the lines of the answer out of the workers' shares.
func (q *statsQuery) answer() []byte {
	switch q.what {
	case "":
		q.general()
	case "servers":
		q.servers()
	case "conns":
		q.conns()
	case "settings":
		q.settings()
	case "reset":
		q.p.clients.Reset()
		q.p.resetAt.Store(time.Now().UnixNano())
		q.out = append(q.out, "RESET\r\n"...)
	case "items", "slabs", "sizes": // a proxy has none
		q.out = append(q.out, endLine...)
	default:
		q.out = append(q.out, "ERROR\r\n"...)
	}
	return q.out
}

func (q *statsQuery) stat(name string, value any) {
	q.out = fmt.Appendf(q.out, "STAT %s %v\r\n", name, value)
}

func (q *statsQuery) end() { q.out = append(q.out, endLine...) }

// general answers with memcached's own names as far as they make sense for a
// proxy (doc/protocol.txt, "General-purpose statistics"), then magent's.
func (q *statsQuery) general() {
	p := q.p
	var c counters
	var held int64
	for i := range q.parts {
		c.add(&q.parts[i].counters)
		held += q.parts[i].held
	}
	var usage unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &usage)
	up := 0
	for _, s := range p.servers {
		if s.Serves() {
			up++
		}
	}
	now := time.Now()
	q.stat("pid", os.Getpid())
	q.stat("uptime", int64(now.Sub(p.started)/time.Second))
	q.stat("time", now.Unix())
	q.stat("version", p.serverVersion())
	q.stat("pointer_size", 64)
	q.stat("rusage_user", seconds(usage.Utime))
	q.stat("rusage_system", seconds(usage.Stime))
	q.stat("max_connections", p.clients.Most())
	q.stat("curr_connections", p.clients.Current())
	q.stat("total_connections", p.clients.Total())
	q.stat("rejected_connections", p.clients.Rejected())
	q.stat("connection_structures", p.clients.Current())
	q.stat("cmd_get", c.getKeys)
	q.stat("cmd_set", c.sets)
	q.stat("cmd_flush", c.flushes)
	q.stat("cmd_touch", c.touches)
	q.stat("get_hits", c.getHits)
	q.stat("get_misses", c.getMisses)
	q.stat("delete_misses", c.deleteMisses)
	q.stat("delete_hits", c.deleteHits)
	q.stat("incr_misses", c.incrMisses)
	q.stat("incr_hits", c.incrHits)
	q.stat("decr_misses", c.decrMisses)
	q.stat("decr_hits", c.decrHits)
	q.stat("cas_misses", c.casMisses)
	q.stat("cas_hits", c.casHits)
	q.stat("cas_badval", c.casBadval)
	q.stat("touch_hits", c.touchHits)
	q.stat("touch_misses", c.touchMisses)
	q.stat("auth_cmds", c.authCmds)
	q.stat("auth_errors", c.authErrors)
	q.stat("idle_kicks", c.idleKicks)
	q.stat("magent_address_resets", c.addressGone)
	q.stat("bytes_read", c.bytesIn)
	q.stat("bytes_written", c.bytesOut)
	q.stat("limit_maxbytes", p.options.Load().MaxMemory)
	q.stat("bytes", held)
	q.stat("accepting_conns", 1)
	q.stat("threads", len(p.workers))
	q.stat("magent_version", p.options.Load().Version)
	q.stat("magent_requests", c.requests)
	q.stat("magent_invalid_requests", c.invalid)
	q.stat("magent_servers", len(p.servers))
	q.stat("magent_servers_up", up)
	q.stat("magent_mirrored", c.mirrored)
	q.stat("magent_mirror_repairs", c.repairs)
	q.stat("magent_failovers", c.failovers)
	q.stat("magent_copied_keys", c.copied)
	q.stat("magent_copies_refused", c.copiesRefused)
	q.stat("magent_compared_keys", c.compared)
	q.stat("magent_comparisons_left_out", c.looksMissed)
	q.stat("magent_divergent_keys", c.divergent)
	q.stat("magent_postponed_values", c.postponed)
	q.stat("magent_handovers", c.handovers)
	q.stat("magent_server_errors", c.serverErrors)
	q.stat("magent_unreachable", c.unreachable)
	q.stat("magent_shed_clients", c.shed)
	q.end()
}

func seconds(t unix.Timeval) string { return fmt.Sprintf("%d.%06d", t.Sec, t.Usec) }

// servers answers with the state of each server.
func (q *statsQuery) servers() {
	role := make([]string, len(q.p.servers))
	for _, i := range q.p.pools.primaries {
		role[i] = "primary"
	}
	for _, i := range q.p.pools.backups {
		if role[i] == "primary" {
			role[i] = "both"
		} else if role[i] == "" {
			role[i] = "backup"
		}
	}
	for i, s := range q.p.servers {
		state, epoch := s.Load()
		waiting := 0
		for j := range q.parts {
			waiting += q.parts[j].waiting[i]
		}
		version := s.Version()
		if version == "" {
			version = "unknown"
		}
		q.stat(s.Name()+":state", state)
		q.stat(s.Name()+":role", role[i])
		q.stat(s.Name()+":weight", s.Weight)
		q.stat(s.Name()+":version", version)
		q.stat(s.Name()+":epoch", epoch)
		q.stat(s.Name()+":requests_in_flight", waiting)
		q.stat(s.Name()+":outages", s.Outages.Load())
		q.stat(s.Name()+":out_s", int64(s.OutFor()/time.Second))
		if why := s.OutWhy(); why != "" {
			q.stat(s.Name()+":out_why", why)
		}
		q.stat(s.Name()+":flushes", s.Flushes.Load())
		if problem := s.Problem(); problem != "" {
			q.stat(s.Name()+":problem", problem)
		}
		r := &q.p.recovery.resyncs[i]
		complete := "yes"
		if !s.Serves() {
			complete = "unknown"
		}
		if q.p.recovery.lacks(int32(i)) {
			complete = "no"
		}
		q.stat(s.Name()+":complete", complete)
		q.stat(s.Name()+":journal_keys", q.p.journals[i].length())
		q.stat(s.Name()+":journal_overflow", yesNo(q.p.journals[i].lost()))
		if why := q.p.journals[i].lossReason(); why != "" {
			q.stat(s.Name()+":journal_overflow_why", why)
		}
		q.stat(s.Name()+":replayed_keys", r.replayed.Load())
		q.stat(s.Name()+":resync_done", r.done.Load())
		q.stat(s.Name()+":resync_total", r.total.Load())
		q.stat(s.Name()+":resync_eta_s", int64(r.eta()/time.Second))
	}
	q.end()
}

// conns answers with the facts of each client, in memcached's form.
func (q *statsQuery) conns() {
	for i := range q.parts {
		for j := range q.parts[i].clients {
			c := &q.parts[i].clients[j]
			from, state := "unix", "conn_read"
			if c.From.IsValid() {
				from = "tcp:" + c.From.String()
			}
			if c.inFlight > 0 {
				state = "conn_waiting"
			}
			q.stat(fmt.Sprintf("%d:addr", c.fd), from)
			q.stat(fmt.Sprintf("%d:state", c.fd), state)
			q.stat(fmt.Sprintf("%d:secs_since_last_cmd", c.fd), int64(c.silent/time.Second))
			q.stat(fmt.Sprintf("%d:id", c.fd), c.ID)
			q.stat(fmt.Sprintf("%d:thread", c.fd), i)
			q.stat(fmt.Sprintf("%d:requests", c.fd), c.Requests)
			q.stat(fmt.Sprintf("%d:requests_in_flight", c.fd), c.inFlight)
			q.stat(fmt.Sprintf("%d:bytes_read", c.fd), c.BytesIn)
			q.stat(fmt.Sprintf("%d:bytes_written", c.fd), c.BytesOut)
		}
	}
	q.end()
}

// settings answers with the options that hold.
func (q *statsQuery) settings() {
	o := *q.p.options.Load()
	q.stat("maxconns", q.p.clients.Most())
	q.stat("num_threads", o.Threads)
	q.stat("item_size_max", o.MaxItemSize)
	q.stat("idle_timeout", int64(time.Duration(q.p.idle.Load())/time.Second))
	q.stat("cas_enabled", "yes")
	q.stat("auth_enabled_ascii", yesNo(o.AuthFile != ""))
	q.stat("server_auth", yesNo(o.ServerAuthFile != ""))
	q.stat("distribution", o.Distribution)
	for _, address := range q.p.listens {
		q.stat("listen", address)
	}
	for _, s := range o.Primaries {
		q.stat("primary", s)
	}
	for _, s := range o.Backups {
		q.stat("backup", s)
	}
	q.stat("max_server_connections", o.MaxServerConnections)
	q.stat("max_memory", o.MaxMemory)
	q.stat("connect_timeout_ms", o.ConnectTimeout.Milliseconds())
	q.stat("server_timeout_ms", o.ServerTimeout.Milliseconds())
	q.stat("server_failures", o.ServerFailures)
	q.stat("probe_min_ms", o.ProbeMin.Milliseconds())
	q.stat("probe_max_ms", o.ProbeMax.Milliseconds())
	q.stat("hold_us", o.Hold.Microseconds())
	q.stat("drain_timeout_ms", o.DrainTimeout.Milliseconds())
	q.stat("journal_keys", o.JournalKeys)
	q.stat("journal_memory", o.JournalMemory)
	q.stat("resync_rate", o.ResyncRate)
	q.stat("compare_rate", o.CompareRate)
	q.stat("lost_after_ms", o.LostAfter.Milliseconds())
	q.end()
}
