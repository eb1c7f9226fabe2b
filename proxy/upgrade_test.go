package proxy

import (
	"fmt"
	"reflect"
	"testing"

	"magent/backend"
)

// The next program knows of a server what the one before knew.
//
// promise: C6, L7
func TestWhatIsHandedOverOfAServer(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
	o.JournalKeys = 3
	for name, prepare := range map[string]func(p *Proxy){
		"nothing": func(*Proxy) {},
		"keys":    func(p *Proxy) { p.journals[0].add([]byte("a"), 7); p.journals[0].addNoted([]byte("b"), 8) },
		"dirty":   func(p *Proxy) { p.servers[0].Miss() },
		"lacking": func(p *Proxy) { p.recovery.setLacks(0, true) },
		"overdue": func(p *Proxy) { p.recovery.care[0].overdue.Store(12345) },
		"unclear": func(p *Proxy) { p.recovery.unclear(0, []byte("a")) },
		"life":    func(p *Proxy) { p.servers[0].KnowLife(backend.Life{PID: 7, Start: 8}) },
		"too many": func(p *Proxy) {
			p.journals[0].addNoted([]byte("another's"), 50)
			for i := range 5 {
				p.journals[0].add(fmt.Append(nil, i), 60)
			}
			p.journals[0].add([]byte("later"), 1_000_000)
		},
		"noted": func(p *Proxy) {
			rec := p.recovery.record(0, 1)
			rec.generation.Store(5)
			rec.size.Store(6)
			rec.kept.Store(true)
			rec.noteMine("k")
		},
		"flush_all":      func(p *Proxy) { p.journals[0].lose(lostByFlush) },
		"another's loss": func(p *Proxy) { p.journals[0].loseNoted(1, 70); p.journals[0].addNoted([]byte("later"), 80) },
	} {
		before := newTestProxy(t, o)
		prepare(before)
		want := before.handServer(0)
		next := newTestProxy(t, o)
		next.adoptServer(0, want)
		got := next.handServer(0)
		if want.Lost || len(want.Missed) > 0 {
			want.Dirty = true // what it has missed
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

// What a program has noted is not another proxy's for the next one, also when the server
// has got it since: else it would be missed again, and taken for older than what its twin
// may have missed.
//
// promise: C6, L7
func TestOwnNotesStayOwn(t *testing.T) {
	o := Defaults()
	o.Primaries, o.Backups = []string{"127.0.0.1:1"}, []string{"127.0.0.1:2"}
	before := newTestProxy(t, o)
	rec := before.recovery.record(0, 1)
	rec.renew(5)
	rec.noteMine("k")
	next := newTestProxy(t, o)
	next.adoptServer(0, before.handServer(0))
	read := func(keys ...missedKey) bool {
		text := recordText(5, keys)
		return next.recovery.merge(0, 1, fact{noted: true, token: uint64(len(text)), record: parseRecord([]byte(text))}, true)
	}
	if read(missedKey{"k", 60}) || !next.journals[0].empty() {
		t.Error("the key that the program before has noted is entered")
	}
	if !read(missedKey{"k", 60}, missedKey{"k", 70}) || next.journals[0].empty() {
		t.Error("the key that another proxy has noted too is not entered")
	}
}
