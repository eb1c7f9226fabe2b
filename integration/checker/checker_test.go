package checker

import (
	"fmt"
	"maps"
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

// mostFailures ends a long run: what breaks then is known.
const mostFailures = 5

// Clients write and read through magent while servers, links and magents
// fail at random, and every answer that they got fits one item in one cache
// that forgets nothing.
//
//	MAGENT_SEED       repeats what was done
//	MAGENT_CHECK      how long to run, as 30m
//	MAGENT_FAULTS     the kinds of faults, with commas between them
//	MAGENT_PROXIES    how many magents run at first, 1 or 2
//	MAGENT_ARTIFACTS  a directory for histories that are wrong
//
// promise: C1, C2, C3, C4, C5, C6, C7, C8, C9, C11
func TestNoPromiseIsBroken(t *testing.T) {
	length, seed := shortRun, uint64(time.Now().UnixNano())
	var err error
	if s := os.Getenv("MAGENT_CHECK"); s != "" {
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatalf("MAGENT_CHECK: %v", err)
		}
	}
	if s := os.Getenv("MAGENT_SEED"); s != "" {
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("MAGENT_SEED: %v", err)
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
	magents := 0
	if s := os.Getenv("MAGENT_PROXIES"); s != "" {
		if magents, err = strconv.Atoi(s); err != nil || magents < 1 || magents > 2 {
			t.Fatalf("MAGENT_PROXIES is %q, want 1 or 2", s)
		}
	}
	// The short run begins with one magent, and moves clients only when it has to:
	// each case of two has a test of its own. The long run has them all.
	if os.Getenv("MAGENT_CHECK") == "" {
		if magents == 0 {
			magents = 1
		}
		if kinds == nil {
			kinds = slices.DeleteFunc(slices.Sorted(maps.Keys(faultKinds())), func(kind string) bool { return kind == "hand-over" })
		}
	}
	totals := NewTotals()
	begin := time.Now()
	for ; time.Since(begin) < length && totals.Failures < mostFailures; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Logf("repeat with MAGENT_SEED=%d", seed)
			Run(t, Options{Seed: seed, For: min(clusterFor, length-time.Since(begin)), Kinds: kinds, Magents: magents}, totals)
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
// allow.
func TestModelIsThatOfMemcached(t *testing.T) {
	r := newRound(alone{harness.StartMemcached(t, "-t", "4", "-o", "lru_maintainer,lru_crawler")}, "r", 20, time.Millisecond)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r.flushEvery = 300
	clients := make([]*client, 12)
	var working sync.WaitGroup
	for i := range clients {
		clients[i] = newClient(i, seed, r)
		working.Go(clients[i].run)
	}
	<-time.After(3 * time.Second)
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
	t.Logf("%d operations", len(h.Ops))
}
