package integration

import (
	"fmt"
	"strings"
	"testing"

	"magent/integration/harness"
)

// exchange sends lines and returns the answer's, with those of values.
func exchange(t *testing.T, c *harness.Client, send string, lines int) string {
	t.Helper()
	must(t, c.Send([]byte(send)))
	var got []string
	for range lines {
		line, err := c.Line()
		must(t, err)
		got = append(got, line)
	}
	return strings.Join(got, "|")
}

// says wants an answer.
func says(t *testing.T, c *harness.Client, send, want string) {
	t.Helper()
	if got := exchange(t, c, send, 1+strings.Count(want, "|")); got != want {
		t.Fatalf("%q is answered %q, want %q", send, got, want)
	}
}

// An item that was invalidated is stale on both servers, and one client only is
// told to fetch it anew, whichever server answers.
//
// promise: W2, C1, C3
func TestStaleMarksSurviveTheFailureOfAServer(t *testing.T) {
	t.Parallel()
	s := startStory(t, 1, 1, patient...)
	c := harness.MustDial(t, s.Addr)
	for _, key := range []string{"fresh", "stale", "taken", "made", "near"} {
		says(t, c, "ms "+key+" 3 T100\r\nabc\r\n", "HD")
	}
	says(t, c, "md stale I T50\r\n", "HD")
	says(t, c, "md taken I T50\r\n", "HD")
	says(t, c, "mg taken v\r\n", "VA 3 X W|abc")
	says(t, c, "mg taken v\r\n", "VA 3 Z X|abc")
	says(t, c, "mg new N50 v\r\n", "VA 0 W|")
	says(t, c, "mg near R200\r\n", "HD W")
	says(t, c, "ms made 3 T100\r\ndef\r\n", "HD")
	s.primary().Kill()
	s.awaitGone(t, s.primary())
	says(t, c, "mg fresh v\r\n", "VA 3|abc")
	says(t, c, "mg made v\r\n", "VA 3|def")
	says(t, c, "mg taken v\r\n", "VA 3 Z X|abc")
	says(t, c, "mg new N50 v\r\n", "VA 0 Z|")
	says(t, c, "mg near R200\r\n", "HD Z")
	says(t, c, "mg stale v\r\n", "VA 3 X W|abc")
	says(t, c, "mg stale v\r\n", "VA 3 Z X|abc")
	says(t, c, "ms stale 3\r\nnew\r\n", "HD")
	says(t, c, "mg stale v\r\n", "VA 3|new")
}

// A server that is filled from its twin gets keys that hold any byte, and the
// marks of stale items; and to copy an item costs nobody the word that it is to
// be fetched anew.
//
// promise: W2, C7
func TestCopiesHaveTheMarksAndTheKeys(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := startStory(t, 1, 1, patient...)
			c := harness.MustDial(t, s.Addr)
			const odd = "YSBiCmMA" // "a b\nc\x00"
			for _, key := range []string{odd, "c3RhbGUA", "dGFrZW4A"} {
				says(t, c, "ms "+key+" 3 b F7 T100\r\nabc\r\n", "HD")
			}
			says(t, c, "ms cGxhaW4= 3 b\r\nabc\r\n", "HD") // "plain"
			for _, key := range []string{"stale", "taken", "both"} {
				says(t, c, "ms "+key+" 3 T100\r\nabc\r\n", "HD")
			}
			says(t, c, "md stale I\r\nmd c3RhbGUA b I\r\nmd taken I\r\nmd dGFrZW4A b I\r\n", "HD|HD|HD|HD")
			says(t, c, "mg taken\r\nmg dGFrZW4A b\r\n", "HD X W|HD X W")
			says(t, c, "ms both 1 MA C1 q\r\nx\r\nmn\r\n", "EX|MN")
			lost := server(s)
			lost.Kill()
			s.awaitGone(t, lost)
			says(t, c, "ms ZG93bgo= 2 b\r\nxy\r\n", "HD") // while it is away
			lost.Restart()
			awaitWhole(t, s.Magent)
			for _, m := range []*harness.Memcached{s.primary(), s.backup()} {
				direct := harness.MustDial(t, m.Addr)
				says(t, direct, "mg "+odd+" b v f k\r\n", fmt.Sprintf("VA 3 f7 k%s b|abc", odd))
				says(t, direct, "mg ZG93bgo= b v\r\n", "VA 2|xy")
				says(t, direct, "mg plain k\r\n", "HD kcGxhaW4= b")
				says(t, direct, "mg taken v u\r\n", "VA 3 Z X|abc")
				says(t, direct, "mg dGFrZW4A b v u\r\n", "VA 3 Z X|abc")
			}
			says(t, c, "mg stale v\r\nmg stale v\r\n", "VA 3 X W|abc|VA 3 Z X|abc")
			says(t, c, "mg c3RhbGUA b v\r\nmg c3RhbGUA b v\r\n", "VA 3 X W|abc|VA 3 Z X|abc")
		})
	}
}

// A journal is replayed whatever is stale, on the server that has missed the writes or
// on its twin, also beside another proxy and where looking at a stale item costs it
// its token; and the client that is to fetch the item anew is still told so.
//
// promise: W2, C4, C6
func TestReplayOfStaleItemsBesideAnotherProxy(t *testing.T) {
	for who, server := range either {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, hanging...)
			c := harness.MustDial(t, p.proxies[0].Addr)
			for _, key := range []string{"old", "new", "both"} {
				says(t, c, "ms "+key+" 1\r\n1\r\n", "HD")
			}
			says(t, c, "md old I\r\nmd both I\r\n", "HD|HD")
			lost := server(p.story)
			p.link(0, lost).Partition()
			must(t, c.Set("other", "x"))
			p.awaitOut(t, 0, lost)
			for _, key := range []string{"old", "new", "both"} {
				says(t, c, "ms "+key+" 1\r\n2\r\n", "HD")
			}
			says(t, c, "md new I\r\nmd both I\r\n", "HD|HD")
			p.link(0, lost).Heal()
			p.awaitWhole(t)
			p.awaitSame(t, recovery)
			says(t, c, "mg old v\r\n", "VA 1|2")
			for _, key := range []string{"new", "both"} {
				says(t, c, "mg "+key+" v\r\nmg "+key+" v\r\n", "VA 1 X W|2|VA 1 Z X|2")
			}
		})
	}
}
