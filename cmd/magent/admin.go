package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// adminTimeout bounds a subcommand, from the look-up of a host name to the
	// last line of the answer.
	adminTimeout = 5 * time.Second
	// adminAnswer is the most bytes of an answer that are read.
	adminAnswer = 64 << 10
)

// subcommand asks the proxy for something, by one command of the same name in
// memcached's text protocol, and shows the answer.
type subcommand struct {
	name    string
	operand string // what its operand is called in help; "" for none
	check   func(operand string) error
	show    func(w io.Writer, stats map[string]string) error
}

// subcommandNamed returns the subcommand of a name, nil when there is none.
func subcommandNamed(name string) *subcommand {
	for _, c := range []subcommand{
		{name: "explain", operand: "KEY", check: checkKey, show: showExplanation},
		{name: "resync", show: func(w io.Writer, _ map[string]string) error {
			_, err := fmt.Fprintln(w, `the resync has begun, or begins when the servers can be reached; "stats servers" shows how far it is`)
			return err
		}},
	} {
		if c.name == name {
			return &c
		}
	}
	return nil
}

// checkOperands says what is wrong with the words behind the subcommand's name.
func (c *subcommand) checkOperands(operands []string) error {
	switch {
	case c.operand == "" && len(operands) > 0:
		return fmt.Errorf("unexpected argument %q: write magent %s, and flags only", operands[0], c.name)
	case c.operand != "" && len(operands) == 0:
		return fmt.Errorf("magent %s needs a %s: write magent %s %s", c.name, strings.ToLower(c.operand), c.name, c.operand)
	case len(operands) > 1:
		return fmt.Errorf("unexpected argument %q: magent %s takes one %s", operands[1], c.name, strings.ToLower(c.operand))
	case c.check != nil:
		return c.check(operands[0])
	}
	return nil
}

// administer runs the subcommand that was asked for on the magent that the
// settings name.
func administer(asked request, s *settings, stdout io.Writer) error {
	where, err := adminEndpoint(asked, s)
	if err != nil {
		return usageError{err}
	}
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	line := strings.Join(append([]string{"magent", asked.subcommand.name}, asked.operands...), " ")
	stats, err := askProxy(ctx, where, line)
	if err != nil {
		return err
	}
	return asked.subcommand.show(stdout, stats)
}

// adminEndpoint is where the magent listens that a launch with the same settings
// would be: its Unix socket, which no other program can have, or its first
// address. An address given as a flag goes before a socket that is not.
func adminEndpoint(asked request, s *settings) (endpoint, error) {
	if s.socket != "" && (s.port == 0 || asked.has("socket") || !asked.has("listen") && !asked.has("port")) {
		return endpoint{network: "unix", address: s.socket}, nil
	}
	if s.port == 0 {
		return endpoint{}, errors.New("nothing says where magent listens: give -p its port, or -f its socket")
	}
	host, port := "127.0.0.1", s.port
	if listen := withoutEmpty(s.listen.Value()); len(listen) > 0 {
		var err error
		if host, port, err = splitListen(listen[0], port); err != nil {
			return endpoint{}, err
		}
	}
	if port == anyPort {
		return endpoint{}, errors.New("-p -1 does not say at which port magent listens: give the one that its log tells")
	}
	// All addresses are the loopback's too.
	if addr, err := netip.ParseAddr(host); err == nil && addr.IsUnspecified() {
		host = "127.0.0.1"
		if addr.Is6() {
			host = "::1"
		}
	}
	return endpoint{network: "tcp", address: net.JoinHostPort(host, strconv.Itoa(port))}, nil
}

// askProxy sends one line to the magent at an endpoint and returns what its STAT
// lines say; none when the answer is OK. The context's end bounds all of it.
func askProxy(ctx context.Context, where endpoint, line string) (map[string]string, error) {
	conn, err := new(net.Dialer).DialContext(ctx, where.network, where.address)
	if err != nil {
		return nil, dialProblem(where, err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if _, err := io.WriteString(conn, line+"\r\n"); err != nil && !isReset(err) {
		// What closed the connection may have said why.
		return nil, readProblem(where, err)
	}
	stats := map[string]string{}
	limited := &io.LimitedReader{R: conn, N: adminAnswer}
	answer := bufio.NewReader(limited)
	for {
		text, err := answer.ReadString('\n')
		if err != nil {
			if limited.N == 0 {
				return nil, fmt.Errorf("%s sends more than %d bytes: it is no magent: %s", where.address, adminAnswer, nameIt)
			}
			return nil, readProblem(where, err)
		}
		text = strings.TrimRight(text, "\r\n")
		switch {
		case text == "END" || text == "OK":
			return stats, nil
		case strings.HasPrefix(text, "STAT "):
			name, value, _ := strings.Cut(text[len("STAT "):], " ")
			stats[name] = value
		default:
			return nil, answerProblem(where, text)
		}
	}
}

// nameIt says how to reach another magent.
const nameIt = "name the magent with -l ADDRESS and -p PORT, or with -f FILE"

// dialProblem says why the magent cannot be reached, and how to mend that.
func dialProblem(where endpoint, err error) error {
	var name *net.DNSError
	switch {
	case errors.As(err, &name):
		return fmt.Errorf("cannot find the address of %q: %s: give -l an IP address, or mend the name", name.Name, name.Err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("cannot connect to %s: %w: run this as the user that magent runs as, or as root", where.address, reason(err))
	case isTimeout(err):
		return fmt.Errorf("cannot connect to %s within %s: see whether that address can be reached, or %s", where.address, formatDuration(adminTimeout), nameIt)
	}
	return fmt.Errorf("cannot connect to %s: %w: start magent there, or %s", where.address, reason(err), nameIt)
}

// readProblem says why the answer did not come.
func readProblem(where endpoint, err error) error {
	if isTimeout(err) {
		return fmt.Errorf("%s has not answered within %s: see whether magent listens there, or %s", where.address, formatDuration(adminTimeout), nameIt)
	}
	if errors.Is(err, io.EOF) || isReset(err) {
		return fmt.Errorf("%s closed the connection without an answer: try again, or %s", where.address, nameIt)
	}
	return fmt.Errorf("no answer from %s: %w: try again, or %s", where.address, reason(err), nameIt)
}

// answerProblem turns an error that the other side answers into one of ours.
func answerProblem(where endpoint, answer string) error {
	switch word, text, _ := strings.Cut(answer, " "); word {
	case "ERROR":
		return fmt.Errorf("what listens at %s does not know this command: it is memcached or an older magent: %s", where.address, nameIt)
	case "CLIENT_ERROR":
		return fmt.Errorf("the magent at %s refuses this: %s", where.address, printable(text))
	case "SERVER_ERROR":
		return fmt.Errorf("the magent at %s cannot do this now: %s: its log and \"stats servers\" say more", where.address, printable(text))
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
