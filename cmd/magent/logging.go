package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// logTime is RFC 3339 with milliseconds.
const logTime = "2006-01-02T15:04:05.000Z07:00"

// timeHook adds the time to each line.
type timeHook struct{}

func (timeHook) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().Format(logTime))
}

// newWriter returns what turns log lines into one of the formats of
// --log-format on w.
func newWriter(w io.Writer, format string, terminal bool) io.Writer {
	if format == "console" || format == "auto" && terminal {
		return zerolog.ConsoleWriter{Out: w, NoColor: !terminal, TimeFormat: "15:04:05.000"}
	}
	return w
}

// newLogger returns a logger that writes each line to all of the writers, and
// with none does nothing.
func newLogger(writers []io.Writer) zerolog.Logger {
	switch len(writers) {
	case 0:
		return zerolog.Nop()
	case 1:
		return zerolog.New(writers[0]).Hook(timeHook{})
	}
	return zerolog.New(zerolog.MultiLevelWriter(writers...)).Hook(timeHook{})
}

// warningsTo shows what may be meant otherwise as lines for people.
func warningsTo(w io.Writer) zerolog.Logger {
	return zerolog.New(zerolog.ConsoleWriter{
		Out: w, NoColor: true, PartsOrder: []string{zerolog.MessageFieldName},
		FormatMessage: func(text any) string { return fmt.Sprintf("magent: %s", text) },
		FieldsExclude: []string{"server"}, // what they ask for is on the command line
	}).Level(zerolog.WarnLevel)
}

// setLogLevel sets the level of all loggers of the program, those that the
// proxy holds included.
func setLogLevel(name string) {
	level, err := zerolog.ParseLevel(name)
	if err != nil {
		level = zerolog.InfoLevel
	}
	zerolog.SetGlobalLevel(level)
}

// isTerminal says whether a file is a terminal.
func isTerminal(file *os.File) bool {
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// logFile is a log file that can be opened anew, so that it can be rotated.
type logFile struct {
	path string

	mu   sync.Mutex
	file *os.File
}

// openLogFile opens or makes the file and gives it to the identity that the
// process takes on, which has to open it again.
func openLogFile(path string, id identity) (*logFile, error) {
	l := &logFile{path: path}
	if err := l.reopen(); err != nil {
		return nil, err
	}
	if id.changes() {
		if err := l.file.Chown(id.uid, id.gid); err != nil {
			return nil, fmt.Errorf("cannot give the log file %s to user %d: %w: choose another with --log-file", path, id.uid, underlying(err))
		}
	}
	return l, nil
}

// reopen opens the path anew. When that fails, the old file stays in use.
func (l *logFile) reopen() error {
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return cannotOpenLog(l.path, err)
	}
	// A crash would otherwise leave no trace: standard error is /dev/null.
	err = debug.SetCrashOutput(file, debug.CrashOptions{})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
	}
	l.file = file
	return err
}

func cannotOpenLog(path string, err error) error {
	return fmt.Errorf("cannot open the log file %s: %w: make its directory writable, or choose another with --log-file", path, underlying(err))
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Write(p)
}
