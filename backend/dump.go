package backend

import (
	"errors"
	"fmt"
	"strings"

	"magent/proxy/protocol"
)

// ErrNoDump says that a server does not list its keys: it is older than 1.4.31,
// or was started with -X or without its LRU crawler.
var ErrNoDump = errors.New("server does not list its keys")

// The ways in which a server can walk through its keys. By hash it misses none;
// servers before 1.6.0 only know the other.
const (
	DumpByHash  = "hash"
	DumpByClass = "all"
)

// DumpKeys calls each for every key of the server, with when it was used last
// (Unix seconds) and the bytes that its item takes. The key is valid until each returns. The connection is of no
// use afterwards. Errors wrap ErrNoDump, or what broke the connection.
// A LRU crawler that is off is turned on for this long.
func (c *Client) DumpKeys(walk string, each func(key []byte, access int64, size int)) error {
	c.longer = true
	err := c.dump(walk, each)
	if !errors.Is(err, errCrawlerOff) {
		return err
	}
	answer, err := c.Ask("lru_crawler enable\r\n")
	if err != nil {
		return err
	}
	if answer != "OK" {
		return fmt.Errorf("%w: it answered %.60q to lru_crawler enable", ErrNoDump, answer)
	}
	defer func() { _, _ = c.Ask("lru_crawler disable\r\n") }()
	return c.dump(walk, each)
}

// errCrawlerOff says that the thread is not running that lists the keys.
var errCrawlerOff = fmt.Errorf("%w: its LRU crawler is off", ErrNoDump)

func (c *Client) dump(walk string, each func(key []byte, access int64, size int)) error {
	if err := c.Send("lru_crawler metadump " + walk + "\r\n"); err != nil {
		return err
	}
	scratch := make([]byte, 0, 256)
	var k protocol.DumpedKey
	for first := true; ; first = false {
		line, err := c.Line()
		if err != nil {
			return err
		}
		switch {
		case string(line) == "END":
			return nil
		case protocol.ParseDumpLine(line, &k, scratch):
			each(k.Key, k.Access, k.Size)
		// The second is what a crawler says that is just being turned on.
		case first && (strings.HasPrefix(string(line), "BUSY") || string(line) == "ERROR an unknown error happened"):
			return fmt.Errorf("%w: it answered %.60q", ErrClosed, line)
		case first && strings.HasSuffix(string(line), "crawler disabled"):
			return errCrawlerOff
		case first:
			return fmt.Errorf("%w: it answered %.60q", ErrNoDump, line)
		default:
			return fmt.Errorf("%w: it listed %.60q among its keys", ErrProtocol, line)
		}
	}
}
