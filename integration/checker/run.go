package checker

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// Options say how to run the checker. The zero value of a field stands for
// the value in brackets.
type Options struct {
	Seed    uint64        // what is done depends on it alone
	For     time.Duration // start no round after that time (30s)
	Clients int           // at work at once (8 to 16, by the seed)
	Slots   int           // keys in use at once (20)
	Fillers int           // keys that are written once in each round, and read (1500)
	Think   time.Duration // a client's pause between two commands, on average (3ms)
	Limit   time.Duration // for the check of one key (12s)
	Magents int           // that run at first (one or two, by the seed)
	Kinds   []string      // of faults (all)

	Dialects []Dialect // that clients may speak (all)
}

// Totals counts what was done and found.
type Totals struct {
	Rounds, Ops, Unknown, Keys, Undecided, Losses, Alarms, Failures, Cas, Needless int
	Faults                                                                         map[string]int
	Errors                                                                         map[string]int // lines that clients got in place of answers
	Spoken                                                                         map[Dialect]int
}

// NewTotals returns totals of nothing.
func NewTotals() *Totals {
	return &Totals{Faults: make(map[string]int), Errors: make(map[string]int), Spoken: make(map[Dialect]int)}
}

// String is the summary, one thing in a line.
func (t *Totals) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "rounds %d, operations %d (of unknown outcome %d, cas that succeeded %d), keys checked %d\n", t.Rounds, t.Ops, t.Unknown, t.Cas, t.Keys)
	for _, d := range slices.Sorted(maps.Keys(t.Spoken)) {
		fmt.Fprintf(&b, "%s %d, ", d, t.Spoken[d])
	}
	total := 0
	for _, n := range t.Faults {
		total += n
	}
	fmt.Fprintf(&b, "faults %d", total)
	for _, kind := range slices.Sorted(maps.Keys(t.Faults)) {
		fmt.Fprintf(&b, ", %s %d", kind, t.Faults[kind])
	}
	fmt.Fprintf(&b, "\nundecided checks %d, losses allowed %d (%d of them because a server that was well was taken out), failures %d",
		t.Undecided, t.Losses, t.Alarms, t.Failures)
	fmt.Fprintf(&b, "\nerrors of magent although one server was well: %d", t.Needless)
	for _, line := range slices.SortedFunc(maps.Keys(t.Errors), func(a, b string) int { return cmp.Compare(t.Errors[b], t.Errors[a]) }) {
		fmt.Fprintf(&b, "\n%6d times: %s", t.Errors[line], line)
	}
	return b.String()
}

// Run starts a cluster and lets clients work on it, round after round, while
// faults are injected. What is wrong fails the test; then the run ends. What
// was done is added to the totals.
func Run(tb testing.TB, o Options, totals *Totals) {
	tb.Helper()
	o.For = cmp.Or(o.For, 30*time.Second)
	o.Slots = cmp.Or(o.Slots, 20)
	o.Fillers = cmp.Or(o.Fillers, 1500)
	o.Think = cmp.Or(o.Think, 3*time.Millisecond)
	o.Limit = cmp.Or(o.Limit, 12*time.Second)
	if len(o.Kinds) == 0 {
		o.Kinds = slices.Sorted(maps.Keys(faultKinds()))
	}
	if len(o.Dialects) == 0 {
		o.Dialects = AllDialects()
	}
	rng := rand.New(rand.NewPCG(o.Seed, 2))
	o.Clients = cmp.Or(o.Clients, 8+rng.IntN(9))
	cluster := startCluster(tb, rng, o.Magents)
	tb.Log(cluster)
	begin := time.Now()
	for n := 0; time.Since(begin) < o.For && !tb.Failed(); n++ {
		runRound(tb, o, cluster, fmt.Sprintf("r%d", n), rand.New(rand.NewPCG(o.Seed, uint64(n)+3)), totals)
	}
	if tb.Failed() {
		totals.Failures++
	}
}

// runRound runs one round and checks it.
func runRound(tb testing.TB, o Options, cluster *Cluster, name string, rng *rand.Rand, totals *Totals) {
	tb.Helper()
	if err := cluster.awaitWhole(); err != nil {
		tb.Errorf("before round %s: %v", name, err)
		return
	}
	if rng.IntN(2) == 0 {
		cluster.empty()
	}
	r := newRound(cluster, name, o.Slots, o.Think)
	r.dialects = o.Dialects
	filled, err := r.fill(o.Fillers)
	if err != nil {
		tb.Errorf("round %s, before any fault: %v", name, err)
		return
	}
	clients := make([]*client, o.Clients)
	var working sync.WaitGroup
	seed := rng.Uint64()
	for i := range clients {
		clients[i] = newClient(i, seed, r)
		working.Go(clients[i].run)
	}
	in := &injector{rng: rng, cluster: cluster, round: r, kinds: o.Kinds}
	defer working.Wait()
	defer r.end() // also when a program could not be started
	if err := in.run(2 + rng.IntN(4)); err != nil {
		tb.Errorf("round %s: %v", name, err)
	}
	r.end()
	working.Wait()

	h := &History{Began: r.begin, Keys: r.keys, Ops: filled, Losses: in.losses, Faults: in.faults}
	h.Logged = sync.OnceValue(func() []LogLine { return cluster.logged(r.begin) })
	for _, c := range clients {
		h.Ops = append(h.Ops, c.ops...)
		for _, wrong := range c.wrong {
			tb.Errorf("round %s, client %d: %s", name, c.id, wrong)
		}
		if c.hangs > 0 {
			tb.Errorf("round %s: %d requests of client %d had no answer for %v", name, c.hangs, c.id, clientTimeout)
		}
		for line, n := range c.said {
			totals.Errors[line] += n
		}
	}
	if !tb.Failed() {
		h.Ops = append(h.Ops, finalReads(tb, cluster, r, h)...)
	}
	totals.count(h)
	totals.Alarms += in.alarms
	judge(tb, o, r, h, totals)
}

// count adds what was done in a round.
func (t *Totals) count(h *History) {
	t.Rounds++
	t.Ops += len(h.Ops)
	for _, o := range h.Ops {
		if o.Unknown {
			t.Unknown++
		}
		if o.Unknown && strings.HasPrefix(o.Answer, "SERVER_ERROR") && h.needless(o) {
			t.Needless++
		}
		if o.Dialect != "" {
			t.Spoken[o.Dialect]++
		}
		if o.Kind == Cas && o.Answer == "STORED" {
			t.Cas++
		}
	}
	for _, f := range h.Faults {
		t.Faults[f.Kind]++
	}
	t.Losses += len(h.Losses)
}

// finalWithin is how long two servers may take to become equal after the last
// command was answered and redundancy is whole.
const finalWithin = 5 * time.Second

// finalReads compares the servers, which have to be equal, and returns what
// they hold as reads of the keys.
func finalReads(tb testing.TB, cluster *Cluster, r *round, h *History) []*Op {
	tb.Helper()
	if err := cluster.awaitWhole(); err != nil {
		tb.Errorf("after round %s: %v", r.name, err)
		return nil
	}
	call := r.now()
	agreed, differ, err := cluster.compare(r.keys, finalWithin)
	if err != nil {
		tb.Errorf("after round %s, asking the servers: %v", r.name, err)
		return nil
	}
	if len(differ) > 0 {
		tb.Errorf("after round %s the servers differ in %d of %d keys although redundancy is whole:\n%s",
			r.name, len(differ), len(r.keys), strings.Join(differ, "\n"))
		key, _, _ := strings.Cut(differ[0], ":")
		tb.Logf("the end of the history of %s:\n%s", key, h.around(h.ofKey(key, false), -1))
		h.byKey = nil // more comes
	}
	var ops []*Op
	for key, held := range agreed {
		o := &Op{Client: serverClient, Kind: Peek, Key: key, Call: call, Return: r.now(), Answer: Miss}
		if held.found {
			o.Answer, o.GotValue, o.GotFlags = Hit, string(held.item.Value), held.item.Flags
			o.GotExpiry = r.expiryOf(held.item.TTL)
		}
		ops = append(ops, o)
	}
	return ops
}

// judge checks a history and reports what is wrong.
func judge(tb testing.TB, o Options, r *round, h *History, totals *Totals) {
	tb.Helper()
	dir, err := os.MkdirTemp(os.Getenv("MAGENT_ARTIFACTS"), "magent-checker-")
	if err != nil {
		tb.Error(err)
		return
	}
	verdicts, err := h.CheckAll(o.Limit, dir)
	if err != nil {
		tb.Error(err)
	}
	_ = os.Remove(dir) // unless something was written there
	if n := len(h.Keys) - len(verdicts); n > 0 {
		tb.Logf("round %s: %d more keys were not checked", r.name, n)
	}
	for _, v := range verdicts {
		totals.Keys++
		switch v.Result {
		case porcupine.Unknown:
			totals.Undecided++
			tb.Logf("round %s: the check of key %s was not decided within %v; all of it is in %s",
				r.name, v.Key, o.Limit, strings.Join(v.Written, " and "))
		case porcupine.Illegal:
			tb.Errorf("round %s, which began at %s: key %s: a promise is broken; all of it is in %s:\n%s",
				r.name, h.Began.UTC().Format("15:04:05.000"), v.Key, strings.Join(v.Written, " and "), v.Short)
		}
	}
}
