package protocol

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseLogins(t *testing.T) {
	long := strings.Repeat("x", 250)
	for text, want := range map[string][]Login{
		"alice:secret\n":                   {{"alice", "secret"}},
		"alice:secret":                     {{"alice", "secret"}},
		"alice:secret\r\nbob:b\r\n":        {{"alice", "secret"}, {"bob", "b"}},
		"alice:se:cret\n":                  {{"alice", "se:cret"}},
		"alice:a word\n":                   {{"alice", "a word"}},
		"alice:\n:x\n":                     {{"alice", ""}, {"", "x"}},
		"#c:x\n":                           {{"#c", "x"}},
		"a:one\na:two\n":                   {{"a", "one"}, {"a", "two"}},
		"abc:" + long + "\n":               {{"abc", long}},
		strings.Repeat("a:b\n", MaxLogins): {{"a", "b"}, {"a", "b"}, {"a", "b"}, {"a", "b"}, {"a", "b"}, {"a", "b"}, {"a", "b"}, {"a", "b"}},
	} {
		if got, err := ParseLogins([]byte(text)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %q, %v; want %q", text, got, err, want)
		}
	}
}

// An error names the line and how to mend it, and nothing that may be secret.
func TestParseLoginsNamesTheLine(t *testing.T) {
	const secret = "hunter2"
	for text, want := range map[string]string{
		"":                       "it names no user: write a line user:password",
		secret + "\n":            "line 1 has no colon",
		"a:" + secret + "\n\n":   "line 2 is empty: take it out",
		"a:" + secret + "\n\r\n": "line 2 is empty: take it out",
		"# " + secret + "\n":     "line 1 has no colon: write user:password; there are no comments in this file",
		"a:" + secret + "\x00\n": "line 1 holds a zero byte",
		"a:b\nabcd:" + strings.Repeat(secret[:1], 250) + "\n": "line 2 has 255 bytes: write user:password in at most 254",
		strings.Repeat("a:"+secret+"\n", MaxLogins+1):         "line 9 is one too many: memcached takes 8 users",
	} {
		_, err := ParseLogins([]byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

func TestAppendAuth(t *testing.T) {
	l := Login{"alice", "secret"}
	in := AppendAuth(nil, "k", l)
	if string(in) != "set k 0 -1 12\r\nalice secret\r\n" {
		t.Errorf("got %q", in)
	}
	var a Auth
	if n, _ := ParseAuth(in, &a); n != len(in) || string(a.User) != l.User || string(a.Password) != l.Password {
		t.Errorf("read back as %q %q, %d bytes", a.User, a.Password, n)
	}
	for l, want := range map[Login]bool{{"a", "b"}: true, {"a b", "c"}: false, {"a", "b c"}: false, {"", "b"}: false, {"a", ""}: false} {
		if l.Textual() != want {
			t.Errorf("%q: textual %v", l, !want)
		}
	}
}
