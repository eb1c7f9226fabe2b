package integration

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"magent/integration/harness"
)

// observer looks into a memcached, at keys of any bytes, without changing what
// a meta command would show: the value and the client flags come from the
// binary protocol, the time to live from `me`.
type observer struct {
	binary, text   net.Conn
	packets, lines *bufio.Reader
}

func observe(t testing.TB, addr string) *observer {
	t.Helper()
	packets, text := harness.MustDial(t, addr).Conn(), harness.MustDial(t, addr).Conn()
	return &observer{binary: packets, text: text, packets: bufio.NewReader(packets), lines: bufio.NewReader(text)}
}

// ask sends a meta command of a key and returns the line of the answer.
func (o *observer) ask(verb, key, flags string) (string, error) {
	_ = o.text.SetDeadline(time.Now().Add(answerWithin))
	name := key
	if len(key) <= longestEncoded {
		name, flags = base64.StdEncoding.EncodeToString([]byte(key)), flags+" b"
	}
	if _, err := fmt.Fprintf(o.text, "%s %s%s\r\n", verb, name, flags); err != nil {
		return "", err
	}
	return readLine(o.lines)
}

// seen is what there is to know of a key.
type seen struct {
	found bool
	value string
	flags uint32
	ttl   int64 // seconds, below zero for none
}

func (o *observer) look(key string) (seen, error) {
	_ = o.binary.SetDeadline(time.Now().Add(answerWithin))
	if _, err := o.binary.Write((&request{op: opGet, key: []byte(key)}).bytes()); err != nil {
		return seen{}, err
	}
	a, err := readPacket(o.packets)
	if err != nil {
		return seen{}, err
	}
	p := a.(*packet)
	if p.status() == 1 {
		return seen{}, nil
	}
	if p.status() != 0 || len(p.body) < 4 {
		return seen{}, fmt.Errorf("get of %s: %s", short(key), p)
	}
	s := seen{found: true, flags: binary.BigEndian.Uint32(p.body), value: string(p.body[4:]), ttl: -1}
	line, err := o.ask("me", key, "")
	if err != nil {
		return seen{}, err
	}
	_, rest, ok := strings.Cut(line, " exp=")
	word, _, _ := strings.Cut(rest, " ")
	if !ok {
		return seen{}, fmt.Errorf("me of %s: %q", short(key), line)
	}
	// memcached 1.6.18 tells it below zero.
	if word != "-1" {
		s.ttl, err = strconv.ParseInt(strings.TrimPrefix(word, "-"), 10, 64)
	}
	return s, err
}

// marks asks for what only a get shows, and changes by it: whether the item is
// stale, whether a client is renewing it, and, of a key that text can name,
// whether it is a binary one.
func (o *observer) marks(key string) (string, error) {
	if strings.ContainsAny(key, unnameable) {
		return o.ask("mg", key, " s u")
	}
	return o.ask("mg", key, " s k u")
}

// different says how two servers differ in the keys, "" if they do not, and
// names one of those that do.
func different(a, b *observer, keys []string, apart int64) (diff, one string, err error) {
	var out []string
	for _, key := range keys {
		x, err := a.look(key)
		if err != nil {
			return "", "", err
		}
		y, err := b.look(key)
		if err != nil {
			return "", "", err
		}
		before := len(out)
		switch {
		case x.found != y.found:
			out = append(out, fmt.Sprintf("%s: found %v and %v", short(key), x.found, y.found))
		case x.value != y.value:
			out = append(out, fmt.Sprintf("%s: value %s and %s", short(key), show([]byte(x.value)), show([]byte(y.value))))
		case x.flags != y.flags:
			out = append(out, fmt.Sprintf("%s: flags %d and %d", short(key), x.flags, y.flags))
		case x.ttl > far && y.ttl > far:
		case (x.ttl < 0) != (y.ttl < 0) || x.ttl-y.ttl > apart || y.ttl-x.ttl > apart:
			out = append(out, fmt.Sprintf("%s: %d and %d seconds to live", short(key), x.ttl, y.ttl))
		}
		if len(out) > before {
			one = key
		}
	}
	sort.Strings(out)
	return strings.Join(out, "\n"), one, nil
}

// differentMarks compares the marks of the keys. Asking a stale item for them
// makes it the asker's to renew, so it can be done only once. A mark that is on
// its way to a copy gets its time, unless the copy has just told that nobody
// renews it while the other server says that somebody does.
func differentMarks(servers []*observer, names, keys []string, within time.Duration) (diff, one string, err error) {
	var out []string
	for _, key := range keys {
		first, err := servers[0].marks(key)
		if err != nil {
			return "", "", err
		}
		for i, o := range servers[1:] {
			if names[i+1] == "the backup" && (strings.Contains(key, ":up") || strings.Contains(key, ":down")) {
				continue // a number there loses its marks with the token that it is given
			}
			line, err := o.marks(key)
			if err != nil {
				return "", "", err
			}
			told := line
			if !strings.Contains(line, " W") {
				harness.Poll(within, func() bool {
					if line != first {
						line, err = o.marks(key)
					}
					return err != nil || line == first
				})
			}
			if err != nil {
				return "", "", err
			}
			if line != first {
				out = append(out, fmt.Sprintf("%s: %s says %q, %s %q", short(key), names[0], first, names[i+1], told))
				one = key
			}
		}
	}
	sort.Strings(out)
	return strings.Join(out, "\n"), one, nil
}

// sameState compares what the servers hold after a conversation: the first with
// all others. A copy that is on its way gets its time.
func sameState(t testing.TB, d *dialogue, servers []*observer, names, keys []string) string {
	t.Helper()
	sort.Strings(keys)
	told := func(what, diff, key string) string {
		return fmt.Sprintf("%s after the conversation:\n%s\nthe last steps that name %s, or flush:\n%s", what, diff, short(key), d.about(key))
	}
	for i, o := range servers[1:] {
		var diff, key string
		var err error
		harness.Poll(10*time.Second, func() bool {
			diff, key, err = different(servers[0], o, keys, d.meaning.apart)
			return err != nil || diff == ""
		})
		if err != nil {
			return err.Error()
		}
		if diff != "" {
			return told(names[0]+" and "+names[i+1]+" differ", diff, key)
		}
	}
	diff, key, err := differentMarks(servers, names, keys, 5*time.Second)
	if err != nil {
		return err.Error()
	}
	if diff != "" {
		return told("the marks differ", diff, key)
	}
	return ""
}
