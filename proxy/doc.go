// Package proxy carries one client's request on its way: from the session
// that read it to the server that answers it and the server that mirrors it.
//
//	Proxy      everything together: options, servers, rings, workers
//	acceptor   takes new clients and hands them to the workers in turn
//	worker     one event loop: its sessions, its connections to the servers
//	session    one client: what it sent and what it will be answered, in order
//	request    one request, from the client to the last answer it waits for
//
//	client ─▶ session ─▶ request ─▶ routing ─▶ primary ─┐
//	   ◀───────────── answer ◀──── mirror ◀─────────────┘
//	                                 └────▶ backup
//
// The policies stand in files of their own:
//
//	dialect.go    requests and answers of the three protocols: meta.go and
//	              binary.go; command.go writes them to servers, and before.go what
//	              is asked ahead of them
//	routing.go    where a key lives, and which of its servers is asked now
//	leases.go     one loop at a time writes a key
//	handover.go   a request that another loop has to run
//	mirror.go     what the primary confirmed goes to the backup
//	marks.go      stale items, and who fetches them anew, on both servers
//	tokens.go     both servers hold an item under the same cas token
//	failover.go   a connection failed: what becomes of its requests
//	flush.go      flush_all, on every server at one moment
//	missing.go    a server does not get a write
//	journal.go    the keys whose writes it has missed
//	record.go     the same, for other proxies, on the server that got them;
//	              notes.go writes it there, facts.go reads it
//	recovery.go   what becomes of a server that answers again; replay
//	flushclaim.go which proxy flushes one
//	lifenotes.go  which servers lack keys, told to other proxies
//	warmup.go     requests for a server that may lack keys, or hold wrong ones
//	copy.go       the copying of one key, under its lease; copykey.go begins it
//	              from elsewhere, copycareful.go minds other proxies,
//	              copycompare.go copies only what differs, and copyexpiry.go
//	              has a copy end when the item does
//	resync.go     the copying of all that a server lacks
//	keylist.go    the keys to copy, last used first
//	secondlook.go the two copies of a key are compared
//	presence.go   which proxy sees to the servers; announce.go tells the others
//	              of one that begins
//	inflight.go   the keys of writes under way outlive a process that is killed
//	watch.go      magent's own items on a server are kept, and read
//	auth.go       which clients may use magent, and how they prove it
//	admin.go      magent explain, magent resync
//	ask.go        the operator's questions that do not come from a client
//	slowreader.go a client that asks for more than it reads
//	turn.go       whether the event loops still turn
//	turnaway.go   a client more than there may be
//	addressgone.go the address of clients leaves the machine
//	upgrade.go    another program goes on with the same clients
//
// # Order
//
// A write takes the lease of its key's stripe and keeps it until the backup
// has acknowledged the mirrored effect, so all writes of one key in flight are
// on the connections of one loop, in one order. A write whose stripe another
// loop has leased is handed to that loop. A read asks the primary on its own
// loop's connection; only a read that goes to the backup has to look at the
// lease, because the backup may not have got yet what the client knows.
//
// # Failure
//
// A write is run without a server only after every loop is bound to see that
// this server is out. The key is entered in the server's journal, and nobody is
// answered from that server for it before it has been copied from its twin.
// See package backend for the states.
package proxy
