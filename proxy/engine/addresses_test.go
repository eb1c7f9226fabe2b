package engine

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// promise: L9
func TestAddressesThatLeave(t *testing.T) {
	result := make(chan struct{})
	go func() {
		defer close(result)
		runtime.LockOSThread() // never unlocked: the thread ends with this, and its namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("cannot make a network namespace: %v: run the tests as root", err)
			return
		}
		watchAddresses(t)
	}()
	within(t, result, "the watch")
}

func watchAddresses(t *testing.T) {
	ip := func(line ...string) {
		if out, err := exec.Command("ip", line...).CombinedOutput(); err != nil {
			t.Errorf("ip %v: %v: %s", line, err, out)
		}
	}
	ip("link", "set", "lo", "up")
	ip("link", "add", "d0", "type", "veth", "peer", "name", "d1")
	ip("address", "add", "10.66.77.88/32", "dev", "lo")
	w, err := WatchAddresses()
	if err != nil {
		t.Error(err)
		return
	}
	ip("address", "add", "2001:db8::88/128", "dev", "lo")
	ip("address", "add", "10.66.77.99/32", "dev", "d0")
	ip("address", "add", "10.66.77.99/32", "dev", "lo")
	ip("link", "delete", "d0") // that address stays on the other interface
	ip("address", "delete", "10.66.77.88/32", "dev", "lo")
	expect := func(want string) {
		got, err := w.Next()
		if err != nil || !slices.Equal(got, []netip.Addr{netip.MustParseAddr(want)}) {
			t.Errorf("%v, %v have left; want %s", got, err, want)
		}
	}
	expect("10.66.77.88")
	ip("address", "delete", "2001:db8::88/128", "dev", "lo")
	expect("2001:db8::88")
	time.AfterFunc(time.Millisecond, w.Close)
	if _, err := w.Next(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
