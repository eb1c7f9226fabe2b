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
// The next run has their copies compared.
//
// The file is a slot for each write: one byte of length, 0 for a free slot, and
// the key.

const (
	slotSize  = 256
	slotsEach = 4096 // of one worker; writes above that are not remembered
	noSlot    = -1
	mostKey   = 250 // bytes (KEY_MAX_LENGTH of memcached)
)

// inFlightFile is the file of all workers.
type inFlightFile struct {
	memory []byte
	path   string
	fd     int // its lock keeps other processes away
}

// openInFlight maps a file for so many workers, and returns the keys that the
// last run has left in it. A file that is not this user's own, or no file, is an
// error: whoever else can write it could have any key compared.
func openInFlight(path string, workers int) (f *inFlightFile, left [][]byte, err error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f = &inFlightFile{path: path, fd: fd}
	if left, err = f.begin(workers); err != nil {
		_ = unix.Close(fd)
		return nil, nil, err
	}
	return f, left, nil
}

// begin takes the file over.
func (f *inFlightFile) begin(workers int) (left [][]byte, err error) {
	fd, path := f.fd, f.path
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%s is in use by another magent", path)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || int(stat.Uid) != os.Geteuid() || stat.Mode&0o022 != 0 {
		return nil, fmt.Errorf("%s is not a file that this user alone may write", path)
	}
	const most = 256 * slotsEach * slotSize // of the last run
	before := make([]byte, min(stat.Size, most))
	n, err := unix.Pread(fd, before, 0)
	if err != nil {
		return nil, err
	}
	for slot := before[:n-n%slotSize]; len(slot) > 0; slot = slot[slotSize:] {
		if length := int(slot[0]); length > 0 && length <= mostKey {
			left = append(left, slot[1:1+length])
		}
	}
	size := workers * slotsEach * slotSize
	if err := errors.Join(unix.Ftruncate(fd, 0), unix.Ftruncate(fd, int64(size))); err != nil {
		return nil, err
	}
	if f.memory, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return left, nil
}

// close removes the file: nothing is under way.
func (f *inFlightFile) close() {
	_ = unix.Munmap(f.memory)
	_ = os.Remove(f.path)
	_ = unix.Close(f.fd)
}

// slots returns the part of one worker.
func (f *inFlightFile) slots(worker int) inFlight {
	size := slotsEach * slotSize
	s := inFlight{memory: f.memory[worker*size : (worker+1)*size]}
	for i := slotsEach - 1; i >= 0; i-- {
		s.free = append(s.free, int16(i)) // the first ones are used again and again
	}
	return s
}

// inFlight is what one worker remembers. The zero value remembers nothing.
type inFlight struct {
	memory []byte
	free   []int16
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

// KeepInFlight keeps the keys of writes under way in a file, which the process's
// own user may write and nobody else, and has those compared that the last run
// has left there. It is called before Start or Adopt.
func (p *Proxy) KeepInFlight(path string) error {
	if p.pools.backup == nil {
		return nil
	}
	f, left, err := openInFlight(path, len(p.workers))
	if err != nil {
		return err
	}
	p.inFlight = f
	for i, w := range p.workers {
		w.inFlight = f.slots(i)
	}
	for _, key := range left {
		w := p.workers[stripeOf(p.leases.hash(key))%uint32(len(p.workers))]
		w.lookLater(key, false)
	}
	if len(left) > 0 {
		p.log.Warn().Int("keys", len(left)).Msg("the last run ended in the middle of writes; their copies are compared")
	}
	return nil
}
