package protocol

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"
	"time"
)

// promise: C8, C9, W4
func TestMetaCommandsToServers(t *testing.T) {
	key := []byte("k")
	set := func(s MetaSet) []byte { return AppendMetaSet(nil, key, &s) }
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{set(MetaSet{Op: OpSet, Size: 100}), "ms k 100\r\n"},
		{set(MetaSet{Op: OpSet, Flags: 5, Expiry: 60, Compare: 9, Quiet: true}), "ms k 0 F5 T60 q\r\n"},
		{set(MetaSet{Op: OpSet, Flags: 1<<32 - 1, Expiry: -1, Size: 3, Token: 7}), "ms k 3 F4294967295 T-1 E7\r\n"},
		{set(MetaSet{Op: OpAdd, Flags: 5, Expiry: 60, Size: 1}), "ms k 1 ME F5 T60\r\n"},
		{set(MetaSet{Op: OpReplace, Flags: 5, Expiry: 60, Size: 1, Quiet: true}), "ms k 1 MR F5 T60 q\r\n"},
		{set(MetaSet{Op: OpAppend, Flags: 5, Expiry: 60, Size: 1}), "ms k 1 MA\r\n"},
		{set(MetaSet{Op: OpPrepend, Flags: 5, Expiry: 60, Size: 1, Token: 1<<64 - 1}), "ms k 1 MP E18446744073709551615\r\n"},
		{set(MetaSet{Op: OpCas, Compare: 1<<64 - 1, Token: 8}), "ms k 0 C18446744073709551615 E8\r\n"},
		{set(MetaSet{Op: OpCas, Flags: 5, Expiry: 60}), "ms k 0 F5 T60 C0\r\n"},
		{AppendQuietSet(nil, key, 5, 60, 100), "ms k 100 F5 T60 q\r\n"},
		{AppendMetaGet(nil, key), "mg k v f t c\r\n"},
		{AppendMetaLook(nil, key), "mg k s f t c u\r\n"},
		{AppendMetaArith(nil, key, &MetaArith{Op: OpIncr, Delta: 1<<64 - 1}), "ma k D18446744073709551615 v c\r\n"},
		{AppendMetaArith(nil, key, &MetaArith{Op: OpDecr}), "ma k MD D0 v c\r\n"},
		{AppendRetoken(nil, key, 17), "ms k 0 MA E17\r\n\r\n"},
		{AppendMetaGet([]byte("mn\r\n"), key), "mn\r\nmg k v f t c\r\n"},
	} {
		if string(c.got) != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

// promise: W4
func TestMetaAnswersToOperations(t *testing.T) {
	for _, op := range []Op{OpSet, OpAdd, OpReplace, OpAppend, OpPrepend, OpCas, OpDelete, OpTouch} {
		if a := AnswersTo(op); !a.Has(Done) || a.Has(Number) || a.Has(End) {
			t.Errorf("op %d: answers %b", op, a)
		}
	}
	for _, op := range []Op{OpIncr, OpDecr} {
		if a := AnswersTo(op); !a.Has(Number) || !a.Has(NotFound) || a.Has(Done) {
			t.Errorf("op %d: answers %b", op, a)
		}
	}
}

// metaAnswer is what a memcached answered to a meta command.
type metaAnswer struct {
	line  []byte // without its end
	kind  Answer // Value for VA
	item  Item   // Value only
	value []byte // Value only
}

func (s *server) askMeta(q []byte) (a metaAnswer, err error) {
	s.send(q)
	in, err := s.line()
	if err != nil {
		return a, fmt.Errorf("no answer to %.200q: %w", q, err)
	}
	a.line, _, a.kind, _ = ParseLine(in)
	if st := ParseItem(in, &a.item); st == Malformed {
		return a, nil
	} else if st != Complete || a.item.Len != len(in) {
		return a, fmt.Errorf("ParseItem of %q: %d, %+v", in, st, a.item)
	}
	a.kind = Value
	a.value, err = s.read(a.item.Size + 2)
	if err == nil && !bytes.HasSuffix(a.value, []byte("\r\n")) {
		err = fmt.Errorf("value %.200q has no line end", a.value)
	}
	a.value = bytes.TrimSuffix(a.value, []byte("\r\n"))
	return a, err
}

// wantItem compares what mg tells of a key with what is known. A time to live
// may be less by the seconds that the test takes.
func (s *server) wantItem(key, value string, flags uint32, ttl int64) error {
	a, err := s.askMeta(AppendMetaGet(nil, []byte(key)))
	if err != nil {
		return err
	}
	it := a.item
	if a.kind != Value || string(a.value) != value || it.Flags != flags || it.CAS == 0 || !sameSeconds(it.TTL, ttl) {
		return fmt.Errorf("key %q: %q, %+v, %.200q; want flags %d, ttl %d, %.200q", key, a.line, it, a.value, flags, ttl, value)
	}
	look, err := s.askMeta(AppendMetaLook(nil, []byte(key)))
	if err != nil {
		return err
	}
	var seen Item
	if !ParseLook(look.line, &seen) {
		return fmt.Errorf("key %q: ParseLook refuses %q", key, look.line)
	}
	seen.Len = it.Len
	if sameSeconds(seen.TTL, it.TTL) {
		seen.TTL = it.TTL
	}
	if seen != it {
		return fmt.Errorf("key %q: a look tells %+v, a get %+v", key, seen, it)
	}
	return nil
}

// sameSeconds tells whether got is want, or a little less when that is a time.
// It is a little more for an item that expires at a given time: memcached's
// clock ticks once a second, and later on a busy machine.
func sameSeconds(got, want int64) bool {
	if got == -1 || want == -1 {
		return got == want
	}
	const patience = int64(ioTimeout / time.Second)
	return got <= want+patience && got >= want-patience
}

// promise: C8, W4
func TestMetaGet(t *testing.T) {
	s := dial(t, startMemcached(t))
	for _, key := range []string{"none", "a\tb"} {
		for _, q := range [][]byte{AppendMetaGet(nil, []byte(key)), AppendMetaLook(nil, []byte(key))} {
			if a, err := s.askMeta(q); err != nil || a.kind != End {
				t.Fatalf("%q: %q, kind %d (%v), want a miss", q, a.line, a.kind, err)
			}
		}
	}
	now := time.Now().Unix()
	for _, c := range []struct {
		key, value string
		flags      uint32
		expiry     int64
		ttl        int64
	}{
		{"k", "abc", 0, 0, -1},
		{"k", "", 7, 1000, 1000},
		{"k", "\r\nEN\r\n", 1<<32 - 1, 30 * 24 * 3600, 30 * 24 * 3600},
		{"k", "y", 1, now + 40*24*3600, 40 * 24 * 3600},
		{"\x01\x7f\x80\xff\tb\r", "odd", 2, 500, 500},
		{"C1", "like a flag", 2, 500, 500},
		{key250, string(bytes.Repeat([]byte{0, '\n'}, 100000)), 3, 0, -1},
	} {
		m := MetaSet{Op: OpSet, Flags: c.flags, Expiry: c.expiry, Size: len(c.value)}
		classic := AppendStorage(nil, OpSet, []byte(c.key), c.flags, c.expiry, len(c.value), 0)
		for _, q := range [][]byte{classic, AppendMetaSet(nil, []byte(c.key), &m)} {
			a, err := s.askMeta(append(append(q, c.value...), "\r\n"...))
			if err != nil || (a.kind != Done && a.kind != Stored) {
				t.Fatalf("%.200q: %q, kind %d (%v)", q, a.line, a.kind, err)
			}
			if err := s.wantItem(c.key, c.value, c.flags, c.ttl); err != nil {
				t.Fatalf("%.200q: %v", q, err)
			}
		}
	}
}

// promise: C8
func TestLookIsNoUse(t *testing.T) {
	s := dial(t, startMemcached(t))
	fetched := func() string {
		t.Helper()
		a, err := s.askMeta([]byte("mg k h u\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		return string(a.line)
	}
	for _, q := range []string{"set k 0 0 1\r\nx\r\n", string(AppendMetaLook(nil, []byte("k"))), string(AppendMetaLook(nil, []byte("k")))} {
		if a, err := s.askMeta([]byte(q)); err != nil || (a.kind != Stored && a.kind != Done) {
			t.Fatalf("%q: %q (%v)", q, a.line, err)
		}
	}
	if line := fetched(); line != "HD h0" {
		t.Errorf("a look marks the item as used: %q", line)
	}
	if _, err := s.askMeta(AppendMetaGet(nil, []byte("k"))); err != nil {
		t.Fatal(err)
	}
	if line := fetched(); line != "HD h1" {
		t.Errorf("a get does not mark the item as used: %q", line)
	}
}

// metaForm writes r, a storage request or arithmetic, in the meta dialect.
func metaForm(r *Request) []byte {
	if r.Op == OpIncr || r.Op == OpDecr {
		return AppendMetaArith(nil, r.Key, &MetaArith{Op: r.Op, Delta: r.Delta})
	}
	q := AppendMetaSet(nil, r.Key, &MetaSet{Op: r.Op, Flags: r.Flags, Expiry: r.Expiry, Size: len(r.Value), Compare: r.CAS, Quiet: r.Quiet})
	return append(append(q, r.Value...), "\r\n"...)
}

// runBothForms sends r in the meta dialect to raw and in classic text to
// behind, and compares the answers.
func (p *pair) runBothForms(r *Request) error {
	if r.Op == OpIncr || r.Op == OpDecr {
		if err := p.avoidOverrun(r.Key); err != nil {
			return err
		}
	}
	meta, err := p.raw.askMeta(metaForm(r))
	if err != nil {
		return err
	}
	p.behind.send(encodeRequest(r))
	line, err := p.behind.line()
	if err != nil {
		return err
	}
	_, _, classic, number := ParseLine(line)
	same := meta.kind == classic || (meta.kind == Done && classic == Stored)
	if classic == Number {
		same = meta.kind == Value && string(meta.value) == strconv.FormatUint(number, 10)
	}
	if !same || (!AnswersTo(r.Op).Has(meta.kind) && meta.kind != Value && meta.kind != ClientError) {
		return fmt.Errorf("meta answers %q %q, classic %q", meta.line, meta.value, line)
	}
	return nil
}

// promise: C1, C8, C9, W4
func TestMetaMeansTheSameAsClassic(t *testing.T) {
	p := newPair(t)
	g := generator{randomSeed(t)}
	kinds := make(map[Op]int)
	for i := range 4000 {
		r := Request{
			Op:     []Op{OpSet, OpAdd, OpReplace, OpAppend, OpPrepend, OpCas, OpIncr, OpDecr}[g.IntN(8)],
			Key:    []byte(comparedKeys[g.IntN(len(comparedKeys))]),
			Flags:  []uint32{0, 1, 1<<32 - 1}[g.IntN(3)],
			Expiry: []int64{0, 0, 1000, 100000, -1, 2592001, 2147483647}[g.IntN(7)],
			Value:  []byte(g.oneOf("", "0", "7", "99", "abc", "\r\n", "18446744073709551615")),
			CAS:    uint64(g.IntN(i + 1)),
			Delta:  []uint64{0, 1, 8, 100, 1<<64 - 1}[g.IntN(5)],
		}
		if r.Op == OpCas && g.rarely(2) { // mostly the right token
			if a, err := p.raw.askMeta(AppendMetaLook(nil, r.Key)); err != nil {
				t.Fatal(err)
			} else if a.kind == Done {
				var it Item
				if !ParseLook(a.line, &it) {
					t.Fatalf("ParseLook refuses %q", a.line)
				}
				r.CAS = it.CAS
			}
		}
		if r.Op == OpIncr || r.Op == OpDecr {
			r.Value = nil
		}
		kinds[r.Op]++
		if err := p.runBothForms(&r); err != nil {
			t.Fatalf("step %d, %q: %v", i, metaForm(&r), err)
		}
		if err := p.compareState([]string{string(r.Key)}); err != nil {
			t.Fatalf("step %d, %q: %v", i, metaForm(&r), err)
		}
	}
	if len(kinds) != 8 {
		t.Fatalf("only %d operations were tried", len(kinds))
	}
}

// promise: C1
func TestTooLargeMetaSetDrops(t *testing.T) {
	s := dial(t, startMemcached(t))
	big := bytes.Repeat([]byte("x"), testItemSize)
	for _, op := range []Op{OpSet, OpAdd, OpReplace, OpAppend, OpPrepend, OpCas} {
		if a, err := s.askMeta([]byte("set k 0 0 1\r\nx\r\n")); err != nil || a.kind != Stored {
			t.Fatalf("%q (%v)", a.line, err)
		}
		a, err := s.askMeta(metaForm(&Request{Op: op, Key: []byte("k"), Value: big}))
		if err != nil || a.kind != ServerError {
			t.Fatalf("op %d: %q (%v), want SERVER_ERROR", op, a.line, err)
		}
		if a, err = s.askMeta(AppendMetaLook(nil, []byte("k"))); err != nil || a.kind != End {
			t.Fatalf("op %d: afterwards a look answers %q (%v), want a miss", op, a.line, err)
		}
	}
}

// promise: C9
func TestTokens(t *testing.T) {
	s := dial(t, startMemcached(t))
	key := []byte("k")
	set := func(op Op, compare, token uint64) []byte {
		q := AppendMetaSet(nil, key, &MetaSet{Op: op, Size: 1, Compare: compare, Token: token})
		return append(q, "7\r\n"...)
	}
	first, err := s.askMeta(set(OpSet, 0, 77))
	if err != nil {
		t.Fatal(err)
	}
	if first.kind == ClientError { // before 1.6.27
		q := append(AppendMetaSet(nil, key, &MetaSet{Op: OpSet, Size: 4, Token: 77, Quiet: true}), "mn\r\n\r\n"...)
		for _, q := range [][]byte{q, AppendRetoken(nil, key, 77)} {
			if a, err := s.askMeta(q); err != nil || a.kind != ClientError {
				t.Fatalf("%q: %q (%v), want CLIENT_ERROR", q, a.line, err)
			}
		}
		if a, err := s.askMeta(AppendMetaGet(nil, key)); err != nil || a.kind != End {
			t.Fatalf("something was stored: %q (%v)", a.line, err)
		}
		return
	}
	if first.kind != Done {
		t.Fatalf("%q", first.line)
	}
	token := uint64(77)
	for _, c := range []struct {
		q    []byte
		kind Answer
		want uint64 // the token afterwards, 0 for the same as before
	}{
		{set(OpAdd, 0, 78), NotStored, 0},
		{set(OpReplace, 0, 79), Done, 79},
		{set(OpAppend, 0, 80), Done, 80},
		{set(OpPrepend, 0, 3), Done, 3},
		{set(OpCas, 80, 81), Exists, 0},
		{set(OpCas, 3, 1<<63), Done, 1 << 63},
		{AppendRetoken(nil, key, 84), Done, 84},
		{AppendDelete(nil, key), Deleted, 0},
		{set(OpCas, 84, 85), NotFound, 0},
		{set(OpAdd, 0, 1<<64-1), Done, 1<<64 - 1},
	} {
		a, err := s.askMeta(c.q)
		if err != nil || a.kind != c.kind {
			t.Fatalf("%q: %q, kind %d (%v), want kind %d", c.q, a.line, a.kind, err, c.kind)
		}
		if c.want != 0 {
			token = c.want
		}
		got, err := s.askMeta(AppendMetaGet(nil, key))
		if err != nil || (got.kind == Value && got.item.CAS != token) || (got.kind != Value && c.kind != Deleted && c.kind != NotFound) {
			t.Fatalf("after %q a get answers %q (%v), want token %d", c.q, got.line, err, token)
		}
	}
}
