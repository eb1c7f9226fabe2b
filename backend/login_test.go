package backend

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/proxy/protocol"
)

var testLogin = &protocol.Login{User: "alice", Password: "secret"}

// users writes a file of users for memcached -Y.
func users(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// askedRig is a rig whose server asks who magent is.
func askedRig(t *testing.T, life bool) *rig {
	t.Helper()
	r := newRig(t)
	r.server.SetLogin(testLogin)
	r.server.asks.Store(true)
	want := "set __magent__:auth 0 -1 12\r\nalice secret\r\n"
	if life {
		r.server.setLife(testLife)
		want += "get __magent__:life\r\n"
	}
	if !r.conn.greet() {
		t.Fatal("the greeting was not sent")
	}
	r.get("get1", "a")
	if got := r.requests(); got != want {
		t.Fatalf("the server got %q", got)
	}
	return r
}

// Nothing is believed before the server has let magent in.
//
// promise: C6
func TestLetInAtEverySplit(t *testing.T) {
	for _, life := range []bool{false, true} {
		in := authStored
		if life {
			in += goodLife
		}
		answers := in + "VALUE a 0 5\r\nfound\r\nEND\r\n"
		for cut := range len(answers) + 1 {
			r := askedRig(t, life)
			r.answer(answers[:cut])
			if cut <= len(in) && len(r.log) > 0 {
				t.Errorf("cut at %d: told %q before it was let in", cut, r.log)
			}
			r.answer(answers[cut:])
			r.want(`get1 found "found" flags 0 cas 0`)
			r.finish()
		}
	}
}

// promise: C5, C6
func TestNotLetInAtEverySplit(t *testing.T) {
	for answer, want := range map[string]error{
		"CLIENT_ERROR authentication failure\r\n":    ErrAuth,
		"CLIENT_ERROR unauthenticated\r\n":           ErrAuth,
		"END\r\n":                                    ErrAuth,
		"VALUE a 0 5\r\nfound\r\nEND\r\n":            ErrAuth,
		"STORED\r\nEND\r\n":                          ErrNewLife,
		"STORED\r\nCLIENT_ERROR unauthenticated\r\n": ErrNewLife,
		"ERROR Too many open connections\r\n":        ErrClosed,
	} {
		for cut := range len(answer) {
			r := askedRig(t, true)
			r.answer(answer[:cut])
			r.answer(answer[cut:])
			r.want("get1 failed")
			r.wantErr(want)
			r.finish()
		}
	}
}

// A server that begins to ask without being greeted is not believed either.
//
// promise: C10
func TestServerThatAsksAllAtOnce(t *testing.T) {
	r := newRig(t)
	r.get("get1", "a")
	r.requests()
	r.answer("CLIENT_ERROR unauthenticated\r\n")
	r.want("get1 failed")
	r.wantErr(ErrAuth)
}

// A real memcached that asks: it comes up, answers, and refuses when the password
// changes, which takes it out until the right one is there.
//
// promise: C5
func TestServerThatAsks(t *testing.T) {
	file := users(t, "bob:other\nalice:secret\n")
	m := startMemcached(t, "-Y", file)
	p := probe(t, addressAt(m.at), 1, quickProbes, func(s *Server) { s.SetLogin(testLogin) })
	p.awaitUp(t)
	if p.NeedsNoLogin() || p.Problem() != "" {
		t.Errorf("it asks not, or %q", p.Problem())
	}
	v := newLive(t, p.Server, patient)
	v.do(func() { v.set("k", "mine"); v.get("k") })
	v.wantTold("STORED", "mine")

	// memcached reads the file anew.
	if err := os.WriteFile(file, []byte("alice:new\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.signal(t, unix.SIGHUP)
	eventually(t, "the old password is refused", func() bool {
		c, err := p.Dial(t.Context(), patience, patience)
		if err == nil {
			c.Close()
		}
		return errors.Is(err, ErrAuth)
	})
	p.Check()
	eventually(t, "it is out, and says why", func() bool {
		return !p.Serves() && strings.Contains(p.Problem(), "it refuses the user and password of --server-auth-file: write a line there")
	})
	p.seeAll()
	p.SetLogin(&protocol.Login{User: "alice", Password: "new"})
	p.awaitUp(t)
	if p.Problem() != "" {
		t.Errorf("it is up with the problem %q", p.Problem())
	}
}

// A server that does not ask never sees the password.
//
// promise: C10
func TestServerThatAsksNotIsNotToldThePassword(t *testing.T) {
	f := newFakeServer(t, "127.0.0.1:0", healthy)
	p := probe(t, addressAt(f.at()), 1, quickProbes, func(s *Server) { s.SetLogin(testLogin) })
	p.awaitUp(t)
	c, err := p.Dial(t.Context(), patience, patience)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if !p.NeedsNoLogin() {
		t.Error("it counts as one that asks")
	}
	if lines := strings.Join(f.all(), "\n"); strings.Contains(lines, "secret") {
		t.Errorf("it was sent %q", lines)
	}
}

// Why a server does not let magent in, and how to mend it, is known.
//
// promise: C5
func TestProblemsOfServersThatAsk(t *testing.T) {
	file := users(t, "alice:secret\n")
	for name, test := range map[string]struct {
		args  []string
		login *protocol.Login
		want  string
	}{
		"nothing to prove": {[]string{"-Y", file}, nil, "it asks for a user and a password: name a file with them with --server-auth-file"},
		"wrong password":   {[]string{"-Y", file}, &protocol.Login{User: "alice", Password: "wrong"}, "it refuses the user and password"},
		"wrong user":       {[]string{"-Y", file}, &protocol.Login{User: "alic", Password: "secret"}, "it refuses the user and password"},
		"binary":           {[]string{"-B", "binary"}, testLogin, "start it with -Y FILE instead of -S"},
		"binary, no login": {[]string{"-B", "binary"}, nil, "start it with -Y FILE instead of -S"},
	} {
		t.Run(name, func(t *testing.T) {
			m := startMemcached(t, test.args...)
			probes := quickProbes
			if test.args[0] == "-B" {
				probes.Answer = 2 * time.Second // it waits for more than a line of text
			}
			p := probe(t, addressAt(m.at), 1, probes, func(s *Server) { s.SetLogin(test.login) })
			eventually(t, "it says "+test.want, func() bool { return strings.Contains(p.Problem(), test.want) })
			eventually(t, "it is reported", func() bool { return errors.Is(within(t, p.reports, "the report"), ErrAuth) })
			if p.Serves() {
				t.Error("it serves")
			}
			m.kill()
			eventually(t, "the problem is over", func() bool { return p.Problem() == "" })
		})
	}
}

// The item that a proof leaves on a server that does not ask any more cannot be
// read, and does not make an empty server look like one that is not.
//
// promise: C7
func TestProofLeavesNothingOnAServerThatAsksNot(t *testing.T) {
	m := startMemcached(t, "-o", "no_lru_maintainer,no_lru_crawler") // either may remove the item before it is counted
	c := dialTest(t, m)
	if answer, err := c.Ask("%s", protocol.AppendAuth(nil, AuthKey, *testLogin)); err != nil || answer != "STORED" {
		t.Fatalf("%q, %v", answer, err)
	}
	stats, err := c.Stats()
	if err != nil || stats["curr_items"] != "1" {
		t.Fatalf("%s items, %v: the item is not counted, so this test shows nothing", stats["curr_items"], err)
	}
	recovery := &fakeRecovery{decide: func(*Server, Return) Verdict { return Verdict{To: Up, Why: "for the test"} }}
	p := probeWith(t, addressAt(m.at), recovery, func(s *Server) { s.SetLogin(testLogin) })
	p.awaitUp(t)
	if returns, _, _ := recovery.seen(); len(returns) == 0 || !returns[0].Empty {
		t.Errorf("it returned as %+v, want empty", returns)
	}
	if held, err := c.Gets(AuthKey); err != nil || len(held) > 0 {
		t.Errorf("it holds %v, %v", held, err)
	}
}
