package integration

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"magent/integration/harness"
)

// plausible are the values that magent cannot know to be wrong: the answer is
// complete when they have arrived.
var plausible = map[string]string{"a key twice": "a", "a value without its END": "abc"}

// misbehaviours are wrong answers of a server to a get.
var misbehaviours = map[string]harness.Mangled{
	"garbage":                     {Answer: []byte("HELLO WORLD\r\n")},
	"binary garbage":              {Answer: []byte("\x81\x00\xff\xfe\n\r\x00")},
	"error and close":             {Answer: []byte("ERROR Too many open connections\r\n"), Finish: true},
	"server error and close":      {Answer: []byte("SERVER_ERROR out of memory\r\n"), Finish: true},
	"more than announced":         {Answer: []byte("VALUE bad 0 3\r\nabcdef\r\nEND\r\n")},
	"less than announced":         {Answer: []byte("VALUE bad 0 30\r\nabc\r\nEND\r\n")},
	"another key":                 {Answer: []byte("VALUE good 0 3\r\nabc\r\nEND\r\n")},
	"a key twice":                 {Answer: []byte("VALUE bad 0 1\r\na\r\nVALUE bad 0 1\r\na\r\nVALUE bad 0 1\r\na\r\nEND\r\n")},
	"a huge length":               {Answer: []byte("VALUE bad 0 99999999999\r\nabc")},
	"a length that is too large":  {Answer: []byte("VALUE bad 0 4294967295\r\nabc")},
	"a length of 2^64":            {Answer: []byte("VALUE bad 0 18446744073709551616\r\nabc")},
	"a negative length":           {Answer: []byte("VALUE bad 0 -5\r\nabc\r\nEND\r\n")},
	"no length":                   {Answer: []byte("VALUE bad\r\nabc\r\nEND\r\n")},
	"too many words":              {Answer: []byte("VALUE bad 0 3 4 5 6\r\nabc\r\nEND\r\n")},
	"flags that are no number":    {Answer: []byte("VALUE bad x 3\r\nabc\r\nEND\r\n")},
	"the answer to a set":         {Answer: []byte("STORED\r\n")},
	"two answers":                 {Answer: []byte("END\r\nEND\r\nEND\r\n")},
	"an endless line":             {Answer: []byte(strings.Repeat("VALUE", 20_000))},
	"nothing and close":           {Finish: true},
	"nothing and reset":           {Reset: true},
	"part of a line and close":    {Answer: []byte("VALUE ba"), Finish: true},
	"part of a value and close":   {Answer: []byte("VALUE bad 0 10\r\nabc"), Finish: true},
	"part of a value and reset":   {Answer: []byte("VALUE bad 0 10\r\nabc"), Reset: true},
	"a value without its END":     {Answer: []byte("VALUE bad 0 3\r\nabc\r\n"), Finish: true},
	"an empty line":               {Answer: []byte("\r\n")},
	"lines without carriage":      {Answer: []byte("VALUE bad 0 3\nabc\nEND\n")},
	"an answer in small handfuls": {Answer: []byte("V"), Finish: true},
}

// A get gets the backup's value or an error, in bounded time, whatever the
// primary answers; and no other client gets anything of it.
//
// promise: R3, R4
func TestMisbehavingServer(t *testing.T) {
	for _, mirror := range []bool{true, false} {
		p, b := harness.StartMemcached(t), harness.StartMemcached(t)
		link := harness.NewLink(t, p.Addr)
		cfg := harness.Config{Primaries: []string{link.Addr}, Args: hanging}
		if mirror {
			cfg.Backups = []string{b.Addr}
		}
		m := harness.StartMagent(t, cfg)
		for name, wrong := range misbehaviours {
			t.Run(name, func(t *testing.T) {
				awaitService(t, m, "the server behaves again")
				c, other := harness.MustDial(t, m.Addr), harness.MustDial(t, m.Addr)
				must(t, c.Set("bad", "right"))
				must(t, c.Set("good", "other"))
				link.MangleKey(" bad", wrong)
				start := time.Now()
				got, found, err := c.Value("bad")
				var answer *harness.AnswerError
				switch {
				case errors.As(err, &answer):
					if !strings.HasPrefix(answer.Line, "SERVER_ERROR ") {
						t.Errorf("the client got %q", answer.Line)
					}
				case errors.Is(err, io.EOF) && strings.Contains(name, "part of a value"):
					// The value had begun to flow.
				case err != nil:
					t.Errorf("the client got %v", err)
				case found && got != "right" && got != plausible[name]:
					t.Errorf("the client got %q", got)
				}
				if took := time.Since(start); took > 2*hangTimeout+slack {
					t.Errorf("it took %v", took)
				}
				// Others are served: by this server, by its twin or with an error.
				got, found, err = other.Value("good")
				if err != nil && !errors.As(err, &answer) || found && got != "other" {
					t.Errorf("another client got %q, %v", got, err)
				}
				link.Heal()
			})
		}
		m.Stop()
	}
}

// Clients with large and small values and gets of many keys, while the server's
// answers break in every way: each client sees its own values only.
//
// promise: R4, R3, C4
func TestNobodyGetsAnothersAnswerWhileServersMisbehave(t *testing.T) {
	p, b := harness.StartMemcached(t), harness.StartMemcached(t)
	link := harness.NewLink(t, p.Addr)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{link.Addr}, Backups: []string{b.Addr}, Args: patient})
	ownersRun{addr: m.Addr, clients: 60, keys: 4, lossy: true, before: 1000, after: 30}.run(t, func() {
		// No answer to any of the owners' commands looks like these.
		for _, name := range []string{
			"garbage", "binary garbage", "error and close", "another key", "less than announced", "a huge length",
			"an endless line", "nothing and reset", "part of a value and close",
		} {
			wrong := misbehaviours[name]
			if !wrong.Finish && !wrong.Reset {
				wrong.Finish = true // with patience, a wait for more would last long
			}
			var done atomic.Bool
			link.Mangle(func([]byte) *harness.Mangled {
				if done.Swap(true) {
					return nil
				}
				return &wrong
			})
			harness.Poll(5*time.Second, done.Load)
			awaitReads(t, m, p)
		}
	})
}

// A server that is no memcached at all.
//
// promise: R3, R4, C5
func TestServersThatAreNoMemcached(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]func(net.Conn){
		"speaks first": func(conn net.Conn) {
			_, _ = conn.Write([]byte("220 mail.example.com ESMTP\r\n"))
			_, _ = io.Copy(io.Discard, conn)
		},
		"hangs up":     func(net.Conn) {},
		"echoes":       func(conn net.Conn) { _, _ = io.Copy(conn, conn) },
		"says nothing": func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) },
		"too many connections": func(conn net.Conn) {
			_, _ = conn.Write([]byte("ERROR Too many open connections\r\n"))
		},
		"floods": func(conn net.Conn) {
			junk := []byte(strings.Repeat("STAT pid 1\r\n", 1000))
			for {
				if _, err := conn.Write(junk); err != nil {
					return
				}
			}
		},
		"answers everything with OK": func(conn net.Conn) {
			buf := make([]byte, 4096)
			for {
				if _, err := conn.Read(buf); err != nil {
					return
				}
				if _, err := conn.Write([]byte("OK\r\n")); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad, b := harness.NewMock(t, handle), harness.StartMemcached(t)
			m := harness.StartMagent(t, harness.Config{Primaries: []string{bad}, Backups: []string{b.Addr}, Args: hanging})
			c := harness.MustDial(t, m.Addr)
			for _, key := range keysNamed("k", 20) {
				start := time.Now()
				if answer, err := c.Store("set", key, 0, 0, []byte("v")); err != nil || answer != "STORED" && !strings.HasPrefix(answer, "SERVER_ERROR ") {
					t.Fatalf("%q, %v", answer, err)
				}
				got, found, err := c.Value(key)
				var answer *harness.AnswerError
				if err != nil && !errors.As(err, &answer) || found && got != "v" {
					t.Fatalf("got %q, %v", got, err)
				}
				if took := time.Since(start); took > 4*hangTimeout+slack {
					t.Errorf("it took %v", took)
				}
			}
			// Such a server is found out, and its twin serves.
			harness.Eventually(t, 10*time.Second, "the backup serves", func() bool {
				answer, err := c.Store("set", "k", 0, 0, []byte("v"))
				must(t, err)
				return answer == "STORED"
			})
			expectValue(t, c, "k", "v")
		})
	}
}

// memcached at its connection limit answers a new connection with an error
// and closes it.
//
// promise: R3, R4
func TestMemcachedAtItsConnectionLimit(t *testing.T) {
	t.Parallel()
	p, b := harness.StartMemcached(t, "-c", "50", "-o", "maxconns_fast"), harness.StartMemcached(t)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{p.Addr}, Backups: []string{b.Addr}, Args: patient})
	ownersRun{addr: m.Addr, clients: 30, keys: 4, lossy: true, before: 200, after: 50}.run(t, func() {
		for range 80 {
			hog, err := harness.Dial(p.Addr)
			must(t, err)
			t.Cleanup(func() { _ = hog.Close() })
		}
	})
}
