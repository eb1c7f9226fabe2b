package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"magent/proxy/protocol"
)

const (
	// adminAnswer is the most bytes of the answers that are read: those about
	// some thousands of servers.
	adminAnswer = 1 << 20
	// lockTries is how often a magent is asked on its lock that closes the
	// connection: it may be changing its program, or have too many guests.
	lockTries = 3
	// lockPause is the time between the tries.
	lockPause = 20 * time.Millisecond
)

var (
	// errNoLock says that no magent of this machine has the lock.
	errNoLock = errors.New("no magent serves there")
	// errFull says that a magent takes no more clients.
	errFull = errors.New("out of connections")
	// errClosed says that the other side had no answer.
	errClosed = errors.New("closed the connection without an answer")
)

// inquiry is what a subcommand asks one magent.
type inquiry struct {
	where  endpoint // its address may be a host name
	within time.Duration
	here   bool // only a magent of this machine is asked

	authFile string // users, the first of which asks where it has to prove itself; "" for none
}

// reply is what a magent has answered.
type reply struct {
	answers []answer // one to each question
	here    bool     // the magent is on this machine
	full    bool     // it takes no more clients
}

// answer is what the STAT lines of one answer say, in their order; nothing when
// the answer was OK.
type answer []stat

type stat struct{ name, value string }

// named returns the values by their names.
func (a answer) named() map[string]string {
	values := make(map[string]string, len(a))
	for _, s := range a {
		values[s.name] = s.value
	}
	return values
}

// ask sends the questions to the magent. The end of the context bounds all of it.
//
// An address that this machine does not have now, such as that of keepalived on
// the node that stands by, leads to another machine. So the magent of this
// machine is asked on its lock; only if there is none, another machine's.
func (q *inquiry) ask(ctx context.Context, questions []string) (*reply, error) {
	if q.where.network == "unix" {
		answers, err := q.askAt(ctx, q.where, questions)
		return &reply{answers: answers, here: true}, err
	}
	places, err := q.places(ctx)
	if err != nil {
		return nil, q.dialProblem(q.where, err)
	}
	own := slices.DeleteFunc(slices.Clone(places), func(e endpoint) bool { return !isHere(e) })
	if len(own) > 0 {
		return q.askOwn(ctx, own, questions)
	}
	answers, err := q.askLocks(ctx, places, questions)
	if !errors.Is(err, errNoLock) {
		return &reply{answers: answers, here: true}, err
	}
	if q.here {
		return nil, fmt.Errorf("no magent on this machine listens at %s, an address that this machine does not have now: start magent here, or %s", q.where.address, nameIt)
	}
	answers, err = q.askAt(ctx, q.where, questions)
	return &reply{answers: answers}, err
}

// places are the endpoints that a host name stands for.
func (q *inquiry) places(ctx context.Context) ([]endpoint, error) {
	host, port, err := net.SplitHostPort(q.where.address)
	if err != nil {
		return nil, err
	}
	addrs := []netip.Addr{}
	if addr, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, addr)
	} else if addrs, err = systemResolver(ctx, host); err != nil {
		return nil, err
	}
	var places []endpoint
	for _, addr := range addrs {
		places = append(places, endpoint{network: "tcp", address: net.JoinHostPort(addr.Unmap().String(), port)})
	}
	return places, nil
}

// isHere says whether an address is one of this machine's now.
func isHere(e endpoint) bool {
	at, err := netip.ParseAddrPort(e.address)
	if err != nil {
		return false
	}
	addr := at.Addr().WithZone("")
	if addr.IsLoopback() {
		return true
	}
	own, _ := net.InterfaceAddrs() // without them it is asked on its lock
	for _, a := range own {
		if prefix, ok := a.(*net.IPNet); ok {
			if mine, ok := netip.AddrFromSlice(prefix.IP); ok && mine.Unmap() == addr {
				return true
			}
		}
	}
	return false
}

// askOwn asks at addresses of this machine, the first of them that takes the
// connection. A magent that takes no more clients, or does not know who asks, is asked on
// its lock, where the kernel says who it is.
func (q *inquiry) askOwn(ctx context.Context, places []endpoint, questions []string) (*reply, error) {
	var problem error
	for _, place := range places {
		answers, err := q.askAt(ctx, place, questions)
		if err == nil {
			return &reply{answers: answers, here: true}, nil
		}
		if full := errors.Is(err, errFull); full || errors.Is(err, errUnproven) {
			if answers, err := q.askLocks(ctx, []endpoint{place}, questions); err == nil {
				return &reply{answers: answers, here: true, full: full}, nil
			}
		}
		if problem == nil {
			problem = err
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			break
		}
	}
	return nil, problem
}

// askAt asks at an address or a Unix socket. A password is sent only where it is
// asked for: another server would store it as a value.
func (q *inquiry) askAt(ctx context.Context, where endpoint, questions []string) ([]answer, error) {
	answers, err := q.askOnce(ctx, where, "", questions)
	if !errors.Is(err, errUnproven) {
		return answers, err
	}
	login, loginErr := loginFrom(q.authFile)
	if loginErr != nil {
		return nil, err
	}
	return q.askOnce(ctx, where, string(protocol.AppendAuth(nil, askKey, *login)), questions)
}

// askOnce is one connection of askAt, on which proof goes first.
func (q *inquiry) askOnce(ctx context.Context, where endpoint, proof string, questions []string) ([]answer, error) {
	conn, err := new(net.Dialer).DialContext(ctx, where.network, where.address)
	if err != nil {
		return nil, q.dialProblem(where, err)
	}
	defer conn.Close()
	return q.exchange(ctx, conn, where, proof, questions)
}

// askLocks asks the magent of this machine that has the lock of one of the
// addresses, or that of all addresses.
func (q *inquiry) askLocks(ctx context.Context, places []endpoint, questions []string) ([]answer, error) {
	for _, place := range places {
		for _, e := range append([]endpoint{place}, place.covers()...) {
			answers, err := q.askLock(ctx, e, questions)
			if !errors.Is(err, errNoLock) {
				return answers, err
			}
		}
	}
	return nil, errNoLock
}

// askLock asks who has the lock of an endpoint.
func (q *inquiry) askLock(ctx context.Context, e endpoint, questions []string) ([]answer, error) {
	for try := 1; ; try++ {
		answers, err := q.tryLock(ctx, e, "", questions)
		if errors.Is(err, errUnproven) {
			if login, loginErr := loginFrom(q.authFile); loginErr == nil {
				answers, err = q.tryLock(ctx, e, authQuestion+login.User+" "+login.Password+"\r\n", questions)
			}
		}
		if !errors.Is(err, errClosed) || try == lockTries {
			return answers, err
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// tryLock is one try.
func (q *inquiry) tryLock(ctx context.Context, e endpoint, proof string, questions []string) ([]answer, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: e.lockName(), Net: "unix"})
	if errors.Is(err, unix.EAGAIN) { // so many ask that the queue is full
		return nil, fmt.Errorf("the magent at %s takes no questions: it hangs: see its log, or end it and start it again", e.address)
	}
	if err != nil {
		return nil, errNoLock
	}
	defer conn.Close()
	return q.exchange(ctx, conn, e, proof, questions)
}

// lockHolder returns the process that has the lock of an endpoint, 0 for none.
func lockHolder(where endpoint) int {
	for _, e := range append([]endpoint{where}, where.covers()...) {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: e.lockName(), Net: "unix"})
		if err == nil {
			pid := peer(conn)
			conn.Close()
			return pid
		}
	}
	return 0
}

// exchange sends all questions at once, behind the proof of who asks, and returns
// their answers.
func (q *inquiry) exchange(ctx context.Context, conn net.Conn, where endpoint, proof string, questions []string) ([]answer, error) {
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if _, err := io.WriteString(conn, proof+strings.Join(questions, "\r\n")+"\r\n"); err != nil && !isReset(err) {
		// What closed the connection may have said why.
		return nil, q.readProblem(where, err)
	}
	limited := &io.LimitedReader{R: conn, N: adminAnswer}
	lines := bufio.NewReader(limited)
	answers := make([]answer, len(questions))
	proving := proof != ""
	for i := 0; i < len(questions); {
		text, err := lines.ReadString('\n')
		if err != nil {
			if limited.N == 0 {
				return nil, fmt.Errorf("%s sends more than %d bytes: it is no magent: %s", where.address, adminAnswer, nameIt)
			}
			return nil, q.readProblem(where, err)
		}
		text = strings.TrimRight(text, "\r\n")
		switch {
		case strings.HasPrefix(text, "magent "): // who answers on a lock says so first
		case proving && (text == "STORED" || text == "OK"):
			proving = false
		case text == protocol.Unauthenticated || text+"\r\n" == string(protocol.AuthFailure):
			return nil, q.unproven(where)
		case text == "END" || text == "OK":
			i++
		case strings.HasPrefix(text, "STAT "):
			name, value, _ := strings.Cut(text[len("STAT "):], " ")
			answers[i] = append(answers[i], stat{name, value})
		default:
			return nil, answerProblem(where, text)
		}
	}
	return answers, nil
}
