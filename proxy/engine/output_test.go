package engine

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// pattern is a stream in which every place can be told from its neighbours,
// so that a byte that is lost, sent twice or out of order shows.
type pattern struct{ rng *rand.Rand }

func newPattern() *pattern { return &pattern{rand.New(rand.NewPCG(1, 2))} }

func (p *pattern) next(n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, p.rng.Uint64())
	}
	return b[:n]
}

// receiveAll reads what is there.
func receiveAll(t testing.TB, fd int, into []byte) []byte {
	t.Helper()
	for {
		into = slices.Grow(into, 64<<10)
		n, errno := Recv(fd, into[len(into):cap(into)])
		into = into[:len(into)+n]
		if errno == unix.EAGAIN || n == 0 && errno == 0 {
			return into
		}
		if errno != 0 {
			t.Fatal(errno)
		}
	}
}

// narrow makes a socket take little at a time.
func narrow(t testing.TB, fd int) {
	t.Helper()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096); err != nil {
		t.Fatal(err)
	}
}

// Whatever is added in whatever way, and however little the socket takes at a
// time, every byte arrives, once and in order; what was dropped does not. Two
// outputs share one pool and do not disturb each other.
//
// promise: R2, R4, W6
func TestOutputArrivesOnceAndInOrder(t *testing.T) {
	sizes := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(0, 3*chunkSize),
		rapid.SampledFrom([]int{firstSize - 1, firstSize, firstSize + 1, firstSize + chunkSize - 1, firstSize + chunkSize, firstSize + chunkSize + 1}))
	type stream struct {
		out         Output
		here, there int
		source      *pattern
		sent, queue []byte // queue: added and not sent
		got         []byte
		begunEmpty  bool
	}
	l := newLoop(t)
	var streams [2]stream
	for i := range streams {
		s := &streams[i]
		s.here, s.there = socketPair(t)
		narrow(t, s.here)
	}
	rapid.Check(t, func(rt *rapid.T) {
		l.Pool = Pool{}
		for i := range streams {
			s := &streams[i]
			*s = stream{here: s.here, there: s.there, source: newPattern()}
			receiveAll(t, s.there, nil) // of a run that failed
		}
		pick := func(rt *rapid.T) *stream { return &streams[rapid.IntRange(0, 1).Draw(rt, "stream")] }
		send := func(rt *rapid.T, s *stream) {
			n, errno := l.Send(s.here, &s.out)
			if errno != 0 || n < 0 || n > len(s.queue) {
				rt.Fatalf("Send: %d bytes of %d, %v", n, len(s.queue), errno)
			}
			s.sent = append(s.sent, s.queue[:n]...)
			s.queue = s.queue[n:]
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				s := pick(rt)
				b := s.source.next(sizes.Draw(rt, "bytes"))
				s.out.Write(&l.Pool, b)
				s.queue = append(s.queue, b...)
				clear(b) // Write made a copy
			},
			"link": func(rt *rapid.T) {
				s := pick(rt)
				b := s.source.next(sizes.Draw(rt, "bytes"))
				s.out.Link(&l.Pool, b)
				s.queue = append(s.queue, b...)
			},
			"begin and end": func(rt *rapid.T) {
				s := pick(rt)
				n := rapid.IntRange(0, firstSize).Draw(rt, "bytes")
				need := rapid.IntRange(n, firstSize).Draw(rt, "need")
				b := s.out.Begin(&l.Pool, need)
				if cap(b)-len(b) < need {
					rt.Fatalf("Begin made room for %d bytes, asked for %d", cap(b)-len(b), need)
				}
				data := s.source.next(n)
				s.begunEmpty = s.begunEmpty || n == 0
				s.out.End(&l.Pool, append(b, data...))
				s.queue = append(s.queue, data...)
			},
			"send":    func(rt *rapid.T) { send(rt, pick(rt)) },
			"receive": func(rt *rapid.T) { s := pick(rt); s.got = receiveAll(t, s.there, s.got) },
			"drop": func(rt *rapid.T) {
				s := pick(rt)
				s.out.Drop(&l.Pool)
				s.queue = nil
			},
			"": func(rt *rapid.T) {
				held := 0
				for i := range streams {
					s := &streams[i]
					held += len(s.queue)
					if s.out.Len() != len(s.queue) || s.out.Sent() != uint64(len(s.sent)) ||
						s.out.Total() != uint64(len(s.sent)+len(s.queue)) {
						rt.Fatalf("output %d has Len %d, Sent %d, Total %d; want %d, %d, %d", i, s.out.Len(), s.out.Sent(),
							s.out.Total(), len(s.queue), len(s.sent), len(s.sent)+len(s.queue))
					}
				}
				if l.Pool.Held != int64(held) {
					rt.Fatalf("Pool.Held %d, want %d", l.Pool.Held, held)
				}
			},
		})
		for i := range streams {
			s := &streams[i]
			for s.out.Len() > 0 {
				send(rt, s)
				s.got = receiveAll(t, s.there, s.got)
			}
			s.got = receiveAll(t, s.there, s.got)
			if !bytes.Equal(s.got, s.sent) {
				rt.Fatalf("output %d: %d bytes arrived, %d were sent; they differ from byte %d on", i, len(s.got), len(s.sent),
					firstDifference(s.got, s.sent))
			}
			if s.out != (Output{total: s.out.total}) && !s.begunEmpty {
				rt.Fatal("an output that is sent holds a chunk")
			}
		}
		if l.Pool.Held != 0 {
			rt.Fatalf("Pool.Held %d at the end", l.Pool.Held)
		}
	})
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// More pieces than one system call takes.
//
// promise: R4
func TestSendManyPieces(t *testing.T) {
	l := newLoop(t)
	here, there := socketPair(t)
	var out Output
	source := newPattern()
	var want, got []byte
	for range 5 * vectorsPerSend {
		for _, n := range []int{1, 0, 700} {
			b := source.next(n)
			out.Link(&l.Pool, b)
			want = append(want, b...)
		}
		b := source.next(3)
		out.Write(&l.Pool, b)
		want = append(want, b...)
	}
	for out.Len() > 0 {
		if _, errno := l.Send(here, &out); errno != 0 {
			t.Fatal(errno)
		}
		got = receiveAll(t, there, got)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived, want %d; they differ from byte %d on", len(got), len(want), firstDifference(got, want))
	}
	for _, v := range l.vectors {
		if v.Base != nil {
			t.Fatal("the loop keeps a piece that is sent")
		}
	}
}

// A piece that is linked is not copied.
func TestLinkDoesNotCopy(t *testing.T) {
	l := newLoop(t)
	here, there := socketPair(t)
	var out Output
	b := []byte("before")
	out.Link(&l.Pool, b)
	copy(b, "behind")
	if _, errno := l.Send(here, &out); errno != 0 {
		t.Fatal(errno)
	}
	if got := receiveAll(t, there, nil); string(got) != "behind" {
		t.Errorf("%q arrived, want the slice as it was when it was sent", got)
	}
	// What is written behind a linked piece must not end up in its spare room.
	backing := make([]byte, 8, 64)
	out.Link(&l.Pool, backing)
	out.Write(&l.Pool, []byte("written"))
	out.Link(&l.Pool, backing)
	out.End(&l.Pool, append(out.Begin(&l.Pool, 5), "begun"...))
	if spare := backing[:64]; bytes.Contains(spare, []byte("written")) || bytes.Contains(spare, []byte("begun")) {
		t.Error("bytes were added to somebody else's slice")
	}
	out.Drop(&l.Pool)
}

// promise: R2
func TestSendToAClosedSocket(t *testing.T) {
	l := newLoop(t)
	here, there := socketPair(t)
	var out Output
	out.Write(&l.Pool, []byte("hello"))
	if err := unix.Shutdown(there, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	if _, errno := l.Send(here, &out); errno != unix.EPIPE {
		t.Errorf("error %v, want EPIPE and no signal", errno)
	}
	if out.Len() != 5 || l.Pool.Held != 5 {
		t.Errorf("after the error %d bytes wait and %d are held, want 5", out.Len(), l.Pool.Held)
	}
	out.Drop(&l.Pool)
	if out.Len() != 0 || l.Pool.Held != 0 {
		t.Errorf("after Drop %d bytes wait and %d are held", out.Len(), l.Pool.Held)
	}
}

// An output that is empty holds no chunk: an idle client costs no buffer. What
// the pool keeps is bounded, and fit for the next output.
//
// promise: R2
func TestPoolKeepsALimitedNumberOfChunks(t *testing.T) {
	l := newLoop(t)
	outs := make([]Output, freeFirst+50)
	for i := range outs {
		outs[i].Write(&l.Pool, []byte("first chunk"))
	}
	rest := make([]byte, (freeChunks+50)*chunkSize)
	outs[0].Write(&l.Pool, rest)
	if want := int64(len(outs)*len("first chunk") + len(rest)); l.Pool.Held != want {
		t.Errorf("held %d, want %d", l.Pool.Held, want)
	}
	for i := range outs {
		outs[i].Drop(&l.Pool)
		if outs[i] != (Output{}) {
			t.Fatalf("an output that was dropped before anything was sent is %+v", outs[i])
		}
	}
	for _, c := range []struct {
		list       *freeList
		most, size int
	}{{&l.Pool.first, freeFirst, firstSize}, {&l.Pool.others, freeChunks, chunkSize}} {
		n := 0
		for free := c.list.top; free != nil; free = free.next {
			if len(free.buf) != 0 || cap(free.buf) != c.size || free.from != 0 || free.owned {
				t.Fatalf("a free chunk has %d bytes, room for %d, first byte %d, owned %v", len(free.buf), cap(free.buf), free.from, free.owned)
			}
			n++
		}
		if n != c.most || c.list.count != n {
			t.Errorf("%d free chunks of %d bytes, counted as %d; want %d", n, c.size, c.list.count, c.most)
		}
	}
}

// The first chunk of an output is small: most clients' answers need no more.
//
// promise: R2
func TestSmallOutputsHoldSmallChunks(t *testing.T) {
	l := newLoop(t)
	var out Output
	out.Write(&l.Pool, make([]byte, 100))
	if size := cap(out.head.buf); size != firstSize {
		t.Errorf("100 bytes are held in a chunk of %d", size)
	}
	out.Write(&l.Pool, make([]byte, firstSize))
	if size := cap(out.head.next.buf); size != chunkSize {
		t.Errorf("the second chunk has %d bytes", size)
	}
	out.Drop(&l.Pool)
}

// In steady state requests and answers come and go without an allocation.
func TestOutputAllocatesNothing(t *testing.T) {
	l := newLoop(t)
	here, there := socketPair(t)
	var small, big Output
	line, block, sink := []byte("VALUE key 0 100\r\n"), make([]byte, 40<<10), make([]byte, 128<<10)
	turn := func() {
		small.Write(&l.Pool, line)
		small.End(&l.Pool, append(small.Begin(&l.Pool, 64), line...))
		big.Write(&l.Pool, block)
		for small.Len()+big.Len() > 0 {
			_, errno1 := l.Send(here, &small)
			_, errno2 := l.Send(here, &big)
			if errno1 != 0 || errno2 != 0 {
				t.Fatal(errno1, errno2)
			}
			for {
				if _, errno := Recv(there, sink); errno != 0 {
					break
				}
			}
		}
	}
	turn()
	if n := testing.AllocsPerRun(200, turn); n != 0 {
		t.Errorf("%v allocations for one turn", n)
	}
	if l.Pool.Held != 0 {
		t.Errorf("Pool.Held %d with nothing to send", l.Pool.Held)
	}
}

// Buffers that are out at the same time share nothing, with each other or
// with an output.
//
// promise: R4
func TestBuffersShareNothing(t *testing.T) {
	l := newLoop(t)
	rapid.Check(t, func(t *rapid.T) {
		type lent struct {
			b    []byte
			mark byte
		}
		var out []lent
		var output Output
		defer func() { output.Drop(&l.Pool) }()
		mark := byte(0)
		t.Repeat(map[string]func(*rapid.T){
			"borrow": func(t *rapid.T) {
				n := rapid.OneOf(rapid.IntRange(1, chunkSize), rapid.IntRange(1, 2*chunkSize)).Draw(t, "bytes")
				b := l.Pool.Buffer(n)
				if len(b) != 0 || cap(b) < n {
					t.Fatalf("Buffer(%d) has %d bytes and room for %d", n, len(b), cap(b))
				}
				mark++
				b = append(b, bytes.Repeat([]byte{mark}, n)...)
				out = append(out, lent{b, mark})
			},
			"give back": func(t *rapid.T) {
				if len(out) == 0 {
					t.Skip("none is lent")
				}
				i := rapid.IntRange(0, len(out)-1).Draw(t, "which")
				l.Pool.PutBuffer(out[i].b)
				out = append(out[:i], out[i+1:]...)
			},
			"give something else": func(*rapid.T) { l.Pool.PutBuffer(make([]byte, 0, 100)) },
			"write":               func(*rapid.T) { output.Write(&l.Pool, bytes.Repeat([]byte{0xff}, 1000)) },
			"drop":                func(*rapid.T) { output.Drop(&l.Pool) },
			"": func(t *rapid.T) {
				for _, o := range out {
					if bytes.Count(o.b, []byte{o.mark}) != len(o.b) {
						t.Fatalf("a buffer of %d bytes was changed by somebody else", len(o.b))
					}
				}
				if n := len(l.Pool.buffers); n > freeChunks {
					t.Fatalf("%d free buffers are kept", n)
				}
			},
		})
	})
}

func TestBufferAllocatesNothing(t *testing.T) {
	l := newLoop(t)
	turn := func() {
		a := l.Pool.Buffer(1)
		b := l.Pool.Buffer(chunkSize)
		l.Pool.PutBuffer(append(a, "some input"...))
		l.Pool.PutBuffer(b)
	}
	turn()
	if n := testing.AllocsPerRun(200, turn); n != 0 {
		t.Errorf("%v allocations to borrow two buffers", n)
	}
}

// A buffer that never comes back, because its owner replaced it by a larger
// one, leaves nothing behind in the pool; and a burst of buffers that do come
// back is not kept.
//
// promise: R2
func TestBuffersAreNotHoarded(t *testing.T) {
	var p Pool
	var lent [][]byte
	for range 3 * freeChunks {
		p.Buffer(100)
		lent = append(lent, p.Buffer(100))
	}
	if p.first.top != nil || p.others.top != nil || len(p.buffers) != 0 {
		t.Error("the pool keeps something of buffers that are out")
	}
	for _, b := range lent {
		p.PutBuffer(b)
	}
	if len(p.buffers) != freeChunks {
		t.Errorf("%d buffers are kept, want %d", len(p.buffers), freeChunks)
	}
}
