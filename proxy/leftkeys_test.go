package proxy

import "testing"

// The primary decides what is right of a key whose write was under way, also when others
// were told that nobody knows whether it was run an earlier one. It does not when it
// has missed a write.
//
// promise: C1, C6
func TestThePrimaryDecidesOnLeftKeys(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
	p := newTestProxy(t, o)
	rc := p.recovery
	p.left.waiting = []string{"fine", "uncertain", "missed"}
	rc.merge(0, 1, fact{noted: true, token: 1, record: missedRecord{
		keys: []missedKey{{"missed", 1700000000000}}, uncertain: []string{"uncertain"},
	}}, true)
	rc.primarySays(0, true, false)
	for key, primary := range map[string]bool{"fine": true, "uncertain": true, "missed": false} {
		_, first := p.journals[0].find([]byte(key))
		_, second := p.journals[1].find([]byte(key))
		if first == primary || second != primary {
			t.Errorf("%s: to be copied to the primary %v, to the backup %v; want that the primary decides: %v", key, first, second, primary)
		}
	}
	p.left.waiting = []string{"any"}
	p.journals[0].lose(lostByFlush)
	rc.primarySays(0, true, false)
	if _, second := p.journals[1].find([]byte("any")); second {
		t.Error("a primary that has missed nobody knows what has decided")
	}
}

// A key of which nobody knows whether a server got its write is copied to it as long as
// the record tells so, and no longer.
//
// promise: C6
func TestUncertainKeysAreCopiedAsLongAsTheyAreNoted(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
	p := newTestProxy(t, o)
	rc := p.recovery
	held := missedRecord{keys: []missedKey{{"missed", 5}}, uncertain: []string{"uncertain"}}
	rc.merge(0, 1, fact{noted: true, token: 1, record: held}, true)
	latest := p.journals[0].latest()
	rc.record(0, 1).seen = [2]uint64{latest, latest}
	rc.forgetReplayed(0, 1, held)
	if n := p.journals[0].length(); n != 2 {
		t.Errorf("%d keys are to be copied, want both that are noted", n)
	}
	rc.forgetReplayed(0, 1, missedRecord{})
	if n := p.journals[0].length(); n != 0 {
		t.Errorf("%d keys are to be copied that are noted no more", n)
	}
	// The other server has missed a write that is known: that one is copied to it.
	p.journals[1].add([]byte("uncertain"), 5)
	rc.merge(0, 1, fact{noted: true, token: 2, record: held}, true)
	if _, missed := p.journals[0].find([]byte("uncertain")); missed {
		t.Error("a server is given a key from another one that has missed a write of it")
	}
}

// Who wakes up takes all that is noted for missed once more, but not again and again when
// nobody writes without the server: what was made good stays so.
//
// promise: C6, C7
func TestNotedKeysAreMadeGoodOnce(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
	p := newTestProxy(t, o)
	rc := p.recovery
	f := fact{noted: true, token: 1, record: missedRecord{keys: []missedKey{{"k", 5}}}}
	for i, c := range []struct {
		token uint64
		mark  mark
		news  bool
	}{
		{1, markIn, true},
		{1, markIn, false},
		{2, markIn, true},
		{2, markIn, false},
		{3, markOut, true},
		{3, markOut, true}, // it may miss the key again, and notes it once
		{3, markIn, true},
		{3, markIn, false},
	} {
		f.token, f.record.marks = c.token, map[string]mark{"a": c.mark}
		rc.hearBeats(1, []byte("a 1 60000 -\n"))
		if news := rc.merge(0, 1, f, true); news != c.news {
			t.Errorf("look %d: the key is missed: %v, want %v", i, news, c.news)
		}
		when, _ := p.journals[0].find([]byte("k"))
		rc.madeGood(0, []byte("k"), when)
	}
}
