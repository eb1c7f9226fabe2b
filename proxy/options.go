package proxy

import "time"

// Options is all that can be set from outside. Defaults returns the values
// that hold when nothing is said; the command line, the environment and the
// config file only ever change a copy of it.
type Options struct {
	Primaries    []string // -s: "host[:port[:weight]]", port 11211 and weight 1 when absent
	Backups      []string // -b: the same; empty means a plain proxy
	Distribution string   // "ketama", "magent-ketama" or "magent-modula"

	Version string // of the program, for stats

	Threads              int           // event loops; 0 means one for each processor
	MaxClients           int           // -n: most client connections
	MaxServerConnections int           // -i: most connections to one server
	MaxItemSize          int           // bytes; a larger value is refused before it is read
	MaxMemory            int64         // bytes of requests and answers held at once, all clients together
	IdleTimeout          time.Duration // a client silent for so long is closed; 0 means never
	AuthFile             string        // users that clients have to prove to be; "" when they need not
	ServerAuthFile       string        // the user that magent proves to be to servers that ask; "" for none

	ConnectTimeout time.Duration // to reach a server
	ServerTimeout  time.Duration // until the first byte of a server's answer
	ServerFailures int           // unanswered reads in a row that take a server out
	ProbeMin       time.Duration // first pause between probes of a server that is out
	ProbeMax       time.Duration // longest pause between them
	Hold           time.Duration // longest wait for more requests before a busy server is sent a batch; 0 turns it off
	DrainTimeout   time.Duration // most time for requests in flight at shutdown

	JournalKeys   int           // most keys that a server may miss and still be replayed; with more it is flushed
	JournalMemory int64         // most bytes of those keys
	ResyncRate    int           // most keys a second that a resync copies; 0 means no resync
	LostAfter     time.Duration // a server that cannot be reached for so long counts as gone
	CompareRate   int           // keys a second whose two copies are compared; 0 means none
}

// Defaults returns the options that hold when nothing is said.
func Defaults() Options {
	return Options{
		Distribution:         "ketama",
		MaxClients:           4096,
		MaxServerConnections: 20,
		MaxItemSize:          64 << 20,
		MaxMemory:            1 << 30,
		ConnectTimeout:       250 * time.Millisecond,
		ServerTimeout:        500 * time.Millisecond,
		ServerFailures:       3,
		ProbeMin:             50 * time.Millisecond,
		ProbeMax:             time.Second,
		Hold:                 50 * time.Microsecond,
		DrainTimeout:         5 * time.Second,
		JournalKeys:          1_000_000,
		JournalMemory:        64 << 20,
		ResyncRate:           10_000,
		LostAfter:            10 * time.Second,
		CompareRate:          10,
	}
}
