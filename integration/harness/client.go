package harness

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// DefaultTimeout bounds every single read and write of a Client: a connection
// that hangs makes the test fail rather than hang too.
const DefaultTimeout = time.Minute

// AnswerError is an answer other than the one that was asked for, such as
// "SERVER_ERROR …" in place of a value.
type AnswerError struct{ Line string }

func (e *AnswerError) Error() string { return "unexpected answer " + strconv.Quote(e.Line) }

// Item is one VALUE of an answer.
type Item struct {
	Key   string
	Flags uint32
	CAS   uint64 // 0 unless asked for with gets or gats
	Value []byte
}

// Client speaks memcached's classic text protocol (protocol.txt) over one
// connection. It is for one goroutine at a time, except that one may write
// while another reads.
type Client struct {
	Timeout time.Duration // for each read and each write

	conn net.Conn
	r    *bufio.Reader
}

// Dial connects to a server.
func Dial(addr string) (*Client, error) {
	conn, err := net.DialTimeout("tcp", addr, DefaultTimeout)
	if err != nil {
		return nil, err
	}
	return NewClient(conn), nil
}

// NewClient wraps a connection, which the Client then owns.
func NewClient(conn net.Conn) *Client {
	return &Client{Timeout: DefaultTimeout, conn: conn, r: bufio.NewReaderSize(conn, 16<<10)}
}

// MustDial connects to a server for the length of the test.
func MustDial(tb testing.TB, addr string) *Client {
	tb.Helper()
	c, err := Dial(addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Reset ends the connection at once: the other side sees a reset.
func (c *Client) Reset() error {
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	return c.conn.Close()
}

// Conn returns the connection below, still owned by the Client.
func (c *Client) Conn() net.Conn { return c.conn }

// Send writes bytes as they are.
func (c *Client) Send(b []byte) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.Timeout)); err != nil {
		return err
	}
	_, err := c.conn.Write(b)
	return err
}

// Line reads one line and returns it without its \r\n.
func (c *Client) Line() (string, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(c.Timeout)); err != nil {
		return "", err
	}
	line, err := c.r.ReadString('\n')
	if err != nil {
		return line, err
	}
	bare, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		return line, fmt.Errorf("a line without \\r: %q", line)
	}
	return bare, nil
}

// Full reads as many bytes as b holds.
func (c *Client) Full(b []byte) error {
	// A large value may take long; only silence is an error.
	for len(b) > 0 {
		if err := c.conn.SetReadDeadline(time.Now().Add(c.Timeout)); err != nil {
			return err
		}
		n, err := c.r.Read(b)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// Rest reads until the other side closes the connection.
func (c *Client) Rest() ([]byte, error) {
	var out bytes.Buffer
	chunk := make([]byte, 64<<10)
	for {
		if err := c.conn.SetReadDeadline(time.Now().Add(c.Timeout)); err != nil {
			return out.Bytes(), err
		}
		n, err := c.r.Read(chunk)
		out.Write(chunk[:n])
		if errors.Is(err, io.EOF) {
			return out.Bytes(), nil
		}
		if err != nil {
			return out.Bytes(), err
		}
	}
}

// Command sends one line and returns the one line of the answer.
func (c *Client) Command(format string, args ...any) (string, error) {
	if err := c.Send(fmt.Appendf(nil, format+"\r\n", args...)); err != nil {
		return "", err
	}
	return c.Line()
}

// Storage returns the bytes of a storage command; extra goes behind the
// length: a cas token, noreply.
func Storage(verb, key string, flags uint32, exptime int, value []byte, extra ...string) []byte {
	b := fmt.Appendf(nil, "%s %s %d %d %d", verb, key, flags, exptime, len(value))
	for _, word := range extra {
		b = append(append(b, ' '), word...)
	}
	b = append(b, '\r', '\n')
	return append(append(b, value...), '\r', '\n')
}

// Store runs a storage command and returns the line of the answer.
func (c *Client) Store(verb, key string, flags uint32, exptime int, value []byte, extra ...string) (string, error) {
	if err := c.Send(Storage(verb, key, flags, exptime, value, extra...)); err != nil {
		return "", err
	}
	return c.Line()
}

// Set stores a value without expiry; any answer but STORED is an error.
func (c *Client) Set(key, value string) error {
	answer, err := c.Store("set", key, 0, 0, []byte(value))
	if err == nil && answer != "STORED" {
		err = &AnswerError{answer}
	}
	return err
}

// Get fetches keys and returns the values in the order of the answer.
func (c *Client) Get(keys ...string) ([]Item, error) {
	return c.Retrieve("get " + strings.Join(keys, " "))
}

// Gets fetches keys with their cas tokens.
func (c *Client) Gets(keys ...string) ([]Item, error) {
	return c.Retrieve("gets " + strings.Join(keys, " "))
}

// Value fetches one key. found is false on a miss.
func (c *Client) Value(key string) (value string, found bool, err error) {
	items, err := c.Get(key)
	if err != nil || len(items) == 0 {
		return "", false, err
	}
	if len(items) > 1 || items[0].Key != key {
		return "", false, fmt.Errorf("get %s answered %d values, the first of key %q", key, len(items), items[0].Key)
	}
	return string(items[0].Value), true, nil
}

// Retrieve sends a retrieval command and reads its VALUEs up to END.
func (c *Client) Retrieve(line string) ([]Item, error) {
	if err := c.Send([]byte(line + "\r\n")); err != nil {
		return nil, err
	}
	return c.Values()
}

// Values reads VALUEs up to END. Another line is an *AnswerError.
func (c *Client) Values() ([]Item, error) {
	var items []Item
	for {
		line, err := c.Line()
		if err != nil {
			return items, err
		}
		if line == "END" {
			return items, nil
		}
		item, size, err := parseValue(line)
		if err != nil {
			return items, err
		}
		data := make([]byte, size+2)
		if err := c.Full(data); err != nil {
			return items, err
		}
		if !bytes.HasSuffix(data, []byte("\r\n")) {
			return items, fmt.Errorf("value of %q does not end with \\r\\n but %q", item.Key, data[size:])
		}
		item.Value = data[:size:size]
		items = append(items, item)
	}
}

// parseValue reads "VALUE <key> <flags> <bytes> [<cas>]".
func parseValue(line string) (Item, int, error) {
	f := strings.Split(line, " ")
	if f[0] != "VALUE" || len(f) < 4 || len(f) > 5 {
		return Item{}, 0, &AnswerError{line}
	}
	flags, err1 := strconv.ParseUint(f[2], 10, 32)
	size, err2 := strconv.ParseInt(f[3], 10, 31)
	item := Item{Key: f[1], Flags: uint32(flags)}
	var err3 error
	if len(f) == 5 {
		item.CAS, err3 = strconv.ParseUint(f[4], 10, 64)
	}
	if err1 != nil || err2 != nil || err3 != nil {
		return Item{}, 0, &AnswerError{line}
	}
	return item, int(size), nil
}

// Stats runs `stats` with an optional argument and returns name → value. An
// answer that is not made of STAT lines is an error.
func (c *Client) Stats(arg string) (map[string]string, error) {
	if err := c.Send([]byte(strings.TrimSpace("stats "+arg) + "\r\n")); err != nil {
		return nil, err
	}
	stats := make(map[string]string)
	for {
		line, err := c.Line()
		if err != nil {
			return stats, err
		}
		if line == "END" {
			return stats, nil
		}
		rest, ok := strings.CutPrefix(line, "STAT ")
		name, value, _ := strings.Cut(rest, " ")
		if !ok || name == "" {
			return stats, &AnswerError{line}
		}
		stats[name] = value
	}
}

// MetaItem is what memcached itself says of one key.
type MetaItem struct {
	Flags uint32
	TTL   int64 // seconds left, -1 for no expiry
	Value []byte
}

// Peek asks memcached (not magent) for all it knows of a key, with the meta
// command mg of memcached 1.6 and later. found is false on a miss.
func (c *Client) Peek(key string) (item MetaItem, found bool, err error) {
	line, err := c.Command("mg %s f t v", key)
	if err != nil {
		return item, false, err
	}
	if line == "EN" {
		return item, false, nil
	}
	var size int
	if _, err := fmt.Sscanf(line, "VA %d f%d t%d", &size, &item.Flags, &item.TTL); err != nil {
		return item, false, &AnswerError{line}
	}
	data := make([]byte, size+2)
	if err := c.Full(data); err != nil {
		return item, false, err
	}
	item.Value = data[:size:size]
	return item, true, nil
}
