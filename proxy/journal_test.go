package proxy

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// newTestJournal makes the journal of a server with two twins, 0 and 1: they hold
// keys of an even and an odd length.
func newTestJournal(most int, mostSize int64) *journal {
	return newJournal(most, mostSize, []int32{0, 1}, twinOfTest)
}

func twinOfTest(key []byte) int32 { return int32(len(key) % 2) }

// A plain journal, to compare the real one with.
type plainJournal struct {
	most     int
	mostSize int64
	entries  []plainEntry // in the order in which they came first
	counter  uint64
	overflow bool
	own      bool // the overflow may hold what this proxy has missed
	owed     [2]uint64
	lost     [2]bool // of each twin
}

type plainEntry struct {
	key     string
	when    uint64
	foreign bool
}

func (p *plainJournal) at(key string) int {
	return slices.IndexFunc(p.entries, func(e plainEntry) bool { return e.key == key })
}

func (p *plainJournal) size() (n int64) {
	for _, e := range p.entries {
		n += int64(len(e.key)) + entrySize
	}
	return n
}

func (p *plainJournal) enter(key string, foreign bool) added {
	if !p.overflow || !foreign {
		p.counter++
	}
	if p.overflow {
		p.own = p.own || !foreign
		if at := twinOfTest([]byte(key)); !foreign || !p.lost[at] {
			p.owe(at, p.counter)
		}
		return addedLost
	}
	if i := p.at(key); i >= 0 {
		e := &p.entries[i]
		fresh := e.foreign && !foreign
		e.when, e.foreign = p.counter, e.foreign && foreign
		if fresh {
			return addedFresh
		}
		return addedKnown
	}
	if len(p.entries) == p.most || p.size()+int64(len(key))+entrySize > p.mostSize {
		p.forget()
		p.owe(twinOfTest([]byte(key)), p.counter)
		p.overflow, p.own = true, true
		return addedLost
	}
	p.entries = append(p.entries, plainEntry{key, p.counter, foreign})
	if foreign {
		return addedKnown
	}
	return addedFresh
}

func (p *plainJournal) owe(at int32, when uint64) {
	p.owed[at], p.lost[at] = max(p.owed[at], when), true
}

func (p *plainJournal) forget() {
	for _, e := range p.entries {
		p.owe(twinOfTest([]byte(e.key)), e.when)
	}
	p.entries = nil
}

func (p *plainJournal) lose() {
	p.counter++
	p.entries, p.overflow, p.own = nil, true, true
	p.owe(0, p.counter)
	p.owe(1, p.counter)
}

func (p *plainJournal) loseNoted(at int32) {
	p.own = p.own && p.overflow || slices.ContainsFunc(p.entries, func(e plainEntry) bool { return !e.foreign })
	p.forget()
	p.owe(at, p.counter)
	p.overflow = true
}

func (p *plainJournal) clear() {
	p.entries, p.overflow, p.owed, p.lost = nil, false, [2]uint64{}, [2]bool{}
}

func (p *plainJournal) settle(at int32, when uint64) {
	if p.lost[at] && p.owed[at] <= when {
		p.owed[at], p.lost[at] = 0, false
	}
	p.overflow = p.lost[0] || p.lost[1]
}

func (p *plainJournal) keys(n int) (keys []string) {
	for _, e := range p.entries[:min(n, len(p.entries))] {
		keys = append(keys, e.key)
	}
	return keys
}

// Whatever comes, goes and comes again: the journal holds each key once, the
// oldest first, until there are too many.
//
// promise: C6, R2
func TestJournalIsAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 8).Draw(t, "most")
		mostSize := int64(rapid.IntRange(1, 9).Draw(t, "size")) * (entrySize + 3)
		j := newTestJournal(most, mostSize)
		model := &plainJournal{most: most, mostSize: mostSize}
		key := rapid.SampledFrom([]string{"a", "bb", "ccc", "dddd", "eeeee", "f", "gg", "hhh"})
		var removable []plainEntry // of now and of earlier
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				k := key.Draw(t, "key")
				if got, want := j.add([]byte(k), 0), model.enter(k, false); got != want {
					t.Fatalf("add: %d, want %d", got, want)
				}
			},
			"addNoted": func(t *rapid.T) {
				k := key.Draw(t, "key")
				if got, want := j.addNoted([]byte(k), 0), model.enter(k, true); got != want {
					t.Fatalf("addNoted: %d, want %d", got, want)
				}
			},
			"remove": func(t *rapid.T) {
				removable = append(removable, model.entries...)
				if len(removable) == 0 {
					t.Skip("nothing was ever entered")
				}
				e := rapid.SampledFrom(removable).Draw(t, "entry")
				j.remove([]byte(e.key), e.when, false)
				if i := model.at(e.key); i >= 0 && model.entries[i].when == e.when {
					model.entries = slices.Delete(model.entries, i, i+1)
				}
			},
			"forgetUntil": func(t *rapid.T) {
				when := rapid.Uint64Range(0, model.counter+1).Draw(t, "when")
				at := rapid.Int32Range(0, 1).Draw(t, "at")
				j.forgetUntil(when, at)
				model.settle(at, when)
				model.entries = slices.DeleteFunc(model.entries, func(e plainEntry) bool {
					return (e.foreign || e.when <= when) && twinOfTest([]byte(e.key)) == at
				})
			},
			"forgetForeign": func(*rapid.T) {
				j.forgetForeign()
				if model.overflow && !model.own {
					model.clear()
				}
				model.entries = slices.DeleteFunc(model.entries, func(e plainEntry) bool { return e.foreign })
			},
			"drop": func(t *rapid.T) {
				when := rapid.Uint64Range(0, model.counter+1).Draw(t, "when")
				good := rapid.SampledFrom([]string{"a", "gg", "hhh"}).Draw(t, "good")
				at := rapid.Int32Range(0, 1).Draw(t, "at")
				j.dropGood(when, at, func(key string) bool { return key >= good })
				model.settle(at, when)
				model.entries = slices.DeleteFunc(model.entries, func(e plainEntry) bool {
					return e.when <= when && twinOfTest([]byte(e.key)) == at && e.key >= good
				})
			},
			"lose": func(*rapid.T) {
				j.lose(lostByFlush)
				model.lose()
			},
			"loseNoted": func(*rapid.T) {
				at := rapid.Int32Range(0, 1).Draw(t, "at")
				j.loseNoted(at, 0)
				model.loseNoted(at)
			},
			"clear": func(*rapid.T) {
				j.clearUntil(nil)
				model.clear()
			},
			"oldest": func(t *rapid.T) {
				n := rapid.IntRange(0, 4).Draw(t, "n")
				if got := j.oldest(n); !slices.Equal(got, model.keys(n)) {
					t.Fatalf("oldest(%d): %q, want %q", n, got, model.keys(n))
				}
			},
			"": func(t *rapid.T) {
				keys, overflow := j.all()
				if !slices.Equal(keys, model.keys(len(model.entries))) || overflow != model.overflow {
					t.Fatalf("all: %q, %v; want %q, %v", keys, overflow, model.keys(len(model.entries)), model.overflow)
				}
				if j.lost() != model.overflow || j.length() != len(model.entries) || j.latest() != model.counter ||
					j.empty() != (len(model.entries) == 0 && !model.overflow) {
					t.Fatalf("lost %v, length %d, latest %d, empty %v; want %+v", j.lost(), j.length(), j.latest(), j.empty(), model)
				}
				for at := range int32(2) {
					if when, lost := j.lostOf(at); lost != model.lost[at] || when != model.owed[at] {
						t.Fatalf("lost of twin %d: %v, %d; want %+v", at, lost, when, model)
					}
				}
				if j.size != model.size() {
					t.Fatalf("size %d, want %d", j.size, model.size())
				}
				for _, k := range []string{"a", "bb", "ccc", "dddd", "eeeee", "f", "gg", "hhh"} {
					when, missed := j.find([]byte(k))
					if i := model.at(k); missed != (i >= 0 || model.overflow) || i >= 0 && when != model.entries[i].when {
						t.Fatalf("find(%q): %d, %v; want %+v", k, when, missed, model)
					}
				}
			},
		})
	})
}

// A key that was written again while it was copied stays in the journal: what
// was copied may be old.
//
// promise: C6
func TestAKeyThatComesAgainStays(t *testing.T) {
	j := newTestJournal(10, 1<<20)
	j.add([]byte("k"), 0)
	begun, _ := j.find([]byte("k"))
	j.add([]byte("k"), 0)
	j.remove([]byte("k"), begun, false)
	again, missed := j.find([]byte("k"))
	if !missed || j.empty() {
		t.Fatal("the second write is forgotten")
	}
	j.remove([]byte("k"), again, false)
	if _, missed := j.find([]byte("k")); missed || !j.empty() {
		t.Error("the key stays when it has been made good")
	}
}

// What another proxy has noted is told to others once this one misses it too:
// the note of the other one may be taken back.
//
// promise: C6
func TestWhatOthersHaveNoted(t *testing.T) {
	j := newTestJournal(10, 1<<20)
	for i, c := range []struct {
		enter func([]byte, int64) added
		want  added
	}{{j.addNoted, addedKnown}, {j.addNoted, addedKnown}, {j.add, addedFresh}, {j.add, addedKnown}, {j.addNoted, addedKnown}, {j.add, addedKnown}} {
		if got := c.enter([]byte("ours"), 0); got != c.want {
			t.Errorf("entered the %d. time: %d, want %d", i+1, got, c.want)
		}
	}
	// The other proxy has made good what it has noted, not what this one has missed since.
	j.addNoted([]byte("theirs"), 0)
	j.addNoted([]byte("of the other twin"), 0)
	mark := j.latest()
	j.add([]byte("late"), 0)
	j.addNoted([]byte("their late"), 0)
	j.forgetUntil(mark, 0)
	if keys, _ := j.all(); !slices.Equal(keys, []string{"of the other twin", "late"}) {
		t.Errorf("left %q, want what this proxy has missed since, and another twin's", keys)
	}
	// The same when no key is known any more.
	j.lose(lostByFlush)
	j.forgetUntil(j.latest(), 0)
	j.forgetUntil(j.latest()-1, 1)
	if !j.lost() {
		t.Error("a loss that came later is forgotten")
	}
	j.forgetUntil(j.latest(), 1)
	if j.lost() || !j.empty() {
		t.Error("a loss that was made good stays")
	}
	// One that concerns one twin is over when that one's is.
	j.loseNoted(1, 0)
	j.forgetUntil(j.latest(), 0)
	if !j.lost() {
		t.Error("what another twin has told counts as made good")
	}
	j.add([]byte("even"), 0)
	j.forgetUntil(j.latest(), 1)
	if !j.lost() {
		t.Error("a key that was missed after the loss is forgotten with it")
	}
	j.forgetUntil(j.latest(), 0)
	if j.lost() {
		t.Error("a loss that was made good on both twins stays")
	}
}

// What this proxy has missed itself stays when it forgets what others have
// noted, also when that was a loss of all keys, before or after.
//
// promise: C6
func TestOwnKeysOutliveTheLossOfOthers(t *testing.T) {
	for name, enter := range map[string]func(j *journal){
		"before": func(j *journal) { j.add([]byte("mine"), 0); j.loseNoted(0, 0) },
		"after":  func(j *journal) { j.loseNoted(0, 0); j.add([]byte("mine"), 0) },
		"lost":   func(j *journal) { j.lose(lostByFlush); j.loseNoted(0, 0) },
	} {
		j := newTestJournal(10, 1<<20)
		enter(j)
		j.forgetForeign()
		if _, missed := j.find([]byte("mine")); !missed {
			t.Errorf("what was missed %s the loss is forgotten", name)
		}
	}
	j := newTestJournal(10, 1<<20)
	j.addNoted([]byte("theirs"), 0)
	j.loseNoted(0, 0)
	j.forgetForeign()
	if !j.empty() || j.lost() {
		t.Error("what only others have noted is not forgotten")
	}
}

// A journal that is full keeps no keys and holds them all, until its server was
// emptied.
//
// promise: C6, R2
func TestAFullJournalHoldsEveryKey(t *testing.T) {
	for name, j := range map[string]*journal{
		"keys":  newTestJournal(100, 1<<20),
		"bytes": newTestJournal(1<<20, 100*(entrySize+3)),
	} {
		for i := range 100 {
			if got := j.add(fmt.Appendf(nil, "k%02d", i), 0); got != addedFresh {
				t.Fatalf("%s: key %d: %d", name, i, got)
			}
		}
		if j.lost() || j.length() != 100 {
			t.Fatalf("%s: lost %v with %d keys", name, j.lost(), j.length())
		}
		if got := j.add([]byte("k01"), 0); got != addedKnown {
			t.Fatalf("%s: a key that is there needs room: %d", name, got)
		}
		if got := j.add([]byte("one"), 0); got != addedLost {
			t.Fatalf("%s: one key too many: %d", name, got)
		}
		if _, missed := j.find([]byte("never written")); !missed || !j.lost() || j.empty() {
			t.Errorf("%s: missed %v, lost %v, empty %v", name, missed, j.lost(), j.empty())
		}
		if j.length() != 0 || j.size != 0 || len(j.order) != 0 {
			t.Errorf("%s: it keeps %d keys, %d bytes, %d places", name, j.length(), j.size, len(j.order))
		}
		j.remove([]byte("k01"), j.latest(), false)
		if !j.lost() {
			t.Errorf("%s: one copied key made the server whole", name)
		}
		j.clearUntil(nil)
		if _, missed := j.find([]byte("k01")); missed || !j.empty() || j.add([]byte("k01"), 0) != addedFresh {
			t.Errorf("%s: it is not as new after the flush", name)
		}
	}
}

// Keys that come and go while an older one cannot be copied take no room.
//
// promise: R2
func TestAJournalDoesNotGrowWithItsWrites(t *testing.T) {
	j := newTestJournal(1000, 1<<20)
	j.add([]byte("stays"), 0)
	for range 3000 {
		j.add([]byte("comes and goes"), 0)
		when, _ := j.find([]byte("comes and goes"))
		j.remove([]byte("comes and goes"), when, false)
	}
	j.add([]byte("comes and goes"), 0)
	if n := len(j.order); n > 5000 {
		t.Errorf("%d places for 2 keys", n)
	}
	if keys, _ := j.all(); !slices.Equal(keys, []string{"stays", "comes and goes"}) {
		t.Errorf("%d keys, want each once", len(keys))
	}
}

// All loops enter keys while the recovery takes them out.
//
// promise: C6
func TestJournalIsShared(t *testing.T) {
	const writers, keys = 4, 500
	j := newTestJournal(1<<20, 1<<30)
	var loops sync.WaitGroup
	for w := range writers {
		loops.Go(func() {
			for i := range keys {
				j.add(fmt.Appendf(nil, "key%d", i), 0)
				j.add(fmt.Appendf(nil, "key%d of %d", i, w), 0)
				j.find([]byte("key0"))
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		loops.Wait()
	}()
	seen := map[string]bool{}
	for over := false; !over || !j.empty(); {
		select {
		case <-ended:
			over = true
		default:
		}
		for _, key := range j.oldest(50) {
			seen[key] = true
			when, _ := j.find([]byte(key))
			j.remove([]byte(key), when, false)
		}
	}
	if want := keys + writers*keys; len(seen) != want || j.length() != 0 || j.size != 0 {
		t.Errorf("%d keys were taken out, want %d; %d keys, %d bytes are left", len(seen), want, j.length(), j.size)
	}
}

// Keys that must wait are passed once, and are there when they need wait no longer.
//
// promise: C6
func TestKeysThatMustWaitArePassedOnce(t *testing.T) {
	j := newTestJournal(4*mostPassed, 1<<40)
	var first, second []string
	for i := range 2 * mostPassed {
		key := fmt.Sprint("key", i)
		j.add([]byte(key), 1)
		if j.twinOf([]byte(key)) == 0 {
			first = append(first, key)
		} else {
			second = append(second, key)
		}
	}
	var got []string
	for calls := 0; len(got) < len(second) && calls < 2*len(second)/100+10; calls++ { // some find none
		keys := j.oldest(100, 0)
		for _, key := range keys {
			when, _ := j.find([]byte(key))
			j.remove([]byte(key), when, false)
		}
		got = append(got, keys...)
	}
	if !slices.Equal(got, second) {
		t.Errorf("%d keys of the other twin, want %d in their order", len(got), len(second))
	}
	if len(j.order) > 2*len(first) {
		t.Errorf("%d places for %d keys", len(j.order), len(first))
	}
	if all := j.oldest(1 << 62); len(all) != len(first) {
		t.Errorf("%d keys are left, want %d", len(all), len(first))
	}
}
