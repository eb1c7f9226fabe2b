package backend

import (
	"context"
	"strings"
	"testing"
	"time"

	"magent/proxy/protocol"
)

// A server is only believed to take tokens when its version and its settings
// say so.
//
// promise: C9
func TestTakesTokens(t *testing.T) {
	const settings = "STAT maxbytes 67108864\r\nSTAT item_size_max 1048576\r\nSTAT cas_enabled yes\r\nEND"
	for _, test := range []struct {
		version, settings string
		takes             bool
	}{
		{"1.6.18", settings, false},
		{"1.6.26", settings, false},
		{"1.6.27", settings, true},
		{"1.6.38", settings, true},
		{"1.7.0", settings, true},
		{"2.0.0", settings, true},
		{"1.5.99", settings, false},
		{"unknown", settings, false},
		{"1.6.38", strings.Replace(settings, "yes", "no", 1), false},
		{"1.6.38", "ERROR", false},
		{"1.6.38", "END", false},
	} {
		f := newFakeServer(t, "127.0.0.1:0", func(line string) string {
			if line == "stats settings" {
				return test.settings
			}
			return healthy(line)
		})
		at := f.at()
		c, err := DialClient(context.Background(), Address{Host: at.Addr().String(), Port: int(at.Port())}, patience, patience)
		if err != nil {
			t.Fatal(err)
		}
		s := newUpServer(1)
		s.setVersion(test.version)
		settings, err := askSettings(c)
		if err != nil {
			t.Errorf("%s: %v", test.version, err)
		}
		s.setTokens(settings)
		c.Close()
		if s.TakesTokens() != test.takes {
			t.Errorf("%s, %q: takes tokens %v", test.version, test.settings, s.TakesTokens())
		}
		if test.takes && (!s.HasRoomFor(1<<20-itemOverhead) || s.HasRoomFor(1<<20-itemOverhead+1)) {
			t.Error("room for values larger than the server takes, or none for smaller ones")
		}
	}
}

// The answer to arithmetic is told as the line that the classic command gets,
// however it is cut.
//
// promise: C9, W4, R4
func TestAnswersToMetaArithmetic(t *testing.T) {
	for _, test := range []struct {
		answer string
		told   string // "" for a broken connection
	}{
		{"VA 2 c7\r\n10\r\n", "incr = 10; set < STORED"},
		{"VA 20 c18446744073709551615\r\n18446744073709551615\r\n", "incr = 18446744073709551615; set < STORED"},
		{"NF\r\n", "incr < NF; set < STORED"},
		{"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n", "incr < CLIENT_ERROR cannot increment or decrement non-numeric value; set < STORED"},
		{"VA 2 c7\r\n1\r\n10", ""},
		{"VA 2 c7\r\n1x\r\n", ""},
		{"VA 2 c7\r\n100\r\n", ""},
		{"VA 2 t7\r\n10\r\n", ""},
		{"VA x\r\n10\r\n", ""},
		{"EN\r\n", ""},
		{"HD\r\n", ""},
	} {
		answers := test.answer + "STORED\r\n"
		for cut := range answers {
			r := newRig(t)
			call := r.send("incr", "ma k v c\r\n")
			call.Kind = Number
			r.send("set", "set\r\n")
			r.requests()
			r.answer(answers[:cut])
			if r.conn.fd >= 0 {
				r.answer(answers[cut:])
			}
			if told := r.told(); test.told != "" && told != test.told || test.told == "" && !strings.Contains(told, "failed") {
				t.Fatalf("%q cut at %d: told %q, want %q", answers, cut, told, test.told)
			}
			if strings.HasPrefix(test.answer, "VA 2 c7\r\n10\r\n") && call.Token != 7 {
				t.Fatalf("token %d", call.Token)
			}
		}
	}
}

// A token that a proxy chose holds on every server, one that a server counted
// up on that life of it only, or on another server that was told it.
//
// promise: C9
func TestTokensThatComeWithAnItem(t *testing.T) {
	a, b := newUpServer(1), newUpServer(1)
	a.setLife(Life{1, time.Now().Unix()})
	b.setLife(Life{2, time.Now().Unix()})
	for _, token := range []uint64{ChosenToken, ChosenToken | 12345, ChosenToken<<1 - 1} {
		for _, s := range []*Server{a, b} {
			if !IsChosen(token) || s.ClientToken(token) != token || s.ServerToken(token) != token {
				t.Errorf("%x: clients are told %x, the server %x", token, s.ClientToken(token), s.ServerToken(token))
			}
		}
	}
	for _, own := range []uint64{0, 1, 12345, tokenMask} {
		told := a.ClientToken(own)
		if told>>62 != 0 || IsChosen(told) || a.ServerToken(told) != own {
			t.Errorf("%x: clients are told %x", own, told)
		}
		if at := b.ServerToken(told); at != told || b.ClientToken(at) != told {
			t.Errorf("%x of one server: the other one knows it as %x, and tells clients %x", told, at, b.ClientToken(at))
		}
	}
	if line := string(protocol.AppendRetoken(nil, []byte("k"), b.ServerToken(a.ClientToken(5)))); strings.Contains(line, " E5\r\n") {
		t.Errorf("a token of one server is another's: %q", line)
	}
}
