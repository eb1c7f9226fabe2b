package main

import (
	"math"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// setting is one row of the table: a flag, its letters, its environment
// variable and its key in the config file.
type setting struct {
	name     string // long name, and the key in the config file
	letters  string // one-letter names, the first of which help shows
	value    string // what the value is called in help; "" for a switch
	group    string // heading in help
	usage    string
	preset   string // the default as help shows it, where the value does not tell
	flagOnly bool   // makes no sense in a config file
	to       any    // *bool, *string, *cli.StringSlice or cli.Generic
}

// The groups in the order in which help shows them.
var groups = []string{groupServers, groupClients, groupTimes, groupRecovery, groupProcess, groupAsking, groupOther}

const (
	groupServers  = "Servers and keys"
	groupClients  = "Clients"
	groupTimes    = "Time limits"
	groupRecovery = "Recovery"
	groupProcess  = "Process and log"
	groupAsking   = "Asking a running magent"
	groupOther    = "Other"
)

// table returns all settings there are, bound to the fields of s. The letters
// are the C program's; where those leave a letter free, memcached's.
func table(s *settings) []setting {
	p := &s.proxy
	return []setting{
		{name: "server", letters: "s", value: "HOST[:PORT[:WEIGHT]]", group: groupServers, to: &s.servers,
			usage: "a memcached of the primary pool; may be repeated, or a list with commas"},
		{name: "backup", letters: "b", value: "HOST[:PORT[:WEIGHT]]", group: groupServers, to: &s.backups,
			usage: "a memcached of the backup pool, to which writes are mirrored; may be repeated"},
		{name: "distribution", value: "NAME", group: groupServers,
			to:    choice{&p.Distribution, []string{"ketama", "magent-ketama", "magent-modula"}},
			usage: "how keys find their server: ketama (as libmemcached), or as the C magent did it: magent-ketama (its -k) or magent-modula (its default)"},
		{name: "ketama", letters: "k", group: groupServers, to: &s.ketama,
			usage: "a ketama ring, which is the default"},
		{name: "max-server-connections", letters: "i", value: "N", group: groupServers, to: number{&p.MaxServerConnections, 1, 10000},
			usage: "most connections to one server"},
		{name: "server-auth-file", value: "FILE", group: groupServers, to: &p.ServerAuthFile,
			usage: "holds user:password, which magent proves to servers that ask (memcached -Y); HUP reads it anew"},

		{name: "listen", letters: "l", value: "ADDRESS[:PORT]", group: groupClients, to: &s.listen, preset: "all addresses",
			usage: "address or host name to listen on; may be repeated. It need not be on this machine yet"},
		{name: "port", letters: "p", value: "PORT", group: groupClients, to: number{&s.port, anyPort, math.MaxUint16},
			usage: "TCP port to listen on; 0 for none, -1 for any that is free (the log tells which)"},
		{name: "socket", letters: "f", value: "FILE", group: groupClients, to: &s.socket,
			usage: "Unix socket to listen on as well"},
		{name: "socket-mode", letters: "a", value: "MODE", group: groupClients, to: permissions{&s.socketMode},
			usage: "permissions of the Unix socket, in octal"},
		{name: "auth-file", letters: "Y", value: "FILE", group: groupClients, to: &p.AuthFile,
			usage: "holds lines user:password, one of which clients have to give first, as with memcached -Y; HUP reads it anew"},
		{name: "max-clients", letters: "nc", value: "N", group: groupClients, to: number{&p.MaxClients, 1, 10_000_000},
			usage: "most client connections"},
		{name: "max-item-size", letters: "I", value: "SIZE", group: groupClients, to: size{&s.size, 1, 1 << 30},
			usage: "largest value that is accepted"},
		{name: "max-memory", value: "SIZE", group: groupClients, to: size{&p.MaxMemory, 16 << 20, 1 << 50},
			usage: "most memory for requests and answers on their way"},

		{name: "connect-timeout", value: "TIME", group: groupTimes, to: duration{&p.ConnectTimeout, time.Millisecond, time.Minute},
			usage: "to connect to a server"},
		{name: "server-timeout", value: "TIME", group: groupTimes, to: duration{&p.ServerTimeout, time.Millisecond, time.Hour},
			usage: "until the first byte of a server's answer"},
		{name: "server-failures", value: "N", group: groupTimes, to: number{&p.ServerFailures, 1, 1000},
			usage: "unanswered reads in a row that take a server out"},
		{name: "probe-min", value: "TIME", group: groupTimes, to: duration{&p.ProbeMin, time.Millisecond, time.Hour},
			usage: "first pause between probes of a server that is out"},
		{name: "probe-max", value: "TIME", group: groupTimes, to: duration{&p.ProbeMax, time.Millisecond, time.Hour},
			usage: "longest pause between them"},
		{name: "idle-timeout", value: "TIME", group: groupTimes, to: duration{&p.IdleTimeout, 0, 365 * 24 * time.Hour}, preset: "0, never",
			usage: "a client that is silent for so long is closed"},
		{name: "hold", value: "TIME", group: groupTimes, to: duration{&p.Hold, 0, 10 * time.Millisecond},
			usage: "longest wait for more requests before a busy server is sent a batch; 0 for none"},
		{name: "drain-timeout", value: "TIME", group: groupTimes, to: duration{&p.DrainTimeout, time.Millisecond, time.Hour},
			usage: "most time for requests in flight when magent stops or is upgraded"},

		{name: "journal-keys", value: "N", group: groupRecovery, to: number{&p.JournalKeys, 1, 1_000_000_000},
			usage: "most keys that a server may miss writes of and still be mended key by key; with more it is flushed"},
		{name: "journal-memory", value: "SIZE", group: groupRecovery, to: size{&p.JournalMemory, 1 << 10, 1 << 50},
			usage: "most memory for those keys"},
		{name: "resync-rate", value: "N", group: groupRecovery, to: number{&p.ResyncRate, 0, 1_000_000_000},
			usage: "most keys a second that are copied to a server that came back empty; 0 for no such copying"},
		{name: "lost-after", value: "TIME", group: groupRecovery, to: duration{&p.LostAfter, time.Millisecond, 365 * 24 * time.Hour},
			usage: "a server that cannot be reached for so long counts as gone: what only it held is a miss until it returns"},
		{name: "compare-rate", value: "N", group: groupRecovery, to: number{&p.CompareRate, 0, 1_000_000_000},
			usage: "most keys a second, of those that clients ask for, whose two copies are compared, and mended where they differ; 0 for none"},
		{name: "in-flight-file", value: "FILE", group: groupRecovery, to: &s.inFlightFile, preset: "in /dev/shm",
			usage: "keeps the keys of writes under way, so that the next run mends them when magent was killed; none for no such file"},

		{name: "foreground", letters: "D", group: groupProcess, to: &s.foreground,
			usage: "stay in the foreground and log to standard error"},
		{name: "background", letters: "d", group: groupProcess, to: &s.background,
			usage: "go to the background, which is the default"},
		{name: "verbose", letters: "v", group: groupProcess, to: &s.verbose,
			usage: "stay in the foreground and log more (level debug)"},
		{name: "user", letters: "u", value: "USER", group: groupProcess, to: &s.user,
			usage: "name or number to run as once it listens"},
		{name: "group", letters: "g", value: "GROUP", group: groupProcess, to: &s.group, preset: "the user's",
			usage: "name or number of the group to run as"},
		{name: "pid-file", letters: "P", value: "FILE", group: groupProcess, to: &s.pidFile,
			usage: "file that holds the process's number while it runs"},
		{name: "threads", letters: "t", value: "N", group: groupProcess, to: number{&p.Threads, 1, 256}, preset: "one per core",
			usage: "event loops"},
		{name: "log-file", value: "FILE", group: groupProcess, to: &s.logFile,
			usage: "log to a file, which HUP opens anew"},
		{name: "log-format", value: "FORMAT", group: groupProcess, to: choice{&s.logFormat, []string{"auto", "json", "console"}},
			usage: "json, console, or auto: console on a terminal and json elsewhere"},
		{name: "log-level", value: "LEVEL", group: groupProcess, to: choice{&s.logLevel, []string{"debug", "info", "warn", "error"}},
			usage: "least important messages that are logged: debug, info, warn or error"},

		{name: "timeout", value: "TIME", group: groupAsking, to: duration{&s.timeout, 10 * time.Millisecond, 10 * time.Second}, preset: "1s for check, 5s for the others", flagOnly: true,
			usage: "longest wait for the answer, in all"},
		{name: "json", group: groupAsking, to: &s.json, flagOnly: true,
			usage: "have status write one JSON object, for programs"},

		{name: "config", value: "FILE", group: groupOther, to: &s.configFile, flagOnly: true,
			usage: "TOML file of settings, which HUP reads anew"},
		{name: "check", group: groupOther, to: &s.check, flagOnly: true,
			usage: "say whether the settings are right and start nothing"},
		{name: "help", letters: "h", group: groupOther, to: new(bool), flagOnly: true, usage: "show this page"},
		{name: "version", letters: "V", group: groupOther, to: new(bool), flagOnly: true, usage: "show the version"},
	}
}

// variable is the setting's environment variable.
func (s setting) variable() string {
	return "MAGENT_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

func (s setting) aliases() []string {
	return strings.Split(s.letters, "")
}

// hasVariable says whether the environment may set it: not what asks for
// another thing than to serve.
func (s setting) hasVariable() bool {
	return !s.flagOnly || s.name == "config"
}

// isServiceLink tells whether a variable's text is not a setting, but what
// Kubernetes tells all containers of a service that is called magent, as in
// MAGENT_PORT=tcp://10.0.0.11:12000.
func isServiceLink(text string) bool {
	return strings.HasPrefix(text, "tcp://") || strings.HasPrefix(text, "udp://")
}

// cliFlags turns the table into flags of the command line library.
func cliFlags(rows []setting) []cli.Flag {
	flags := make([]cli.Flag, 0, len(rows))
	for _, row := range rows {
		var variables []string
		if row.hasVariable() && !isServiceLink(os.Getenv(row.variable())) {
			variables = []string{row.variable()}
		}
		var f cli.Flag
		switch to := row.to.(type) {
		case *bool:
			f = &cli.BoolFlag{Name: row.name, Aliases: row.aliases(), Usage: row.usage, EnvVars: variables, Destination: to}
		case *string:
			f = &cli.StringFlag{Name: row.name, Aliases: row.aliases(), Usage: row.usage, EnvVars: variables, Destination: to, Value: *to}
		case *cli.StringSlice:
			f = &cli.StringSliceFlag{Name: row.name, Aliases: row.aliases(), Usage: row.usage, EnvVars: variables, Destination: to}
		case cli.Generic:
			f = &cli.GenericFlag{Name: row.name, Aliases: row.aliases(), Usage: row.usage, EnvVars: variables, Value: to}
		}
		flags = append(flags, f)
	}
	return flags
}
