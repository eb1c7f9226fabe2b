package protocol

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

const testItemSize = 1 << 20

var (
	key250 = strings.Repeat("k", 250)
	key251 = strings.Repeat("k", 251)
)

// badRequests are requests whose answer does not depend on stored data, with
// the answer that memcached 1.6.18 gives. TestMemcachedAgrees sends each of
// them to a real one.
var badRequests = []struct {
	in    string
	reply string
	close bool
}{
	// Lines and verbs.
	{"\r\n", "ERROR\r\n", false},
	{"\n", "ERROR\r\n", false},
	{" \r\n", "ERROR\r\n", false},
	{"a\r\n", "ERROR\r\n", false},
	{"\x00get k\r\n", "ERROR\r\n", false},
	{"GET k\r\n", "ERROR\r\n", false},
	{"VERSION\r\n", "ERROR\r\n", false},
	{"boguscommand slkfsldkfjsd\r\n", "ERROR\r\n", false},
	{"get\tk\r\n", "ERROR\r\n", false},
	{"mm k\r\n", "ERROR\r\n", false},
	{"shutdown\r\n", "ERROR: shutdown not enabled\r\n", false},
	{"shutdown graceful now\r\n", "ERROR: shutdown not enabled\r\n", false},
	{"GET / HTTP/1.1\r\n", "", true},
	{"mmm HTTP/\r\n", "", true},
	{"mm HTTP/1.1\r\n", "ERROR\r\n", false},
	{"POST / HTTP/1.1\r\nHost: x\r\n\r\n", "", true},
	{"foo HTTP/1.1 bar\r\n", "ERROR\r\n", false},
	{"foo" + strings.Repeat(" a", 21) + " HTTP/1.1 behind\r\n", "", true},
	{"foo" + strings.Repeat(" a", 22) + " HTTP/1.1\r\n", "ERROR\r\n", false},

	// get, gets, gat, gats
	{"get\r\n", "ERROR\r\n", false},
	{"get \r\n", "ERROR\r\n", false},
	{"gets\r\n", "ERROR\r\n", false},
	{"bget\r\n", "ERROR\r\n", false},
	{"get \x00k\r\n", "ERROR\r\n", false},
	{"gets2 k\r\n", "ERROR\r\n", false},
	{"get " + key251 + "\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"get a b " + key251 + "\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"get" + strings.Repeat(" a", 40) + " " + key251 + " b\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"gat\r\n", "ERROR\r\n", false},
	{"gat 10\r\n", "END\r\n", false},
	{"gats 10 \r\n", "END\r\n", false},
	{"gat k k\r\n", "CLIENT_ERROR invalid exptime argument\r\n", false},
	{"gat x " + key251 + "\r\n", "CLIENT_ERROR invalid exptime argument\r\n", false},
	{"gat noreply\r\n", "CLIENT_ERROR invalid exptime argument\r\n", false},
	{"gats 0 " + key251 + "\r\n", "CLIENT_ERROR bad command line format\r\n", false},

	// Storage.
	{"set k 0 0\r\n", "ERROR\r\n", false},
	{"set k 0 0 1 noreply 1\r\n", "ERROR\r\n", false},
	{"cas k 0 0 1\r\n", "ERROR\r\n", false},
	{"replace HTTP/1.1\r\n", "ERROR\r\n", false},
	{"set " + key251 + " 0 0 1\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"set " + key251 + " 0 0 1 noreply\r\n", "", false},
	{"set k -1 0 1\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"set k x 0 1\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"set k 0 x 1\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"set k 0 0 x\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"set k 0 0 -1\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"set k 0 0 -1 noreply\r\n", "", false},
	{"set k 0 0 noreply\r\n", "", false},
	{"set k 0 0 2147483646\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"set k 0 0 4294967295\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"add k 0 99999999999999999999 1\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"cas k 0 0 1 x\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"cas k 0 0 1 -1\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"cas k 0 0 1 noreply\r\n", "", false},
	{"set k 0 0 3\r\nabcde", "CLIENT_ERROR bad data chunk\r\n", false},
	{"set k 0 0 3\r\nabcx\n", "CLIENT_ERROR bad data chunk\r\n", false},
	{"set k 0 0 3\r\nabc\rx", "CLIENT_ERROR bad data chunk\r\n", false},
	{"set k 0 0 3 noreply\r\nabcde", "", false},
	{"set k 0 0 3\nabc\nx", "CLIENT_ERROR bad data chunk\r\n", false},
	{"append k 0 0 3\r\nabc\n\r", "CLIENT_ERROR bad data chunk\r\n", false},

	// delete
	{"delete\r\n", "ERROR\r\n", false},
	{"delete k 1 2 3\r\n", "ERROR\r\n", false},
	{"delete k 1\r\n", string(replyBadDelete), false},
	{"delete k 00\r\n", string(replyBadDelete), false},
	{"delete k 0 0\r\n", string(replyBadDelete), false},
	{"delete k 1 noreply\r\n", "", false},
	{"delete " + key251 + "\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"delete " + key251 + " noreply\r\n", "", false},

	// incr, decr
	{"incr k\r\n", "ERROR\r\n", false},
	{"decr k 1 2 3\r\n", "ERROR\r\n", false},
	{"incr k x\r\n", "CLIENT_ERROR invalid numeric delta argument\r\n", false},
	{"incr k 0x10\r\n", "CLIENT_ERROR invalid numeric delta argument\r\n", false},
	{"incr k -1\r\n", "CLIENT_ERROR invalid numeric delta argument\r\n", false},
	{"incr k 18446744073709551616\r\n", "CLIENT_ERROR invalid numeric delta argument\r\n", false},
	{"incr k 9223372036854775808\t-\r\n", "CLIENT_ERROR invalid numeric delta argument\r\n", false},
	{"decr k \v\r\n", "CLIENT_ERROR invalid numeric delta argument\r\n", false},
	{"decr k noreply\r\n", "", false},
	{"incr " + key251 + " x\r\n", "CLIENT_ERROR bad command line format\r\n", false},

	// touch
	{"touch k\r\n", "ERROR\r\n", false},
	{"touch k x\r\n", "CLIENT_ERROR invalid exptime argument\r\n", false},
	{"touch k 9223372036854775808\r\n", "CLIENT_ERROR invalid exptime argument\r\n", false},
	{"touch k -9223372036854775809\r\n", "CLIENT_ERROR invalid exptime argument\r\n", false},
	{"touch k x noreply\r\n", "", false},
	{"touch " + key251 + " x\r\n", "CLIENT_ERROR bad command line format\r\n", false},

	// flush_all, verbosity
	{"flush_all x\r\n", "CLIENT_ERROR invalid exptime argument\r\n", false},
	{"flush_all 99999999999999999999\r\n", "CLIENT_ERROR invalid exptime argument\r\n", false},
	{"flush_all noreply 10\r\n", "CLIENT_ERROR invalid exptime argument\r\n", false},
	{"flush_all noreply noreply\r\n", "", false},
	{"flush_all 1 2 3\r\n", "ERROR\r\n", false},
	{"verbosity\r\n", "ERROR\r\n", false},
	{"verbosity 1 2 3\r\n", "ERROR\r\n", false},
	{"verbosity x\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"verbosity -1\r\n", "CLIENT_ERROR bad command line format\r\n", false},
	{"verbosity noreply\r\n", "", false},
}

// goodRequests are requests that memcached takes, with what they mean.
var goodRequests = []struct {
	in   string
	want Request
}{
	{"get k\r\n", Request{Op: OpGet, Key: []byte("k")}},
	{"get k\n", Request{Op: OpGet, Key: []byte("k")}},
	{"  get   k  \r\n", Request{Op: OpGet, Key: []byte("k")}},
	{strings.Repeat(" ", 101) + "get k\r\n", Request{Op: OpGet, Key: []byte("k")}},
	{"get k\r\r\n", Request{Op: OpGet, Key: []byte("k\r")}},
	{"get \tk\r\n", Request{Op: OpGet, Key: []byte("\tk")}},
	{"get k\x00" + key251 + "\r\n", Request{Op: OpGet, Key: []byte("k")}},
	{"bget k\r\n", Request{Op: OpGet, Key: []byte("k")}},
	{"get " + key250 + "\r\n", Request{Op: OpGet, Key: []byte(key250)}},
	{"get k noreply\r\n", Request{Op: OpGet, Key: []byte("k"), Keys: []byte("noreply")}},
	{"gets a  b c \r\n", Request{Op: OpGets, Key: []byte("a"), Keys: []byte("b c")}},
	{"gat 10 k\r\n", Request{Op: OpGat, Key: []byte("k"), Expiry: 10}},
	{"gats -1 a b\r\n", Request{Op: OpGats, Key: []byte("a"), Keys: []byte("b"), Expiry: -1}},
	{"gat 10\tx k\r\n", Request{Op: OpGat, Key: []byte("k"), Expiry: 10}},
	{"set k 5 1000 3\r\nabc\r\n", Request{Op: OpSet, Key: []byte("k"), Flags: 5, Expiry: 1000, Value: []byte("abc")}},
	{"set k 5 1000 3\nabc\r\n", Request{Op: OpSet, Key: []byte("k"), Flags: 5, Expiry: 1000, Value: []byte("abc")}},
	{"set k 0 0 2 noreply\r\n\r\n\r\n", Request{Op: OpSet, Quiet: true, Key: []byte("k"), Value: []byte("\r\n")}},
	{"set k 0 0 1 yes\r\n1\r\n", Request{Op: OpSet, Key: []byte("k"), Value: []byte("1")}},
	{"set k 0 0 0\r\n\r\n", Request{Op: OpSet, Key: []byte("k"), Value: []byte{}}},
	{"set k +007 -1 +1\r\n1\r\n", Request{Op: OpSet, Key: []byte("k"), Flags: 7, Expiry: -1, Value: []byte("1")}},
	{"set k 4294967297 2147483648 4294967297\r\n1\r\n",
		Request{Op: OpSet, Key: []byte("k"), Flags: 1, Expiry: -1 << 31, Value: []byte("1")}},
	{"set k -18446744073709551615 0 1\r\n1\r\n", Request{Op: OpSet, Key: []byte("k"), Flags: 1, Value: []byte("1")}},
	{"set k 4294967295 0 1\r\n1\r\n", Request{Op: OpSet, Key: []byte("k"), Flags: 1<<32 - 1, Value: []byte("1")}},
	{"add k 0 0 1\r\n1\r\n", Request{Op: OpAdd, Key: []byte("k"), Value: []byte("1")}},
	{"replace k 0 0 1\r\n1\r\n", Request{Op: OpReplace, Key: []byte("k"), Value: []byte("1")}},
	{"append k 0 0 1\r\n1\r\n", Request{Op: OpAppend, Key: []byte("k"), Value: []byte("1")}},
	{"prepend k 0 0 1\r\n1\r\n", Request{Op: OpPrepend, Key: []byte("k"), Value: []byte("1")}},
	{"cas k 0 0 1 18446744073709551615\r\n1\r\n", Request{Op: OpCas, Key: []byte("k"), CAS: 1<<64 - 1, Value: []byte("1")}},
	{"cas k 0 0 1 5 noreply\r\n1\r\n", Request{Op: OpCas, Quiet: true, Key: []byte("k"), CAS: 5, Value: []byte("1")}},
	{"delete k\r\n", Request{Op: OpDelete, Key: []byte("k")}},
	{"delete noreply\r\n", Request{Op: OpDelete, Key: []byte("noreply")}},
	{"delete k 0\r\n", Request{Op: OpDelete, Key: []byte("k")}},
	{"delete k noreply\r\n", Request{Op: OpDelete, Quiet: true, Key: []byte("k")}},
	{"delete k 0 noreply\r\n", Request{Op: OpDelete, Quiet: true, Key: []byte("k")}},
	{"incr k 18446744073709551615\r\n", Request{Op: OpIncr, Key: []byte("k"), Delta: 1<<64 - 1}},
	{"incr k -18446744073709551615\r\n", Request{Op: OpIncr, Key: []byte("k"), Delta: 1}},
	{"decr k \t+05\fx noreply\r\n", Request{Op: OpDecr, Quiet: true, Key: []byte("k"), Delta: 5}},
	{"touch k -1\r\n", Request{Op: OpTouch, Key: []byte("k"), Expiry: -1}},
	{"touch k 2000000 noreply\r\n", Request{Op: OpTouch, Quiet: true, Key: []byte("k"), Expiry: 2000000}},
	{"touch k 9223372036854775807\r\n", Request{Op: OpTouch, Key: []byte("k"), Expiry: -1}},
	{"flush_all\r\n", Request{Op: OpFlushAll}},
	{"flush_all noreply\r\n", Request{Op: OpFlushAll, Quiet: true}},
	{"flush_all 2000000\r\n", Request{Op: OpFlushAll, HasTime: true, Expiry: 2000000}},
	{"flush_all -5 noreply\r\n", Request{Op: OpFlushAll, Quiet: true, HasTime: true, Expiry: -5}},
	{"flush_all 0 x\r\n", Request{Op: OpFlushAll, HasTime: true}},
	{"version\r\n", Request{Op: OpVersion}},
	{"version noreply\r\n", Request{Op: OpVersion}},
	{"verbosity 0\r\n", Request{Op: OpVerbosity, Args: []byte("0")}},
	{"verbosity 0 noreply\r\n", Request{Op: OpVerbosity, Quiet: true, Args: []byte("0 noreply")}},
	{"stats\r\n", Request{Op: OpStats}},
	{"stats  detail  on \r\n", Request{Op: OpStats, Args: []byte("detail  on")}},
	{"quit\r\n", Request{Op: OpQuit}},
	{"quit now\r\n", Request{Op: OpQuit}},
}

// describe writes all of a request that matters, for comparing and printing.
func describe(r *Request) string {
	keys := ""
	for k, rest := NextKey(r.Keys); k != nil; k, rest = NextKey(rest) {
		keys += fmt.Sprintf(" %q", k)
	}
	s := fmt.Sprintf("op=%d refused=%d quiet=%v close=%v key=%q keys=[%s] flags=%d expiry=%d cas=%d delta=%d value=%q args=%q time=%v reply=%q skip=%d",
		r.Op, r.Refused, r.Quiet, r.Close, r.Key, keys, r.Flags, r.Expiry, r.CAS, r.Delta, r.Value, r.Args, r.HasTime, r.Reply, r.Skip)
	if r.Dialect == Meta {
		s += fmt.Sprintf(" meta=%q words=%q base64=%v foreign=%v opaque=%q newcas=%d mode=%q initial=%v,%d,%d",
			r.Meta.letters(), r.Words, r.Base64, r.Foreign, r.Opaque, r.NewCAS, r.Mode, r.HasInitial, r.Initial, r.InitialExpiry)
	}
	return s
}

// letters are the flags of the set in the order of their letters.
func (f MetaFlags) letters() string {
	var s []byte
	for c := byte('A'); c <= 'z'; c++ {
		if f.Has(c) {
			s = append(s, c)
		}
	}
	return string(s)
}

// promise: W1, W4
func TestGoodRequests(t *testing.T) {
	p := NewParser(testItemSize)
	for _, c := range goodRequests {
		// What stood in r, and what follows the request, is of no account.
		r := Request{Op: OpInvalid, Close: true, Reply: replyError, Keys: []byte("x"), Skip: 7, Delta: 9, HasTime: true}
		in := c.in + "get next\r\n"
		n, need := p.Parse([]byte(in), &r)
		if n != len(c.in) || need != 0 {
			t.Errorf("%q: took %d bytes (need %d), want %d", c.in, n, need, len(c.in))
		}
		if got, want := describe(&r), describe(&c.want); got != want {
			t.Errorf("%q:\n got %s\nwant %s", c.in, got, want)
		}
	}
}

// promise: W4, R1
func TestBadRequests(t *testing.T) {
	p := NewParser(testItemSize)
	for _, c := range badRequests {
		r := Request{Op: OpSet, Close: true, Key: []byte("x"), Skip: 7}
		in := c.in
		if !c.close {
			in += "get next\r\n"
		}
		n, need := p.Parse([]byte(in), &r)
		if n != len(c.in) || need != 0 {
			t.Errorf("%q: took %d bytes (need %d), want %d", c.in, n, need, len(c.in))
		}
		if r.Op != OpInvalid || string(r.Reply) != c.reply || r.Close != c.close || r.Skip != 0 {
			t.Errorf("%q: op %d, reply %q, close %v, skip %d; want reply %q, close %v",
				c.in, r.Op, r.Reply, r.Close, r.Skip, c.reply, c.close)
		}
	}
}

// promise: R1
func TestCommandsNotServed(t *testing.T) {
	p := NewParser(testItemSize)
	for _, in := range []string{
		"mx k v\r\n", "mG k\r\n", "mop k\r\n", "mgx k v\r\n",
		"slabs automove 1\r\n", "lru mode flat\r\n", "lru_crawler enable\r\n", "watch fetchers\r\n",
		"cache_memlimit 64\r\n", "refresh_certs\r\n", "extstore item_age 5\r\n", "debugtime p\r\n", "misbehave\r\n",
	} {
		var r Request
		if n, _ := p.Parse([]byte(in), &r); n != len(in) || r.Op != OpInvalid || string(r.Reply) != "ERROR\r\n" || r.Close {
			t.Errorf("%q: took %d bytes, %s", in, n, describe(&r))
		}
	}
}

// promise: R1
func TestBinaryFirstByte(t *testing.T) {
	in := []byte("\x80\x00\x00\x01")
	p := NewParser(testItemSize)
	var r Request
	if n, _ := p.Parse(in, &r); n != len(in) || r.Op != OpInvalid || string(r.Reply) != "ERROR\r\n" || !r.Close {
		t.Errorf("took %d bytes, %s", n, describe(&r))
	}
	p.TextOnly = true
	if n, need := p.Parse(in, &r); n != 0 || need != 0 {
		t.Errorf("on a text connection: took %d bytes, need %d", n, need)
	}
	in = append(in, "\r\nget k\r\n"...)
	if n, _ := p.Parse(in, &r); n != 6 || r.Op != OpInvalid || string(r.Reply) != "ERROR\r\n" || r.Close {
		t.Errorf("on a text connection: took %d bytes, %s", n, describe(&r))
	}
}

// promise: R1, R2
func TestValueTooLarge(t *testing.T) {
	p := NewParser(10)
	for _, c := range []struct {
		in, reply string
		refused   Op
		skip      int64
	}{
		{"set k 0 0 11\r\n", string(replyTooLarge), OpSet, 13},
		{"add k 0 0 11\r\n", string(replyTooLarge), OpAdd, 13},
		{"set k 0 0 2147483645\r\n", string(replyTooLarge), OpSet, 1<<31 - 1},
		{"cas k 0 0 11 5 noreply\r\n", "", OpCas, 13},
	} {
		var r Request
		n, need := p.Parse([]byte(c.in), &r) // before a byte of the value is there
		if n != len(c.in) || need != 0 {
			t.Errorf("%q: took %d bytes (need %d), want %d", c.in, n, need, len(c.in))
		}
		if r.Op != OpTooLarge || r.Refused != c.refused || string(r.Key) != "k" || string(r.Reply) != c.reply || r.Skip != c.skip || r.Close {
			t.Errorf("%q: %s", c.in, describe(&r))
		}
	}
	in := []byte("set k 0 0 10\r\n0123456789\r\n")
	var r Request
	if n, _ := p.Parse(in, &r); n != len(in) || r.Op != OpSet || len(r.Value) != 10 {
		t.Errorf("a value of exactly the limit: %s", describe(&r))
	}
}

// promise: R2
func TestNeedIsWholeLength(t *testing.T) {
	p := NewParser(testItemSize)
	for _, line := range []string{"set k 0 0 1000\r\n", "set k 0 0 1000 noreply\r\n", "append k 0 0 1000\n", "cas k 1 2 01000 3\r\n"} {
		whole := append([]byte(line), bytes.Repeat([]byte("v"), 1000)...)
		whole = append(whole, "\r\n"...)
		var r Request
		for have := len(line); have < len(whole); have += 77 {
			if n, need := p.Parse(whole[:have], &r); n != 0 || need != len(whole) {
				t.Fatalf("%q and %d bytes: n %d, need %d, want 0, %d", line, have-len(line), n, need, len(whole))
			}
		}
		if n, _ := p.Parse(whole, &r); n != len(whole) || len(r.Value) != 1000 {
			t.Fatalf("%q: took %d of %d bytes", line, n, len(whole))
		}
	}
}

// promise: R1, R2
func TestLineWithoutEnd(t *testing.T) {
	p := NewParser(testItemSize)
	p.MaxLine = 5000
	pad := func(start string, n int) []byte {
		return append([]byte(start), bytes.Repeat([]byte("a"), n-len(start))...)
	}
	for _, c := range []struct {
		name  string
		in    []byte
		close bool
		reply string
	}{
		{"short", pad("x", 2048), false, ""},
		{"long", pad("x", 2049), true, ""},
		{"long set", pad("set ", 2049), true, ""},
		{"only spaces", bytes.Repeat([]byte(" "), 4095), true, ""},
		{"get", pad("get ", 5000), false, ""},
		{"gets", pad("gets ", 5000), false, ""},
		{"gat", pad("gat 0 ", 5000), false, ""},
		{"gats", pad("gats 0 ", 5000), false, ""},
		{"get without a space", pad("get", 2049), true, ""},
		{"get behind 100 spaces", pad(strings.Repeat(" ", 100)+"get ", 5000), false, ""},
		{"get behind 101 spaces", pad(strings.Repeat(" ", 101)+"get ", 5000), true, ""},
		{"get over the limit", pad("get ", 5001), true, string(replyLineTooLong)},
		{"whole get over the limit", append(pad("get ", 5001), '\n'), true, string(replyLineTooLong)},
	} {
		var r Request
		n, need := p.Parse(c.in, &r)
		if c.close {
			if n != len(c.in) || r.Op != OpInvalid || !r.Close || string(r.Reply) != c.reply {
				t.Errorf("%s: took %d of %d bytes, %s", c.name, n, len(c.in), describe(&r))
			}
		} else if n != 0 || need != 0 {
			t.Errorf("%s: n %d, need %d, want to wait", c.name, n, need)
		}
	}
	// As a whole such a line is answered.
	in := append(pad("x", 3000), "\r\n"...)
	var r Request
	if n, _ := p.Parse(in, &r); n != len(in) || string(r.Reply) != "ERROR\r\n" || r.Close {
		t.Errorf("whole line of 3000 bytes: took %d, %s", n, describe(&r))
	}
}

// promise: W1
func TestGetOfManyKeys(t *testing.T) {
	const count = 100_000
	in := []byte("get")
	for i := range count {
		in = fmt.Appendf(in, " key%d", i)
	}
	in = append(in, "\r\n"...)
	p := NewParser(testItemSize)
	var r Request
	// Fed in pieces; searched tells what needs no second look.
	searched := 0
	for have := 1000; have < len(in); have += 1000 {
		if n, need := p.ParseFrom(in[:have], searched, &r); n != 0 || need != 0 {
			t.Fatalf("at %d bytes: n %d, need %d", have, n, need)
		}
		searched = have
	}
	if n, _ := p.ParseFrom(in, searched, &r); n != len(in) || r.Op != OpGet {
		t.Fatalf("took %d of %d bytes, op %d", n, len(in), r.Op)
	}
	i := 0
	for key, rest := r.Key, r.Keys; key != nil; key, rest = NextKey(rest) {
		if want := fmt.Sprintf("key%d", i); string(key) != want {
			t.Fatalf("key %d is %q", i, key)
		}
		i++
	}
	if i != count {
		t.Fatalf("%d keys, want %d", i, count)
	}
}

// promise: W1
func TestNoAllocations(t *testing.T) {
	p := NewParser(testItemSize)
	var r Request
	for _, c := range goodRequests {
		in := []byte(c.in)
		if got := testing.AllocsPerRun(20, func() { p.Parse(in, &r) }); got != 0 {
			t.Errorf("%q: %v allocations", c.in, got)
		}
	}
	for _, c := range badRequests {
		in := []byte(c.in)
		if got := testing.AllocsPerRun(20, func() { p.Parse(in, &r) }); got != 0 {
			t.Errorf("%q: %v allocations", c.in, got)
		}
	}
}
