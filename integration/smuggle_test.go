package integration

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"magent/integration/harness"
)

// smuggled is a command that must never reach a server: it stands in what is
// only data.
const smuggled = "set smuggled 0 0 1\r\nx\r\n"

// askBinary sends a packet and returns the status of the answer to it.
func askBinary(t *testing.T, c *harness.Client, r *request) (status uint16, body string) {
	t.Helper()
	must(t, c.Send(r.bytes()))
	header := make([]byte, binaryHeader)
	_, err := io.ReadFull(c.Conn(), header)
	must(t, err)
	text := make([]byte, binary.BigEndian.Uint32(header[8:]))
	_, err = io.ReadFull(c.Conn(), text)
	must(t, err)
	return binary.BigEndian.Uint16(header[6:]), string(text)
}

// expectNothingSmuggled fails the test if one of the servers holds the key of
// smuggled.
func expectNothingSmuggled(t *testing.T, servers ...string) {
	t.Helper()
	for _, addr := range servers {
		expectMiss(t, harness.MustDial(t, addr), "smuggled")
	}
}

// A key that no text command can name travels base64-encoded, and memcached
// takes no more than 250 bytes of that. It reads the value behind a longer one as
// commands.
//
// promise: R4, W3
func TestLongBinaryKeysSmuggleNothing(t *testing.T) {
	t.Parallel()
	s := startMirrored(t, patient...)
	other := harness.MustDial(t, s.Magent.Addr)
	for _, size := range []int{186, 187, 200, 250} {
		key := append(bytes.Repeat([]byte("k"), size-2), ' ', '\n')
		c := harness.MustDial(t, s.Magent.Addr)
		for _, op := range []byte{opSet, opAdd, opReplace, opAppend, opPrepend} {
			r := &request{op: op, key: key, value: []byte(smuggled)}
			if op != opAppend && op != opPrepend {
				r.extras = make([]byte, 8)
			}
			status, text := askBinary(t, c, r)
			if refused := strings.Contains(text, "186 bytes"); refused != (size > 186) {
				t.Errorf("key of %d bytes, opcode %d: status %#x %q", size, op, status, text)
			}
			must(t, other.Set("other", fmt.Sprint(size, op)))
			expectValue(t, other, "other", fmt.Sprint(size, op))
		}
		if status, text := askBinary(t, c, &request{op: opGet, key: key}); (status == 0) != (size <= 186) {
			t.Errorf("get of a key of %d bytes: status %#x %q", size, status, text)
		}
	}
	expectNothingSmuggled(t, s.primary.Addr, s.backup.Addr)
}

// Magent writes flags of its own behind those of a client. memcached takes only so
// many, and reads the value behind more as commands.
//
// promise: R4, W2
func TestManyMetaFlagsSmuggleNothing(t *testing.T) {
	t.Parallel()
	s := startMirrored(t, patient...)
	c := harness.MustDial(t, s.Magent.Addr)
	value := smuggled[:len(smuggled)-2]
	const most = 16 // flags of a set
	all := strings.Fields("P L R0 l v h u J0 D1 t f N0 T0 F0 O1 k s c I ME C5 b")
	for i := range len(all) {
		flags := slices.Concat(all[i:], all[:i])[:most]
		must(t, c.Send(fmt.Appendf(nil, "ms bWFueWZsYWdz %d %s\r\n%s\r\n", len(value), strings.Join(flags, " "), value)))
		line, err := c.Line()
		must(t, err)
		if code := line[:2]; code != "HD" && code != "NS" && code != "EX" && code != "NF" {
			t.Errorf("flags %v: %q", flags, line)
		}
		expect(t, c, "mn", "MN")
	}
	for _, flags := range []string{"x" + strings.Repeat(" T0", most-1), "x" + strings.Repeat(" k", most-1)} {
		must(t, c.Send(fmt.Appendf(nil, "ms many %d %s\r\n%s\r\n", len(value), flags, value)))
		line, err := c.Line()
		must(t, err)
		if !strings.HasPrefix(line, "CLIENT_ERROR") {
			t.Errorf("flags %s: %q", flags, line)
		}
		expect(t, c, "mn", "MN")
	}
	expectNothingSmuggled(t, s.primary.Addr, s.backup.Addr)
}

// memcached closes a connection whose line is too long for it. That is the other
// clients' connection too.
//
// promise: R2, R4
func TestLongMetaLinesHarmNobody(t *testing.T) {
	t.Parallel()
	s := startMirrored(t, patient...)
	other := harness.MustDial(t, s.Magent.Addr)
	must(t, other.Set("other", "1"))
	for _, size := range []int{1000, 1900, 2100, 20000, 60000} {
		for _, flag := range []string{"T", "P", "v"} {
			for _, verb := range []string{"mg k", "ms k 1", "md k", "ma k"} {
				c := harness.MustDial(t, s.Magent.Addr)
				must(t, c.Send([]byte(verb+" "+flag+strings.Repeat("0", size)+"\r\n1\r\nmn\r\n")))
				line, err := c.Line()
				if wrong := err == nil; wrong != (size < 2000) {
					t.Errorf("%s %s of %d: %.60q %v", verb, flag, size, line, err)
				}
				expectValue(t, other, "other", "1")
			}
		}
	}
	stats, err := other.Stats("servers")
	must(t, err)
	for name, value := range stats {
		if strings.HasSuffix(name, ":outages") && value != "0" {
			t.Errorf("%s %s", name, value)
		}
	}
}

// What only a meta command can say is not sent to a backup that is too old for
// it: the key of a binary client holds whatever that likes.
//
// promise: R4, W3
func TestKeysForAnOldBackupSmuggleNothing(t *testing.T) {
	t.Parallel()
	primary, backup := harness.StartMemcached(t), oldMemcached(t)
	m := harness.StartMagent(t, harness.Config{Primaries: []string{primary.Addr}, Backups: []string{backup}, Args: patient})
	c := harness.MustDial(t, m.Addr)
	key := []byte("q\r\n" + smuggled)
	other := harness.MustDial(t, m.Addr)
	for _, r := range []*request{
		{op: opSet, key: key, extras: make([]byte, 8), value: []byte("5")},
		{op: opAppend, key: key, value: []byte("6")},
		{op: opIncr, key: key, extras: append(append(make([]byte, 16), 0xff), 0xff, 0xff, 0xff)},
		{op: opTouch, key: key, extras: make([]byte, 4)},
		{op: opDelete, key: key},
	} {
		status, text := askBinary(t, c, r)
		if status != 0 {
			t.Errorf("opcode %d: status %#x %q", r.op, status, text)
		}
		must(t, other.Set("other", "1"))
		expectValue(t, other, "other", "1")
	}
	expectNothingSmuggled(t, primary.Addr, backup)
}

// Who is told to fetch a stale item anew is told so once. A value that a slow
// reader has no room for is asked for again, but not this one.
//
// promise: W2, R2
func TestSlowReadersAreToldToFetchAnew(t *testing.T) {
	t.Parallel()
	s := startMirrored(t, patient...)
	c := harness.MustDial(t, s.Magent.Addr)
	big := strings.Repeat("b", 1000<<10)
	must(t, c.Set("big", big))
	const values = 30
	var asked strings.Builder
	for i := range values {
		must(t, c.Set(fmt.Sprint("stale", i), "old"))
		says(t, c, fmt.Sprintf("md stale%d I T100\r\n", i), "HD")
		fmt.Fprintf(&asked, "mg big v\r\nmg stale%d v\r\n", i)
	}
	must(t, c.Send([]byte(asked.String())))
	postponed := func() bool {
		stats, err := harness.MustDial(t, s.Magent.Addr).Stats("")
		must(t, err)
		return stats["magent_postponed_values"] != "0"
	}
	harness.Eventually(t, recovery, "values are postponed", postponed)
	for i := range values {
		line, err := c.Line()
		must(t, err)
		if line != fmt.Sprint("VA ", len(big)) {
			t.Fatalf("%.60q", line)
		}
		must(t, c.Full(make([]byte, len(big)+2)))
		if got := exchange(t, c, "", 2); got != "VA 3 W X|old" && got != "VA 3 X W|old" {
			t.Errorf("stale item %d is told as %q", i, got)
		}
	}
}
