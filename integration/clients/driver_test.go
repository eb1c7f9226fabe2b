package clients

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// driverTime bounds one run of a driver, which takes some seconds on an idle machine.
const driverTime = 90 * time.Second

// ready is the line that a driver writes before it waits for one.
const ready = "ready"

// driver is one run of a client's driver against one server.
type driver struct {
	t      *testing.T
	what   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Scanner
	stderr bytes.Buffer
	lines  []string
}

// startDriver starts a driver that talks to addr. It ends with the test.
func startDriver(t *testing.T, what string, argv, env []string, addr, protocol string) *driver {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), driverTime)
	t.Cleanup(cancel)
	d := &driver{t: t, what: what}
	d.cmd = exec.CommandContext(ctx, argv[0], append(append([]string{}, argv[1:]...), host, port, protocol)...)
	// Locales change messages.
	d.cmd.Env = append(append(os.Environ(), "LC_ALL=C.UTF-8"), env...)
	d.cmd.Stderr = &d.stderr
	d.cmd.WaitDelay = time.Second
	if d.stdin, err = d.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.stdout = bufio.NewScanner(stdout)
	d.stdout.Buffer(nil, 1<<20)
	if err := d.cmd.Start(); err != nil {
		t.Fatalf("the driver %s: %v", what, err)
	}
	return d
}

// untilReady reads lines until the driver waits. Where the driver ends instead,
// the test has failed, and it returns false.
func (d *driver) untilReady() bool {
	d.t.Helper()
	for d.stdout.Scan() {
		if d.stdout.Text() == ready {
			return true
		}
		d.lines = append(d.lines, d.stdout.Text())
	}
	err := d.cmd.Wait()
	d.t.Errorf("the driver %s ended too early: %v\n%s\n%s", d.what, err, tail(d.lines), d.stderr.String())
	return false
}

// goOn lets a driver that waits go on, and returns all its lines when it has ended.
func (d *driver) goOn() []string {
	d.t.Helper()
	if _, err := io.WriteString(d.stdin, "go on\n"); err != nil {
		d.t.Fatalf("the driver %s: %v", d.what, err)
	}
	for d.stdout.Scan() {
		d.lines = append(d.lines, d.stdout.Text())
	}
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("the driver %s: %v\n%s\n%s", d.what, err, tail(d.lines), d.stderr.String())
	}
	return d.lines
}

// tail returns the last lines, those that matter when a driver has failed.
func tail(lines []string) string {
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
