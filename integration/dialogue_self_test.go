package integration

import (
	"bufio"
	"crypto/sha256"
	"math/rand/v2"
	"strings"
	"testing"

	"magent/integration/harness"
)

// A comparison that sees nothing proves nothing.
func TestConversationsShowWhatDiffers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		a, b string
		same bool
	}{
		{"equal", "HD s3 t100 Oabc\r\n", "HD s3 t100 Oabc\r\n", true},
		{"time", "HD t100 l5\r\n", "HD t99 l6\r\n", true},
		{"later", "HD t100\r\n", "HD t90\r\n", false},
		{"no expiry", "HD t-1\r\n", "HD t0\r\n", false},
		{"past expiry", "HD t4294967200\r\n", "HD t4294960000\r\n", true},
		{"token", "HD c2001\r\nHD c2001\r\n", "HD c77777\r\nHD c77777\r\n", true},
		{"another token", "HD c2001\r\nHD c2001\r\n", "HD c77777\r\nHD c77778\r\n", false},
		{"same token", "HD c2001\r\nHD c2002\r\n", "HD c77777\r\nHD c77777\r\n", false},
		{"no token", "HD c0\r\n", "HD c5000\r\n", false},
		{"chosen token", "HD c7\r\n", "HD c8\r\n", false},
		{"token of gets", "VALUE k 0 1 2001\r\nx\r\nHD c2001\r\n", "VALUE k 0 1 5001\r\nx\r\nHD c5002\r\n", false},
		{"value", "VA 2 f1\r\nab\r\n", "VA 2 f1\r\nac\r\n", false},
		{"length", "VA 2\r\nab\r\n", "VA 3\r\nabc\r\n", false},
		{"flags", "VA 2 f1\r\nab\r\n", "VA 2 f2\r\nab\r\n", false},
		{"fetched", "HD h1\r\n", "HD h0\r\n", false},
		{"mark", "HD s2 W\r\n", "HD s2\r\n", false},
		{"order", "HD s2 f0\r\n", "HD f0 s2\r\n", false},
		{"debug", "ME k exp=-10 la=1 cas=2001 fetch=yes\r\n", "ME k exp=-11 la=0 cas=9000 fetch=yes\r\n", true},
		{"key with a line feed", "HD ka\nb s2\r\n", "HD ka\nb s3\r\n", false},
		{"missing", "HD\r\nHD\r\n", "HD\r\n", false},
		{"more", "HD\r\n", "HD\r\nHD\r\n", false},
		{"error", "CLIENT_ERROR bad data chunk\r\n", "CLIENT_ERROR bad\r\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDialogue(t, rand.New(rand.NewPCG(1, 1)), "", &side{name: "one"}, &side{name: "other"})
			d.log = []spoken{{conn: "text"}}
			var answers [2][]answer
			for i, text := range []string{c.a, c.b} {
				r := bufio.NewReader(strings.NewReader(text))
				for a, err := readText(r); err == nil; a, err = readText(r) {
					answers[i] = append(answers[i], a)
				}
			}
			if why := d.compare(0, answers, [2]error{}); (why == "") != c.same {
				t.Errorf("%q and %q: %s", c.a, c.b, why)
			}
		})
	}
}

func TestPacketsShowWhatDiffers(t *testing.T) {
	t.Parallel()
	answerTo := func(change func(b []byte)) *packet {
		b := (&request{op: opGetK, key: []byte("key"), extras: make([]byte, 4), value: []byte("value"), cas: 5000, opaque: 9}).bytes()
		change(b)
		a, err := readPacket(bufio.NewReader(strings.NewReader(string(b))))
		must(t, err)
		return a.(*packet)
	}
	m := &meaning{names: [2]map[uint64]uint64{{}, {}}}
	whole := answerTo(func([]byte) {})
	if why := whole.differs(answerTo(func(b []byte) { b[23]++ }), m); why != "" {
		t.Errorf("another name of a token: %s", why)
	}
	for _, at := range []int{0, 1, 5, 7, 12, 24, 29, 35} {
		if whole.differs(answerTo(func(b []byte) { b[at]++ }), m) == "" {
			t.Errorf("a change of byte %d is not seen", at)
		}
	}
	if whole.differs(answerTo(func(b []byte) { b[23] += 2 }), m) == "" {
		t.Error("a token with two names is not seen")
	}
}

func TestStateShowsWhatDiffers(t *testing.T) {
	t.Parallel()
	a, b := harness.StartMemcached(t), harness.StartMemcached(t)
	ca, cb := harness.MustDial(t, a.Addr), harness.MustDial(t, b.Addr)
	oa, ob := observe(t, a.Addr), observe(t, b.Addr)
	for _, c := range []struct {
		name       string
		one, other string
		values     bool // the difference is not in the marks only
	}{
		{"value", "ms value 1\r\na", "ms value 1\r\nb", true},
		{"flags", "ms flags 1 F1\r\na", "ms flags 1 F2\r\na", true},
		{"expiry", "ms expiry 1 T100\r\na", "ms expiry 1 T110\r\na", true},
		{"forever", "ms forever 1 T100\r\na", "ms forever 1\r\na", true},
		{"missing", "ms missing 1\r\na", "mg missing", true},
		{"stale", "md stale I", "mg stale", false},
		{"renewed", "mg renewed R100", "mg renewed", false},
		{"binary", "ms YmluYXJ5 1 b\r\na", "ms binary 1\r\na", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, side := range []*harness.Client{ca, cb} {
				_, err := side.Command("ms %s 1 T50\r\na", c.name)
				must(t, err)
				text := c.one
				if i == 1 {
					text = c.other
				}
				if c.name == "missing" && i == 1 {
					text = "md missing"
				}
				_, err = side.Command("%s", text)
				must(t, err)
			}
			diff, _, err := different(oa, ob, []string{c.name}, 2)
			if err != nil || (diff != "") != c.values {
				t.Errorf("%q, %v", diff, err)
			}
			if c.values {
				return
			}
			diff, _, err = differentMarks([]*observer{oa, ob}, []string{"one", "other"}, []string{c.name}, 0)
			if err != nil || diff == "" {
				t.Errorf("%q, %v", diff, err)
			}
		})
	}
}

// The same seed makes the same conversation.
func TestConversationsCanBeRepeated(t *testing.T) {
	t.Parallel()
	made := func() [sha256.Size]byte {
		words := newVocabulary(rand.New(rand.NewPCG(7, 2)), "c7:", true)
		words.now = 1_800_000_000
		meta, packets := metaGenerator{words}, binaryGenerator{words}
		var all []byte
		for range 400 {
			all = append(append(all, meta.step().request[0]...), packets.step().request[0]...)
		}
		return sha256.Sum256(all)
	}
	first, again := made(), made()
	if first != again {
		t.Error("it does not")
	}
}
