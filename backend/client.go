package backend

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"magent/proxy/protocol"
)

const (
	lookupLimit = 2 * time.Second // for a host name
	clientValue = 1 << 20         // bytes of the largest value of Gets
	clientItem  = 1 << 30         // bytes of the largest value of Item
)

// Client is a connection of its own to a server, for what is not the clients'
// traffic: probes, facts for other proxies, lists of keys. It blocks, and is
// used by one goroutine at a time.
type Client struct {
	conn    net.Conn
	in      *bufio.Reader
	limit   time.Duration // for each answer
	address netip.AddrPort
	longer  bool // an answer may take as long as it goes on
	forget  func() bool
}

// DialClient connects to a server, resolving its name anew. Of several addresses
// the first that answers is taken. The connection ends with ctx, whatever is waited for.
// Errors wrap ErrRefused.
func DialClient(ctx context.Context, a Address, connect, answer time.Duration) (*Client, error) {
	addresses, err := resolve(ctx, a.Host)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	var failed []error
	for _, ip := range addresses {
		to := netip.AddrPortFrom(ip.Unmap(), uint16(a.Port))
		dialer := net.Dialer{Timeout: connect}
		conn, err := dialer.DialContext(ctx, "tcp", to.String())
		if err == nil {
			forget := context.AfterFunc(ctx, func() { _ = conn.Close() })
			return &Client{conn: conn, in: bufio.NewReaderSize(conn, 16<<10), limit: answer, address: to, forget: forget}, nil
		}
		failed = append(failed, err)
	}
	return nil, fmt.Errorf("%w: %w", ErrRefused, errors.Join(failed...))
}

func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// Close ends the connection.
func (c *Client) Close() {
	c.forget()
	_ = c.conn.Close()
}

// Send writes a request.
func (c *Client) Send(request string) error {
	if err := c.conn.SetDeadline(time.Now().Add(c.limit)); err != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	if _, err := io.WriteString(c.conn, request); err != nil {
		return c.broken(err)
	}
	return nil
}

// Line reads one line, without its end. It is valid until the next call.
func (c *Client) Line() ([]byte, error) {
	if c.longer && c.in.Buffered() == 0 {
		if err := c.conn.SetReadDeadline(time.Now().Add(c.limit)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrClosed, err)
		}
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return nil, c.broken(err)
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, nil
}

func (c *Client) broken(err error) error {
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return fmt.Errorf("%w: nothing for %v", ErrTimeout, c.limit)
	}
	return fmt.Errorf("%w: %w", ErrClosed, err)
}

// Ask sends a command and returns its line of an answer.
func (c *Client) Ask(format string, args ...any) (string, error) {
	if err := c.Send(fmt.Sprintf(format, args...)); err != nil {
		return "", err
	}
	line, err := c.Line()
	return string(line), err
}

// Stats asks for memcached's general statistics.
func (c *Client) Stats() (map[string]string, error) { return c.stats("stats") }

func (c *Client) stats(command string) (map[string]string, error) {
	if err := c.Send(command + "\r\n"); err != nil {
		return nil, err
	}
	stats := map[string]string{}
	for {
		line, err := c.Line()
		if err != nil {
			return nil, err
		}
		if string(line) == "END" {
			return stats, nil
		}
		words := strings.SplitN(string(line), " ", 3)
		if len(words) < 2 || words[0] != "STAT" {
			return nil, fmt.Errorf("%w: it answered %.60q to %s", ErrProtocol, line, command)
		}
		if len(words) == 3 {
			stats[words[1]] = words[2]
		}
	}
}

// Stored is a value that a Client has read.
type Stored struct {
	Value []byte
	Flags uint32
	CAS   uint64
}

// Gets reads values with their cas tokens. A key that is absent is not in the
// answer.
func (c *Client) Gets(keys ...string) (map[string]Stored, error) {
	if err := c.Send("gets " + strings.Join(keys, " ") + "\r\n"); err != nil {
		return nil, err
	}
	found := map[string]Stored{}
	for {
		line, err := c.Line()
		if err != nil {
			return nil, err
		}
		if string(line) == "END" {
			return found, nil
		}
		words := strings.Fields(string(line))
		if len(words) != 5 || words[0] != "VALUE" {
			return nil, fmt.Errorf("%w: it answered %.60q to gets", ErrProtocol, line)
		}
		flags, err1 := strconv.ParseUint(words[2], 10, 32)
		size, err2 := strconv.Atoi(words[3])
		cas, err3 := strconv.ParseUint(words[4], 10, 64)
		if err := errors.Join(err1, err2, err3); err != nil || size < 0 || size > clientValue {
			return nil, fmt.Errorf("%w: it answered %.60q to gets", ErrProtocol, line)
		}
		value := make([]byte, size+2)
		if _, err := io.ReadFull(c.in, value); err != nil {
			return nil, c.broken(err)
		}
		found[words[1]] = Stored{Value: value[:size], Flags: uint32(flags), CAS: cas}
	}
}

// Store sends a storage command, such as "set" or "add", for a value without
// flags or expiry, and tells whether the server stored it.
func (c *Client) Store(verb, key, value string) (bool, error) {
	answer, err := c.Ask("%s %s 0 0 %d\r\n%s\r\n", verb, key, len(value), value)
	return answer == "STORED", err
}

// Swap replaces a value if it is still the one with the token.
func (c *Client) Swap(key, value string, cas uint64) (bool, error) {
	answer, err := c.Ask("cas %s 0 0 %d %d\r\n%s\r\n", key, len(value), cas, value)
	return answer == "STORED", err
}

// Item reads an item with its flags, the seconds that it has left and its
// token. present is false when the server does not hold it.
func (c *Client) Item(key string) (it protocol.Item, value []byte, present bool, err error) {
	if err := c.Send(string(protocol.AppendMetaGet(nil, []byte(key)))); err != nil {
		return it, nil, false, err
	}
	line, err := c.Line()
	if err != nil {
		return it, nil, false, err
	}
	if string(line) == "EN" {
		return it, nil, false, nil
	}
	if protocol.ParseItem(append(append([]byte(nil), line...), '\r', '\n'), &it) != protocol.Complete || it.Size > clientItem {
		return it, nil, false, fmt.Errorf("%w: it answered %.60q to mg", ErrProtocol, line)
	}
	value = make([]byte, it.Size+2)
	if _, err := io.ReadFull(c.in, value); err != nil {
		return it, nil, false, c.broken(err)
	}
	if it.Won {
		err = c.giveBack(key, it.CAS)
	}
	return it, value[:it.Size], true, err
}

// giveBack marks an item as stale once more whose W came to this connection, so
// that the next client is told it. A server that cannot keep its token gives it
// another one.
func (c *Client) giveBack(key string, token uint64) error {
	for _, keep := range []uint64{token, 0} {
		answer, err := c.Ask("%s", protocol.AppendMetaInvalidate(nil, []byte(key), token, keep))
		if err != nil || !strings.HasPrefix(answer, "CLIENT_ERROR") {
			return err
		}
	}
	return nil
}
