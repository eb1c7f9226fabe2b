package main

import (
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"magent/proxy"
)

// version is what `magent --version` answers; a release sets it with
// -ldflags "-X main.version=1.2.3".
var version = "1.0.0"

// defaultPort is the C program's, and memcached's.
const defaultPort = 11211

// anyPort as the port asks for one that is free, as in memcached.
const anyPort = -1

// settings are all that flags, environment and config file can set.
type settings struct {
	proxy proxy.Options

	servers cli.StringSlice // as given; proxy.Primaries after finish
	backups cli.StringSlice
	listen  cli.StringSlice
	size    int64 // proxy.MaxItemSize after finish

	port       int
	socket     string
	socketMode fs.FileMode

	user, group  string
	pidFile      string
	inFlightFile string // "": one of its own; "none": no file
	foreground   bool
	background   bool
	verbose      bool
	ketama       bool
	check        bool

	timeout time.Duration // of a subcommand; 0: its own
	json    bool

	configFile string
	logFile    string
	logFormat  string
	logLevel   string
}

// processors is how many processors the program found when it started. Later
// it changes what the runtime uses.
var processors = sync.OnceValue(func() int { return runtime.GOMAXPROCS(0) })

func defaultSettings() *settings {
	s := &settings{
		proxy:      proxy.Defaults(),
		port:       defaultPort,
		socketMode: 0o700,
		logFormat:  "auto",
		logLevel:   "info",
	}
	s.proxy.Version = version
	s.size = int64(s.proxy.MaxItemSize)
	if s.proxy.Threads == 0 {
		s.proxy.Threads = processors()
	}
	return s
}

// errNoServer and errNotListening are the two things without which nothing
// can start. The second has the C program's words.
var (
	errNoServer     = errors.New("no server is given: name at least one memcached with -s, for example -s 192.0.2.1:11211")
	errNotListening = errors.New("magent must listen on tcp or unix domain socket: give -p a port, or -f a path")
)

// makeAbsolute takes relative paths from directory, so that they mean the same
// file after the process has moved to "/".
func (s *settings) makeAbsolute(directory string) {
	for _, path := range []*string{&s.socket, &s.pidFile, &s.configFile, &s.logFile, &s.inFlightFile, &s.proxy.AuthFile, &s.proxy.ServerAuthFile} {
		if *path != "" && *path != "none" && !filepath.IsAbs(*path) {
			*path = filepath.Join(directory, *path)
		}
	}
}

// finish derives what follows from other settings and checks what concerns
// more than one.
func (s *settings) finish(distributionSet bool) error {
	s.proxy.Primaries = withoutEmpty(s.servers.Value())
	s.proxy.Backups = withoutEmpty(s.backups.Value())
	s.proxy.MaxItemSize = int(s.size)
	if s.verbose {
		s.foreground, s.logLevel = true, "debug"
	}
	if s.foreground && s.background {
		return errors.New("--background contradicts --foreground and --verbose: leave one out")
	}
	if s.ketama {
		if distributionSet && s.proxy.Distribution == "magent-modula" {
			return errors.New("-k asks for a ketama ring and --distribution for magent-modula: leave one out")
		}
	}
	if len(s.proxy.Primaries) == 0 {
		return errNoServer
	}
	if s.port == 0 && s.socket == "" {
		return errNotListening
	}
	return nil
}

// withoutEmpty drops the empty entries that a trailing comma or an empty
// environment variable leaves.
func withoutEmpty(list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" })
}

// restartNeeded names the settings of the launcher, as opposed to those of the
// proxy, that differ in a way that only a restart applies.
func (s *settings) restartNeeded(next *settings) []string {
	var names []string
	differs := func(name string, different bool) {
		if different {
			names = append(names, name)
		}
	}
	differs("listen", !slices.Equal(s.listen.Value(), next.listen.Value()))
	differs("port", s.port != next.port)
	differs("socket", s.socket != next.socket)
	differs("socket-mode", s.socketMode != next.socketMode)
	differs("user", s.user != next.user)
	differs("group", s.group != next.group)
	differs("pid-file", s.pidFile != next.pidFile)
	differs("in-flight-file", s.inFlightFile != next.inFlightFile)
	differs("log-file", s.logFile != next.logFile)
	differs("log-format", s.logFormat != next.logFormat)
	differs("foreground", s.foreground != next.foreground)
	return names
}
