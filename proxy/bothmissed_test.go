package proxy

import (
	"fmt"
	"testing"
)

// A key that both of its servers have missed is wrong on the one that missed the
// later write. Where nobody knows, the primary decides.
//
// promise: C6, C7
func TestBothMissed(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
	for _, c := range []struct {
		primary, backup int64 // when they missed the key; -1: not
		wrong           string
	}{
		{5, -1, "primary"}, {-1, 5, "backup"}, {0, -1, "primary"}, {-1, 0, "backup"}, {-1, -1, ""},
		{5, 7, "backup"}, {7, 5, "primary"}, {0, 5, "backup"}, {5, 0, "primary"}, {0, 0, "backup"}, {5, 5, "backup"},
	} {
		p := newTestProxy(t, o)
		for server, at := range []int64{c.primary, c.backup} {
			if at >= 0 {
				p.journals[server].add([]byte("k"), at)
			}
			p.journals[server].add([]byte("other"), 1)
		}
		p.bothMissed([]byte("k"))
		wrong := ""
		for server, name := range []string{"primary", "backup"} {
			if _, missed := p.journals[server].find([]byte("k")); missed {
				wrong += name
			}
			if _, missed := p.journals[server].find([]byte("other")); !missed {
				t.Errorf("another key is gone from the journal of the %s", name)
			}
		}
		if wrong != c.wrong {
			t.Errorf("missed at %d and %d: wrong on %q, want %q", c.primary, c.backup, wrong, c.wrong)
		}
	}
}

// Of a server it is only known when it missed the last of its keys. What its twin has
// missed since it has run itself: that is not missed, the server is not flushed before
// the twin has it, and a twin that comes back empty still has to get it. While another
// proxy may write to the twin alone, nobody knows.
//
// promise: C5, C6
func TestWhatAServerHoldsSinceALoss(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
	const lostAt = 100
	for _, server := range []int32{0, 1} {
		for at, right := range map[int64]bool{0: false, 99: false, lostAt: false, 101: true} {
			t.Run(fmt.Sprintf("server %d, twin missed it at %d", server, at), func(t *testing.T) {
				p := newTestProxy(t, o)
				key, twin := []byte("k"), 1-server
				p.journals[server].loseAt(lostByFlush, lossTimes{lostAt, lostAt}, nil)
				p.journals[twin].add(key, at)
				expect := func(what string, got, want bool) {
					t.Helper()
					if got != want {
						t.Errorf("%s: %v, want %v", what, got, want)
					}
				}
				_, missed := p.missed(server, twin, key)
				expect("the server has missed it", missed, !right)
				_, missed = p.missed(server, twin, []byte("another"))
				expect("the server has missed another key", missed, true)
				_, missed = p.missed(twin, server, key)
				expect("the twin has missed it", missed, true)
				expect("the server holds more", p.holdsMore(server), right)
				expect("the twin holds more", p.holdsMore(twin), false)
				p.bothMissed(key)
				_, missed = p.journals[twin].find(key)
				expect("the twin has missed it for certain", missed, at > 0)
				p.journals[twin].add(key, at)
				p.journals[server].add([]byte("missed since"), 1_000_000)
				_, missed = p.missed(server, twin, key)
				expect("the server has missed it when it misses another key since", missed, !right)

				p.recovery.care[server].rival.Store(true)
				_, missed = p.missed(server, twin, key)
				expect("with a rival, the server has missed it", missed, true)
				expect("nobody knows", p.rivalsTell(server, twin, key), right)
				p.recovery.care[server].rival.Store(false)

				p.emptied(twin)
				_, missed = p.journals[twin].find(key)
				expect("the empty twin still has to get it", missed, right)
				p.emptied(server)
				expect("an empty server has missed nothing", p.journals[server].empty(), true)
				p.emptied(twin)
				expect("nor has its twin then", p.journals[twin].empty(), true)
			})
		}
	}
}

// Where this proxy alone has written too many keys without a server, the key that the
// twin has missed of it before is right on the server: it has not been written on the
// twin since, or the twin would have it.
//
// promise: C6, C7
func TestALossLeavesWhatThisProxyWroteBefore(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
	o.JournalKeys = 2
	for _, c := range []struct {
		at      int64
		foreign bool
		right   bool
	}{
		{0, false, false}, {leftAt, false, false}, {50, false, false}, {60, false, true}, {101, false, true},
		{60, true, false}, {101, true, true},
	} {
		p := newTestProxy(t, o)
		key := []byte("k")
		p.journals[0].addNoted([]byte("another proxy's"), 50)
		p.journals[0].add([]byte("a"), 100)
		p.journals[0].overflowNow(lostByNumber, 100)
		if c.foreign {
			p.journals[1].addNoted(key, c.at)
		} else {
			p.journals[1].add(key, c.at)
		}
		if _, missed := p.missed(0, 1, key); missed == c.right || p.holdsMore(0) != c.right {
			t.Errorf("%+v: missed %v, holds more %v", c, missed, p.holdsMore(0))
		}
		p.emptied(1)
		if _, missed := p.journals[1].find(key); missed != c.right {
			t.Errorf("%+v: the empty twin still has to get it: %v", c, missed)
		}
	}
	// The key of another proxy that is one too many may be this one.
	p := newTestProxy(t, o)
	p.journals[1].add([]byte("k"), 60)
	p.journals[0].add([]byte("a"), 100)
	p.journals[0].add([]byte("b"), 100)
	p.recovery.enterNoted(0, missedKey{"k", 200})
	if _, missed := p.missed(0, 1, []byte("k")); !missed {
		t.Error("a later write of another proxy, which is one too many, counts as the older")
	}
	// What may be of this key all the same.
	for name, lose := range map[string]func(j *journal){
		"flush_all":     func(j *journal) { j.lose(lostByFlush) },
		"another proxy": func(j *journal) { j.loseNoted(1, 200) },
		"too many of another proxy": func(j *journal) {
			j.addNoted([]byte("b"), 200)
			j.addNoted([]byte("c"), 200)
			j.addNoted([]byte("d"), 200)
		},
		"one of another proxy, by name": func(j *journal) { j.addNoted([]byte("k"), 200) },
		"the program before an upgrade": func(j *journal) { j.loseAt(lostByOther, lossTimes{200, 200}, nil) },
	} {
		p := newTestProxy(t, o)
		p.journals[0].overflowNow(lostByNumber, 100)
		p.journals[1].add([]byte("k"), 60)
		if _, missed := p.missed(0, 1, []byte("k")); missed {
			t.Errorf("%s: before it, the key counts as missed", name)
		}
		lose(p.journals[0])
		if _, missed := p.missed(0, 1, []byte("k")); !missed {
			t.Errorf("%s: the key counts as right", name)
		}
	}
}

// When the last key was missed that is not known.
//
// promise: C6
func TestTheTimeOfALoss(t *testing.T) {
	j := newTestJournal(10, 1<<20)
	expect := func(least, most int64) {
		t.Helper()
		if at, lost := j.lostSince(); !lost || at < least || at > most {
			t.Fatalf("lost %v since %d, want %d to %d", lost, at, least, most)
		}
	}
	if at, lost := j.lostSince(); lost || at != 0 {
		t.Fatalf("before: lost %v since %d", lost, at)
	}
	j.add([]byte("a"), 7)
	j.loseNoted(0, 5)
	expect(7, 7)
	j.loseNoted(1, 9)
	expect(9, 9)
	j.addNoted([]byte("b"), 8)
	j.addNoted([]byte("b"), 12)
	j.add([]byte("c"), 0) // the server holds what is right either way
	expect(9, 9)
	of := func(key string, least, most int64) {
		t.Helper()
		if at, lost := j.lostSinceOf([]byte(key), false); !lost || at < least || at > most {
			t.Fatalf("%s: lost %v since %d, want %d to %d", key, lost, at, least, most)
		}
	}
	now := unixMilliNow()
	j.add([]byte("c"), 13) // what is missed from now on is known again
	expect(9, 9)
	of("a", 9, 9)
	of("b", 12, 12)
	of("c", now, now+60_000)
	j.add([]byte("d"), leftAt) // before all others
	of("d", 9, 9)
	other := newTestJournal(10, 1<<20)
	other.loseAt(lostByFlush, lossTimes{9, 9}, j.allLater())
	if at, _ := other.lostSinceOf([]byte("b"), false); at != 12 || other.laterOf([]byte("b")) != 12 || other.laterOf([]byte("a")) != 0 {
		t.Fatalf("handed over: b was missed at %d", at)
	}
	j.loseNoted(0, 10) // keeps what is known since
	expect(10, 10)
	of("b", 12, 12)
	for i := range 7 {
		j.addNoted([]byte{'k' + byte(i)}, 15)
	}
	j.addNoted([]byte("b"), 16) // no place is left, and it needs none
	of("b", 16, 16)
	of("k", 15, 15)
	j.addNoted([]byte("one too many"), 15)
	expect(now, now+60_000)
	of("b", now, now+60_000)
	j.loseAt(lostByFlush, lossTimes{20, 20}, nil)
	expect(20, 20)
	j.lose(lostByFlush)
	expect(now, now+60_000)
	j.clearUntil(nil)
	if at, lost := j.lostSince(); lost || at != 0 {
		t.Fatalf("afterwards: lost %v since %d", lost, at)
	}
	for i := range 11 {
		j.add([]byte{'a' + byte(i)}, 1)
	}
	expect(now, now+60_000)
}

// Another proxy tells when it has last missed a key that it does not name. What it has
// missed before the server was flushed is made good; what comes later is not.
//
// promise: C6
func TestLossesOfOthersAreFollowed(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
	rc := newTestProxy(t, o).recovery
	j := rc.p.journals[0]
	token := uint64(0)
	read := func(marks string) {
		token++
		rc.merge(0, 1, fact{noted: true, token: token, record: parseRecord([]byte(recordText(1, nil) + marks))}, false)
	}
	expect := func(what string, least, most int64) {
		t.Helper()
		if at, lost := j.lostSince(); !lost || at < least || at > most {
			t.Fatalf("%s: lost %v since %d, want %d to %d", what, lost, at, least, most)
		}
	}
	lost := markText("other", markLost)
	read(lost + missedText("other", 100))
	expect("told when", 100, 100)
	read(lost + missedText("other", 100) + missedText("other", 300) + missedText("other", 200))
	expect("told again", 300, 300)
	read(lost + missedText("other", 300) + missedText(rc.presence.name, 900))
	expect("this one's own", 300, 300)
	now := unixMilliNow()
	rc.p.emptied(0)
	read(lost + missedText("other", now-1) + markText("other", markOut))
	if !j.empty() {
		t.Fatal("what was missed before the server was flushed counts")
	}
	read(lost + missedText("other", now+1_000_000))
	expect("missed after the flush, by a clock that is ahead", now, now+60_000)
	rc.p.emptied(0)
	read(lost + lost)
	expect("once more, and not told when", now, now+60_000)
	rc.p.emptied(0)
	read(lost + lost + missedText("other", 100) + markText("-", markLost))
	expect("one has not told when", now, now+60_000)
}

// The text of a record that has grown too long keeps when keys were missed.
//
// promise: C6
func TestARecordKeepsTheTimesOfLosses(t *testing.T) {
	text := recordText(7, nil) + markText("a", markLost) + missedText("a", 5) + missedText("b", 9) + markText("a", markIn)
	for range 2 {
		rec := parseRecord([]byte(text))
		if rec.lossesBut("b") != 1 || rec.allTimed("b") != true || rec.allTimed("") != true || rec.lastBut("a") != 9 || rec.lastBut("b") != 5 || rec.lastBut("") != 9 || rec.marks["a"] != markIn {
			t.Fatalf("%q: %+v", text, rec)
		}
		text = rec.text()
	}
	for _, bad := range []string{" a missed@\n", " a missed@x\n", " a missed@-1\n", "  missed@4\n"} {
		if rec := parseRecord([]byte(recordText(7, nil) + bad)); !rec.lost() {
			t.Errorf("%q counts as nothing: %+v", bad, rec)
		}
	}
}

// While writes are missed all the time, others are told when a few times a second, and
// at once with another mark.
//
// promise: C6, R2
func TestOthersAreToldNowAndThen(t *testing.T) {
	var r record
	expect := func(what string, atOnce, want bool) {
		t.Helper()
		if at, tell := r.missedSince(atOnce); tell != want || at != r.missed.Load() {
			t.Fatalf("%s: %d, %v; want %v", what, at, tell, want)
		}
	}
	now := unixMilliNow()
	expect("nothing was missed", true, false)
	r.miss(now - 10_000)
	expect("the first", false, true)
	r.tellMissed(now - 10_000)
	expect("it is told", true, false)
	r.miss(now - 9_000)
	expect("some time later", false, true)
	r.tellMissed(now + 100_000)
	r.miss(now + 100_001)
	expect("a moment later", false, false)
	expect("a moment later, with a mark", true, true)
	r.miss(5)
	if r.missed.Load() != now+100_001 {
		t.Fatal("an earlier one counts")
	}
}
