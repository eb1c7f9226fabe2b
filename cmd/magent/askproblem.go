package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// nameIt says how to reach another magent.
const nameIt = "name the magent with -l ADDRESS and -p PORT, or with -f FILE"

// dialProblem says why the magent cannot be reached, and how to mend that.
func (q *inquiry) dialProblem(where endpoint, err error) error {
	var name *net.DNSError
	switch {
	case errors.As(err, &name):
		return fmt.Errorf("cannot find the address of %q: %s: give -l an IP address, or mend the name", name.Name, name.Err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("cannot connect to %s: %w: run this as the user that magent runs as, or as root", where.address, reason(err))
	case isTimeout(err):
		return fmt.Errorf("cannot connect to %s within %s: see whether that address can be reached, or %s", where.address, formatDuration(q.within), nameIt)
	}
	return fmt.Errorf("cannot connect to %s: %w: start magent there, or %s", where.address, reason(err), nameIt)
}

// readProblem says why the answer did not come.
func (q *inquiry) readProblem(where endpoint, err error) error {
	if isTimeout(err) {
		if pid := lockHolder(where); pid != 0 {
			return q.hangs(where, pid)
		}
		return fmt.Errorf("%s has not answered within %s: see whether magent listens there, or %s", where.address, formatDuration(q.within), nameIt)
	}
	if errors.Is(err, io.EOF) || isReset(err) {
		return fmt.Errorf("%s %w: try again, or %s", where.address, errClosed, nameIt)
	}
	return fmt.Errorf("no answer from %s: %w: try again, or %s", where.address, reason(err), nameIt)
}

// hangs is the error for a magent that does not answer.
func (q *inquiry) hangs(where endpoint, pid int) error {
	return fmt.Errorf("the magent at %s, pid %d, has not answered within %s: it hangs, or is only starting: see its log, or end it with kill -9 %d and start it again", where.address, pid, formatDuration(q.within), pid)
}

// answerProblem turns an error that the other side answers into one of ours.
func answerProblem(where endpoint, answer string) error {
	switch word, text, _ := strings.Cut(answer, " "); word {
	case "ERROR":
		return fmt.Errorf("what listens at %s does not know this command: it is memcached or an older magent: %s", where.address, nameIt)
	case "CLIENT_ERROR":
		return fmt.Errorf("the magent at %s refuses this: %s", where.address, printable(text))
	case "SERVER_ERROR":
		if text == "out of connections" {
			return fmt.Errorf("the magent at %s turns new clients away: %w: raise --max-clients, or end some clients", where.address, errFull)
		}
		return fmt.Errorf("the magent at %s cannot do this now: %s: its log and \"magent status\" say more", where.address, printable(text))
	}
	if len(answer) > 60 {
		answer = answer[:60]
	}
	return fmt.Errorf("what listens at %s is no magent, it answers %s: %s", where.address, strconv.Quote(answer), nameIt)
}

// reason is an error of the network without the addresses, which ours name.
func reason(err error) error {
	var call *os.SyscallError
	if errors.As(err, &call) {
		return call.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// isReset says whether the other side has closed the connection for good.
func isReset(err error) bool {
	return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}
