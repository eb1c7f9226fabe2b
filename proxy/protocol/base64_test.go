package protocol

import (
	"bytes"
	"encoding/base64"
	"testing"

	"pgregory.net/rapid"
)

// promise: R1, W2
func TestDecodeBase64(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"YQ==", "a"}, {"YWI=", "ab"}, {"YSBi", "a b"}, {"+/+/", "\xfb\xff\xbf"}, {"YSBiYQ==", "a ba"},
		{"YR==", "a"}, {"YWJ=", "ab"}, // bits behind the end
		{"Y!Q\t=\xff=", "a"}, {"\rYSBi\n", "a b"}, {"Y-Q_==", "a"}, // bytes that are no digits
		{"YQ==YQ==", "a"}, {"YQ==YSBi", "a"}, {"YQ=aYSBi", "a\x00"}, {"=YQ=", "\x01"}, // a padding in the middle
		{"", ""}, {"Y", ""}, {"YQ", ""}, {"YQ=", ""}, {"YQ==Y", ""}, {"Y===", ""}, {"====", ""}, {"!!!!", ""},
	} {
		for _, dst := range [][]byte{make([]byte, len(c.in)), []byte(c.in)} {
			src := []byte(c.in)
			if string(dst) == c.in {
				src = dst // in its place
			}
			if n := decodeBase64(dst, src); string(dst[:n]) != c.want {
				t.Errorf("%q: %q, want %q", c.in, dst[:n], c.want)
			}
		}
	}
}

// promise: W2
func TestDecodeBase64OfEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 1, 187).Draw(t, "key")
		b := base64.StdEncoding.AppendEncode(nil, key)
		if n := decodeBase64(b, b); !bytes.Equal(b[:n], key) {
			t.Fatalf("%q: %q", key, b[:n])
		}
	})
}
