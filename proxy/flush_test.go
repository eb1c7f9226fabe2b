package proxy

import "testing"

// A flush_all that a client sends takes from a twin what it has missed: only the server
// that is flushed holds anything newer. Recovery does not flush that server too, while the
// client waits: it would find it out.
//
// promise: C5, C11
func TestRecoveryFlushesNothingMeanwhile(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
	p := newTestProxy(t, o)
	can := func() bool {
		p.recovery.care[0].held.Store(0) // look at it anew
		return p.recovery.canBeFlushed(0)
	}
	p.journals[0].loseNoted(1, 100)
	if !can() {
		t.Error("a server that has missed more than is known is not flushed")
	}
	p.journals[1].add([]byte("k"), unixMilliNow()+1000)
	if can() {
		t.Error("a server is flushed that holds the only copy of a key")
	}
	p.journals[1].forgetUntil(p.journals[1].latest(), 0)
	if !can() {
		t.Error("a server is not flushed when its twin has got what only it held")
	}
	p.flushes.begin(&flush{home: p.workers[0]})
	p.journals[1].lose(lostByFlush)
	if can() {
		t.Error("a server is flushed while a flush_all for it is under way")
	}
	p.flushes.end()
	if !can() {
		t.Error("a server is not flushed after a flush_all that it may have missed")
	}
}

// A key that nobody could be told of has been made good by nobody else.
//
// promise: C6
func TestWhatNobodyWasToldOfStays(t *testing.T) {
	j := newTestJournal(10, 1<<20)
	at := j.twinOf([]byte("k"))
	j.add([]byte("k"), 60)
	j.setUntold([]byte("k"))
	j.dropGood(j.latest(), at, func(string) bool { return true })
	j.forgetUntil(j.latest(), at)
	if j.empty() || !j.hasUntold() {
		t.Error("a key is dropped that nobody was told of")
	}
	j.setNoted([]missedKey{{"k", 60}})
	j.dropGood(j.latest(), at, func(string) bool { return true })
	if !j.empty() || j.hasUntold() {
		t.Error("a key stays that was noted, and that another proxy has made good")
	}
}
