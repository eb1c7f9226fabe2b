package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// adminTimeout bounds a subcommand, from the look-up of a host name to the
	// last line of the answer, unless --timeout does.
	adminTimeout = 5 * time.Second
	// checkTimeout is the same for check: keepalived runs it every two seconds or
	// more often, and takes one that has not ended by then for failed.
	checkTimeout = time.Second
)

// subcommand asks a running magent something and shows the answers.
type subcommand struct {
	name      string
	operand   string // what its operand is called in help; "" for none
	check     func(operand string) error
	questions []string // lines of memcached's text protocol; the operand goes behind the last one
	timeout   time.Duration
	here      bool // only a magent of this machine is asked
	show      func(w io.Writer, s *settings, where endpoint, r *reply) error
}

// subcommands are all there are.
func subcommands() []subcommand {
	about := []string{"stats", "stats settings", "stats servers"}
	return []subcommand{
		{name: "check", questions: about, timeout: checkTimeout, here: true, show: showCheck},
		{name: "status", questions: about, timeout: adminTimeout, show: showStatus},
		{name: "explain", operand: "KEY", check: checkKey, questions: []string{"magent explain"}, timeout: adminTimeout,
			show: func(w io.Writer, _ *settings, _ endpoint, r *reply) error {
				return showExplanation(w, r.answers[0].named())
			}},
		{name: "resync", questions: []string{"magent resync"}, timeout: adminTimeout,
			show: func(w io.Writer, _ *settings, _ endpoint, r *reply) error { return showResync(w, r.answers[0]) }},
	}
}

// subcommandNamed returns the subcommand of a name, nil when there is none.
func subcommandNamed(name string) *subcommand {
	for _, c := range subcommands() {
		if c.name == name {
			return &c
		}
	}
	return nil
}

// commandNames are the words that ask for something else than to serve.
func commandNames() []string {
	names := []string{"help", "version"}
	for _, c := range subcommands() {
		names = append(names, c.name)
	}
	return names
}

// showResync says that the resync has begun, and which servers it leaves out.
func showResync(w io.Writer, leftOut answer) error {
	text := "the resync has begun"
	for _, s := range leftOut {
		text += fmt.Sprintf("; %s is left as it is, because a twin of it is out: ask again when that is back", printable(s.value))
	}
	_, err := fmt.Fprintln(w, text+`; "magent status" shows how far it is`)
	return err
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

// checkFlags refuses flags that only some subcommands have. A launch has none of
// them.
func (r request) checkFlags() error {
	switch {
	case r.subcommand == nil && r.has("timeout"):
		return errors.New("--timeout is for a command that asks a running magent, such as magent check: leave it out")
	case r.has("json") && (r.subcommand == nil || r.subcommand.name != "status"):
		return errors.New("--json is for magent status: leave it out")
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
	c := asked.subcommand
	q := inquiry{where: where, within: c.timeout, here: c.here, authFile: s.proxy.AuthFile}
	if s.timeout > 0 {
		q.within = s.timeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), q.within)
	defer cancel()
	questions := slices.Clone(c.questions)
	if len(asked.operands) > 0 {
		questions[len(questions)-1] += " " + asked.operands[0]
	}
	r, err := q.ask(ctx, questions)
	if errors.Is(err, os.ErrPermission) && where.network == "unix" && s.port > 0 {
		// Its socket is not for this user, but its port is for all.
		if q.where, err = addressEndpoint(s); err != nil {
			return usageError{err}
		}
		r, err = q.ask(ctx, questions)
	}
	if err != nil {
		return err
	}
	return c.show(stdout, s, q.where, r)
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
	return addressEndpoint(s)
}

// addressEndpoint is the first address at which such a magent listens.
func addressEndpoint(s *settings) (endpoint, error) {
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
