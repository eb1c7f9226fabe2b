package main

import (
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// The variables by which a service manager says that it wants to be told, see
// sd_notify(3) and sd_watchdog_enabled(3).
const (
	managerVariable     = "NOTIFY_SOCKET"
	watchdogVariable    = "WATCHDOG_USEC"
	watchdogPidVariable = "WATCHDOG_PID"
)

// managerTime bounds the wait for a service manager that does not read.
const managerTime = time.Second

// manager is the service manager that started magent, such as systemd. It is
// told what this process does; nothing depends on whether it hears that.
//
// It is never told a MAINPID: an upgrade keeps the process and with it the
// number, which in a container's own namespace would mean another process.
type manager struct {
	socket   string        // "" when there is none to tell
	watchdog time.Duration // the longest silence it puts up with; 0 for any
	kept     []string      // what the next program needs in its environment
	log      zerolog.Logger
	failed   atomic.Bool // so that the log says it once
}

// takeManager takes what the service manager has left in the environment out
// of it: programs that are started here must not speak for this one.
func takeManager() (m *manager, warning string) {
	m = &manager{log: zerolog.Nop()}
	value := map[string]string{}
	for _, name := range []string{managerVariable, watchdogVariable, watchdogPidVariable} {
		if text, set := os.LookupEnv(name); set {
			value[name] = text
			m.kept = append(m.kept, name+"="+text)
			os.Unsetenv(name)
		}
	}
	socket := value[managerVariable]
	if socket == "" {
		return m, ""
	}
	if socket[0] != '/' && socket[0] != '@' || len(socket) < 2 {
		return m, fmt.Sprintf("%s is %q, and the service manager is told nothing: it must be a path, or a name behind @", managerVariable, socket)
	}
	m.socket = socket
	text := value[watchdogVariable]
	if pid := value[watchdogPidVariable]; text == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return m, "" // another process is watched, or none
	}
	microseconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || microseconds <= 0 {
		return m, fmt.Sprintf("%s is %q, and the service manager's watchdog is told nothing: it must be a number of microseconds", watchdogVariable, text)
	}
	m.watchdog = time.Duration(min(microseconds, math.MaxInt64/1000)) * time.Microsecond
	return m, ""
}

// ready says that magent serves, after a start, a reload or an upgrade.
func (m *manager) ready(status string) { m.tell("READY=1", "STATUS="+status) }

// reloading says that ready follows. The time tells the manager that this is
// the answer to its signal and not to an earlier one.
func (m *manager) reloading(status string) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return
	}
	m.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000), "STATUS="+status)
}

// stopping says that the end has begun.
func (m *manager) stopping(status string) { m.tell("STOPPING=1", "STATUS="+status) }

// tell sends lines in one message. Only the first failure is a warning.
func (m *manager) tell(lines ...string) {
	if m.socket == "" {
		return
	}
	if err := m.send(strings.Join(lines, "\n")); err != nil {
		level := zerolog.WarnLevel
		if m.failed.Swap(true) {
			level = zerolog.DebugLevel
		}
		m.log.WithLevel(level).Err(err).Str("socket", m.socket).Msg("cannot tell the service manager; magent goes on")
	}
}

// send opens the socket anew each time: a manager may make its socket anew.
func (m *manager) send(message string) error {
	// The net package knows of the names behind @.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		return reason(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(managerTime))
	_, err = conn.Write([]byte(message))
	return reason(err)
}

// watch tells the manager's watchdog that magent lives, each time that all
// event loops have turned: a timer alone would go on while they hang. turn
// calls back when they have. The returned function ends that.
func (m *manager) watch(turn func(done func())) (end func()) {
	if m.watchdog == 0 {
		return func() {}
	}
	return everyTurn(m.watchdog, turn, func() { m.tell("WATCHDOG=1") })
}

// everyTurn calls alive some times within each period, as long as the loops
// turn.
func everyTurn(period time.Duration, turn func(done func()), alive func()) (end func()) {
	quit, ended := make(chan struct{}), make(chan struct{})
	turned := make(chan struct{}, 1)
	done := func() {
		select {
		case turned <- struct{}{}:
		default:
		}
	}
	go func() {
		defer close(ended)
		// Half would do; so one may come late.
		ticker := time.NewTicker(max(period/4, time.Millisecond))
		defer ticker.Stop()
		turn(done)
		for {
			select {
			case <-ticker.C:
				turn(done)
			case <-turned:
				alive()
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-ended
	}
}
