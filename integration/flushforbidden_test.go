package integration

import (
	"bytes"
	"strings"
	"testing"

	"magent/integration/harness"
)

// A server that was started with -F refuses flush_all, and so do all behind magent then:
// clients are answered as by that server, no server has run it, and all of them serve.
//
// promise: C2, C11
func TestFlushAllIsForbidden(t *testing.T) {
	for name, flags := range map[string][2][]string{
		"both":    {{"-F"}, {"-F"}},
		"primary": {{"-F"}, nil},
		"backup":  {nil, {"-F"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			primary, backup := harness.StartMemcached(t, flags[0]...), harness.StartMemcached(t, flags[1]...)
			m := harness.StartMagent(t, harness.Config{Primaries: []string{primary.Addr}, Backups: []string{backup.Addr}, Args: patient})
			forbidden(t, m, primary, backup)
		})
	}
	t.Run("without backups", func(t *testing.T) {
		t.Parallel()
		primary := harness.StartMemcached(t, "-F")
		forbidden(t, harness.StartMagent(t, harness.Config{Primaries: []string{primary.Addr}, Args: patient}), primary)
	})
}

func forbidden(t *testing.T, m *harness.Magent, servers ...*harness.Memcached) {
	t.Helper()
	c := harness.MustDial(t, m.Addr)
	keys := keysNamed("k", 20)
	for _, key := range keys {
		must(t, c.Set(key, "v"))
	}
	plain := harness.StartMemcached(t, "-F")
	direct := harness.MustDial(t, plain.Addr)
	text := "flush_all\r\nflush_all noreply\r\nflush_all 0\r\nflush_all 1 noreply\r\nflush_all 1\r\n"
	must(t, c.Send([]byte(text)))
	must(t, direct.Send([]byte(text)))
	for range 3 {
		want, err := direct.Line()
		must(t, err)
		if got, err := c.Line(); err != nil || got != want {
			t.Errorf("flush_all: %q, %v; want %q", got, err, want)
		}
	}
	for _, key := range keys {
		expectValue(t, c, key, "v")
	}
	for _, s := range servers {
		if n := s.Stat("cmd_flush"); n != 0 {
			t.Errorf("%s was flushed %d times", s.Addr, n)
		}
	}
	for name, value := range serverStats(t, m) {
		if strings.HasSuffix(name, ":state") && value != "up" || strings.HasSuffix(name, ":outages") && value != "0" {
			t.Errorf("%s is %s", name, value)
		}
	}
	binary := append((&request{op: opFlush, opaque: 1}).bytes(), (&request{op: opFlushQ, opaque: 2}).bytes()...)
	binary = append(binary, (&request{op: opQuit}).bytes()...)
	if got, want := allAnswers(t, m.Addr, binary), allAnswers(t, plain.Addr, binary); !bytes.Equal(got, want) {
		t.Errorf("in binary: %q, want %q", got, want)
	}
}

// allAnswers returns everything that is answered until the connection is closed.
func allAnswers(t *testing.T, addr string, requests []byte) []byte {
	t.Helper()
	c := harness.MustDial(t, addr)
	must(t, c.Send(requests))
	answers, err := c.Rest()
	must(t, err)
	return answers
}
