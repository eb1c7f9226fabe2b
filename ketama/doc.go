// Package ketama says on which server of a pool a key lives.
//
// A pool is a list of Servers. New makes a Ring of it, which answers with
// indexes into that list: Lookup gives the key's server and Next the one that
// follows it. A Ring never changes, holds no connection and knows nothing of
// servers that are down: a server that is down keeps its place. Any number of
// goroutines may share a Ring. Keys stay the caller's; no slice is kept.
//
// # Who finds the same server
//
//	Distribution     who else places keys so
//	Ketama           libmemcached with MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED: pylibmc
//	                 "ketama_weighted", PHP OPT_LIBKETAMA_COMPATIBLE
//	KetamaOneAtATime libmemcached with MEMCACHED_BEHAVIOR_KETAMA and nothing else,
//	                 or MEMCACHED_DISTRIBUTION_CONSISTENT: pylibmc "ketama"
//	MagentKetama     the C magent's ring (-k)
//	MagentModula     the C magent without -k
//
// The client has to name the servers as magent does, by the same names or
// addresses, because the names are what is hashed. MagentModula also needs the
// same order. MagentKetama is the ring as the C source has it; releases 0.5 and
// 0.6 kept a key's hash in one byte, and so used almost nothing of it.
//
// # The rings
//
// A server is many points on a circle of 32 bits, and owns the keys whose hash
// lies between the point before and its own. On Ketama's ring a server of average
// weight has 40 MD5 digests of its label and a number, 4 points each; on
// MagentKetama's 500 digests. Adding a server to n of its own weight moves the
// keys that it takes, about 1/(n+1) of all, and no others.
//
// There are two exceptions, which come from the C programs. They compute the number
// of digests in floats, so that for some sizes of the pool (25, 47, 50, 55 ... with
// libmemcached, 47, 59, 83 ... with the C magent) every server has one digest
// less. And on libmemcached's ring a server heavier or lighter than the average
// changes the number of points of all others. In either case a few more keys
// move. Clients and magent have to agree, so magent follows.
//
// # What comes from where
//
// The points of Ketama and MagentKetama are made by github.com/dgryski/go-ketama,
// see points.go. Three things it does not do are done here. Its lookup answers with
// labels and allocates, so the points are copied into a table of our own; that
// table is searched as go-ketama does with HashFunc2, for the first point not
// below the key's hash. It rounds weights unlike libmemcached (25 equal servers
// get 40 digests there), so shares.go computes libmemcached's numbers and they are
// imposed on it. Its HashMultiple never returns when asked for more servers than
// there are, so Next walks our table. Tests compare lookup and walk with go-ketama's,
// and the places of keys with golden files made by libmemcached 1.1.4 and,
// for the two magent distributions, by an independent program in testdata.
package ketama
