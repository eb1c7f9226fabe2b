package protocol

import "testing"

// Keys that hold spaces, line ends or NULs are written base64-encoded.
//
// promise: C8, C9, W2, W3
func TestMetaCommandsForKeysThatAreNoText(t *testing.T) {
	for _, c := range []struct {
		key     string
		written string // with what stands for flag b
		b       string
	}{
		{"k", "k", ""}, {"\x01\t\x7f\x80\xff\r", "\x01\t\x7f\x80\xff\r", ""}, {key250, key250, ""},
		{"a b", "YSBi", " b"}, {"\n", "Cg==", " b"}, {"a\x00", "YQA=", " b"}, {" ", "IA==", " b"}, {key186, key186Encoded, " b"},
	} {
		key := []byte(c.key)
		encode := !IsTextKey(key)
		if encode != (c.b != "") {
			t.Errorf("%q: text %v", c.key, !encode)
		}
		copied := "mg " + c.written + c.b + " v f t c u\r\n"
		if !encode {
			copied = "mg " + c.written + " v f t c k u\r\n"
		}
		remove := "delete " + c.written + "\r\n"
		if encode {
			remove = "md " + c.written + " b\r\n"
		}
		for _, q := range []struct {
			got  []byte
			want string
		}{
			{AppendMetaStart(nil, "me ", key), "me " + c.written + c.b},
			{AppendMetaGet(nil, key), "mg " + c.written + c.b + " v f t c\r\n"},
			{AppendMetaCopy(nil, key), copied},
			{AppendMetaLook(nil, key), "mg " + c.written + c.b + " s f t c u\r\n"},
			{AppendMetaTouch(nil, key, -1, false), "mg " + c.written + c.b + " T-1 f c\r\n"},
			{AppendMetaTouch(nil, key, 60, true), "mg " + c.written + c.b + " T60 v t f c\r\n"},
			{AppendDelete(nil, key), remove},
			{AppendMetaDelete(nil, key, 1<<64-1), "md " + c.written + c.b + " C18446744073709551615\r\n"},
			{AppendMetaInvalidate(nil, key, 5, 0), "md " + c.written + c.b + " I C5\r\n"},
			{AppendMetaInvalidate(nil, key, 5, 7), "md " + c.written + c.b + " I C5 E7\r\n"},
			{AppendRetoken(nil, key, 9), "ms " + c.written + " 0" + c.b + " MA E9\r\n\r\n"},
			{AppendMetaSet(nil, key, &MetaSet{Op: OpAdd, Base64: encode, Size: 3, Flags: 5, Expiry: 60, Token: 9, Tell: true, Quiet: true}),
				"ms " + c.written + " 3" + c.b + " ME F5 T60 E9 c q\r\n"},
			{AppendMetaSet(nil, key, &MetaSet{Op: OpAppend, Base64: encode, Size: 3, Flags: 5, Expiry: 60, Create: true, Compares: true}),
				"ms " + c.written + " 3" + c.b + " MA F5 N60 C0\r\n"},
			{AppendMetaArith(nil, key, &MetaArith{Op: OpDecr, Base64: encode, Delta: 2, HasInitial: true, Initial: 7, InitialExpiry: -1, Compares: true, Compare: 3}),
				"ma " + c.written + c.b + " MD D2 N-1 J7 C3 v c\r\n"},
			{AppendMetaArith(nil, key, &MetaArith{Op: OpIncr, Base64: encode, Initial: 7}), "ma " + c.written + c.b + " D0 v c\r\n"},
		} {
			if string(q.got) != q.want {
				t.Errorf("%q: got %q, want %q", c.key, q.got, q.want)
			}
		}
	}
	if IsTextKey(nil) {
		t.Error("no key at all is text")
	}
}

// A server takes each of the commands for a key that is no text, and means the
// same item by it.
//
// promise: C8, W2, W3
func TestServersTakeKeysThatAreNoText(t *testing.T) {
	s := dial(t, startMemcached(t))
	for _, key := range []string{"a b", "\x00\n", key186} {
		k := []byte(key)
		ask := func(q []byte, want Answer) metaAnswer {
			t.Helper()
			a, err := s.askMeta(q)
			if err != nil || a.kind != want {
				t.Fatalf("%q: %q, kind %d (%v), want kind %d", q, a.line, a.kind, err, want)
			}
			return a
		}
		ask(append(AppendMetaSet(nil, k, &MetaSet{Op: OpSet, Base64: true, Flags: 5, Expiry: 1000, Size: 2}), "41\r\n"...), Done)
		a := ask(AppendMetaArith(nil, k, &MetaArith{Op: OpIncr, Base64: true, Delta: 1}), Value)
		if string(a.value) != "42" {
			t.Errorf("%q: %q", key, a.value)
		}
		token := a.item.CAS
		if TokenOf(a.line) != token || token == 0 {
			t.Errorf("token of %q: %d", a.line, TokenOf(a.line))
		}
		var it Item
		if a = ask(AppendMetaTouch(nil, k, 2000, false), Done); !ParseTouch(a.line, &it) || it.Flags != 5 || it.CAS != token {
			t.Errorf("%q: %+v", a.line, it)
		}
		if a = ask(AppendMetaTouch(nil, k, 2000, true), Value); string(a.value) != "42" || a.item.Flags != 5 {
			t.Errorf("%q: %q", a.line, a.value)
		}
		ask(AppendMetaDelete(nil, k, token+1000), Exists)
		ask(AppendMetaInvalidate(nil, k, token, 0), Done)
		a = ask(AppendMetaCopy(nil, k), Value)
		if m := a.item.ItemMarks; !m.Stale || !m.Won || m.Sent || !IsWon(a.line) {
			t.Errorf("%q: %+v", a.line, m)
		}
		ask(AppendMetaDelete(nil, k, a.item.CAS), Done)
		ask(AppendMetaGet(nil, k), End)
	}
}
