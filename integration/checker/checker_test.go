package checker

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"magent/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// The time that one cluster is used, and how long the checker runs unless
// MAGENT_CHECK says otherwise.
const (
	clusterFor = 40 * time.Second
	shortRun   = 60 * time.Second
)

// mostFailures ends a long run, unless MAGENT_FAILURES says otherwise: what breaks
// then is known.
const mostFailures = 5

// Clients write and read through magent while servers, links and magents
// fail at random, and every answer that they got fits one item in one cache
// that forgets nothing.
//
//	MAGENT_SEED       repeats what was done
//	MAGENT_CHECK      how long to run, as 30m
//	MAGENT_FAULTS     the kinds of faults, with commas between them
//	MAGENT_FAILURES   how many failures end the run (5)
//	MAGENT_PROXIES    how many magents run at first, 1 or 2
//	MAGENT_DIALECTS   what clients speak: text, meta, binary, with commas between
//	                  them (all). Keys are filled in, and flush_all is said, in
//	                  classic text where meta commands are chosen
//	MAGENT_ARTIFACTS  a directory for histories that are wrong
//
// promise: C1, C2, C3, C4, C5, C6, C7, C8, C9, C11, W2, W3
func TestNoPromiseIsBroken(t *testing.T) {
	length := shortRun
	seed, err := seedFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	dialects, err := DialectsFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	if s := os.Getenv("MAGENT_CHECK"); s != "" {
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatalf("MAGENT_CHECK: %v", err)
		}
	}
	var kinds []string
	if s := os.Getenv("MAGENT_FAULTS"); s != "" {
		kinds = strings.Split(s, ",")
		for _, kind := range kinds {
			if faultKinds()[kind] == nil {
				t.Fatalf("MAGENT_FAULTS has %q, want some of %q", kind, slices.Sorted(maps.Keys(faultKinds())))
			}
		}
	}
	most := mostFailures
	if s := os.Getenv("MAGENT_FAILURES"); s != "" {
		if most, err = strconv.Atoi(s); err != nil || most < 1 {
			t.Fatalf("MAGENT_FAILURES is %q, want a number from 1", s)
		}
	}
	magents := 0
	if s := os.Getenv("MAGENT_PROXIES"); s != "" {
		if magents, err = strconv.Atoi(s); err != nil || magents < 1 || magents > 2 {
			t.Fatalf("MAGENT_PROXIES is %q, want 1 or 2", s)
		}
	}
	totals := NewTotals()
	begin := time.Now()
	for ; time.Since(begin) < length && totals.Failures < most; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Logf("repeat with MAGENT_SEED=%d", seed)
			Run(t, Options{Seed: seed, For: min(clusterFor, length-time.Since(begin)), Kinds: kinds, Magents: magents, Dialects: dialects}, totals)
		})
	}
	t.Logf("in %v:\n%s", time.Since(begin).Round(time.Second), totals)
	if totals.Rounds > 0 && totals.Cas == 0 {
		t.Error("no cas succeeded: tokens are of no use")
	}
}

// alone is a memcached without magent.
type alone struct{ *harness.Memcached }

func (a alone) dial() (*harness.Client, error) { return harness.Dial(a.Addr) }
func (a alone) hangUp(conn *harness.Client)    { _ = conn.Close() }

// The model is that of memcached: clients that use memcached itself, which
// keeps all promises that one copy can keep, see nothing that it does not
// allow. They speak each dialect alone, and all of them on the same keys.
//
//	MAGENT_SEED      repeats what was done
//	MAGENT_DIALECTS  what the clients speak, in place of that
func TestModelIsThatOfMemcached(t *testing.T) {
	seed, err := seedFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	dialects, err := DialectsFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	sets := [][]Dialect{dialects}
	if len(dialects) > 1 {
		sets = append(sets, dialects)
		for _, d := range dialects {
			sets = append(sets, []Dialect{d})
		}
	}
	for _, set := range sets {
		for _, threads := range []int{1, 4} {
			t.Run(fmt.Sprintf("%v,threads=%d,seed=%d", set, threads, seed), func(t *testing.T) { runAlone(t, seed, set, threads) })
		}
		seed++
	}
}

// runAlone lets clients work on a memcached for a moment, and checks what they
// saw. A memcached with several threads is not flushed: a flush in the middle
// of a replace on another thread, after it has found the item and before it
// puts the new one in its place, does not reach the new one (items.c,
// item_is_flushed, goes by the time and the token of the item).
func runAlone(t *testing.T, seed uint64, dialects []Dialect, threads int) {
	server := harness.StartMemcached(t, "-t", strconv.Itoa(threads), "-o", "lru_maintainer,lru_crawler")
	r := newRound(alone{server}, "r", 20, time.Millisecond)
	r.dialects, r.flushEvery = dialects, 300
	if threads > 1 {
		r.flushEvery = math.MaxInt
	}
	clients := make([]*client, 12)
	var working sync.WaitGroup
	for i := range clients {
		clients[i] = newClient(i, seed, r)
		working.Go(clients[i].run)
	}
	<-time.After(1200 * time.Millisecond)
	r.end()
	working.Wait()
	h := &History{Keys: r.keys}
	for _, c := range clients {
		h.Ops = append(h.Ops, c.ops...)
		if len(c.wrong) > 0 || len(c.said) > 0 {
			t.Errorf("client %d: %v %v", c.id, c.wrong, c.said)
		}
	}
	verdicts, err := h.CheckAll(10*time.Second, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range verdicts {
		if v.Result != porcupine.Ok {
			t.Errorf("key %s: %s\n%s", v.Key, v.Result, v.Short)
		}
	}
	totals := NewTotals()
	totals.count(h)
	t.Log(totals)
	for _, d := range dialects {
		if totals.Spoken[d] == 0 {
			t.Errorf("nothing was said in %s", d)
		}
	}
	if totals.Unknown > 0 || totals.Cas == 0 {
		t.Errorf("%d operations have an unknown outcome, and %d cas succeeded", totals.Unknown, totals.Cas)
	}
}

// seedFromEnv is MAGENT_SEED, or the time if that is not set.
func seedFromEnv() (uint64, error) {
	s := os.Getenv("MAGENT_SEED")
	if s == "" {
		return uint64(time.Now().UnixNano()), nil
	}
	seed, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("MAGENT_SEED: %w", err)
	}
	return seed, nil
}
