package proxy

import (
	"fmt"
	"testing"
	"time"
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
				p.journals[server].loseAt(lostAt)
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
		if at, lost := j.lostSinceOf([]byte(key)); !lost || at < least || at > most {
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
	if at := j.allLostAt(); at < now {
		t.Fatalf("all were missed until %d, want %d", at, now)
	}
	for i := range 10 {
		j.addNoted([]byte{'k' + byte(i)}, 15) // too many
	}
	expect(now, now+60_000)
	of("b", now, now+60_000)
	j.loseAt(20)
	expect(20, 20)
	j.loseUntil(10)
	expect(20, 20)
	j.loseUntil(30)
	expect(30, 30)
	j.lose()
	expect(now, now+60_000)
	j.clearUntil(nil)
	if at, lost := j.lostSince(); lost || at != 0 {
		t.Fatalf("afterwards: lost %v since %d", lost, at)
	}
	j.loseUntil(40)
	if at, lost := j.lostSince(); lost || at != 0 {
		t.Fatalf("when nothing is lost: lost %v since %d", lost, at)
	}
	for i := range 11 {
		j.add([]byte{'a' + byte(i)}, 1)
	}
	expect(now, now+60_000)
}

// Another proxy has missed keys that it does not name: it may have done so until its
// clients wrote last, and as long as it has some until its next sign is due.
//
// promise: C6
func TestWroteUntil(t *testing.T) {
	p := presence{name: "own", beats: map[beatPlace]beat{}}
	now := time.Now()
	from := now.Add(-time.Minute).UnixMilli()
	for name, line := range map[string]string{
		"idle": fmt.Sprintf("idle %d 5000 -", from*1e6),
		"busy": fmt.Sprintf("busy %d 10 -", from*1e6),
		"next": fmt.Sprintf("next %d 10 -", now.Add(time.Hour).UnixNano()),
	} {
		who, b, ok := parseBeat(line, now)
		if !ok || who != name {
			t.Fatalf("%q: %q, %v", line, who, ok)
		}
		p.noteBeat(name, 0, b)
	}
	for _, c := range []struct {
		names []string
		want  int64 // 0: now
	}{
		{[]string{"idle"}, from - 5000}, {[]string{"busy"}, from + 400}, {[]string{"idle", "busy"}, from + 400}, {[]string{"own", "idle"}, from - 5000},
		{[]string{"idle", "unknown"}, from - 5000}, {[]string{"next", "idle"}, 0},
	} {
		names := map[string]int{}
		for _, name := range c.names {
			names[name] = 1
		}
		got := p.wroteUntil(names)
		if isNow := got >= now.UnixMilli() && got <= now.UnixMilli()+60_000; c.want == 0 && !isNow || c.want != 0 && got != c.want {
			t.Errorf("%q: %d, want %d (now is %d)", c.names, got, c.want, now.UnixMilli())
		}
	}
}

// Another proxy says once that it has missed more than it names. That counts from the
// moment at which it is read, and again when that proxy has written since, unless it
// uses the server again.
//
// promise: C6
func TestLossesOfOthersAreFollowed(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
	rc := newTestProxy(t, o).recovery
	j := rc.p.journals[0]
	expect := func(what string, least, most int64) {
		t.Helper()
		if at, lost := j.lostSince(); !lost || at < least || at > most {
			t.Fatalf("%s: lost %v since %d, want %d to %d", what, lost, at, least, most)
		}
	}
	now := unixMilliNow()
	f := fact{noted: true, token: 1, record: missedRecord{losses: map[string]int{"other": 1}}}
	rc.hearBeats(1, fmt.Appendf(nil, "other %d 30000 -\n", now*1e6))
	rc.merge(0, 1, f, false)
	expect("read first", now, now+60_000)
	j.loseAt(50)
	rc.followLosses(0, f)
	expect("an old write", now-30_000, now-30_000)
	f.record.marks = map[string]mark{"other": markIn}
	rc.hearBeats(1, fmt.Appendf(nil, "other %d 0 -\n", now*1e6+1))
	rc.followLosses(0, f)
	expect("it uses the server again", now-30_000, now-30_000)
	f.record.marks["other"] = markOut
	rc.merge(0, 1, f, false)
	expect("it has written since", now, now+60_000)
}
