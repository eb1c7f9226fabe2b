package protocol

import (
	"fmt"
	"strings"
	"testing"
)

// promise: C8, W4
func TestBatchOfSets(t *testing.T) {
	s := dial(t, startMemcached(t))
	var batch []byte
	big := strings.Repeat("x", testItemSize)
	for i, value := range []string{"", "1", "\r\n", big, "last"} {
		batch = AppendQuietSet(batch, fmt.Appendf(nil, "k%d", i), uint32(i), int64(i)*1000, len(value))
		batch = append(append(batch, value...), "\r\n"...)
	}
	s.send(AppendFence(batch))
	for _, want := range []string{"SERVER_ERROR object too large for cache\r\n", FenceLine + "\r\n"} {
		if line, err := s.line(); err != nil || string(line) != want {
			t.Fatalf("answer %q (%v), want %q", line, err, want)
		}
	}
	for i, want := range []string{"VA 0 f0 t-1\r\n\r\n", "VA 1 f1 t1000\r\n1\r\n", "VA 2 f2 t2000\r\n\r\n\r\n", "EN\r\n", "VA 4 f4 t4000\r\nlast\r\n"} {
		s.send(fmt.Appendf(nil, "mg k%d f t v\r\n", i))
		head, value, _ := strings.Cut(want, "\r\n")
		line, err := s.line()
		got := strings.TrimSuffix(string(line), "\r\n")
		if err != nil || (got != head && !tickLater(got, head)) {
			t.Fatalf("key k%d: %q (%v), want %q", i, line, err, head)
		}
		if b, err := s.read(len(value)); err != nil || string(b) != value {
			t.Fatalf("key k%d: value %q (%v), want %q", i, b, err, value)
		}
	}
}

// tickLater tells whether two answers to mg differ only in a time to live that
// has become less by a second or two.
func tickLater(got, want string) bool {
	gotHead, gotTTL, _ := strings.Cut(got, " t")
	wantHead, wantTTL, _ := strings.Cut(want, " t")
	return gotHead == wantHead && sameTTL("HD t"+gotTTL, "HD t"+wantTTL)
}
