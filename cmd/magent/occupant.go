package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"magent/backend"
)

// occupant is the magent that holds the lock of an endpoint.
type occupant struct {
	endpoint endpoint
	pid      int
	silent   bool // holds the lock but did not answer in time
}

// survey asks who serves each endpoint already, itself or by listening on all
// addresses. It holds nothing meanwhile: of one that just starts or ends it may
// find some endpoints only, and claim has to find out.
func survey(endpoints []endpoint, p patience) []occupant {
	var taken []occupant
	for _, e := range endpoints {
		if o := askFor(e, p); o != nil {
			taken = append(taken, *o)
		}
	}
	return taken
}

func askFor(e endpoint, p patience) *occupant {
	if e.lockName() == "" {
		return nil
	}
	if o := ask(e, p); o != nil {
		return o
	}
	for _, wider := range e.covers() {
		if o := ask(wider, p); o != nil {
			o.endpoint = e
			return o
		}
	}
	return nil
}

// ask connects to the lock of an endpoint and waits for the answer of its
// holder. It returns nil when nobody holds it, or whoever held it is gone.
func ask(e endpoint, p patience) *occupant {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: e.lockName(), Net: "unix"})
	if err != nil {
		if errors.Is(err, unix.EAGAIN) {
			// So many ask that the queue is full: the holder does not answer.
			return &occupant{endpoint: e, silent: true}
		}
		return nil
	}
	defer conn.Close()
	o := &occupant{endpoint: e, pid: peer(conn)}
	line, err := readLine(conn, p.answer)
	if errors.Is(err, os.ErrDeadlineExceeded) && !listens(e) {
		line, err = readLine(conn, p.start)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		o.silent = true
	case err != nil:
		return nil
	case !strings.HasPrefix(line, "magent ") || !strings.HasSuffix(line, " serving\n"):
		o.silent = true
	}
	return o
}

// readLine reads one line, which comes in one piece if it comes.
func readLine(conn *net.UnixConn, deadline time.Time) (string, error) {
	if err := conn.SetReadDeadline(deadline); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

// peer returns the process that bound the socket at the other end, 0 when that
// cannot be learnt.
func peer(conn *net.UnixConn) int {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	if err != nil {
		return 0
	}
	return pid
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
// no output. A magent that does not answer, or has other servers than were asked for,
// is worth a warning in any case.
func reportServed(stderr *os.File, s *settings, taken []occupant) {
	for i, o := range taken {
		if o.silent {
			fmt.Fprintf(stderr, "magent: warning: process %d serves %s already but does not answer: if it hangs, end it with kill -9 %d\n", o.pid, o.endpoint.address, o.pid)
		} else if servers := otherServers(s, o); i == 0 && servers != "" {
			fmt.Fprintf(stderr, "magent: warning: pid %d serves %s already with other servers (%s), and nothing is changed: end it with kill %d first to have these\n", o.pid, o.endpoint.address, servers, o.pid)
		} else if isTerminal(stderr) {
			fmt.Fprintf(stderr, "magent: pid %d serves %s already, nothing changed\n", o.pid, o.endpoint.address)
		}
	}
}

// otherServers are the servers of the magent that serves, as flags, when they are not
// those of the settings; "" when they are, or it does not tell.
func otherServers(s *settings, o occupant) string {
	ctx, cancel := context.WithTimeout(context.Background(), lockAnswerTime)
	defer cancel()
	q := inquiry{where: o.endpoint, within: lockAnswerTime, authFile: s.proxy.AuthFile}
	answers, err := q.askLocks(ctx, []endpoint{o.endpoint}, []string{"stats settings"})
	if err != nil {
		return ""
	}
	var flags, primaries, backups []string
	for _, line := range answers[0] {
		switch line.name {
		case "primary":
			flags, primaries = append(flags, "-s "+line.value), append(primaries, line.value)
		case "backup":
			flags, backups = append(flags, "-b "+line.value), append(backups, line.value)
		}
	}
	if sameServers(primaries, s.proxy.Primaries) && sameServers(backups, s.proxy.Backups) {
		return ""
	}
	return strings.Join(flags, " ")
}

// sameServers tells whether two lists name the same servers, whatever they leave out of
// an address.
func sameServers(a, b []string) bool {
	return slices.EqualFunc(a, b, func(a, b string) bool {
		first, errFirst := backend.ParseAddress(a)
		second, errSecond := backend.ParseAddress(b)
		return errFirst == nil && errSecond == nil && first == second
	})
}
