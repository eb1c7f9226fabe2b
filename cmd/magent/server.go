package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"magent/proxy"
)

// errServedAlready ends a launch that has nothing to do, with success.
var errServedAlready = errors.New("a magent serves there already")

// server is the serving process, from listening to its end.
type server struct {
	settings   *settings
	arguments  []string // without the program's name, as HUP reads them again
	directory  string   // from which relative paths are taken
	executable string   // what an upgrade starts
	detached   bool
	stderr     io.Writer

	manager   *manager
	log       zerolog.Logger
	logFile   *logFile // nil without --log-file
	signals   chan os.Signal
	endpoints []endpoint
	socket    fileIdentity // of the Unix socket, which ends with this process
	lock      *lock
	proxy     *proxy.Proxy
}

// newServer returns a server that serves nothing yet, with its log open.
func newServer(s *settings, id identity, detached bool, stderr *os.File) (*server, error) {
	srv := &server{settings: s, detached: detached, stderr: stderr, signals: make(chan os.Signal, 16)}
	var writers []io.Writer
	if !detached {
		terminal := isTerminal(stderr)
		writers = append(writers, newWriter(stderr, s.logFormat, terminal))
	}
	if s.logFile != "" {
		file, err := openLogFile(s.logFile, id)
		if err != nil {
			return nil, err
		}
		srv.logFile = file
		writers = append(writers, newWriter(file, s.logFormat, false))
	}
	setLogLevel(s.logLevel)
	srv.log = newLogger(writers)
	var warning string
	if srv.manager, warning = takeManager(); detached {
		// The socket is that of whoever launched magent, such as keepalived,
		// which is the one to speak for its service.
		srv.manager, warning = &manager{}, ""
	}
	srv.manager.log = srv.log
	srv.warn(warning)
	// Before anything that a signal would have to undo. A broken pipe on
	// standard error must not end the process.
	signal.Notify(srv.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR2)
	signal.Ignore(syscall.SIGPIPE)
	return srv, nil
}

// warn logs a warning and, as long as somebody waits for the process in the
// background, writes it to that one's standard error too.
func (srv *server) warn(text string) {
	if text == "" {
		return
	}
	if srv.detached {
		fmt.Fprintf(srv.stderr, "magent: warning: %s\n", text)
	}
	srv.log.Warn().Msg(text)
}

// prepare makes the proxy that will serve, with room for its connections.
func (srv *server) prepare() error {
	warning, err := fitFileLimit(&srv.settings.proxy)
	if err != nil {
		return err
	}
	srv.warn(warning)
	// A loop that waits for events lends its processor to nobody else when
	// there is one to spare; taking it back would cost at every wake-up.
	if spare := srv.settings.proxy.Threads + 1; runtime.GOMAXPROCS(0) < spare {
		runtime.GOMAXPROCS(spare)
	}
	if srv.proxy, err = proxy.New(srv.settings.proxy, srv.log); err != nil {
		return usageError{err}
	}
	return nil
}

// start takes the locks, listens, gives up privileges and serves. It returns
// errServedAlready when another magent has all of the endpoints.
func (srv *server) start(id identity) error {
	lock, taken, err := claim(srv.endpoints, newPatience())
	if err != nil {
		return err
	}
	if len(taken) > 0 {
		if err := servedBy(srv.endpoints, taken); err != nil {
			return err
		}
		return errServedAlready
	}
	srv.lock = lock
	if err := srv.listenAndServe(id); err != nil {
		srv.removeFiles()
		return err
	}
	return nil
}

// listenAndServe is start without the locks.
func (srv *server) listenAndServe(id identity) error {
	fds, err := srv.listen(id)
	if err != nil {
		return err
	}
	if path := srv.settings.pidFile; path != "" {
		if owner := pidFileOwner(path); owner != 0 {
			srv.log.Warn().Str("file", path).Int("pid", owner).
				Msg("the pid file named another magent that has not ended yet; now it names this one (give each its own with -P)")
		}
		if err := writePidFile(path, id); err != nil {
			return err
		}
	}
	if err := id.assume(); err != nil {
		return err
	}
	srv.warnOfUnreadable()
	srv.keepInFlight()
	if err := srv.proxy.Start(fds); err != nil {
		return err
	}
	srv.answerOnLock()
	srv.logServing("serving")
	return nil
}

// answerOnLock has the lock say that this process serves, and answer questions
// about it.
func (srv *server) answerOnLock() {
	if srv.proxy.Guarded() {
		srv.lock.guard(srv.proxy.Authenticate)
	}
	srv.lock.serve(srv.proxy.Ask)
}

// warnOfUnreadable tells at once of the files that HUP could not read anew: the user
// that magent runs as may read less than the one who launched it.
func (srv *server) warnOfUnreadable() {
	s := srv.settings
	for _, path := range []string{s.configFile, s.proxy.AuthFile, s.proxy.ServerAuthFile} {
		if path == "" {
			continue
		}
		if err := unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK, unix.AT_EACCESS); err != nil {
			srv.warn(fmt.Sprintf("HUP will not read %s anew: %v: let the user that magent runs as read it", path, err))
		}
	}
}

// keepInFlight has the proxy remember the writes under way. To do without is no
// reason not to serve.
func (srv *server) keepInFlight() {
	path := srv.settings.inFlightFile
	switch path {
	case "none":
		return
	case "":
		// One for each user and address. Where nobody has a say in the port, no
		// later run would find it.
		address := strings.NewReplacer("/", "_", "_", "__").Replace(srv.endpoints[0].address)
		path = fmt.Sprintf("/dev/shm/magent-%d-%s", os.Geteuid(), address)
	}
	if err := srv.proxy.KeepInFlight(path); err != nil {
		srv.warn(fmt.Sprintf("when this process is killed, the next one will not know which writes were under way: %v: name another file with --in-flight-file, or none", err))
	}
}

// logServing says where magent listens, with the ports that the kernel chose.
func (srv *server) logServing(message string) {
	srv.log.Info().Strs("listen", srv.addresses()).Int("pid", os.Getpid()).Str("version", version).
		Int("max_clients", srv.settings.proxy.MaxClients).Msg(message)
}

// addresses are those at which magent listens, as text.
func (srv *server) addresses() []string {
	addresses := make([]string, 0, len(srv.endpoints))
	for _, e := range srv.endpoints {
		addresses = append(addresses, e.address)
	}
	return addresses
}

// removeFiles removes the Unix socket and the pid file if they are still this
// process's own. A socket that may not be removed any more is left: the next
// start replaces it.
func (srv *server) removeFiles() {
	srv.removeSocket()
	if srv.settings.pidFile != "" {
		if err := removePidFile(srv.settings.pidFile); err != nil {
			srv.log.Warn().Err(err).Str("file", srv.settings.pidFile).Msg("cannot remove the pid file")
		}
	}
}

func (srv *server) removeSocket() {
	if srv.socket.Path == "" {
		return
	}
	if now, err := identify(srv.socket.Path); err == nil && now == srv.socket {
		_ = os.Remove(srv.socket.Path)
	}
}
