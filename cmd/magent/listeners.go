package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"magent/proxy/engine"
)

const (
	// portWait bounds the wait for the port of a magent that is ending.
	portWait = time.Second
	// portRetry is the pause between two tries.
	portRetry = 5 * time.Millisecond
)

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
		switch {
		case errors.Is(err, unix.EACCES) && e.network == "tcp":
			return fd, nil, fmt.Errorf("%w: ports below 1024 are for root: choose another with -p, or start magent as root", err)
		case errors.Is(err, unix.EACCES):
			return fd, nil, fmt.Errorf("%w: choose a path with -f where this user may make files", err)
		case !errors.Is(err, unix.EADDRINUSE):
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

// fileIdentity tells a file from another of the same name.
type fileIdentity struct {
	Path          string
	Device, Inode uint64
}
