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
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"magent/proxy"
	"magent/proxy/engine"
)

const (
	// portWait bounds the wait for the port of a magent that is ending.
	portWait = time.Second
	// portRetry is the pause between two tries.
	portRetry = 5 * time.Millisecond
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

	log       zerolog.Logger
	logFile   *logFile // nil without --log-file
	signals   chan os.Signal
	endpoints []endpoint
	socket    fileIdentity // of the Unix socket, which ends with this process
	lock      *lock
	proxy     *proxy.Proxy
}

// fileIdentity tells a file from another of the same name.
type fileIdentity struct {
	Path          string
	Device, Inode uint64
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
		if err := writePidFile(path, id); err != nil {
			return err
		}
	}
	if err := id.assume(); err != nil {
		return err
	}
	if err := srv.proxy.Start(fds); err != nil {
		return err
	}
	srv.lock.serve()
	srv.logServing("serving")
	return nil
}

// logServing says where magent listens, with the ports that the kernel chose.
func (srv *server) logServing(message string) {
	addresses := make([]string, 0, len(srv.endpoints))
	for _, e := range srv.endpoints {
		addresses = append(addresses, e.address)
	}
	srv.log.Info().Strs("listen", addresses).Int("pid", os.Getpid()).Str("version", version).
		Int("max_clients", srv.settings.proxy.MaxClients).Msg(message)
}

// listen opens a socket for each endpoint. Endpoints that this machine has no
// address family for are dropped, and those of which the kernel chose the port
// get it.
func (srv *server) listen(id identity) ([]int, error) {
	var fds []int
	var served []occupant
	kept := srv.endpoints[:0:0]
	closeAll := func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	for _, e := range srv.endpoints {
		fd, o, err := listenOrAsk(e, srv.settings)
		if err != nil && e.optional && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
			continue
		}
		if err == nil && o == nil && e.lockName() == "" {
			e, err = srv.learnPort(e, fd)
		}
		if err != nil {
			closeAll()
			return nil, err
		}
		if o != nil {
			served = append(served, *o)
			continue
		}
		if e.network == "unix" {
			err = srv.ownSocket(e.address, id)
		}
		fds, kept = append(fds, fd), append(kept, e)
		if err != nil {
			closeAll()
			return nil, err
		}
	}
	if len(served) > 0 {
		closeAll()
		if err := servedBy(srv.endpoints, served); err != nil {
			return nil, err
		}
		return nil, errServedAlready
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("this machine has none of the address families that -l asks for")
	}
	srv.endpoints = kept
	return fds, nil
}

// listenOrAsk listens on an endpoint or, when it is in use, returns the magent
// that serves it by listening on all addresses. A magent that is ending, and a
// program that cannot be seen, which may be one, are waited for a little: its
// lock may go before its port.
func listenOrAsk(e endpoint, s *settings) (int, *occupant, error) {
	until := time.Now().Add(portWait)
	for {
		fd, err := engine.Listen(e.network, e.address, engine.ListenOptions{Mode: s.socketMode})
		if !errors.Is(err, unix.EADDRINUSE) {
			return fd, nil, err
		}
		for _, wider := range e.covers() {
			if o := ask(wider, newPatience()); o != nil {
				o.endpoint = e
				return -1, o, nil
			}
		}
		h := findHolder("/proc", e)
		ending := h.pid == 0 || h.comm == processName
		if !ending || time.Now().After(until) {
			return -1, nil, inUse(e, h)
		}
		time.Sleep(portRetry)
	}
}

// inUse is the error for an endpoint that another program has.
func inUse(e endpoint, h holder) error {
	elsewhere := "listen elsewhere with -p or -l"
	if e.network == "unix" {
		elsewhere = "listen elsewhere with -f"
	}
	return fmt.Errorf("%s is in use by %s: stop that program, or %s", e.address, h, elsewhere)
}

// learnPort returns the endpoint with the port that the kernel chose, and locks
// it.
func (srv *server) learnPort(e endpoint, fd int) (endpoint, error) {
	sockaddr, err := unix.Getsockname(fd)
	if err != nil {
		return e, err
	}
	port := 0
	switch sockaddr := sockaddr.(type) {
	case *unix.SockaddrInet4:
		port = sockaddr.Port
	case *unix.SockaddrInet6:
		port = sockaddr.Port
	}
	e.address = fmt.Sprintf("%s:%d", strings.TrimSuffix(e.address, ":0"), port)
	o, err := srv.lock.add(e, newPatience())
	if err == nil && o != nil {
		err = fmt.Errorf("process %d holds the lock of %s without listening there: end it with kill %d", o.pid, e.address, o.pid)
	}
	return e, err
}

// ownSocket gives the socket file to the identity the process takes on, and
// remembers the file as ours.
func (srv *server) ownSocket(path string, id identity) error {
	if id.changes() {
		if err := os.Lchown(path, id.uid, id.gid); err != nil {
			return fmt.Errorf("cannot give the socket %s to user %d: %w: choose another path with -f", path, id.uid, underlying(err))
		}
	}
	var err error
	srv.socket, err = identify(path)
	return err
}

func identify(path string) (fileIdentity, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return fileIdentity{}, fmt.Errorf("cannot look at %s: %w", path, err)
	}
	return fileIdentity{Path: path, Device: stat.Dev, Inode: stat.Ino}, nil
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

// servedBy checks that other magents serve all of the endpoints, which is what
// a launch wants, and not only some, which it cannot mend.
func servedBy(endpoints []endpoint, taken []occupant) error {
	for _, o := range taken {
		if o.silent && !listens(o.endpoint) {
			return fmt.Errorf("process %d holds the lock of %s but does not listen there: end it with kill %d and try again", o.pid, o.endpoint.address, o.pid)
		}
	}
	for _, e := range endpoints {
		found := false
		for _, o := range taken {
			found = found || o.endpoint.same(e)
		}
		if !found {
			o := taken[0]
			return fmt.Errorf("a magent, pid %d, serves %s already but not %s: stop it with kill %d, or ask for the same addresses", o.pid, o.endpoint.address, e.address, o.pid)
		}
	}
	return nil
}

// reportServed says, where somebody reads it, who serves already; scripts get
// no output. A magent that does not answer is worth a warning in any case.
func reportServed(stderr *os.File, taken []occupant) {
	for _, o := range taken {
		if o.silent {
			fmt.Fprintf(stderr, "magent: warning: process %d serves %s already but does not answer: if it hangs, end it with kill -9 %d\n", o.pid, o.endpoint.address, o.pid)
		} else if isTerminal(stderr) {
			fmt.Fprintf(stderr, "magent: pid %d serves %s already, nothing changed\n", o.pid, o.endpoint.address)
		}
	}
}
