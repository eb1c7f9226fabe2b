package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/rs/zerolog"

	"magent/proxy"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// usageError is a mistake in what was asked for. It is shown with the short
// usage.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run does what the arguments ask for and returns the exit code: 0, or 1 with
// one line on stderr that says what is wrong.
func run(arguments []string, stdout, stderr *os.File) int {
	nameProcess()
	code, err := launch(arguments, stdout, stderr)
	if err == nil {
		return code
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintf(stderr, "magent: %v\n", oneLine(err))
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprint(stderr, shortUsage)
	}
	return 1
}

func launch(arguments []string, stdout, stderr *os.File) (int, error) {
	state, err := takeUpgradeState()
	if err != nil {
		return 1, err
	}
	directory := startDirectory(state)
	s, asked, err := parse(arguments, directory)
	switch {
	case asked.help:
		fmt.Fprint(stdout, helpPage(table(defaultSettings())))
		return 0, nil
	case asked.version:
		fmt.Fprintf(stdout, "magent %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return 0, nil
	case err != nil:
		return 1, usageError{err}
	case asked.subcommand != nil:
		if err := administer(asked, s, stdout); err != nil {
			return 1, err
		}
		return 0, nil
	}
	where, err := endpoints(s, systemResolver)
	if state != nil {
		// The listeners are there: a name that cannot be resolved now is no
		// reason to give them up.
		return takeOver(s, arguments, where, state, stderr)
	}
	if err != nil {
		return 1, usageError{err}
	}
	if s.check {
		if err := checkSettings(s, where, stderr); err != nil {
			return 1, err
		}
		fmt.Fprintln(stdout, "magent: the settings are right")
		return 0, nil
	}
	if err := notItself(s, where); err != nil {
		return 1, usageError{err}
	}
	executable, err := programPath(directory)
	if err != nil {
		return 1, err
	}
	detached := takeDetachedMark()
	if !detached && !s.foreground {
		// The process in the background would find it too, only later.
		if _, err := proxy.New(s.proxy, zerolog.Nop()); err != nil {
			return 1, usageError{err}
		}
	}
	if !detached {
		// The common case of a script that launches magent every two seconds.
		if taken := survey(where, newPatience()); len(taken) == len(where) {
			if err := servedBy(where, taken); err != nil {
				return 1, err
			}
			reportServed(stderr, s, taken)
			return 0, nil
		}
		if !s.foreground {
			return 0, detach(executable, stderr)
		}
	}
	return serve(s, arguments, directory, executable, where, detached, stderr)
}

// startDirectory is where relative paths start: the directory in which magent
// was launched, wherever the process has moved since.
func startDirectory(state *upgradeState) string {
	if state != nil {
		return state.Directory
	}
	if directory := os.Getenv(directoryVariable); directory != "" {
		return directory
	}
	directory, err := os.Getwd()
	if err != nil {
		return "/" // the directory is gone, and relative paths with it
	}
	return directory
}

// serve is this process's life as a server.
func serve(s *settings, arguments []string, directory, executable string, where []endpoint, detached bool, stderr *os.File) (int, error) {
	if detached {
		if err := settle(); err != nil {
			return 1, err
		}
	}
	id, warning, err := resolveUser(s.user, s.group, os.Geteuid(), os.Getegid())
	if err != nil {
		return 1, usageError{err}
	}
	srv, err := newServer(s, id, detached, stderr)
	if err != nil {
		return 1, err
	}
	srv.arguments, srv.directory, srv.executable, srv.endpoints = arguments, directory, executable, where
	srv.warn(warning)
	if err := srv.prepare(); err != nil {
		return 1, err
	}
	err = srv.start(id)
	if errors.Is(err, errServedAlready) {
		return 0, nil
	}
	if err != nil {
		return 1, err
	}
	if detached {
		if err := reportReady(); err != nil {
			return 1, err
		}
	}
	srv.run()
	return 0, nil
}

// takeOver is this process's life as a server whose first part another program
// has lived.
func takeOver(s *settings, arguments []string, where []endpoint, state *upgradeState, stderr *os.File) (int, error) {
	srv, err := newServer(s, currentIdentity(), state.Detached, stderr)
	if err != nil {
		return 1, err
	}
	srv.arguments, srv.directory, srv.executable, srv.endpoints = arguments, state.Directory, state.Executable, where
	err = srv.prepare()
	if err == nil {
		err = srv.adopt(state)
	}
	if err != nil {
		srv.log.Error().Err(err).Msg("upgrade failed")
		return 1, err
	}
	srv.run()
	return 0, nil
}
