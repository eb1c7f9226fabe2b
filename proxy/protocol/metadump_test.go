package protocol

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// uriencode writes a key as memcached's util.c does.
func uriencode(key []byte) string {
	var b strings.Builder
	for _, c := range key {
		if c-'0' < 10 || c-'A' < 26 || c-'a' < 26 || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func dumpLine(k *DumpedKey) string {
	return fmt.Sprintf("key=%s exp=%d la=%d cas=%d fetch=no cls=1 size=%d", uriencode(k.Key), k.Expiry, k.Access, k.CAS, k.Size)
}

func sameDumped(a, b *DumpedKey) bool { return fmt.Sprint(*a) == fmt.Sprint(*b) }

// promise: C7
func TestParseDumpLine(t *testing.T) {
	all := strings.Repeat("%FF", 250)
	for _, c := range []struct {
		line string
		want DumpedKey
	}{
		{"key=fl exp=1795187132 la=1795186832 cas=17 fetch=no cls=1 size=66", DumpedKey{[]byte("fl"), 1795187132, 1795186832, 17, 66}},
		{"key=k exp=-1 la=1 cas=18446744073709551615 fetch=yes cls=63 size=1048576 flags=5 new=%%", DumpedKey{[]byte("k"), -1, 1, 1<<64 - 1, 1 << 20}},
		{"size=66 fetch= cas=17 la=2 exp=3 key=fl", DumpedKey{[]byte("fl"), 3, 2, 17, 66}},
		{"key=a%09b%FF%01%0d%25%3D exp=-1", DumpedKey{[]byte("a\tb\xff\x01\r%="), -1, 0, 0, 0}},
		{"key=a%20b%0D%0Ac%00", DumpedKey{Key: []byte("a b\r\nc\x00")}},
		{"key=a=b/c:\xff", DumpedKey{Key: []byte("a=b/c:\xff")}},
		{" key=a  exp=5 ", DumpedKey{Key: []byte("a"), Expiry: 5}},
		{"key=" + all, DumpedKey{Key: []byte(strings.Repeat("\xff", 250))}},
	} {
		for _, scratch := range [][]byte{make([]byte, 0, maxKey), nil} {
			k := DumpedKey{Expiry: 77, Size: 77}
			if !ParseDumpLine([]byte(c.line), &k, scratch) || !sameDumped(&k, &c.want) {
				t.Errorf("%q: %+v, want %+v", c.line, k, c.want)
			}
			if scratch != nil && &k.Key[0] != &scratch[:1][0] {
				t.Errorf("%q: the key is not in scratch", c.line)
			}
		}
	}
}

// promise: R2, R4
func TestParseDumpLineRefuses(t *testing.T) {
	for _, line := range []string{
		"", " ", "END", "OK", "BUSY currently processing crawler request", "BADCLASS invalid class id", "ERROR", "CLIENT_ERROR lru crawler disabled",
		"exp=-1 la=1", "key= exp=-1", "key exp=-1", "=k exp=-1", "key=k exp", "key=k garbage exp=1", "key=k key=l", "key=k exp=", "key=k exp=x", "key=k exp=-2",
		"key=k exp=9223372036854775808", "key=k la=-1", "key=k la=9223372036854775808", "key=k cas=-1", "key=k cas=18446744073709551616", "key=k size=1x",
		"key=k size=9223372036854775808", "key=%", "key=%4", "key=a%4", "key=%4g", "key=%g4", "key=%%41", "key=a\tb", "key=a\x7f", "key=a\r", "key=k size=3\r",
		"key=" + key251, "key=" + strings.Repeat("%41", 251), "key=k x=" + strings.Repeat("x", maxAnswerLine),
	} {
		k := DumpedKey{Expiry: 77}
		if ParseDumpLine([]byte(line), &k, make([]byte, 0, maxKey)) || k.Expiry != 77 {
			t.Errorf("%.300q is taken for %+v", line, k)
		}
	}
}

// promise: R4
func TestIsTextKey(t *testing.T) {
	for key, want := range map[string]bool{
		"k": true, "a\tb\r": true, "\xff\x01%": true, key250: true,
		"": false, "a b": false, "a\nb": false, "a\x00": false, " ": false,
	} {
		if got := IsTextKey([]byte(key)); got != want {
			t.Errorf("%q: %v", key, got)
		}
	}
}

func checkDumpLine(line []byte) error {
	var k, again DumpedKey
	if !ParseDumpLine(line, &k, make([]byte, 0, maxKey)) {
		return nil
	}
	if len(k.Key) == 0 || len(k.Key) > maxKey || k.Expiry < -1 || k.Access < 0 || k.Size < 0 || len(line) > maxAnswerLine {
		return fmt.Errorf("%q: %+v", line, k)
	}
	if b := dumpLine(&k); !ParseDumpLine([]byte(b), &again, nil) || !sameDumped(&k, &again) {
		return fmt.Errorf("%+v is written as %q and read as %+v", k, b, again)
	}
	return nil
}

// FuzzDumpLine checks that no line of a dump crashes the proxy, and that what
// is read survives being written and read.
//
// promise: R4
func FuzzDumpLine(f *testing.F) {
	for _, line := range []string{"key=fl exp=1795187132 la=1795186832 cas=17 fetch=no cls=1 size=66", "key=a%09b%FF%01%0D exp=-1 la=1 cas=3 fetch=yes cls=1 size=68 flags=5",
		"END", "BUSY currently processing crawler request", "size=1 key=%4", "key=a=b key=c"} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if err := checkDumpLine(line); err != nil {
			t.Fatal(err)
		}
	})
}

// promise: C7
func TestDumpedKeysSurviveWriting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := DumpedKey{
			Key:    rapid.SliceOfN(rapid.Byte(), 1, maxKey).Draw(t, "key"),
			Expiry: rapid.Int64Range(-1, 1<<40).Draw(t, "exp"),
			Access: rapid.Int64Range(0, 1<<40).Draw(t, "la"),
			CAS:    rapid.Uint64().Draw(t, "cas"),
			Size:   rapid.IntRange(0, 1<<30).Draw(t, "size"),
		}
		words := rapid.Permutation(strings.Fields(dumpLine(&want))).Draw(t, "order")
		var got DumpedKey
		if line := strings.Join(words, " "); !ParseDumpLine([]byte(line), &got, nil) || !sameDumped(&got, &want) {
			t.Fatalf("%q is read as %+v, want %+v", line, got, want)
		}
	})
}

// dump returns what a memcached tells of its keys in the given order ("all" or
// "hash").
func dump(t *testing.T, s *server, order string) []DumpedKey {
	t.Helper()
	s.send([]byte("lru_crawler enable\r\n"))
	if line, err := s.line(); err != nil || string(line) != "OK\r\n" {
		t.Fatalf("lru_crawler enable: %q (%v)", line, err)
	}
	s.send([]byte("lru_crawler metadump " + order + "\r\n")) // refused behind another command
	var keys []DumpedKey
	for {
		in, err := s.line()
		if err != nil {
			t.Fatal(err)
		}
		line, n, kind, _ := ParseLine(in)
		if kind == End {
			return keys
		}
		var k DumpedKey
		if n != len(in) || kind != Other || !ParseDumpLine(line, &k, nil) {
			t.Fatalf("ParseDumpLine refuses %q (kind %d)", in, kind)
		}
		keys = append(keys, k)
	}
}

// promise: C7, C8
func TestDumpOfMemcached(t *testing.T) {
	for _, order := range []string{"all", "hash"} {
		s := dial(t, startMemcached(t))
		start := time.Now().Unix()
		want := make(map[string]int64) // key to expiry in seconds, 0 for none
		for c := range 256 {
			key := fmt.Sprintf("a%sb%d", []byte{byte(c)}, c)
			want[key] = int64(c%3) * 1000
			// Any byte may be in a key that comes base64-encoded.
			encoded := base64.StdEncoding.EncodeToString([]byte(key))
			a, err := s.askMeta(fmt.Appendf(nil, "ms %s 3 b T%d\r\nabc\r\n", encoded, want[key]))
			if err != nil || a.kind != Done {
				t.Fatalf("key %q: %q (%v)", key, a.line, err)
			}
		}
		want[key250] = 0
		if a, err := s.askMeta([]byte("set " + key250 + " 0 0 1\r\nx\r\n")); err != nil || a.kind != Stored {
			t.Fatalf("%q (%v)", a.line, err)
		}
		for _, k := range dump(t, s, order) {
			expiry, there := want[string(k.Key)]
			delete(want, string(k.Key))
			if left := k.Expiry - start; !there || (expiry == 0) != (k.Expiry == -1) || (expiry > 0 && (left < expiry-10 || left > expiry+10)) ||
				k.Access < start-10 || k.Access > start+10 || k.Size < len(k.Key) || k.CAS == 0 {
				t.Errorf("order %s at %d: %+v, want expiry %d", order, start, k, expiry)
			}
			if !IsTextKey(k.Key) {
				continue
			}
			a, err := s.askMeta(AppendMetaLook(nil, k.Key))
			var it Item
			if err != nil || !ParseLook(a.line, &it) || it.CAS != k.CAS {
				t.Errorf("order %s: dumped %+v, but a look tells %q (%v)", order, k, a.line, err)
			}
		}
		if len(want) > 0 {
			t.Errorf("order %s: the dump lacks %v", order, want)
		}
	}
}
