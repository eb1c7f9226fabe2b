package engine

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	firstSize      = 4 << 10  // of an output's first chunk: most clients need no more
	chunkSize      = 16 << 10 // of the others
	vectorsPerSend = 64
	freeFirst      = 512 // kept by a pool: 2 MiB
	freeChunks     = 128 // kept by a pool: 2 MiB, and as much again for Buffer
)

// chunk is a piece of an output. Its buffer is firstSize or chunkSize bytes of
// the pool, or somebody's own buffer that is sent without a copy.
type chunk struct {
	next  *chunk
	from  int // first byte not yet sent
	buf   []byte
	owned bool // buf is a linked one, not the pool's
}

// Pool keeps the chunks of one loop for reuse.
type Pool struct {
	first   freeList
	others  freeList
	buffers [][]byte // for Buffer
	Held    int64    // bytes held by outputs of this pool, sent ones not counted
}

// freeList is a stack of chunks of one size.
type freeList struct {
	top   *chunk
	count int
}

func (f *freeList) take(size int) *chunk {
	c := f.top
	if c == nil {
		return &chunk{buf: make([]byte, 0, size)}
	}
	f.top, c.next = c.next, nil
	f.count--
	return c
}

func (f *freeList) give(c *chunk, most int) {
	if f.count >= most {
		return // the garbage collector's
	}
	c.buf, c.from = c.buf[:0], 0
	c.next, f.top = f.top, c
	f.count++
}

func (p *Pool) give(c *chunk) {
	switch {
	case c.owned:
	case cap(c.buf) == firstSize:
		p.first.give(c, freeFirst)
	default:
		p.others.give(c, freeChunks)
	}
}

// grow adds an empty chunk to the output.
func (o *Output) grow(p *Pool) *chunk {
	var c *chunk
	if o.tail == nil {
		c = p.first.take(firstSize)
	} else {
		c = p.others.take(chunkSize)
	}
	o.link(c)
	return c
}

// Output is what waits to be sent on one socket. The zero value is empty and
// holds no memory.
type Output struct {
	head, tail *chunk
	size       int
	total      uint64
}

// Len is the number of bytes that wait.
func (o *Output) Len() int { return o.size }

// Total is the number of bytes ever added.
func (o *Output) Total() uint64 { return o.total }

// Sent is the number of bytes ever sent.
func (o *Output) Sent() uint64 { return o.total - uint64(o.size) }

// Begin returns the end of the output as a slice that has room for at least
// need more bytes (at most firstSize). The caller appends to it and hands the
// result to End.
func (o *Output) Begin(p *Pool, need int) []byte {
	t := o.tail
	if t == nil || t.owned || cap(t.buf)-len(t.buf) < need {
		t = o.grow(p)
	}
	return t.buf
}

// End takes over what was appended to the slice of Begin.
func (o *Output) End(p *Pool, b []byte) {
	n := len(b) - len(o.tail.buf)
	o.tail.buf = b
	o.count(p, n)
}

// Write adds a copy of b.
func (o *Output) Write(p *Pool, b []byte) {
	n := len(b)
	for len(b) > 0 {
		t := o.tail
		if t == nil || t.owned || len(t.buf) == cap(t.buf) {
			t = o.grow(p)
		}
		k := min(cap(t.buf)-len(t.buf), len(b))
		t.buf = append(t.buf, b[:k]...)
		b = b[k:]
	}
	o.count(p, n)
}

// Link adds b itself. The caller must not change it until it has been sent.
func (o *Output) Link(p *Pool, b []byte) {
	if len(b) == 0 {
		return
	}
	o.link(&chunk{buf: b, owned: true})
	o.count(p, len(b))
}

func (o *Output) link(c *chunk) {
	if o.tail == nil {
		o.head = c
	} else {
		o.tail.next = c
	}
	o.tail = c
}

func (o *Output) count(p *Pool, n int) {
	o.size += n
	o.total += uint64(n)
	p.Held += int64(n)
}

// Bytes returns a copy of what waits.
func (o *Output) Bytes() []byte {
	b := make([]byte, 0, o.size)
	for c := o.head; c != nil; c = c.next {
		b = append(b, c.buf[c.from:]...)
	}
	return b
}

// Drop forgets what waits.
func (o *Output) Drop(p *Pool) {
	for c := o.head; c != nil; {
		next := c.next
		p.give(c)
		c = next
	}
	p.Held -= int64(o.size)
	o.head, o.tail = nil, nil
	o.total -= uint64(o.size)
	o.size = 0
}

// Send writes to the socket until all is sent or the socket takes no more,
// and returns the number of bytes sent. A full socket is no error.
func (l *Loop) Send(fd int, o *Output) (sent int, errno unix.Errno) {
	for o.size > 0 {
		n, errno := l.sendOnce(fd, o)
		if errno == unix.EINTR {
			continue
		}
		if errno == unix.EAGAIN {
			return sent, 0
		}
		if errno != 0 {
			return sent, errno
		}
		sent += n
		l.Pool.Held -= int64(n)
		o.sent(&l.Pool, n)
	}
	return sent, 0
}

func (l *Loop) sendOnce(fd int, o *Output) (int, unix.Errno) {
	c := o.head
	if c.next == nil {
		b := c.buf[c.from:]
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
			unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
		runtime.KeepAlive(b)
		return int(n), errno
	}
	count := 0
	for ; c != nil && count < vectorsPerSend; c = c.next {
		if c.from == len(c.buf) {
			continue
		}
		l.vectors[count].Base = &c.buf[c.from]
		l.vectors[count].SetLen(len(c.buf) - c.from)
		count++
	}
	message := unix.Msghdr{Iov: &l.vectors[0], Iovlen: uint64(count)}
	n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&message)),
		unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	clear(l.vectors[:count])
	return int(n), errno
}

// sent removes n bytes from the front.
func (o *Output) sent(p *Pool, n int) {
	o.size -= n
	for c := o.head; c != nil; {
		left := len(c.buf) - c.from
		if n < left {
			c.from += n
			return
		}
		n -= left
		next := c.next
		p.give(c)
		o.head = next
		c = next
	}
	o.tail = nil
}

// Recv reads once from a non-blocking socket.
func Recv(fd int, b []byte) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
			unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

// Buffer returns an empty slice with room for n bytes. PutBuffer takes it
// back for reuse.
func (p *Pool) Buffer(n int) []byte {
	if n > chunkSize {
		return make([]byte, 0, n)
	}
	last := len(p.buffers) - 1
	if last < 0 {
		return make([]byte, 0, chunkSize)
	}
	b := p.buffers[last]
	p.buffers[last] = nil
	p.buffers = p.buffers[:last]
	return b
}

// PutBuffer takes a slice of Buffer back. Nobody may use it any more.
func (p *Pool) PutBuffer(b []byte) {
	if cap(b) == chunkSize && len(p.buffers) < freeChunks {
		p.buffers = append(p.buffers, b[:0])
	}
}
