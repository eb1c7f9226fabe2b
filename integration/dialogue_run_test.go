package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"magent/integration/harness"
)

// stage is two sides that are to answer alike, and the servers that are to hold
// the same afterwards.
type stage struct {
	sides     [2]*side
	observers []*observer
	names     []string
	met       map[string]int // the kinds of answers
	// settle waits until what was written is on all servers.
	settle func()
}

// roomy keeps large values from driving out others.
var roomy = []string{"-m", "512"}

// twoMemcacheds is a stage of two servers of one version.
func twoMemcacheds(t *testing.T) *stage {
	t.Helper()
	s := &stage{met: map[string]int{}, settle: func() {}}
	for i, name := range []string{"one", "other"} {
		m := harness.StartMemcached(t, roomy...)
		advance(t, m)
		s.sides[i] = &side{name: name, addr: m.Addr}
		s.observers = append(s.observers, observe(t, m.Addr))
		s.names = append(s.names, name)
	}
	return s
}

// magentBeside is a stage of memcached and of magent with a primary and a backup.
func magentBeside(t *testing.T) *stage {
	t.Helper()
	direct, primary, backup := harness.StartMemcached(t, roomy...), harness.StartMemcached(t, roomy...), harness.StartMemcached(t, roomy...)
	s := &stage{met: map[string]int{}, names: []string{"memcached", "the primary", "the backup"}}
	for _, m := range []*harness.Memcached{direct, primary, backup} {
		advance(t, m)
		s.observers = append(s.observers, observe(t, m.Addr))
	}
	m := harness.StartMagent(t, harness.Config{Primaries: []string{primary.Addr}, Backups: []string{backup.Addr}, Args: patient})
	s.sides = [2]*side{{name: "memcached", addr: direct.Addr}, {name: "magent", addr: m.Addr}}
	times := 0
	s.settle = func() {
		times++
		throughAllLoops(t, m, backup, fmt.Sprint("settled", times))
	}
	return s
}

// throughAllLoops waits until what was written through magent so far is on the
// backup: a later write of every event loop has arrived there. New clients go to
// the loops in turn.
func throughAllLoops(t *testing.T, m *harness.Magent, backup *harness.Memcached, prefix string) {
	t.Helper()
	there := harness.MustDial(t, backup.Addr)
	defer func() { _ = there.Close() }()
	for _, key := range keysNamed(prefix+"-", 4) {
		c := harness.MustDial(t, m.Addr)
		must(t, c.Set(key, "yes"))
		harness.Eventually(t, 10*time.Second, "a write is mirrored", func() bool {
			value, _, err := there.Value(key)
			must(t, err)
			return value == "yes"
		})
		must(t, c.Close())
	}
}

// mixture says how often a conversation turns to either protocol, in parts of
// their sum.
type mixture struct{ text, binary int }

// firstSeed is the seed of the first conversation; the next has the next.
func firstSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(600) // the same each time; MAGENT_SEED and MAGENT_CONVERSATIONS look further
	if s := os.Getenv("MAGENT_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("MAGENT_SEED: %v", err)
		}
	}
	t.Logf("repeat with MAGENT_SEED=%d", seed)
	return seed
}

// holdConversations holds conversations until one differs. Each has its own
// keys and its own seed, which the first one takes as it is: MAGENT_SEED with
// the seed of the one that failed, and MAGENT_CONVERSATIONS=1, repeats it.
func holdConversations(t *testing.T, start func(*testing.T) *stage, of mixture, count int) map[string]int {
	t.Helper()
	seed := firstSeed(t)
	// Tokens that a client chooses and those of a server are in no order.
	served, chosen := start(t), start(t)
	for n := range conversations(t, count) {
		at := seed + uint64(n)
		s, explicit := served, at%2 == 1
		if explicit {
			s = chosen
		}
		if why := s.hold(t, at, of, explicit); why != "" {
			t.Fatalf("conversation %d differs; repeat with MAGENT_SEED=%d MAGENT_CONVERSATIONS=1\n%s", n+1, at, why)
		}
	}
	for kind, times := range served.met {
		chosen.met[kind] += times
	}
	return chosen.met
}

// hold holds one conversation and returns how the sides differ, "" if they do not.
func (s *stage) hold(t *testing.T, seed uint64, of mixture, explicit bool) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 2))
	words := newVocabulary(rng, fmt.Sprintf("c%d:", seed%1_000_000), explicit)
	// Where the bytes are cut depends on how long a side's tokens are, what is
	// said must not.
	d := newDialogue(t, rand.New(rand.NewPCG(seed, 3)), words.prefix, s.sides[0], s.sides[1])
	defer d.close()
	d.learn, d.met = words.learn, s.met
	words.mixed = of.text > 0 && of.binary > 0
	meta, packets := metaGenerator{words}, binaryGenerator{words}
	for range 8 + rng.IntN(12) {
		p, conn := textSpeech, fmt.Sprint("text", rng.IntN(2))
		next, closer := meta.step, meta.closer
		if rng.IntN(of.text+of.binary) >= of.text {
			p, conn = binarySpeech, fmt.Sprint("binary", rng.IntN(2))
			next, closer = packets.step, packets.closer
		}
		// Steps that are made together cannot use each other's tokens.
		var steps []step
		for range 1 + rng.IntN(12)*rng.IntN(5) {
			steps = append(steps, next())
		}
		if rng.IntN(4) == 0 {
			steps = append(steps, closer())
		}
		for _, batch := range batches(rng, steps) {
			if why := d.run(p, conn, batch); why != "" {
				return why
			}
		}
	}
	s.settle()
	return sameState(t, d, s.observers, s.names, words.keys())
}

// The differences that the tests below find are magent's: two servers of the
// same version answer every conversation alike.
//
// promise: W4
func TestTwoMemcachedsHoldTheSameConversation(t *testing.T) {
	t.Parallel()
	met := holdConversations(t, twoMemcacheds, mixture{text: 1, binary: 1}, 60)
	// What has to come up, whatever the seed, for the comparison to mean anything.
	for _, kind := range []string{
		"HD", "VA", "EN", "NF", "NS", "EX", "MN", "ME", "mark W", "mark X", "mark Z", "mark h0", "mark h1",
		"CLIENT_ERROR bad data chunk", "CLIENT_ERROR error decoding key", "CLIENT_ERROR opaque token too long", "VALUE", "STORED", "ERROR",
		"opcode 00 status 0", "opcode 01 status 0", "opcode 01 status 2", "opcode 05 status 0", "opcode 09 status 0", "opcode 0e status 0",
		"opcode 10 status 0", "opcode 13 status 1", "opcode 1b status 129", "opcode 1d status 0",
	} {
		if met[kind] == 0 {
			t.Errorf("no answer was of the kind %q", kind)
		}
	}
}

// promise: W1, W2, W4, W6, R1, C1, C9
func TestMetaConversationsAreMemcacheds(t *testing.T) {
	t.Parallel()
	holdConversations(t, magentBeside, mixture{text: 1}, 60)
}

// promise: W3, W4, W6, R1, C1, C9
func TestBinaryConversationsAreMemcacheds(t *testing.T) {
	t.Parallel()
	holdConversations(t, magentBeside, mixture{binary: 1}, 60)
}

// What one protocol writes, the others read, on other connections.
//
// promise: W1, W2, W3, W4, C1, C9
func TestMixedConversationsAreMemcacheds(t *testing.T) {
	t.Parallel()
	holdConversations(t, magentBeside, mixture{text: 1, binary: 1}, 60)
}
