package protocol

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var metaLines = []struct {
	line string
	want Answer
}{
	{"HD", Done}, {"HD c123", Done}, {"HD s3 f0 t-1 c2", Done}, {"NS", NotStored}, {"NS Oabc", NotStored},
	{"EX", Exists}, {"EX c5", Exists}, {"NF", NotFound}, {"NF kfoo", NotFound}, {"EN", End}, {"EN kfoo", End},
	{"MN", Other}, {"VA 1", Other}, {"ME k exp=-1", Other}, {"HDX", Other}, {"HD\t", Other}, {"hd", Other}, {"H", Other},
	{"E", Other}, {"E ", Other}, {"ENX", Other}, {"NX", Other}, {"XHD", Other}, {"OK", OK}, {"OK 1", Other}, {"  ", Other},
}

// promise: W4
func TestParseLineOfMetaAnswers(t *testing.T) {
	for _, c := range metaLines {
		for _, end := range []string{"\r\n", "\n"} {
			in := c.line + end
			for _, behind := range []string{"", "HD\r\n", "VA 1 f0\r\n"} {
				line, n, a, number := ParseLine([]byte(in + behind))
				if string(line) != c.line || n != len(in) || a != c.want || number != 0 {
					t.Errorf("%q: line %q, %d bytes, answer %d, number %d; want answer %d", in, line, n, a, number, c.want)
				}
			}
			for i := range in {
				if _, n, _, _ := ParseLine([]byte(in[:i])); n != 0 {
					t.Errorf("%q: took %d bytes of an unfinished line", in[:i], n)
				}
			}
		}
	}
}

// promise: C8, W4
func TestParseItem(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Item
	}{
		{"VA 3 f5 t100 c1\r\n", Item{Size: 3, Flags: 5, TTL: 100, CAS: 1}},
		{"VA 0 f0 t-1 c2\r\n", Item{TTL: -1, CAS: 2}},
		{"VA 0 c2 t0 f0\r\n", Item{CAS: 2}},
		{"VA 2147483647 f4294967295 t4294967295 c18446744073709551615\r\n", Item{Size: 1<<31 - 1, Flags: 1<<32 - 1, TTL: 1<<32 - 1, CAS: 1<<64 - 1}},
		{"VA 3 s3 kkey Oabc f5 h1 t100 l0 c1 y-unknown\r\n", Item{Size: 3, Flags: 5, TTL: 100, CAS: 1}},
		{"VA 3 kkey f5 t100 c1 W X Z b\r\n", Item{Size: 3, Flags: 5, TTL: 100, CAS: 1, ItemMarks: ItemMarks{Base64: true, Stale: true, Sent: true, Won: true}}},
		{"VA 3 b f5 X t100 c1\r\n", Item{Size: 3, Flags: 5, TTL: 100, CAS: 1, ItemMarks: ItemMarks{Base64: true, Stale: true}}},
		{"VA 3 f5 t100 c1 Z\r\n", Item{Size: 3, Flags: 5, TTL: 100, CAS: 1, ItemMarks: ItemMarks{Sent: true}}},
		{"VA 3 f5 W t100 c1\r\n", Item{Size: 3, Flags: 5, TTL: 100, CAS: 1, ItemMarks: ItemMarks{Won: true}}},
		{"VA 3 k" + strings.Repeat("k", maxMetaHeader-23) + " f5 t100 c1\r\n", Item{Size: 3, Flags: 5, TTL: 100, CAS: 1}},
		{"VA 3 s9 f5 t100 c1\r\n", Item{Size: 3, Flags: 5, TTL: 100, CAS: 1}},
		{"VA 3  f5 t100 c1 \r\n", Item{Size: 3, Flags: 5, TTL: 100, CAS: 1}},
		{"VA 2\r\n", Item{Size: 2, TTL: -1}},
		{"VA 2 Oabc\r\n", Item{Size: 2, TTL: -1}},
		{"VA 2 c7\r\n", Item{Size: 2, TTL: -1, CAS: 7}},
		{"VA 2 k" + key250 + " f1 t2 c3\r\n", Item{Size: 2, Flags: 1, TTL: 2, CAS: 3}},
	} {
		c.want.Len = len(c.in)
		for _, behind := range []string{"", "abc\r\nEN\r\n", strings.Repeat("x", 1000)} {
			var it Item
			if st := ParseItem([]byte(c.in+behind), &it); st != Complete || it != c.want {
				t.Errorf("%q: status %d, %+v, want %+v", c.in, st, it, c.want)
			}
		}
		if err := checkItem([]byte(c.in)); err != nil {
			t.Error(err)
		}
	}
}

// promise: R2, R4
func TestParseItemMalformed(t *testing.T) {
	for _, in := range []string{
		"EN\r\n", "HD s3\r\n", "VAL", "va 3\r\n", "VALUE k 0 0\r\n", "\r\n", "VA \r\n", "VA f1 t1 c1\r\n", "VA x\r\n", "VA 3x\r\n", "VA -1\r\n", "VA +1\r\n",
		"VA 2147483648\r\n", "VA 99999999999999999999\r\n", "VA 33\n", "VA 3 f5 t100 c11\n", "VA 3 f5 t100\r\n", "VA 3 t1 c1\r\n", "VA 3 f5 c1\r\n",
		"VA 3 f t100 c1\r\n", "VA 3 f5 t c1\r\n", "VA 3 f5 t100 c\r\n", "VA 3 f5x t100 c1\r\n", "VA 3 f-5 t100 c1\r\n",
		"VA 3 f4294967296 t100 c1\r\n", "VA 3 f5 t-2 c1\r\n", "VA 3 f5 t-- c1\r\n", "VA 3 f5 t4294967296 c1\r\n",
		"VA 3 f5 t100 c18446744073709551616\r\n", "VA 3 sx f5 t100 c1\r\n", "VA 3 f5 t100 c1\rx\r\n", "VA 3 f5 t100 c1\r\r\n",
		"VA " + strings.Repeat("0", maxMetaHeader-3), "VA 3 f5 t100 c1 k" + strings.Repeat("k", maxMetaHeader-18) + "\r\n",
	} {
		it := Item{Size: 77}
		if st := ParseItem([]byte(in), &it); st != Malformed || it.Size != 77 {
			t.Errorf("%q: status %d, %+v, want Malformed and no change", in, st, it)
		}
	}
}

// promise: C8, R4
func TestParseLook(t *testing.T) {
	for _, c := range []struct {
		line string
		want *Item
	}{
		{"HD s3 f5 t100 c1", &Item{Size: 3, Flags: 5, TTL: 100, CAS: 1}},
		{"HD s0 f0 t-1 c18446744073709551615", &Item{TTL: -1, CAS: 1<<64 - 1}},
		{"HD c1 t100 s3 f5 unknown", &Item{Size: 3, Flags: 5, TTL: 100, CAS: 1}},
		{"HD c1 t100 s3 f5 Z X", &Item{Size: 3, Flags: 5, TTL: 100, CAS: 1, ItemMarks: ItemMarks{Stale: true, Sent: true}}},
		{"HD", nil}, {"HD ", nil}, {"", nil}, {"EN", nil}, {"VA 3 s3 f5 t100 c1", nil}, {"HDs3 f5 t100 c1", nil},
		{"HD f5 t100 c1", nil}, {"HD s3 t100 c1", nil}, {"HD s3 f5 c1", nil}, {"HD s3 f5 t100", nil},
		{"HD s-1 f5 t100 c1", nil}, {"HD s2147483648 f5 t100 c1", nil}, {"HD s3 f5 t100 c1\r", nil}, {"HD s3 f5 t100 c", nil},
		{"HD s3 f5 t100 c1 " + strings.Repeat("x", 350), nil},
	} {
		before := Item{Size: 77, Len: 5}
		it := before
		ok := ParseLook([]byte(c.line), &it)
		if ok != (c.want != nil) || (ok && it != *c.want) || (!ok && it != before) {
			t.Errorf("%q: %v, %+v, want %+v", c.line, ok, it, c.want)
		}
	}
}

// marks writes marks as a server does.
func marks(m ItemMarks) string {
	s := ""
	for _, mark := range []struct {
		set  bool
		flag string
	}{{m.Base64, " b"}, {m.Won, " W"}, {m.Stale, " X"}, {m.Sent, " Z"}} {
		if mark.set {
			s += mark.flag
		}
	}
	return s
}

// checkItem reports when the answer to mg at the start of in is read in
// another way when only a part of it is there, or when it does not survive
// being written and read.
func checkItem(in []byte) error {
	var it Item
	st := ParseItem(in, &it)
	if st == Incomplete && len(in) >= maxMetaHeader {
		return fmt.Errorf("%d bytes and still no verdict on the header", len(in))
	}
	if st == Complete {
		if it.Len > len(in) || it.Len > maxMetaHeader || !bytes.HasSuffix(in[:it.Len], []byte("\r\n")) || it.Size < 0 || it.TTL < -1 {
			return fmt.Errorf("%q: header %+v", in, it)
		}
		again := fmt.Appendf(nil, "VA %d f%d t%d c%d%s\r\n", it.Size, it.Flags, it.TTL, it.CAS, marks(it.ItemMarks))
		want, got := it, Item{}
		want.Len = len(again)
		if st := ParseItem(again, &got); st != Complete || got != want {
			return fmt.Errorf("%+v is written as %q and read as %+v", it, again, got)
		}
		look := fmt.Appendf(nil, "HD s%d f%d t%d c%d%s", it.Size, it.Flags, it.TTL, it.CAS, marks(it.ItemMarks))
		want.Len = 0
		if !ParseLook(look, &got) || got != want {
			return fmt.Errorf("%+v is written as %q and read as %+v", it, look, got)
		}
	}
	for i := range in {
		var part Item
		got := ParseItem(in[:i], &part)
		switch {
		case st == Complete && i < it.Len && got != Incomplete,
			st == Complete && i >= it.Len && (got != Complete || part != it),
			st == Incomplete && got != Incomplete,
			st == Malformed && got == Complete:
			return fmt.Errorf("%q: status %d %+v, but with %d bytes there %d %+v", in, st, it, i, got, part)
		}
	}
	return nil
}

// FuzzItem checks that no answer to a meta get crashes the proxy, that it is
// read alike however it comes, and that none is waited for without bound.
//
// promise: R2, R4
func FuzzItem(f *testing.F) {
	for _, line := range []string{"VA 3 f5 t100 c1\r\nabc\r\n", "VA 2\r\n10\r\n", "HD s3 f5 t-1 c1\r\n", "EN\r\n", "VA 3 s3 kkey Oabc f5 h1 t100 c1 W X\r\nabc\r\n",
		"VA 2147483647 f4294967295 t4294967295 c18446744073709551615\r\n", "VA 3 " + strings.Repeat("x", maxMetaHeader+50)} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > maxMetaHeader+50 {
			in = in[:maxMetaHeader+50] // every part of it is read, and a longer one shows no more
		}
		if err := checkItem(in); err != nil {
			t.Fatal(err)
		}
		var it Item
		if ParseLook(in, &it) && (it.Size < 0 || it.TTL < -1 || it.Len != 0 || len(in) > maxValueHeader) {
			t.Fatalf("%q: %+v", in, it)
		}
	})
}

// promise: R4
func TestItemsComeInParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := fmt.Appendf(nil, "VA %d", rapid.Int64Range(0, 1<<32).Draw(t, "size"))
		for _, flag := range rapid.Permutation([]string{"f", "t", "c", "s", "k"}).Draw(t, "flags") {
			if rapid.IntRange(0, 9).Draw(t, "there") > 0 {
				in = fmt.Appendf(in, " %s%d", flag, rapid.Int64Range(-1, 1<<33).Draw(t, "number"))
			}
		}
		in = append(in, rapid.SampledFrom([]string{"\r\n", "\n", " \r\n", "\rx", "\r\nabc\r\n"}).Draw(t, "end")...)
		if err := checkItem(in); err != nil {
			t.Fatal(err)
		}
	})
}

// promise: W4
func TestMetaDoesNotAllocate(t *testing.T) {
	dst := make([]byte, 0, 1000)
	key := []byte("k")
	header, look := []byte("VA 3 f5 t100 c1\r\n"), []byte("HD s3 f5 t100 c1")
	dump, scratch := []byte("key=a%20b exp=-1 la=1 cas=2 fetch=no cls=1 size=3"), make([]byte, maxKey)
	var it Item
	var k DumpedKey
	ok := true
	if n := testing.AllocsPerRun(100, func() {
		dst = AppendMetaSet(dst[:0], key, &MetaSet{Op: OpCas, Flags: 100, Expiry: 100, Size: 100, Compare: 100, Token: 100})
		dst = AppendMetaArith(AppendMetaLook(AppendMetaGet(dst, key), key), key, &MetaArith{Op: OpIncr, Delta: 100})
		ok = ok && ParseItem(header, &it) == Complete && ParseLook(look, &it) && ParseDumpLine(dump, &k, scratch)
	}); n != 0 || !ok {
		t.Errorf("%v allocations, ok %v", n, ok)
	}
}

// promise: R2, R4, W2
func TestParseMetaValue(t *testing.T) {
	for _, c := range []struct {
		in     string
		size   int
		status Status
	}{
		{"VA 3\r\n", 3, Complete}, {"VA 0 f1 anything at all\r\n", 0, Complete}, {"VA 2147483647 c\r\n", 1<<31 - 1, Complete}, {"VA 003 \r\n", 3, Complete},
		{"VA 3 O" + strings.Repeat("o", maxMetaHeader-8) + "\r\n", 3, Complete},
		{"VA 3 O" + strings.Repeat("o", maxMetaHeader-7) + "\r\n", 0, Malformed},
		{"VA 3 f" + strings.Repeat("1", maxMetaHeader), 0, Malformed},
		{"VA \r\n", 0, Malformed}, {"VA x\r\n", 0, Malformed}, {"VA 3x\r\n", 0, Malformed}, {"VA -1\r\n", 0, Malformed}, {"VA 2147483648\r\n", 0, Malformed},
		{"VA 99999999999999999999\r\n", 0, Malformed}, {"VA 3\n", 0, Malformed}, {"VA  3\r\n", 0, Malformed}, {"EN\r\n", 0, Malformed}, {"VALUE k 0 0\r\n", 0, Malformed},
		{"VA 3 f1\r", 0, Incomplete}, {"VA", 0, Incomplete}, {"", 0, Incomplete},
	} {
		for _, behind := range []string{"", "abc\r\nEN\r\n"} {
			if c.status == Incomplete && behind != "" {
				continue
			}
			size, length, status := ParseMetaValue([]byte(c.in + behind))
			if status != c.status || (status == Complete && (size != c.size || length != len(c.in))) {
				t.Errorf("%q: %d, %d, status %d, want %d, %d, status %d", c.in, size, length, status, c.size, len(c.in), c.status)
			}
		}
		for i := range c.in {
			if _, _, status := ParseMetaValue([]byte(c.in[:i])); status == Complete || (c.status != Malformed && status != Incomplete) {
				t.Errorf("%q: status %d", c.in[:i], status)
			}
		}
	}
}

// promise: C8, R4, W3
func TestParseTouch(t *testing.T) {
	for _, c := range []struct {
		line string
		want *Item
	}{
		{"HD f5 c1", &Item{Flags: 5, TTL: -1, CAS: 1}},
		{"HD c18446744073709551615 f4294967295", &Item{Flags: 1<<32 - 1, TTL: -1, CAS: 1<<64 - 1}},
		{"HD f5 c1 W unknown", &Item{Flags: 5, TTL: -1, CAS: 1, ItemMarks: ItemMarks{Won: true}}},
		{"HD", nil}, {"HD ", nil}, {"", nil}, {"EN", nil}, {"HD f5", nil}, {"HD c1", nil}, {"HD f5 c", nil}, {"HD f-5 c1", nil},
		{"HD f5 c1 t3", nil}, {"HD s3 f5 c1", nil}, {"VA 3 f5 c1", nil}, {"HDf5 c1", nil}, {"HD f4294967296 c1", nil},
	} {
		before := Item{Size: 77, Len: 5}
		it := before
		ok := ParseTouch([]byte(c.line), &it)
		if ok != (c.want != nil) || (ok && it != *c.want) || (!ok && it != before) {
			t.Errorf("%q: %v, %+v, want %+v", c.line, ok, it, c.want)
		}
	}
}

// promise: C9, R4, W2
func TestTokenAndMarksOfALine(t *testing.T) {
	for _, c := range []struct {
		line  string
		token uint64
		marks ItemMarks
	}{
		{"HD c7", 7, ItemMarks{}}, {"HD f1 c18446744073709551615 t-1", 1<<64 - 1, ItemMarks{}}, {"VA 3 s3 c9 kkey b W", 9, ItemMarks{Base64: true, Won: true}},
		{"HD X Z", 0, ItemMarks{Stale: true, Sent: true}}, {"VA 12 c5 X W", 5, ItemMarks{Stale: true, Won: true}},
		{"HD kXc5 OW", 0, ItemMarks{}}, {"HD", 0, ItemMarks{}}, {"HD ", 0, ItemMarks{}}, {"", 0, ItemMarks{}}, {"EN", 0, ItemMarks{}}, {"NF kc", 0, ItemMarks{}},
	} {
		if got := TokenOf([]byte(c.line)); got != c.token {
			t.Errorf("%q: token %d, want %d", c.line, got, c.token)
		}
		if got := IsWon([]byte(c.line)); got != c.marks.Won {
			t.Errorf("%q: won %v, want %+v", c.line, got, c.marks)
		}
	}
}
