package proxy

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// When this process is killed, a write may be on the primary and not on the
// backup yet. So the keys of all writes under way stand in a file that is mapped
// into memory and outlives the process: to put one there costs no system call.
// The next run makes their copies equal; see leftkeys.go.
//
// The file is a slot for each write: one byte of length, 0 for a free slot, and
// the key.

const (
	slotSize  = 256
	slotsEach = 1024 // of one worker; writes above that are not remembered
	noSlot    = -1
	mostKey   = 250 // bytes (KEY_MAX_LENGTH of memcached)
)

// errInFlightBusy says that another process has the file, perhaps one that is
// about to end.
var errInFlightBusy = errors.New("it is in use by another magent")

// inFlightFile is the file of all workers.
type inFlightFile struct {
	memory []byte
	path   string
	fd     int // its lock keeps other processes away
}

// openInFlight maps a file for so many workers, and returns the keys that the
// last run has left in it, which stay there. A file that is not this user's own, or
// no file of this kind, is an error: whoever else can write it could have any key
// compared.
func openInFlight(path string, workers int) (f *inFlightFile, left []string, err error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f = &inFlightFile{path: path, fd: fd}
	if left, err = f.begin(workers); err != nil {
		_ = unix.Close(fd)
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, left, nil
}

// begin takes the file over.
func (f *inFlightFile) begin(workers int) (left []string, err error) {
	if err := unix.Flock(f.fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errInFlightBusy
	}
	var stat, named unix.Stat_t
	if err := unix.Fstat(f.fd, &stat); err != nil {
		return nil, err
	}
	if err := unix.Lstat(f.path, &named); err != nil || named.Ino != stat.Ino || named.Dev != stat.Dev {
		return nil, errInFlightBusy // whoever had it has removed it at this moment
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || int(stat.Uid) != os.Geteuid() || stat.Mode&0o022 != 0 || stat.Nlink != 1 {
		return nil, errors.New("it is not a file that this user alone may write")
	}
	const most = 256 * slotsEach * slotSize
	if stat.Size%slotSize != 0 || stat.Size > most {
		return nil, errors.New("it is not a file that a magent has made")
	}
	before := make([]byte, stat.Size)
	if _, err := unix.Pread(f.fd, before, 0); err != nil {
		return nil, err
	}
	for slot := before; len(slot) > 0; slot = slot[slotSize:] {
		if key, ok := keyIn(slot); ok {
			left = append(left, key)
		}
	}
	// All of it has to be there: where memory runs out later, a write to it would
	// end the process. What the last run has left stays in its place.
	size := max(int64(workers*slotsEach*slotSize), stat.Size)
	if err := unix.Fallocate(f.fd, 0, 0, size); err != nil {
		return nil, fmt.Errorf("no room for it: %w", err)
	}
	if f.memory, err = unix.Mmap(f.fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("cannot map it: %w", err)
	}
	return left, nil
}

// keyIn is the key in a slot. ok is false for a free slot, and for nonsense.
func keyIn(slot []byte) (key string, ok bool) {
	length := int(slot[0])
	if length == 0 || length > mostKey {
		return "", false
	}
	return string(slot[1 : 1+length]), true
}

// close removes the file if nothing is under way, as after an orderly end.
func (f *inFlightFile) close() {
	empty := true
	for at := 0; at < len(f.memory); at += slotSize {
		empty = empty && f.memory[at] == 0
	}
	_ = unix.Munmap(f.memory)
	if empty {
		_ = os.Remove(f.path)
	}
	_ = unix.Close(f.fd)
}

// slots returns the part of one worker.
func (f *inFlightFile) slots(worker int) inFlight {
	size := slotsEach * slotSize
	s := inFlight{memory: f.memory[worker*size : (worker+1)*size], left: map[string][]int16{}}
	for i := slotsEach - 1; i >= 0; i-- {
		slot := s.memory[i*slotSize:][:slotSize]
		if key, ok := keyIn(slot); ok {
			s.left[key] = append(s.left[key], int16(i))
			continue
		}
		slot[0] = 0
		s.free = append(s.free, int16(i)) // the first ones are used again and again
	}
	return s
}

// forgetBehind frees the slots of a key that a run with more workers has left.
func (f *inFlightFile) forgetBehind(workers int, key string) {
	for at := workers * slotsEach * slotSize; at < len(f.memory); at += slotSize {
		slot := f.memory[at:][:slotSize]
		if left, ok := keyIn(slot); !ok || left == key {
			slot[0] = 0
		}
	}
}

// forget frees the slots of a key that the last run has left.
func (f *inFlight) forget(key string) {
	for _, at := range f.left[key] {
		f.leave(at)
	}
	delete(f.left, key)
}

// inFlight is what one worker remembers. The zero value remembers nothing.
type inFlight struct {
	memory []byte
	free   []int16
	left   map[string][]int16 // slots of keys that the last run has left
}

// enter remembers a key, and returns its slot.
func (f *inFlight) enter(key []byte) int16 {
	if len(f.free) == 0 {
		return noSlot
	}
	at := f.free[len(f.free)-1]
	f.free = f.free[:len(f.free)-1]
	slot := f.memory[int(at)*slotSize:][:slotSize]
	slot[0] = byte(copy(slot[1:], key))
	return at
}

// leave forgets what is in a slot.
func (f *inFlight) leave(at int16) {
	if at == noSlot {
		return
	}
	f.memory[int(at)*slotSize] = 0
	f.free = append(f.free, at)
}
