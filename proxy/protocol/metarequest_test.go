package protocol

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
)

var (
	key250Encoded = base64.StdEncoding.EncodeToString([]byte(key250))
	key187        = strings.Repeat("k", 187)
	key187Encoded = base64.StdEncoding.EncodeToString([]byte(key187)) // 252 bytes
	key186        = strings.Repeat("\x00", 186)
	key186Encoded = base64.StdEncoding.EncodeToString([]byte(key186)) // 248 bytes
	opaque31      = strings.Repeat("o", 31)
	words17       = strings.Repeat(" q v k s t c f l h u b", 2)[:2*17] // as many as memcached reads of an mg
)

const allOfGet = "b f v s t l h c k u q O1 N30 R20 T60 E7"

func meta(flags string) MetaFlags { return metaFlagsOf(flags) }

// goodMetaRequests are meta requests that memcached takes, with what they mean.
// new ones hold what the server judges, or what an old one refuses.
var goodMetaRequests = []struct {
	in   string
	new  bool
	want Request
}{
	// mg
	{"mg k\r\n", false, Request{Op: OpMetaGet, Key: []byte("k")}},
	{"mg k\n", false, Request{Op: OpMetaGet, Key: []byte("k")}},
	{"  mg   k   v  t \r\n", false, Request{Op: OpMetaGet, Key: []byte("k"), Meta: meta("vt"), Words: []byte("v  t")}},
	{"mg k v\x00 junk\r\n", false, Request{Op: OpMetaGet, Key: []byte("k"), Meta: meta("v"), Words: []byte("v")}},
	{"mg \tk\x7f\xff v\r\n", false, Request{Op: OpMetaGet, Key: []byte("\tk\x7f\xff"), Meta: meta("v"), Words: []byte("v")}},
	{"mg " + key250 + " v\r\n", false, Request{Op: OpMetaGet, Key: []byte(key250), Meta: meta("v"), Words: []byte("v")}},
	{"mg k f v s t l h c k u q O1 N30 R20 T60\r\n", false, Request{Op: OpMetaGet, Key: []byte("k"), Meta: meta("fvstlhckuqONRT"),
		Words: []byte("f v s t l h c k u q O1 N30 R20 T60"), Quiet: true, Opaque: []byte("1"), InitialExpiry: 30, Expiry: 60}},
	{"mg YSBi " + allOfGet + "\r\n", true, Request{Op: OpMetaGet, Key: []byte("a b"), Base64: true, Meta: meta("bfvstlhckuqONRTE"), Words: []byte(allOfGet),
		Quiet: true, Opaque: []byte("1"), InitialExpiry: 30, Expiry: 60, NewCAS: 7}},
	{"mg YQ== b\r\n", false, Request{Op: OpMetaGet, Key: []byte("a"), Base64: true, Meta: meta("b"), Words: []byte("b")}},
	{"mg Y\tQ$== b\r\n", false, Request{Op: OpMetaGet, Key: []byte("a"), Base64: true, Meta: meta("b"), Words: []byte("b")}},
	{"mg YQ==YSBi b\r\n", false, Request{Op: OpMetaGet, Key: []byte("a"), Base64: true, Meta: meta("b"), Words: []byte("b")}},
	{"mg YWI= v b\r\n", false, Request{Op: OpMetaGet, Key: []byte("ab"), Base64: true, Meta: meta("vb"), Words: []byte("v b")}},
	{"mg " + key186Encoded + " b v\r\n", false, Request{Op: OpMetaGet, Key: []byte(key186), Base64: true, Meta: meta("bv"), Words: []byte("b v")}},
	{"mg k O" + opaque31 + "\r\n", false, Request{Op: OpMetaGet, Key: []byte("k"), Meta: meta("O"), Words: []byte("O" + opaque31), Opaque: []byte(opaque31)}},
	{"mg k O\r\n", false, Request{Op: OpMetaGet, Key: []byte("k"), Meta: meta("O"), Words: []byte("O"), Opaque: []byte{}}},
	{"mg k T-1 N+5\tx R007\r\n", false, Request{Op: OpMetaGet, Key: []byte("k"), Meta: meta("TNR"), Words: []byte("T-1 N+5\tx R007"), Expiry: -1, InitialExpiry: 5}},
	{"mg k T4294967297\r\n", false, Request{Op: OpMetaGet, Key: []byte("k"), Meta: meta("T"), Words: []byte("T4294967297"), Expiry: 1}},
	{"mg k T2147483648\r\n", false, Request{Op: OpMetaGet, Key: []byte("k"), Meta: meta("T"), Words: []byte("T2147483648"), Expiry: -1 << 31}},
	{"mg k vx kx qx\r\n", false, Request{Op: OpMetaGet, Key: []byte("k"), Meta: meta("vkq"), Words: []byte("vx kx qx"), Quiet: true}},
	{"mg k Pproxy L/x/y\r\n", false, Request{Op: OpMetaGet, Key: []byte("k"), Meta: meta("PL"), Words: []byte("Pproxy L/x/y")}},
	{"mg k v k\r\n", false, Request{Op: OpMetaGet, Key: []byte("k"), Meta: meta("vk"), Words: []byte("v k")}},
	{"mg k E1x\r\n", true, Request{Op: OpMetaGet, Key: []byte("k"), Meta: meta("E"), Words: []byte("E1x"), Foreign: true}},
	{"mg k v x S1\r\n", true, Request{Op: OpMetaGet, Key: []byte("k"), Meta: meta("vxS"), Words: []byte("v x S1"), Foreign: true}},
	{"mg k Tx x\r\n", true, Request{Op: OpMetaGet, Key: []byte("k"), Meta: meta("Tx"), Words: []byte("Tx x"), Foreign: true}},

	// ms
	{"ms k 3\r\nabc\r\n", false, Request{Op: OpSet, Key: []byte("k"), Value: []byte("abc")}},
	{"ms k 0\n\r\n", false, Request{Op: OpSet, Key: []byte("k"), Value: []byte{}}},
	{"ms k +2 q\r\n\r\n\r\n", false, Request{Op: OpSet, Key: []byte("k"), Meta: meta("q"), Words: []byte("q"), Quiet: true, Value: []byte("\r\n")}},
	{"ms k 4294967297\r\n1\r\n", false, Request{Op: OpSet, Key: []byte("k"), Value: []byte("1")}},
	{"ms k 3 T60 F5 I k O9 c\r\nabc\r\n", false, Request{Op: OpSet, Key: []byte("k"), Meta: meta("TFIkOc"), Words: []byte("T60 F5 I k O9 c"),
		Expiry: 60, Flags: 5, Opaque: []byte("9"), Value: []byte("abc")}},
	{"ms YSBi 3 b T60 F4294967295 C9 I k O9 c q\r\nabc\r\n", false, Request{Op: OpCas, Key: []byte("a b"), Base64: true, Meta: meta("bTFCIkOcq"),
		Words: []byte("b T60 F4294967295 C9 I k O9 c q"), Expiry: 60, Flags: 1<<32 - 1, CAS: 9, Opaque: []byte("9"), Quiet: true, Value: []byte("abc")}},
	{"ms k 1 MS\r\n1\r\n", false, Request{Op: OpSet, Key: []byte("k"), Meta: meta("M"), Words: []byte("MS"), Mode: 'S', Value: []byte("1")}},
	{"ms k 1 MS C0\r\n1\r\n", false, Request{Op: OpCas, Key: []byte("k"), Meta: meta("MC"), Words: []byte("MS C0"), Mode: 'S', Value: []byte("1")}},
	{"ms k 1 ME\r\n1\r\n", false, Request{Op: OpAdd, Key: []byte("k"), Meta: meta("M"), Words: []byte("ME"), Mode: 'E', Value: []byte("1")}},
	{"ms k 1 ME C5\r\n1\r\n", false, Request{Op: OpAdd, Key: []byte("k"), Meta: meta("MC"), Words: []byte("ME C5"), Mode: 'E', CAS: 5, Value: []byte("1")}},
	{"ms k 1 MR\r\n1\r\n", false, Request{Op: OpReplace, Key: []byte("k"), Meta: meta("M"), Words: []byte("MR"), Mode: 'R', Value: []byte("1")}},
	{"ms k 1 MR C5\r\n1\r\n", false, Request{Op: OpCas, Key: []byte("k"), Meta: meta("MC"), Words: []byte("MR C5"), Mode: 'R', CAS: 5, Value: []byte("1")}},
	{"ms k 1 MA N30 C5\r\n1\r\n", false, Request{Op: OpAppend, Key: []byte("k"), Meta: meta("MNC"), Words: []byte("MA N30 C5"), Mode: 'A', InitialExpiry: 30, CAS: 5, Value: []byte("1")}},
	{"ms k 1 MP\r\n1\r\n", false, Request{Op: OpPrepend, Key: []byte("k"), Meta: meta("M"), Words: []byte("MP"), Mode: 'P', Value: []byte("1")}},
	{"ms k 1 E18446744073709551615\r\n1\r\n", true, Request{Op: OpSet, Key: []byte("k"), Meta: meta("E"), Words: []byte("E18446744073709551615"), NewCAS: 1<<64 - 1, Value: []byte("1")}},
	{"ms k 1 s\r\n1\r\n", false, Request{Op: OpSet, Key: []byte("k"), Meta: meta("s"), Words: []byte("s"), Value: []byte("1")}},

	// md
	{"md k\r\n", false, Request{Op: OpDelete, Key: []byte("k")}},
	{"md YSBi b q k O1 C9 T60\r\n", false, Request{Op: OpDelete, Key: []byte("a b"), Base64: true, Meta: meta("bqkOCT"), Words: []byte("b q k O1 C9 T60"),
		Quiet: true, Opaque: []byte("1"), CAS: 9, Expiry: 60}},
	{"md k I T30\r\n", false, Request{Op: OpInvalidate, Key: []byte("k"), Meta: meta("IT"), Words: []byte("I T30"), Expiry: 30}},
	{"md k I E7\r\n", true, Request{Op: OpInvalidate, Key: []byte("k"), Meta: meta("IE"), Words: []byte("I E7"), NewCAS: 7}},
	{"md k x\r\n", true, Request{Op: OpInvalidate, Key: []byte("k"), Meta: meta("x"), Words: []byte("x"), Foreign: true}},

	// ma
	{"ma k\r\n", false, Request{Op: OpIncr, Key: []byte("k"), Delta: 1}},
	{"ma YSBi b N30 J13 D18446744073709551615 T60 MD q k O1 C9 t c v\r\n", false, Request{Op: OpDecr, Key: []byte("a b"), Base64: true, Meta: meta("bNJDTMqkOCtcv"),
		Words: []byte("b N30 J13 D18446744073709551615 T60 MD q k O1 C9 t c v"), Quiet: true, Opaque: []byte("1"), CAS: 9, Delta: 1<<64 - 1, Expiry: 60, Mode: 'D',
		HasInitial: true, Initial: 13, InitialExpiry: 30}},
	{"ma k MI D0\r\n", false, Request{Op: OpIncr, Key: []byte("k"), Meta: meta("MD"), Words: []byte("MI D0"), Mode: 'I'}},
	{"ma k M+\r\n", false, Request{Op: OpIncr, Key: []byte("k"), Meta: meta("M"), Words: []byte("M+"), Mode: '+', Delta: 1}},
	{"ma k M-\r\n", false, Request{Op: OpDecr, Key: []byte("k"), Meta: meta("M"), Words: []byte("M-"), Mode: '-', Delta: 1}},
	{"ma k J5\r\n", false, Request{Op: OpIncr, Key: []byte("k"), Meta: meta("J"), Words: []byte("J5"), Delta: 1, Initial: 5}},
	{"ma k N0 E7\r\n", true, Request{Op: OpIncr, Key: []byte("k"), Meta: meta("NE"), Words: []byte("N0 E7"), Delta: 1, HasInitial: true, NewCAS: 7}},

	// me, mn
	{"me k\r\n", false, Request{Op: OpMetaDebug, Key: []byte("k")}},
	{"me YSBi b\r\n", false, Request{Op: OpMetaDebug, Key: []byte("a b"), Base64: true}},
	{"mn\r\n", false, Request{Op: OpNoop, Reply: []byte("MN\r\n")}},
	{"mn x y z\r\n", false, Request{Op: OpNoop, Reply: []byte("MN\r\n")}},
}

// badMetaRequests are meta requests whose answer does not depend on stored
// data, and how many bytes behind the line memcached throws away. TestMemcachedAgreesOnMetaTables
// sends each of them to a real one.
var badMetaRequests = []struct {
	in    string
	old   string // the answer of memcached before 1.6.27
	reply string // that of later ones; "" for a request that they judge themselves
	skip  int64
}{
	bad("mg", "ERROR"), bad("mg ", "ERROR"), bad("ms", "ERROR"), bad("md", "ERROR"), bad("ma", "ERROR"),
	bad("me", "CLIENT_ERROR bad command line format"),
	bad("mx k", "ERROR"), bad("mm", "ERROR"), bad("m", "ERROR"), bad("mg\x00 k", "ERROR"),
	bad("mg "+key251, "CLIENT_ERROR bad command line format"),
	bad("md "+key251, "CLIENT_ERROR bad command line format"),
	bad("ma "+key251+" MX", "CLIENT_ERROR bad command line format"),
	bad("me "+key251, "CLIENT_ERROR bad command line format"),
	bad("ms "+key251+" 2", "CLIENT_ERROR bad command line format"),
	bad("mg "+key187Encoded+" b", "CLIENT_ERROR bad command line format"),
	bad("mg "+key250Encoded+" b", "CLIENT_ERROR bad command line format"),

	// Flags and their tokens. md and ma have one answer for most of it.
	bad("mg k v v", "CLIENT_ERROR duplicate flag"),
	bad("mg k \xff", "CLIENT_ERROR duplicate flag"),
	bad("mg k Tx v v", "CLIENT_ERROR duplicate flag"),
	bad("md k q q", "CLIENT_ERROR invalid or duplicate flag"),
	bad("ma k MX q q", "CLIENT_ERROR invalid or duplicate flag"),
	bad("mg k Tx", "CLIENT_ERROR bad token in command line format"),
	bad("mg k T", "CLIENT_ERROR bad token in command line format"),
	bad("mg k N99999999999999999999", "CLIENT_ERROR bad token in command line format"),
	bad("mg k R-", "CLIENT_ERROR bad token in command line format"),
	bad("mg k Cx", "CLIENT_ERROR bad token in command line format"),
	bad("mg k Fx", "CLIENT_ERROR bad command line format"),
	bad("mg k Jx", "CLIENT_ERROR invalid numeric initial value"),
	bad("mg k D-1", "CLIENT_ERROR invalid numeric delta value"),
	bad("mg k MXX", "CLIENT_ERROR incorrect length for M token"),
	bad("mg k Tx Dx", "CLIENT_ERROR invalid numeric delta value"),
	bad("mg k Tx Fx", "CLIENT_ERROR bad token in command line format"),
	bad("mg a b", "CLIENT_ERROR error decoding key"),
	bad("mg Y=== v b", "CLIENT_ERROR error decoding key"),
	bad("mg a$== v b", "CLIENT_ERROR error decoding key"),
	bad("md k Tx", "CLIENT_ERROR invalid or duplicate flag"),
	bad("md a b", "CLIENT_ERROR invalid or duplicate flag"),
	bad("ma k Dx", "CLIENT_ERROR invalid or duplicate flag"),
	bad("ma k M", "CLIENT_ERROR invalid or duplicate flag"),
	bad("ma k MX", "CLIENT_ERROR invalid mode for ma M token"),
	bad("ma k MS", "CLIENT_ERROR invalid mode for ma M token"),
	bad("me a b", "CLIENT_ERROR bad command line format"),
	bad("mg k O"+opaque31+"x", "CLIENT_ERROR opaque token too long"),
	bad("md k O"+opaque31+"x", "CLIENT_ERROR opaque token too long"),
	bad("ma k O"+opaque31+"x", "CLIENT_ERROR opaque token too long"),
	bad("mg k"+words17+" T1", "CLIENT_ERROR options flags are too long"),
	{"md k" + words17 + " T1\r\n", "CLIENT_ERROR options flags too long\r\n", "CLIENT_ERROR options flags too long\r\n", 0},
	{"ma k" + words17 + " T1\r\n", "CLIENT_ERROR options flags too long\r\n", "CLIENT_ERROR options flags too long\r\n", 0},
	{"mg k w\r\n", "CLIENT_ERROR invalid flag\r\n", "CLIENT_ERROR invalid flag\r\n", 0},
	{"mg k E7\r\n", "CLIENT_ERROR invalid flag\r\n", "", 0},
	{"mg k !\r\n", "CLIENT_ERROR invalid flag\r\n", "CLIENT_ERROR invalid flag\r\n", 0},
	{"md k x\r\n", "CLIENT_ERROR invalid or duplicate flag\r\n", "", 0},
	{"ma k E1\r\n", "CLIENT_ERROR invalid or duplicate flag\r\n", "", 0},
	{"mg k x v v\r\n", "CLIENT_ERROR invalid flag\r\n", "", 0},
	{"mg k x \xff w\r\n", "CLIENT_ERROR invalid flag\r\n", "", 0},
	{"mg k w \xff\r\n", "CLIENT_ERROR invalid flag\r\n", "CLIENT_ERROR invalid flag\r\n", 0},
	{"ms k 2 w\r\n", "CLIENT_ERROR invalid flag\r\n", "CLIENT_ERROR invalid flag\r\n", 4},

	// ms: what has a size is thrown away with its value, unless there are too
	// many flags.
	bad("ms k", "CLIENT_ERROR bad command line format"),
	bad("ms k x", "CLIENT_ERROR bad command line format"),
	bad("ms k -1", "CLIENT_ERROR bad command line format"),
	bad("ms k q", "CLIENT_ERROR bad command line format"),
	bad("ms k 2147483646", "CLIENT_ERROR bad command line format"),
	bad("ms k 99999999999999999999", "CLIENT_ERROR bad command line format"),
	{"ms k 2 q q\r\n", "CLIENT_ERROR duplicate flag\r\n", "CLIENT_ERROR duplicate flag\r\n", 4},
	{"ms k 2 Fx\r\n", "CLIENT_ERROR bad command line format\r\n", "CLIENT_ERROR bad command line format\r\n", 4},
	{"ms k 2 Tx q\r\n", "CLIENT_ERROR bad token in command line format\r\n", "CLIENT_ERROR bad token in command line format\r\n", 4},
	{"ms a 2 b\r\n", "CLIENT_ERROR error decoding key\r\n", "CLIENT_ERROR error decoding key\r\n", 4},
	{"ms k 2 MX\r\n", "CLIENT_ERROR invalid mode for ms M token\r\n", "CLIENT_ERROR invalid mode for ms M token\r\n", 4},
	{"ms k 2 MSS\r\n", "CLIENT_ERROR incorrect length for M token\r\n", "CLIENT_ERROR incorrect length for M token\r\n", 4},
	{"ms k 2 O" + opaque31 + "x\r\n", "CLIENT_ERROR opaque token too long\r\n", "CLIENT_ERROR opaque token too long\r\n", 4},
	{"ms k 2097152 MX\r\n", "CLIENT_ERROR invalid mode for ms M token\r\n", "CLIENT_ERROR invalid mode for ms M token\r\n", 2097154},
	{"ms k 2" + words17 + "\r\n", "CLIENT_ERROR options flags too long\r\n", "CLIENT_ERROR options flags too long\r\n", 0},
	{"ms k 2\r\nabcd", "CLIENT_ERROR bad data chunk\r\n", "CLIENT_ERROR bad data chunk\r\n", 0},
	{"ms k 2 q\r\nab\n\r", "CLIENT_ERROR bad data chunk\r\n", "CLIENT_ERROR bad data chunk\r\n", 0},
}

// bad is a line that every memcached refuses alike.
func bad(line, reply string) struct {
	in    string
	old   string
	reply string
	skip  int64
} {
	return struct {
		in    string
		old   string
		reply string
		skip  int64
	}{line + "\r\n", reply + "\r\n", reply + "\r\n", 0}
}

// promise: W2, W4
func TestGoodMetaRequests(t *testing.T) {
	for _, old := range []bool{false, true} {
		p := NewParser(testItemSize)
		p.OldMeta = old
		for _, c := range goodMetaRequests {
			if old && c.new {
				continue
			}
			// What stood in r, and what follows the request, is of no account.
			r := Request{Op: OpInvalid, Close: true, Reply: replyError, Keys: []byte("x"), Skip: 7, Delta: 9, HasTime: true,
				Meta: meta("v"), Words: []byte("v"), Opaque: []byte("x"), Mode: 'x', NewCAS: 9, Base64: true, Foreign: true}
			n, need := p.Parse([]byte(c.in+"mg next\r\n"), &r)
			if n != len(c.in) || need != 0 {
				t.Errorf("%q: took %d bytes (need %d), want %d", c.in, n, need, len(c.in))
			}
			c.want.Dialect = Meta
			if got, want := describe(&r), describe(&c.want); got != want {
				t.Errorf("%q:\n got %s\nwant %s", c.in, got, want)
			}
		}
	}
}

// promise: R1, W2, W4
func TestBadMetaRequests(t *testing.T) {
	for _, old := range []bool{false, true} {
		p := NewParser(testItemSize)
		p.OldMeta = old
		for _, c := range badMetaRequests {
			r := Request{Op: OpSet, Close: true, Key: []byte("x"), Skip: 7}
			reply := c.reply
			if old {
				reply = c.old
			}
			in := []byte(c.in + "mg next\r\n")
			if reply == "" && c.skip > 0 {
				in = append([]byte(c.in), "xx\r\n"...)
			}
			n, need := p.Parse(in, &r)
			if reply == "" {
				if n < len(c.in) || r.Op == OpInvalid || !(r.Foreign || r.Meta.Has('E')) {
					t.Errorf("%q: took %d bytes, %s; want it left to the server", c.in, n, describe(&r))
				}
				continue
			}
			if n != len(c.in) || need != 0 {
				t.Errorf("%q (old %v): took %d bytes (need %d), want %d", c.in, old, n, need, len(c.in))
			}
			if r.Op != OpInvalid || string(r.Reply) != reply || r.Close || r.Skip != c.skip {
				t.Errorf("%q (old %v): %s; want reply %q, skip %d", c.in, old, describe(&r), reply, c.skip)
			}
		}
	}
}

// promise: R1, R2, W2
func TestMetaValueTooLarge(t *testing.T) {
	p := NewParser(10)
	for _, c := range []struct {
		in, key string
		skip    int64
	}{
		{"ms k 11\r\n", "k", 13},
		{"ms k 11 q\r\n", "k", 13}, // an error is answered nevertheless
		{"ms k 11 ME\r\n", "k", 13},
		{"ms k 11 MA q\r\n", "k", 13},
		{"ms YSBi 2147483645 b C5\r\n", "a b", 1<<31 - 1},
	} {
		var r Request
		n, need := p.Parse([]byte(c.in), &r) // before a byte of the value is there
		if n != len(c.in) || need != 0 {
			t.Errorf("%q: took %d bytes (need %d), want %d", c.in, n, need, len(c.in))
		}
		// Whatever the operation, memcached drops what the key had.
		if r.Op != OpTooLarge || r.Refused != OpSet || string(r.Key) != c.key || string(r.Reply) != string(replyTooLarge) || r.Skip != c.skip || r.Close || r.Quiet {
			t.Errorf("%q: %s", c.in, describe(&r))
		}
	}
	in := []byte("ms k 10\r\n0123456789\r\n")
	var r Request
	if n, _ := p.Parse(in, &r); n != len(in) || r.Op != OpSet || len(r.Value) != 10 {
		t.Errorf("a value of exactly the limit: %s", describe(&r))
	}
}

// A request that has not come as a whole leaves the input as it is: its key is
// decoded once only.
//
// promise: R2, W2
func TestMetaNeedIsWholeLength(t *testing.T) {
	p := NewParser(testItemSize)
	for _, line := range []string{"ms k 1000\r\n", "ms k 1000 q\n", "ms YSBi 01000 b T5\r\n"} {
		whole := append([]byte(line), bytes.Repeat([]byte("v"), 1000)...)
		whole = append(whole, "\r\n"...)
		before := bytes.Clone(whole)
		var r Request
		for have := 1; have < len(whole); have++ {
			want := len(whole)
			if have < len(line) {
				want = 0
			}
			if n, need := p.Parse(whole[:have], &r); n != 0 || need != want {
				t.Fatalf("%q and %d bytes: n %d, need %d, want 0, %d", line, have, n, need, want)
			}
		}
		if !bytes.Equal(whole, before) {
			t.Fatalf("%q: the input was changed", line)
		}
		if n, _ := p.Parse(whole, &r); n != len(whole) || len(r.Value) != 1000 {
			t.Fatalf("%q: took %d of %d bytes", line, n, len(whole))
		}
	}
}

// promise: W2
func TestMetaRequestsDoNotAllocate(t *testing.T) {
	p := NewParser(testItemSize)
	var r Request
	in := make([]byte, 0, 4096)
	check := func(s string) {
		t.Helper()
		if got := testing.AllocsPerRun(20, func() { p.Parse(append(in[:0], s...), &r) }); got != 0 {
			t.Errorf("%q: %v allocations", s, got)
		}
	}
	for _, c := range goodMetaRequests {
		check(c.in)
	}
}

// promise: W2
func TestMetaFlagSets(t *testing.T) {
	f := meta("bvT")
	if !f.Has('T') || f.Has('t') || f.Has('!') || f.Has(0xff) || !f.HasAny("xT") || f.HasAny("tc") || f.HasAny("") {
		t.Errorf("%b holds others than b, v and T", f)
	}
	if !f.Within("Tbvc") || f.Within("Tb") || !MetaFlags(0).Within("") || f.Within("") {
		t.Errorf("%b is within others than b, v and T", f)
	}
}
