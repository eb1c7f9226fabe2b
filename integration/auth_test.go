package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"magent/integration/harness"
)

// proof is what a client has to send first for the user of most tests.
const proof = "set auth 0 0 12\r\nalice secret\r\n"

// users writes a file of users.
func users(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	must(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

// proven connects and proves to be a user.
func proven(t *testing.T, addr, user, password string) *harness.Client {
	t.Helper()
	c := harness.MustDial(t, addr)
	answer, err := c.Store("set", "auth", 0, 0, []byte(user+" "+password))
	if err != nil || answer != "STORED" {
		t.Fatalf("%s: the proof is answered %q, %v", addr, answer, err)
	}
	return c
}

// answersTo sends parts, each when the answer to the one before has come, ends
// its side and returns all that is answered. A part without an answer is given
// a second for one.
func answersTo(t *testing.T, addr string, parts [][]byte) (string, error) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	var got []byte
	buf := make([]byte, 64<<10)
	for _, part := range parts[:len(parts)-1] {
		if _, err := conn.Write(part); err != nil {
			return string(got), nil // it was closed
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		n, err := conn.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return string(got), nil
		}
	}
	if _, err := conn.Write(parts[len(parts)-1]); err != nil {
		return string(got), nil
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(harness.DefaultTimeout))
	rest, err := io.ReadAll(conn)
	if errors.Is(err, syscall.ECONNRESET) {
		err = nil // it had not read all
	}
	return string(append(got, rest...)), err
}

// firstCommands are clients' first bytes, part by part.
func firstCommands(rnd *rand.Rand) [][][]byte {
	var list [][][]byte
	add := func(parts ...string) {
		var one [][]byte
		for _, part := range parts {
			one = append(one, []byte(part))
		}
		list = append(list, one)
	}
	y := strings.Repeat("y", 1<<15)
	for _, in := range []string{
		proof, proof + "get x\r\nset k 0 0 1\r\nv\r\nget k\r\n", "get x\r\n" + proof + "verbosity 1\r\n",
		"quit\r\n", "stats\r\n", "flush_all\r\nget x\r\n", "\r\n", "\n", "\n\n", "get x\n",
		"set a 0 0 12 noreply\r\nalice secret\r\n", "set a 0 0 12\nalice secret\r\nget x\r\n", "set a b c 12\r\nalice secret\r\n",
		"set a 0 0 12\r\nalice secret\n\nget x\r\n", "set a 0 0 11\r\nalice secret\r\n", "set a 0 0 3\r\nxyzab", "set a 0 0 12\r\nalice secret\n\n", "set a 0 0 6\r\nalice \r\n", "set a 0 0 14\r\nalice secret x\r\n",
		"set a 0 0 15\r\n  alice  secret\r\n", "set a 0 0 +12\r\nalice secret\r\n", "set a 0 0 -1\r\nalice secret\r\n",
		"set a 0 0 4294967308\r\nalice secret\r\n", "set a 0 0 12x\r\nalice secret\r\n", "set a 0 0 0\r\n\r\nget x\r\n",
		"set a 0 0 12\r\nalice wrongg\r\n" + proof + "get x\r\n", "set a 0 0 12\r\nalice wrongg\r\nget x\r\n",
		"set a 0 0 12\r\nalicf secret\r\n", "set a 0 0 10\r\nbob a word\r\n", "set a 0 0 4294967295\r\nalice secret\r\n",
		"set a 0 0 4294967294\r\nalice secret\r\n", "set a\x00 0 0 12\r\nalice secret\r\n", "set a 0 0 12\r\nalice secre\x00\r\n",
		"set a 0 0 18\r\nalice secret\x00trail\r\n", "set a 0 0 \t12\r\nalice secret\r\n", " set  a  0 0 12\r\nalice secret\r\n",
		"add a 0 0 12\r\nalice secret\r\n", "SET a 0 0 12\r\nalice secret\r\n", "mg x v\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"set a 0 0 12 " + strings.Repeat("z ", 30) + "\r\nalice secret\r\n", "set a 0 0 99999999999999999999999\r\nalice secret\r\n",
		y[:2048], y[:2049], y[:3000] + "\n", "get a\r\n" + y[:3000], y[:2048] + "\r\n" + proof, y[:20000],
		"set a 0 0 16382\r\n" + y[:12000], "set a 0 0 20000\r\n" + y[:12000],
	} {
		// A connection that stays open takes a proof, unless it waits for a value.
		add(in, "\r\n"+proof+"get x\r\n")
	}
	add("get a\r\n", "set a 0 0 5\r\nalice\r\n", proof, "get x\r\n")
	add("set a 0 0 12\r\nali", "ce sec", "ret\r", "\nget x\r\n")
	add("get a\r\n", y[:3000])
	add("set a 0 0 16382\r\n"+y[:16000], y[:382]+"\r\n", proof)
	add("set a 0 0 16383\r\n"+y[:16000], y[:384], "x")
	add("set a 0 0 1000000\r\n"+y[:16000], y[:384], "x")
	// At random out of what matters.
	words := []string{"set", "a", "0", "12", "alice", "secret", "alice secret", " ", " ", "\r\n", "\r\n", "\n", "\r", "\x00", "get", "5", "-", proof, proof[:10], "14\r\nalice secret", "bob", ":"}
	for range 60 {
		var in strings.Builder
		for range 1 + rnd.IntN(25) {
			in.WriteString(words[rnd.IntN(len(words))])
		}
		// What has no end yet shows behind a line end and a right proof.
		add(in.String(), "\r\n", proof, "get x\r\n")
	}
	return list
}

// A client that has to prove itself cannot tell magent from memcached -Y.
//
// promise: R1, W4
func TestAuthenticationAsMemcached(t *testing.T) {
	t.Parallel()
	file := users(t, "alice:secret\nbob:a word\n")
	asking := harness.StartMemcached(t, "-Y", file)
	server := harness.StartMemcached(t)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{server.Addr}, Args: append([]string{"--auth-file", file}, patient...)})
	list := firstCommands(newRand(t))
	group(t, 8, func(i int) error {
		for j := i; j < len(list); j += 8 {
			want, err := answersTo(t, asking.Addr, list[j])
			if err != nil {
				return err
			}
			got, err := answersTo(t, m.Addr, list[j])
			if err != nil || got != want {
				return fmt.Errorf("%.200q\nmemcached: %.300q\nmagent:    %.300q, %v", list[j], want, got, err)
			}
		}
		return nil
	})
	if !asking.Running() {
		t.Error("memcached did not survive what it was asked")
	}
}

// Nothing of a client that has not proved itself reaches a server; stats and
// magent's own commands are for those who have.
//
// promise: R4
func TestNothingRunsBeforeTheProof(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, append([]string{"-Y", users(t, "alice:secret\n")}, patient...)...)
	c := harness.MustDial(t, m.Addr)
	for _, line := range []string{"stats", "stats servers", "magent resync", "magent explain k", "version", "flush_all", "get k", "shutdown"} {
		if answer, err := c.Command("%s", line); err != nil || answer != "CLIENT_ERROR unauthenticated" {
			t.Errorf("%s: %q, %v", line, answer, err)
		}
	}
	answer, err := c.Store("set", "k", 0, 0, []byte("alice wrong"))
	if err != nil || answer != "CLIENT_ERROR authentication failure" {
		t.Errorf("%q, %v", answer, err)
	}
	friend := proven(t, m.Addr, "alice", "secret")
	must(t, friend.Set("k", "mine"))
	stats, err := friend.Stats("")
	must(t, err)
	if stats["auth_cmds"] != "2" || stats["auth_errors"] != "1" || stats["cmd_flush"] != "0" {
		t.Errorf("auth_cmds %s, auth_errors %s, cmd_flush %s", stats["auth_cmds"], stats["auth_errors"], stats["cmd_flush"])
	}
	for _, s := range []*harness.Memcached{m.primary, m.backup} {
		direct := harness.MustDial(t, s.Addr)
		for _, key := range []string{"auth", "a"} {
			if _, found, err := direct.Value(key); err != nil || found {
				t.Errorf("%s holds %s: %v, %v", s.Addr, key, found, err)
			}
		}
	}
	if log := m.Output(); strings.Contains(log, "alice") || strings.Contains(log, "wrong") || !strings.Contains(log, "a client gave a user and a password that --auth-file does not hold") {
		t.Errorf("the log names a user or a password, or no failure:\n%s", log)
	}
}

// Many who do not prove themselves hold little memory.
//
// promise: R2
func TestMemoryBeforeTheProof(t *testing.T) {
	m := startBounded(t, "--auth-file", users(t, "alice:secret\n"))
	stop := watchMemory(t, m)
	const clients = 500
	chunk := bytes.Repeat([]byte("y"), 64<<10)
	closed := 0
	var waiting []*harness.Client
	for i := range clients {
		c := harness.MustDial(t, m.Addr)
		waiting = append(waiting, c)
		if i%2 == 0 {
			must(t, c.Send([]byte("set a 0 0 900000000\r\n")))
		}
		for range 4 {
			if c.Send(chunk) != nil {
				break
			}
		}
	}
	for _, c := range waiting {
		if rest, err := c.Rest(); len(rest) == 0 && (err == nil || errors.Is(err, syscall.ECONNRESET)) {
			closed++
		}
	}
	if most := stop(); most > memoryBound || closed != clients {
		t.Errorf("%d bytes of memory, %d of %d closed", most, closed, clients)
	}
	must(t, proven(t, m.Addr, "alice", "secret").Set("k", "v"))
}

// Without --auth-file nothing changes: who proves himself all the same stores a
// value.
//
// promise: W4
func TestWithoutAuthFileTheProofIsAValue(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	c := proven(t, m.Addr, "alice", "secret")
	if value, found, err := c.Value("auth"); err != nil || value != "alice secret" || !found {
		t.Errorf("%q, %v, %v", value, found, err)
	}
}

// The file is read anew at HUP; a mistake in it leaves all as it was. Who is in
// stays in.
//
// promise: L7
func TestUsersAreReadAnew(t *testing.T) {
	t.Parallel()
	file := users(t, "alice:secret\n")
	m := startMirrored(t, append([]string{"--auth-file", file}, patient...)...)
	c := proven(t, m.Addr, "alice", "secret")
	hup := func(text, logged string) {
		t.Helper()
		must(t, os.WriteFile(file, []byte(text), 0o644))
		m.Signal(syscall.SIGHUP)
		harness.Eventually(t, 20*time.Second, "the log says "+logged, func() bool { return strings.Contains(m.Output(), logged) })
	}
	hup("alice:hunter2\nbob\n", file+": line 2 has no colon: write user:password")
	must(t, proven(t, m.Addr, "alice", "secret").Set("k", "1"))
	hup("bob:other\n", "settings read")
	must(t, proven(t, m.Addr, "bob", "other").Set("k", "2"))
	must(t, c.Set("k", "3"))
	late := harness.MustDial(t, m.Addr)
	if answer, err := late.Store("set", "auth", 0, 0, []byte("alice secret")); err != nil || answer != "CLIENT_ERROR authentication failure" {
		t.Errorf("the old password: %q, %v", answer, err)
	}
	if strings.Contains(m.Output(), "hunter2") {
		t.Error("the log holds a password")
	}
}
