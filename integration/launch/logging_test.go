package launch

import (
	"bytes"
	"encoding/json"
	"net"
	"strings"
	"syscall"
	"testing"

	"magent/integration/harness"
)

// The log holds no value, whatever goes wrong with it, and each of its lines
// can be read by a machine.
// promise: R5
func TestLogHoldsNoValues(t *testing.T) {
	const secret = "s3cr3t-v4lu3"
	s := newSite(t)
	backup := harness.StartMemcached(t)
	pid := s.launch("-b", backup.Addr, "--max-item-size", "1k", "--server-timeout", "200ms", "--drain-timeout", "100ms")
	s.serves(s.addr())

	send := func(text string) {
		c, err := dial("tcp", s.addr())
		must(t, err)
		defer c.Close()
		must(t, c.Send([]byte(text+"\r\nquit\r\n")))
		must(t, c.Conn().(*net.TCPConn).CloseWrite())
		_, _ = c.Rest() // answers and the end, whichever way it comes
	}
	storage := func(verb, value string) string {
		return strings.TrimSuffix(string(harness.Storage(verb, "key", 0, 0, []byte(value))), "\r\n")
	}
	everything := func() {
		send(storage("set", secret))
		send(storage("append", secret))
		send("set counter 0 0 12\r\n" + secret + "\r\nincr counter 1")
		send(storage("set", strings.Repeat(secret, 200)))              // too large
		send("set key 0 0 3\r\n" + secret)                             // a wrong length
		send("set key 0 0 " + secret + "\r\n" + secret)                // no length
		send(secret)                                                   // no command
		send("set key 0 0 100\r\n" + secret)                           // cut off
		send("get key")                                                // read back
		send(strings.Repeat(secret, 1000))                             // a line without an end
		send("gets key\r\ncas key 0 0 12 1\r\n" + secret)              // refused
		send("set key 0 0 12 noreply\r\n" + secret + "\r\nbad " + "x") // without an answer
	}
	everything()
	s.server.Freeze()
	everything()
	s.server.Thaw()
	s.server.Kill()
	everything()
	backup.Kill()
	everything()
	s.logged("server changed", "down")
	s.signal(pid, syscall.SIGTERM)
	s.ends(pid)

	log := s.log()
	if strings.Contains(log, secret) {
		t.Error("the log holds a value")
	}
	for line := range bytes.Lines([]byte(log)) {
		var entry struct{ Time, Level, Message string }
		if err := json.Unmarshal(line, &entry); err != nil || entry.Time == "" || entry.Level == "" || entry.Message == "" {
			t.Errorf("%s is no entry: %v", line, err)
		}
	}
}

// Whatever goes wrong all the time is not logged all the time.
// promise: R5
func TestLogIsRateLimited(t *testing.T) {
	s := newBareSite(t)
	s.launch("-s", "127.0.0.1:1", "--log-level", "info")
	c, err := dial("tcp", s.addr())
	must(t, err)
	defer c.Close()
	const requests = 2000
	for i := range requests {
		if line, err := c.Command("get key%d", i); err != nil || !strings.HasPrefix(line, "SERVER_ERROR ") {
			t.Fatalf("answer %q, error %v", line, err)
		}
		if line, err := c.Command("set key%d 0 0 1\r\nx", i); err != nil || !strings.HasPrefix(line, "SERVER_ERROR ") {
			t.Fatalf("answer %q, error %v", line, err)
		}
	}
	if lines := strings.Count(s.log(), "\n"); lines > requests/10 {
		t.Errorf("%d requests left %d lines in the log", 2*requests, lines)
	}
}
