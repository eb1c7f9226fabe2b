package main

import (
	"fmt"
	"syscall"

	"magent/proxy"
)

// spareFiles is the room for what is neither a client nor a server connection:
// listeners, epoll and event descriptors, the log, probes.
const spareFiles = 64

// fitFileLimit raises the limit on open files for the connections that the
// options allow. Where it cannot be raised enough, it lowers MaxClients to what
// fits and says so in the warning; an error means that not one client fits.
func fitFileLimit(o *proxy.Options) (warning string, err error) {
	limit, err := raiseFileLimit(uint64(o.MaxClients) + otherFiles(o))
	if err != nil {
		return "", fmt.Errorf("cannot read the limit on open files: %w", err)
	}
	return fit(o, limit)
}

// otherFiles is how many files may be open that are not clients.
func otherFiles(o *proxy.Options) uint64 {
	return uint64(spareFiles + 4*o.Threads + (len(o.Primaries)+len(o.Backups))*o.MaxServerConnections)
}

// fit lowers MaxClients to what a limit on open files allows.
func fit(o *proxy.Options, limit uint64) (warning string, err error) {
	others := otherFiles(o)
	if limit >= uint64(o.MaxClients)+others {
		return "", nil
	}
	if limit <= others {
		return "", fmt.Errorf("the limit on open files, %d, leaves no room for clients beside %d other files: raise it with ulimit -n, or lower -i", limit, others)
	}
	asked := o.MaxClients
	o.MaxClients = int(limit - others)
	return fmt.Sprintf("the limit on open files, %d, is too low for %d clients: serving up to %d; raise it with ulimit -n", limit, asked, o.MaxClients), nil
}

// raiseFileLimit raises the limit to need, or as near as it can, and returns
// what holds then. It sets the limit even where that is enough, because the Go
// runtime gives a program that exec starts the lower limit this one began with
// unless it was set explicitly.
func raiseFileLimit(need uint64) (uint64, error) {
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		return 0, err
	}
	want := syscall.Rlimit{Cur: max(need, now.Cur), Max: max(need, now.Max)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want) == nil {
		return want.Cur, nil
	}
	want = syscall.Rlimit{Cur: now.Max, Max: now.Max}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want) == nil {
		return want.Cur, nil
	}
	return now.Cur, nil
}
