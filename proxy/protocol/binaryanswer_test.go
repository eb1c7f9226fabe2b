package protocol

import "testing"

// promise: W3
func TestBinaryAnswers(t *testing.T) {
	const opaque = "\x01\x02\x03\x04"
	const none, token = "\x00\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x09"
	key := []byte("key")
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"get hit", AppendBinaryHit(nil, 0x00, testOpaque, 9, 7, key, 5),
			"\x81\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x09" + opaque + token + "\x00\x00\x00\x07"},
		{"getk hit", AppendBinaryHit(nil, 0x0c, testOpaque, 9, 7, key, 5),
			"\x81\x0c\x00\x03\x04\x00\x00\x00\x00\x00\x00\x0c" + opaque + token + "\x00\x00\x00\x07key"},
		{"get miss", AppendBinaryMiss(nil, 0x00, testOpaque, key),
			"\x81\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x09" + opaque + none + "Not found"},
		{"gatk miss", AppendBinaryMiss(nil, 0x23, testOpaque, key),
			"\x81\x23\x00\x03\x00\x00\x00\x01\x00\x00\x00\x03" + opaque + none + "key"},
		{"stored", AppendBinaryOK(nil, 0x01, testOpaque, 9),
			"\x81\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + opaque + token},
		{"touched", AppendBinaryTouched(nil, 0x1c, testOpaque, 9, 7),
			"\x81\x1c\x00\x00\x04\x00\x00\x00\x00\x00\x00\x04" + opaque + token + "\x00\x00\x00\x07"},
		{"number", AppendBinaryNumber(nil, 0x05, testOpaque, 9, 1<<40),
			"\x81\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x08" + opaque + token + "\x00\x00\x01\x00\x00\x00\x00\x00"},
		{"version", AppendBinaryVersion(nil, 0x0b, testOpaque, "1.6.18"),
			"\x81\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00\x06" + opaque + none + "1.6.18"},
		{"stat", AppendBinaryStat(nil, testOpaque, "pid", "12"),
			"\x81\x10\x00\x03\x00\x00\x00\x00\x00\x00\x00\x05" + opaque + none + "pid12"},
		{"end of stat", AppendBinaryStatEnd(nil, testOpaque),
			"\x81\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + opaque + none},
		{"unknown", AppendBinaryError(nil, 0x77, testOpaque, StatusUnknownCommand),
			"\x81\x77\x00\x00\x00\x00\x00\x81\x00\x00\x00\x0f" + opaque + none + "Unknown command"},
		{"challenge", AppendBinaryText(nil, 0x21, testOpaque, StatusAuthContinue, key),
			"\x81\x21\x00\x00\x00\x00\x00\x21\x00\x00\x00\x03" + opaque + none + "key"},
		{"long key", AppendBinaryMiss(nil, 0x0c, 0, []byte(key250))[:12],
			"\x81\x0c\x00\xfa\x00\x00\x00\x01\x00\x00\x00\xfa"},
	} {
		if string(c.got) != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.name, c.got, c.want)
		}
	}
}

// promise: W3
func TestBinaryErrorsHaveTexts(t *testing.T) {
	seen := map[string]BinaryStatus{}
	for _, s := range []BinaryStatus{StatusNotFound, StatusExists, StatusTooLarge, StatusInvalid, StatusNotStored,
		StatusNonNumeric, StatusAuthError, StatusUnknownCommand, StatusOutOfMemory, StatusInternal, StatusTemporary} {
		text := string(AppendBinaryError(nil, 0, 0, s)[BinaryHeaderSize:])
		if other, ok := seen[text]; ok || text == "" {
			t.Errorf("status %#x says %q, as does %#x", s, text, other)
		}
		seen[text] = s
	}
}

// promise: W3
func TestQuietSilences(t *testing.T) {
	gets := map[byte]bool{0x09: true, 0x0d: true, 0x1e: true, 0x24: true}
	for opcode := range 256 {
		quiet := gets[byte(opcode)] || (opcode >= 0x11 && opcode <= 0x1a)
		for status := range BinaryStatus(256) {
			want := quiet && status == StatusOK
			if gets[byte(opcode)] {
				want = status == StatusNotFound
			}
			if got := QuietSilences(byte(opcode), status); got != want {
				t.Errorf("opcode %#x, status %#x: %v", opcode, status, got)
			}
		}
	}
}
