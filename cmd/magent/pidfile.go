package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// writePidFile writes the number of this process to path, for scripts that do
// kill -0 $(cat FILE). The file appears whole (written beside and renamed, as
// memcached does), readable by all, and belongs to the identity that the
// process takes on, which has to remove it.
func writePidFile(path string, id identity) error {
	text := strconv.Itoa(os.Getpid())
	beside := path + "." + text + ".tmp"
	if err := os.Remove(beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return pidFileError(path, err)
	}
	file, err := os.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return pidFileError(path, err)
	}
	_, err = file.WriteString(text + "\n")
	if err == nil {
		// Whatever the umask says: a script of another user reads it.
		err = file.Chmod(0o644)
	}
	if err == nil && id.changes() {
		err = file.Chown(id.uid, id.gid)
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(beside, path)
	}
	if err != nil {
		_ = os.Remove(beside)
		return pidFileError(path, err)
	}
	return nil
}

// pidFileOwner is the running magent that a pid file names, 0 for none.
func pidFileOwner(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 || pid == os.Getpid() {
		return 0
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || strings.TrimSpace(string(name)) != processName {
		return 0
	}
	return pid
}

func pidFileError(path string, err error) error {
	return fmt.Errorf("cannot write the pid file %s: %w: choose another with -P", path, underlying(err))
}

// underlying drops the operation and the path, which the message names already.
func underlying(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	var linkError *os.LinkError
	if errors.As(err, &linkError) {
		return linkError.Err
	}
	return err
}

// removePidFile removes the pid file if it still names this process. Where the
// process may not remove it, having given up its privileges, it empties the
// file, so that no script takes a later process for this one.
func removePidFile(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(text)) != strconv.Itoa(os.Getpid()) {
		return nil
	}
	err = os.Remove(path)
	if errors.Is(err, fs.ErrPermission) {
		return os.Truncate(path, 0)
	}
	return err
}
