package proxy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"magent/proxy/protocol"
)

var testLogins = []protocol.Login{{User: "alice", Password: "secret"}, {User: "bob", Password: "pass word"}, {User: "alice", Password: "next"}, {User: "open"}}

func TestAuthCheck(t *testing.T) {
	a := newAuth(testLogins)
	for _, test := range []struct {
		user, password string
		want           bool
	}{
		{"alice", "secret", true},
		{"alice", "next", true},
		{"bob", "pass word", true},
		{"open", "", true},
		{"alice", "secre", false},
		{"alice", "secrets", false},
		{"alice", "pass word", false},
		{"alices", "ecret", false},
		{"", "alicesecret", false},
		{"", "", false},
		{"nobody", "secret", false},
		{"alice", "Secret", false},
	} {
		if got := a.check([]byte(test.user), []byte(test.password)); got != test.want {
			t.Errorf("%q %q: %v", test.user, test.password, got)
		}
	}
	if newAuth(nil).check(nil, nil) {
		t.Error("a place that nobody has lets in")
	}
	if newAuth(testLogins).digests[0] == a.digests[0] {
		t.Error("two files have the same digests")
	}
}

func TestAuthPlain(t *testing.T) {
	a := newAuth(testLogins)
	for message, want := range map[string]bool{
		"\x00alice\x00secret":      true,
		"alice\x00alice\x00secret": true,
		"\x00bob\x00pass word":     true,
		"bob\x00alice\x00secret":   false,
		"\x00alice\x00secre":       false,
		"\x00alice\x00secret\x00":  false,
		"\x00open\x00":             false,
		"\x00\x00":                 false,
		"alice\x00secret":          false,
		"alice secret":             false,
		"":                         false,
	} {
		if got := a.plain([]byte(message)); got != want {
			t.Errorf("%q: %v", message, got)
		}
	}
}

// guarded is a session of a proxy that asks, with the answers that it was given
// so far.
func guarded(t *testing.T) (s *session, answers func() string) {
	t.Helper()
	o := Defaults()
	o.Primaries = []string{"127.0.0.1:1"}
	o.AuthFile = users(t, "alice:secret\n")
	w := newTestProxy(t, o).workers[0]
	s = &session{w: w, usual: windowStart}
	w.sessions.Add(s)
	return s, func() string { return string(s.out.Bytes()) }
}

// users writes a file of users.
func users(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Nothing runs before the proof, wherever the input is cut; behind it all does.
//
// promise: R4
func TestProveAtEverySplit(t *testing.T) {
	const proof, behind = "set auth 0 0 12\r\nalice secret\r\n", "verbosity 1\r\n"
	for cut := range len(proof + behind) {
		s, answers := guarded(t)
		data := []byte(proof + behind)
		used := s.parse(data[:cut])
		if cut < len(proof) && (s.authenticated || answers() != "") {
			t.Fatalf("cut at %d: let in with %q", cut, answers())
		}
		s.parse(data[used:])
		if got := answers(); !s.authenticated || got != "STORED\r\nOK\r\n" {
			t.Errorf("cut at %d: authenticated %v, answers %q", cut, s.authenticated, got)
		}
	}
}

// Of what is refused at once, the last answer alone is sent, as memcached does.
//
// promise: R1
func TestProveRefuses(t *testing.T) {
	s, answers := guarded(t)
	s.parse([]byte("get x\r\nflush_all\r\nset a 0 0 12\r\nalice wrongg\r\n"))
	if got := answers(); s.authenticated || got != "CLIENT_ERROR authentication failure\r\n" {
		t.Errorf("authenticated %v, answers %q", s.authenticated, got)
	}
	s.parse([]byte("\x80 stays text\r\n"))
	if got := answers(); !strings.HasSuffix(got, "failure\r\nCLIENT_ERROR unauthenticated\r\n") {
		t.Errorf("answers %q", got)
	}
	if c := s.w.stats; c.authCmds != 1 || c.authErrors != 1 || c.flushes != 0 || c.getKeys != 0 {
		t.Errorf("counted %+v", c)
	}
}

// Before the proof a client learns the version, proves itself, and is told why
// its connection is closed.
//
// promise: R1
func TestAllowed(t *testing.T) {
	s := &session{}
	for op := protocol.OpNone; op <= protocol.OpSaslStep; op++ {
		for _, closes := range []bool{false, true} {
			want := op == protocol.OpVersion || op == protocol.OpSaslList || op == protocol.OpSaslAuth || op == protocol.OpSaslStep
			want = want || (op == protocol.OpInvalid && closes)
			if got := s.allowed(&protocol.Request{Op: op, Dialect: protocol.Binary, Close: closes}); got != want {
				t.Errorf("operation %d (closes %v) before the proof: %v", op, closes, got)
			}
		}
	}
	s.authenticated = true
	if !s.allowed(&protocol.Request{Op: protocol.OpSet}) {
		t.Error("behind the proof a set may not run")
	}
}

func TestReadSecrets(t *testing.T) {
	for text, want := range map[string]string{
		"a:hunter2\nb:hunter2\n": "has 2 lines: write one, user:password, which all servers know",
		"a:hunter2 x\n":          "the user or the password on line 1 is empty or holds a space",
		"hunter2\n":              "line 1 has no colon",
	} {
		path := users(t, text)
		_, err := readSecrets(&Options{ServerAuthFile: path})
		if !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "--server-auth-file: "+path) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := readSecrets(&Options{AuthFile: "/nowhere/users"}); err == nil || !strings.Contains(err.Error(), "--auth-file: cannot open /nowhere/users: no such file or directory: mend the path") {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := readSecrets(&Options{AuthFile: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "name a file of lines user:password") {
		t.Errorf("a directory: %v", err)
	}
}

// What the files hold may change while the proxy runs; a mistake changes nothing.
func TestReloadOfUsers(t *testing.T) {
	o := Defaults()
	o.Primaries = []string{"127.0.0.1:1"}
	o.Threads = 1
	o.AuthFile = users(t, "alice:secret\n")
	p := newTestProxy(t, o)
	if err := os.WriteFile(o.AuthFile, []byte("alice\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	next := o
	next.MaxClients = 7
	if _, err := p.Reload(next); !errors.Is(err, ErrOptions) || !p.Authenticate("alice", "secret") || p.options.Load().MaxClients == 7 {
		t.Errorf("after a mistake: %v", err)
	}
	if err := os.WriteFile(o.AuthFile, []byte("bob:other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if names, err := p.Reload(o); err != nil || len(names) > 0 || p.Authenticate("alice", "secret") || !p.Authenticate("bob", "other") {
		t.Errorf("after the change: %v, %v", names, err)
	}
	next = o
	next.AuthFile = ""
	if names, err := p.Reload(next); err != nil || strings.Join(names, " ") != "auth-file" || !p.Guarded() {
		t.Errorf("without the file: %v, %v", names, err)
	}
}

// A binary client that has not proved itself is refused by its header: its value
// is not waited for.
//
// promise: R2
func TestNoValueIsAwaitedBeforeTheProof(t *testing.T) {
	s, answers := guarded(t)
	header := make([]byte, protocol.BinaryHeaderSize)
	header[0], header[1], header[3], header[4] = protocol.BinaryRequest, 0x01, 1, 8
	header[9] = 8 // 512 KiB
	used := s.parse(header)
	want := string(protocol.AppendBinaryError(nil, 0x01, 0, protocol.StatusAuthError))
	if got := answers(); got != want || !s.leaving || s.need != 0 {
		t.Errorf("answer %q, leaving %v, waits for %d bytes, %d taken", got, s.leaving, s.need, used)
	}
}
