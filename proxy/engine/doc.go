// Package engine holds the event loops: sockets, timers and wake-ups.
//
//	            Post (any goroutine)
//	                   │
//	epoll ──▶ Loop ──▶ Handler.Ready   one per socket
//	            │ ───▶ Task.Run        what other goroutines handed over
//	            │ ───▶ Timer           what is due
//	            └────▶ Owner.EndTurn   flush everything once, then wait again
//
// A Loop belongs to one locked thread. Whatever it calls runs on that thread,
// so nothing that hangs on a loop needs a lock. Only Post and Stop may be
// called from elsewhere.
//
// Sockets are registered edge-triggered and once: whoever handles a socket
// reads until a short read, or remembers that there is more.
//
// The engine knows nothing of memcached.
package engine
