package integration

import (
	"fmt"
	"testing"
	"time"

	"magent/integration/harness"
)

// promise: C1
func TestConfirmedEffectsReachTheBackup(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	c := harness.MustDial(t, m.Addr)
	keys := keysNamed("c", 12)
	store := func(verb, key string, flags uint32, exptime int, value, want string, extra ...string) {
		t.Helper()
		if got, err := c.Store(verb, key, flags, exptime, []byte(value), extra...); err != nil || got != want {
			t.Fatalf("%s %s: %q, %v; want %q", verb, key, got, err, want)
		}
	}
	for i, key := range keys {
		store("set", key, uint32(i), 1000+i, "10", "STORED")
	}
	store("add", "added", 5, 300, "value", "STORED")
	store("replace", "c0", 6, 400, "replaced", "STORED")
	store("append", "c1", 9, 0, "+end", "STORED")
	store("prepend", "c2", 9, 0, "start+", "STORED")
	items, err := c.Gets("c3")
	must(t, err)
	store("cas", "c3", 7, 500, "swapped", "STORED", fmt.Sprint(items[0].CAS))
	expect(t, c, "incr c4 5", "15")
	expect(t, c, "decr c5 5", "5")
	expect(t, c, "delete c6", "DELETED")
	expect(t, c, "touch c7 5000", "TOUCHED")
	_, err = c.Retrieve("gat 6000 c8 c9")
	must(t, err)
	_, err = c.Retrieve("gats 0 c10")
	must(t, err)
	must(t, c.Send([]byte("incr c11 7 noreply\r\n")))
	awaitEqual(t, m.primary, m.backup, append(keys, "added"))

	direct := harness.MustDial(t, m.backup.Addr)
	for key, want := range map[string]harness.MetaItem{
		"added": {Flags: 5, TTL: 300, Value: []byte("value")},
		"c0":    {Flags: 6, TTL: 400, Value: []byte("replaced")},
		"c1":    {Flags: 1, TTL: 1001, Value: []byte("10+end")},
		"c2":    {Flags: 2, TTL: 1002, Value: []byte("start+10")},
		"c3":    {Flags: 7, TTL: 500, Value: []byte("swapped")},
		"c4":    {Flags: 4, TTL: 1004, Value: []byte("15")},
		"c7":    {Flags: 7, TTL: 5000, Value: []byte("10")},
		"c9":    {Flags: 9, TTL: 6000, Value: []byte("10")},
		"c10":   {Flags: 10, TTL: -1, Value: []byte("10")},
		"c11":   {Flags: 11, TTL: 1011, Value: []byte("17")},
	} {
		got, found, err := direct.Peek(key)
		late := want.TTL - got.TTL
		if err != nil || !found || got.Flags != want.Flags || string(got.Value) != string(want.Value) || late < 0 || late > 30 {
			t.Errorf("%s on the backup: %+v, %v, %v; want %+v", key, got, found, err, want)
		}
	}
	if _, found, err := direct.Peek("c6"); found || err != nil {
		t.Errorf("the deleted key is on the backup: %v, %v", found, err)
	}
}

// The backup is put out of step by hand, and then a command whose outcome would
// differ there goes through magent.
//
// promise: C1
func TestABackupOutOfStepIsRepaired(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	c, p, b := harness.MustDial(t, m.Addr), harness.MustDial(t, m.primary.Addr), harness.MustDial(t, m.backup.Addr)
	cases := []struct {
		name            string
		primary, backup string // values put there before, "" for none
		send            func(key string) []byte
		want            string // magent's answer
	}{
		{"add", "", "old", line("add %s 3 0 3\r\nnew\r\n"), "STORED"},
		{"replace", "old", "", line("replace %s 3 0 3\r\nnew\r\n"), "STORED"},
		{"incr where there is none", "5", "", line("incr %s 1\r\n"), "6"},
		{"incr of another number", "5", "100", line("incr %s 1\r\n"), "6"},
		{"incr of no number", "5", "text", line("incr %s 1\r\n"), "6"},
		{"decr of another number", "50", "100", line("decr %s 1\r\n"), "49"},
		{"append where there is none", "5", "", line("append %s 0 0 1\r\nx\r\n"), "STORED"},
		{"prepend where there is none", "5", "", line("prepend %s 0 0 1\r\nx\r\n"), "STORED"},
		{"delete where there is none", "5", "", line("delete %s\r\n"), "DELETED"},
		{"delete of what only the backup has", "", "5", line("delete %s\r\n"), "NOT_FOUND"},
		{"touch where there is none", "5", "", line("touch %s 100\r\n"), "TOUCHED"},
		{"incr noreply", "5", "100", line("incr %s 1 noreply\r\n"), ""},
		{"append noreply", "5", "", line("append %s 0 0 1 noreply\r\nx\r\n"), ""},
	}
	for i, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			key := fmt.Sprintf("step%d", i)
			for value, direct := range map[string]*harness.Client{tc.primary: p, tc.backup: b} {
				if value != "" {
					must(t, direct.Set(key, value))
				}
			}
			must(t, c.Send(tc.send(key)))
			if tc.want != "" {
				if got, err := c.Line(); err != nil || got != tc.want {
					t.Fatalf("answer %q, %v; want %q", got, err, tc.want)
				}
			}
			// On the backup the key is now either as on the primary or absent.
			harness.Eventually(t, 5*time.Second, "the backup is repaired", func() bool {
				want, inP, err := p.Peek(key)
				must(t, err)
				got, inB, err := b.Peek(key)
				must(t, err)
				return !inB || inP && string(got.Value) == string(want.Value) && got.Flags == want.Flags
			})
		})
	}
}

// promise: C1
func TestRefusedWritesAreNotMirrored(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, append([]string{"--compare-rate", "0"}, patient...)...) // it would mend what the test makes differ
	c, p, b := harness.MustDial(t, m.Addr), harness.MustDial(t, m.primary.Addr), harness.MustDial(t, m.backup.Addr)
	cases := []struct {
		primary string // "" for none
		send    string
		want    string
	}{
		{"here", "add %s 0 0 3\r\nnew\r\n", "NOT_STORED"},
		{"", "replace %s 0 0 3\r\nnew\r\n", "NOT_STORED"},
		{"", "append %s 0 0 3\r\nnew\r\n", "NOT_STORED"},
		{"", "prepend %s 0 0 3\r\nnew\r\n", "NOT_STORED"},
		{"here", "cas %s 0 0 3 18446744073709551615\r\nnew\r\n", "EXISTS"},
		{"", "cas %s 0 0 3 1\r\nnew\r\n", "NOT_FOUND"},
		{"", "incr %s 1\r\n", "NOT_FOUND"},
		{"here", "incr %s 1\r\n", "CLIENT_ERROR cannot increment or decrement non-numeric value"},
		{"", "decr %s 1\r\n", "NOT_FOUND"},
		{"", "touch %s 10\r\n", "NOT_FOUND"},
		{"here", "set %s 0 0 2\r\nabc\r\n", "CLIENT_ERROR bad data chunk"},
	}
	for i, tc := range cases {
		key := fmt.Sprintf("refused%d", i)
		if tc.primary != "" {
			must(t, p.Set(key, tc.primary))
		}
		must(t, b.Set(key, "77"))
		must(t, c.Send(fmt.Appendf(nil, tc.send, key)))
		if got, err := c.Line(); err != nil || got != tc.want {
			t.Fatalf("%q: %q, %v; want %q", tc.send, got, err, tc.want)
		}
		if tc.want == "CLIENT_ERROR bad data chunk" {
			_, err := c.Line() // the rest of the data is no command
			must(t, err)
		}
	}
	// A write behind all of these has reached the backup, so they had their chance.
	must(t, c.Set("last", "x"))
	awaitEqual(t, m.primary, m.backup, []string{"last"})
	for i, tc := range cases {
		value, found, err := b.Value(fmt.Sprintf("refused%d", i))
		if err != nil || !found || value != "77" {
			t.Errorf("%q (%s) changed the backup: %q, %v, %v", tc.send, tc.want, value, found, err)
		}
	}
}

// memcached drops the old value when a set is too large for it; the backup
// must not keep what the primary has dropped.
//
// promise: C1, R3
func TestATooLargeSetLeavesTheServersEqual(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"refused by the server": patient,
		"refused by magent":     append([]string{"--max-item-size", "100k"}, patient...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := startMirrored(t, args...)
			c := harness.MustDial(t, m.Addr)
			must(t, c.Set("k", "old"))
			awaitEqual(t, m.primary, m.backup, []string{"k"})
			answer, err := c.Store("set", "k", 0, 0, make([]byte, 1<<20))
			if err != nil || answer != "SERVER_ERROR object too large for cache" {
				t.Fatalf("%q, %v", answer, err)
			}
			expectMiss(t, c, "k")
			awaitEqual(t, m.primary, m.backup, []string{"k"})
		})
	}
}

// line makes a command of a format with the key as its only argument.
func line(format string) func(key string) []byte {
	return func(key string) []byte { return fmt.Appendf(nil, format, key) }
}
