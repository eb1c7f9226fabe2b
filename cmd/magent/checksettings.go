package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"magent/backend"
	"magent/proxy"
)

// checkSettings is what --check looks at: all that a start would fail at, as far as
// that can be seen without serving. Warnings go to standard error.
func checkSettings(s *settings, where []endpoint, stderr *os.File) error {
	id, warning, err := resolveUser(s.user, s.group, os.Geteuid(), os.Getegid())
	if err != nil {
		return usageError{err}
	}
	if id.changes() && os.Geteuid() != 0 {
		return usageError{errors.New("only root can become another user or group: start magent as root, or leave out -u and -g")}
	}
	if warning != "" {
		fmt.Fprintf(stderr, "magent: warning: %s\n", warning)
	}
	if err := checkLogFile(s.logFile); err != nil {
		return usageError{err}
	}
	if err := notItself(s, where); err != nil {
		return usageError{err}
	}
	if _, err := proxy.New(s.proxy, warningsTo(stderr)); err != nil {
		return usageError{err}
	}
	return nil
}

// checkLogFile tells whether the log file could be opened, or made.
func checkLogFile(path string) error {
	if path == "" {
		return nil
	}
	err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS)
	if errors.Is(err, fs.ErrNotExist) {
		err = unix.Faccessat(unix.AT_FDCWD, filepath.Dir(path), unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	}
	if info, statErr := os.Stat(path); err == nil && statErr == nil && info.IsDir() {
		err = unix.EISDIR
	}
	if err != nil {
		return cannotOpenLog(path, err)
	}
	return nil
}

// notItself refuses a server that is magent's own address: each request would come
// back to it.
func notItself(s *settings, where []endpoint) error {
	for _, text := range slices.Concat(s.proxy.Primaries, s.proxy.Backups) {
		server, err := backend.ParseAddress(text)
		if err != nil {
			continue // the proxy says what is wrong
		}
		for _, e := range where {
			if isItself(server, e) {
				return fmt.Errorf("the server %s is where magent itself listens: give -s and -b the addresses of memcacheds, or -p another port", text)
			}
		}
	}
	return nil
}

// isItself tells whether a server is an endpoint, as far as the addresses tell: a host
// name may be any.
func isItself(server backend.Address, e endpoint) bool {
	at, err := netip.ParseAddrPort(e.address)
	if e.network != "tcp" || err != nil || server.Port != int(at.Port()) {
		return false
	}
	if server.Host == "localhost" {
		return at.Addr().IsLoopback() || at.Addr().IsUnspecified()
	}
	addr, err := netip.ParseAddr(server.Host)
	if err != nil {
		return false
	}
	addr = addr.Unmap()
	return addr == at.Addr() || at.Addr().IsUnspecified() && addr.IsLoopback() && addr.Is4() == at.Addr().Is4()
}
