package integration

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"magent/integration/harness"
)

// promise: C11
func TestFlushAllReachesEveryServer(t *testing.T) {
	t.Parallel()
	m := startPools(t, 3, 2, patient...)
	c := harness.MustDial(t, m.Addr)
	keys := keysNamed("k", 60)
	for _, key := range keys {
		must(t, c.Set(key, "v"))
	}
	for _, command := range []string{"flush_all", "flush_all noreply", fmt.Sprint("flush_all ", time.Now().Unix()-10)} {
		if strings.HasSuffix(command, "noreply") {
			must(t, c.Send([]byte(command+"\r\n")))
		} else {
			expect(t, c, command, "OK")
		}
		items, err := c.Get(keys...)
		if err != nil || len(items) != 0 {
			t.Fatalf("after %s: %d values, %v", command, len(items), err)
		}
		for _, s := range append(m.primaries, m.backups...) {
			direct := harness.MustDial(t, s.Addr)
			harness.Eventually(t, 5*time.Second, "every server is empty", func() bool {
				items, err := direct.Get(keys...)
				must(t, err)
				return len(items) == 0
			})
		}
		for _, key := range keys {
			must(t, c.Set(key, "w"))
		}
	}
}

// promise: C11
func TestFlushAllWithDelay(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	c := harness.MustDial(t, m.Addr)
	keys := keysNamed("k", 20)
	for _, key := range keys {
		must(t, c.Set(key, "before"))
	}
	awaitEqual(t, m.primary, m.backup, keys)
	expect(t, c, "flush_all 3", "OK")
	expectValue(t, c, keys[0], "before")
	for _, s := range []*harness.Memcached{m.primary, m.backup} {
		direct := harness.MustDial(t, s.Addr)
		harness.Eventually(t, 10*time.Second, "the delayed flush empties "+s.Addr, func() bool {
			items, err := direct.Get(keys...)
			must(t, err)
			return len(items) == 0
		})
	}
	// memcached counts in seconds: what is written in the second of the flush
	// may go as well, what comes later stays.
	harness.Eventually(t, 10*time.Second, "a write after the flush stays", func() bool {
		must(t, c.Set("after", "stays"))
		_, onP, err := harness.MustDial(t, m.primary.Addr).Value("after")
		must(t, err)
		_, onB, err := harness.MustDial(t, m.backup.Addr).Value("after")
		must(t, err)
		return onP && onB
	})
	expectMiss(t, c, keys[0])
}

// Writers count up while others flush. What was confirmed before a flush was
// sent must not be seen after its answer, and in the end the servers are equal.
//
// promise: C11, C2
func TestFlushAllUnderLoad(t *testing.T) {
	m := startMirrored(t, patient...)
	const writers = 30
	var confirmed [writers]atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	fail := func(err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
		}
	}
	for i := range writers {
		wg.Go(func() {
			c, err := harness.Dial(m.Addr)
			if err != nil {
				fail(err)
				return
			}
			defer func() { _ = c.Close() }()
			for n := int64(1); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := c.Set(fmt.Sprint("w", i), strconv.FormatInt(n, 10)); err != nil {
					fail(err)
					return
				}
				confirmed[i].Store(n)
			}
		})
	}
	keys := keysNamed("w", writers)
	c := harness.MustDial(t, m.Addr)
	for round := 0; round < 60; round++ {
		var before [writers]int64
		for i := range writers {
			before[i] = confirmed[i].Load()
		}
		expect(t, c, "flush_all", "OK")
		items, err := c.Get(keys...)
		must(t, err)
		for _, it := range items {
			i, _ := strconv.Atoi(it.Key[1:])
			n, err := strconv.ParseInt(string(it.Value), 10, 64)
			must(t, err)
			if n <= before[i] {
				t.Fatalf("round %d: %s is %d after a flush_all that was sent when %d was confirmed", round, it.Key, n, before[i])
			}
		}
	}
	close(stop)
	wg.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
	awaitEqual(t, m.primary, m.backup, keys)
}

// A server that was away when everything was flushed comes back without what
// it held.
//
// promise: C11, C6
func TestFlushAllWhileAServerIsAway(t *testing.T) {
	for name, hang := range hangs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := startLinked(t, nil, hanging...)
			c := harness.MustDial(t, m.Addr)
			keys := keysNamed("k", 20)
			for _, key := range keys {
				must(t, c.Set(key, "old"))
			}
			awaitEqual(t, m.primary, m.backup, keys)
			hang.start(m.primary, m.link)
			// Out before the flush, it does not even find that in its buffers.
			awaitOut(t, m.Magent, m.link.Addr)
			start := time.Now()
			expect(t, c, "flush_all", "OK")
			if took := time.Since(start); took > hangTimeout+slack {
				t.Errorf("flush_all took %v", took)
			}
			check := func() {
				items, err := c.Get(keys...)
				must(t, err)
				if len(items) != 0 {
					t.Fatalf("%s is %q after flush_all", items[0].Key, items[0].Value)
				}
			}
			check()
			hang.end(m.primary, m.link)
			before := m.primary.Stat("cmd_get")
			harness.Eventually(t, 15*time.Second, "reads reach the primary again", func() bool {
				check()
				return m.primary.Stat("cmd_get") > before
			})
			check()
		})
	}
}

// The same with the primary dead during the flush, and then the backup: no
// order of failures brings the old values back.
//
// promise: C11, C6
func TestFlushAllWhileTheBackupIsAway(t *testing.T) {
	t.Parallel()
	p, b := harness.StartMemcached(t), harness.StartMemcached(t)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{p.Addr}, Backups: []string{b.Addr}, Args: hanging})
	c := harness.MustDial(t, m.Addr)
	must(t, c.Set("k", "old"))
	awaitEqual(t, p, b, []string{"k"})
	b.Freeze()
	expect(t, c, "flush_all", "OK")
	expectMiss(t, c, "k")
	b.Thaw()
	awaitWrites(t, m, b)
	awaitWhole(t, m) // before that only the primary knows what there is
	p.Kill()
	expectMiss(t, c, "k")
}
