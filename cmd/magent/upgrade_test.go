package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// duplicates copies descriptors, as exec would.
func duplicates(t *testing.T, fds []int) []int {
	t.Helper()
	var copies []int
	for _, fd := range fds {
		fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, fd)
	}
	return copies
}

// promise: L7
func TestUpgradeStateSurvives(t *testing.T) {
	want := upgradeState{
		Version: "1", Directory: "/start", Executable: "/bin/magent", Detached: true,
		Endpoints: []string{"unix /run/a b"}, Locks: []string{"@l"}, LockFiles: []int{9},
		Socket: fileIdentity{Path: "/run/a b", Device: 1, Inode: 2}, Proxy: []byte{0, 1, 255},
	}
	memory, err := keepState(want)
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	fd := duplicates(t, []int{int(memory.Fd())})[0]
	t.Setenv(upgradeVariable, strconv.Itoa(fd))
	got, err := takeUpgradeState()
	if err != nil || got == nil {
		t.Fatalf("state %v, error %v", got, err)
	}
	a, _ := json.Marshal(want)
	b, _ := json.Marshal(got)
	if !bytes.Equal(a, b) {
		t.Errorf("%s\nwant %s", b, a)
	}
	if _, set := os.LookupEnv(upgradeVariable); set {
		t.Error("the variable is left for programs started from here")
	}
	if again, err := takeUpgradeState(); again != nil || err != nil {
		t.Errorf("without an upgrade: %v, %v", again, err)
	}
	t.Setenv(upgradeVariable, "nonsense")
	if _, err := takeUpgradeState(); err == nil {
		t.Error("nonsense is taken for a descriptor")
	}
}
