package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"magent/integration/harness"
)

// fuzzFor is how long the proxy is fed with nonsense.
const fuzzFor = 6 * time.Second

// mutate changes some bytes of a conversation: flips, insertions, cuts,
// repetitions.
func mutate(rng *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + rng.IntN(8) {
		if len(b) == 0 {
			return b
		}
		at := rng.IntN(len(b))
		switch rng.IntN(6) {
		case 0:
			b[at] ^= 1 << rng.IntN(8)
		case 1:
			b[at] = byte(rng.IntN(256))
		case 2:
			b = append(b[:at], b[at+rng.IntN(min(20, len(b)-at)):]...)
		case 3:
			words := []string{"\r\n", "\n", " ", "noreply", "\x00", "99999999999", "-1", "\x80\x00", "get ", "set k 0 0 10\r\n", "VALUE k 0 1\r\nx\r\nEND\r\n"}
			b = append(b[:at:at], append([]byte(words[rng.IntN(len(words))]), b[at:]...)...)
		case 4:
			end := at + rng.IntN(min(200, len(b)-at))
			b = append(b[:end:end], b[at:]...)
		case 5:
			b = b[:at]
		}
	}
	return b
}

// nonsense returns what a fuzzing client sends on one connection.
func nonsense(rng *rand.Rand) []byte {
	switch rng.IntN(6) {
	case 0:
		b := make([]byte, rng.IntN(5000))
		for i := range b {
			b[i] = byte(rng.IntN(256))
		}
		return b
	case 1: // looks like the binary protocol
		b := make([]byte, 24*(1+rng.IntN(20)))
		for i := range b {
			if rng.IntN(3) == 0 {
				b[i] = byte(rng.IntN(256))
			}
		}
		b[0] = 0x80
		if b[1] == opFlush || b[1] == opFlushQ {
			b[1] = opNoop // the bystander's items shall stay
		}
		return b
	case 2: // meta commands
		return mutate(rng, []byte(strings.Repeat("mg fuzz:1 v t f k s\r\nms fuzz:2 2 T0 F1\r\nab\r\nmd fuzz:1 q\r\nma fuzz:3 MD\r\nmn\r\nme fuzz:1\r\n", 1+rng.IntN(5))))
	}
	g := &generator{rng: rng, prefix: "fuzz:"}
	var b bytes.Buffer
	for range 1 + rng.IntN(60) {
		command := g.command()
		if bytes.Contains(command, []byte("flush_all")) {
			continue // the bystander's items shall stay
		}
		b.Write(command)
	}
	return mutate(rng, b.Bytes())
}

// fuzzOnce holds one connection: it sends nonsense in pieces, reads some of the
// answers, and ends in one of several ways.
func fuzzOnce(addr string, rng *rand.Rand) error {
	c, err := harness.Dial(addr)
	if err != nil {
		return fmt.Errorf("it takes no connection: %w", err)
	}
	defer func() { _ = c.Close() }()
	c.Timeout = 50 * time.Millisecond
	b := nonsense(rng)
	if bytes.Contains(b, []byte("flush_all")) || bytes.Contains(b, []byte("shutdown")) {
		return nil
	}
	for len(b) > 0 {
		n := 1 + rng.IntN(len(b))
		if err := c.Send(b[:n]); err != nil {
			return nil // it may close: what matters is that it lives
		}
		b = b[n:]
		if rng.IntN(4) == 0 {
			_ = c.Full(make([]byte, 1+rng.IntN(100))) // whatever comes
		}
	}
	if rng.IntN(2) == 0 {
		_, _ = c.Rest()
	}
	return nil
}

// promise: R1, R2, R4
func TestRandomBytesAndMutatedCommands(t *testing.T) {
	for _, plain := range []bool{false, true} {
		name := "race detector"
		if plain {
			name = "memory"
		}
		t.Run(name, func(t *testing.T) {
			seed := newRand(t).Uint64()
			m := &mirrored{primary: harness.StartMemcached(t), backup: harness.StartMemcached(t)}
			m.Magent = harness.StartMagent(t, harness.Config{
				Primaries: []string{m.primary.Addr}, Backups: []string{m.backup.Addr}, Plain: plain,
				Args: append([]string{"--max-memory", memoryLimit, "--max-item-size", "1m"}, patient...),
			})
			stopWatching := watchMemory(t, m)
			o, err := newOwner(m.Addr, "bystander", 5, rand.New(rand.NewPCG(seed, 1000)))
			must(t, err)
			defer o.close()
			end := time.Now().Add(fuzzFor / 2)
			var connections atomic.Int64
			group(t, 9, func(i int) error {
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				for time.Now().Before(end) {
					if i == 0 {
						if err := o.step(); err != nil {
							return fmt.Errorf("bystander: %w", err)
						}
						continue
					}
					if err := fuzzOnce(m.Addr, rng); err != nil {
						return err
					}
					connections.Add(1)
				}
				return nil
			})
			must(t, o.final(o.writer)) // behind its last command, which may have no answer
			must(t, o.final(o.reader))
			peak := stopWatching()
			t.Logf("%d connections, memory at most %d MB", connections.Load(), peak>>20)
			if plain && peak > memoryBound {
				t.Errorf("magent held %d MB", peak>>20)
			}
			awaitEqual(t, m.primary, m.backup, o.keys)
		})
	}
}

// Nonsense from clients and failing servers at once.
//
// promise: R4, C4
func TestNonsenseWhileServersFail(t *testing.T) {
	seed := newRand(t).Uint64()
	p, b := harness.StartMemcached(t), harness.StartMemcached(t)
	link := harness.NewLink(t, p.Addr)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{link.Addr}, Backups: []string{b.Addr}, Args: patient})
	end := time.Now().Add(fuzzFor / 2)
	group(t, 10, func(i int) error {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		for time.Now().Before(end) {
			if i == 0 {
				harness.Poll(time.Duration(rng.IntN(100))*time.Millisecond, func() bool { return false })
				switch rng.IntN(3) {
				case 0:
					link.Cut()
				case 1:
					link.CutAnswerAfter(rng.Int64N(3000))
				case 2:
					link.Refuse()
					harness.Poll(20*time.Millisecond, func() bool { return false })
					link.Heal()
				}
				continue
			}
			if err := fuzzOnce(m.Addr, rng); err != nil {
				return err
			}
		}
		return nil
	})
	link.Heal()
	c := harness.MustDial(t, m.Addr)
	must(t, c.Set("alive", "yes"))
	expectValue(t, c, "alive", "yes")
}

// A connection ends in the middle of every command, at every byte.
//
// promise: R1, R4
func TestConnectionsThatEndInTheMiddleOfACommand(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	text := "set cut 5 0 10\r\n0123456789\r\nget cut none cut\r\nincr cut 1\r\ndelete cut noreply\r\nstats\r\nflush_all 0\r\n"
	for i := range len(text) + 1 {
		got, err := talk(m.Addr, []byte(text[:i]), 1<<20)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("%q: %q, %v", text[:i], got, err)
		}
		if i >= len("set cut 5 0 10\r\n0123456789\r\n") && !bytes.HasPrefix(got, []byte("STORED\r\n")) {
			t.Fatalf("%q: %q", text[:i], got)
		}
	}
}
