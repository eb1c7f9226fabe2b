package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// upgradeVariable tells the next program which descriptor holds the state.
	upgradeVariable = "MAGENT_UPGRADE"
	// directoryVariable tells a program that is asked to check the settings
	// from where relative paths are taken.
	directoryVariable = "MAGENT_START_DIRECTORY"
	// checkTime bounds the answer of a program that is tried out.
	checkTime = 5 * time.Second
)

// errStopping keeps an upgrade from swallowing a signal.
var errStopping = errors.New("a signal to stop came first")

// upgradeState is what the next program has to know of this one, beside its
// arguments and environment.
type upgradeState struct {
	Version    string
	Directory  string
	Executable string
	Detached   bool
	Endpoints  []string // network, space, address
	Locks      []string
	LockFiles  []int
	Socket     fileIdentity
	Proxy      []byte
}

// upgrade replaces this program by the one that its file holds now: the same
// process, with the same connections. On success it does not return.
func (srv *server) upgrade() error {
	if err := srv.tryOut(); err != nil {
		return err
	}
	names, lockFiles, err := srv.lock.handOver()
	if err != nil {
		return err
	}
	frozen, files, err := srv.proxy.Freeze()
	if err == nil {
		err = srv.execute(names, lockFiles, frozen, files)
	}
	if thawErr := srv.proxy.Thaw(); thawErr != nil {
		err = errors.Join(err, thawErr)
	}
	return err
}

// tryOut asks the next program for its version and whether the settings are
// right for it, before anything is given up for it.
func (srv *server) tryOut() error {
	output, err := srv.ask("--version")
	if err != nil || !strings.HasPrefix(string(output), "magent ") {
		return notRun(srv.executable+" --version", output, orNotMagent(err))
	}
	srv.log.Info().Str("from", version).Str("to", firstLine(output)).Msg("upgrading")
	if output, err := srv.ask(append([]string{"--check"}, srv.arguments...)...); err != nil {
		return notRun(srv.executable+" --check", output, err)
	}
	return nil
}

// notRun is the error for a program that could not be run, or failed with some output.
func notRun(command string, output []byte, err error) error {
	if line := firstLine(output); line != "" {
		return fmt.Errorf("%s: %s: %w", command, line, err)
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: %w: let user %d, whom magent runs as, execute it", command, underlying(err), os.Geteuid())
	}
	return fmt.Errorf("%s: %w", command, underlying(err))
}

func orNotMagent(err error) error {
	if err != nil {
		return err
	}
	return errors.New("this is not magent")
}

func (srv *server) ask(arguments ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), checkTime)
	defer cancel()
	command := exec.CommandContext(ctx, srv.executable, arguments...)
	command.Env = append(os.Environ(), directoryVariable+"="+srv.directory)
	command.WaitDelay = time.Second
	return command.CombinedOutput()
}

// firstLine cuts a program's output to what fits in a log line.
func firstLine(output []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(output)), "\n")
	if len(line) > 200 {
		line = line[:200]
	}
	return line
}

// execute hands everything over and becomes the next program. When that fails
// it puts everything back and returns why.
func (srv *server) execute(names []string, lockFiles []int, frozen []byte, files []int) error {
	state := upgradeState{
		Version:    version,
		Directory:  srv.directory,
		Executable: srv.executable,
		Detached:   srv.detached,
		Locks:      names,
		LockFiles:  lockFiles,
		Socket:     srv.socket,
		Proxy:      frozen,
	}
	for _, e := range srv.endpoints {
		state.Endpoints = append(state.Endpoints, e.network+" "+e.address)
	}
	memory, err := keepState(state)
	if err != nil {
		return err
	}
	defer memory.Close()
	kept := append(append([]int{int(memory.Fd())}, lockFiles...), files...)
	closeOnExec()
	defer closeOnExec()
	for _, fd := range kept {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("hand over descriptor %d: %w", fd, err)
		}
	}
	// Until the next program is ready for signals, these two must not end it.
	// Ignored signals stay ignored over exec; caught ones do not stay caught.
	signal.Ignore(syscall.SIGHUP, syscall.SIGUSR2)
	defer signal.Notify(srv.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR2)
	// From here on, one that asks to stop does it without ceremony.
	signal.Reset(syscall.SIGTERM, syscall.SIGINT)
	if srv.pendingStop() {
		return errStopping
	}
	environment := append(os.Environ(), upgradeVariable+"="+strconv.Itoa(int(memory.Fd())))
	environment = append(environment, srv.manager.kept...)
	return fmt.Errorf("start %s: %w", srv.executable, syscall.Exec(srv.executable, os.Args, environment))
}

// keepState writes the state to a file in memory, which survives exec.
func keepState(state upgradeState) (*os.File, error) {
	text, err := json.Marshal(state)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("magent-upgrade", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	memory := os.NewFile(uintptr(fd), "magent-upgrade")
	if _, err := memory.Write(text); err != nil {
		memory.Close()
		return nil, err
	}
	return memory, nil
}

// takeUpgradeState returns what the program before this one has left, nil when
// there was none.
func takeUpgradeState() (*upgradeState, error) {
	text := os.Getenv(upgradeVariable)
	if text == "" {
		return nil, nil
	}
	os.Unsetenv(upgradeVariable)
	// Of all that was handed over, nothing is for the programs started here.
	closeOnExec()
	fd, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("%s is %q: leave it unset", upgradeVariable, text)
	}
	memory := os.NewFile(uintptr(fd), "magent-upgrade")
	defer memory.Close()
	if _, err := memory.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("%s is %q, which holds no state: leave it unset", upgradeVariable, text)
	}
	content, err := io.ReadAll(memory)
	if err != nil {
		return nil, fmt.Errorf("read the state of the program before: %w", err)
	}
	state := &upgradeState{}
	if err := json.Unmarshal(content, state); err != nil {
		return nil, fmt.Errorf("read the state of the program before: %w", err)
	}
	return state, nil
}

// adopt is start for a program that takes the place of another.
func (srv *server) adopt(state *upgradeState) error {
	srv.socket = state.Socket
	asked := srv.endpoints
	srv.endpoints = nil
	for _, text := range state.Endpoints {
		network, address, _ := strings.Cut(text, " ")
		srv.endpoints = append(srv.endpoints, endpoint{network: network, address: address})
	}
	lock, err := adoptLock(state.Locks, state.LockFiles)
	if err != nil {
		return err
	}
	srv.lock = lock
	srv.keepInFlight()
	if err := srv.proxy.Adopt(state.Proxy); err != nil {
		return err
	}
	srv.answerOnLock()
	srv.logServing("serving")
	for _, e := range asked {
		if e.lockName() != "" && !e.optional && !containsEndpoint(srv.endpoints, e) {
			srv.log.Warn().Str("address", e.address).Msg("an address that was added is listened on with a restart only")
		}
	}
	return nil
}

func containsEndpoint(list []endpoint, e endpoint) bool {
	for _, other := range list {
		if other.same(e) {
			return true
		}
	}
	return false
}
