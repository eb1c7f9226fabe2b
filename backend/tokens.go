package backend

import (
	"errors"
	"strconv"
)

// itemOverhead is what memcached needs for an item besides its key and its value
// with its line end: 48 bytes of header, 8 of token, the end of the key and 4 of
// client flags (item_make_header).
const itemOverhead = 48 + 8 + 1 + 4

// TakesTokens tells whether the server stores cas tokens that are chosen for it
// (flag E of the meta commands, memcached 1.6.27 and later).
func (s *Server) TakesTokens() bool { return s.tokens.Load() }

// HasRoomFor tells whether an item whose key and value, with its line end, have so
// many bytes is no larger than the server takes.
func (s *Server) HasRoomFor(size int) bool { return int64(size)+itemOverhead <= s.itemMax.Load() }

// setTokens notes whether the server takes tokens.
func (s *Server) setTokens(settings map[string]string) {
	takes, largest := false, int64(0)
	if s.since16(14) {
		// With -C it keeps no tokens at all.
		takes = settings["cas_enabled"] == "yes" && s.since16(27)
		largest, _ = strconv.ParseInt(settings["item_size_max"], 10, 64)
	}
	s.itemMax.Store(largest)
	s.tokens.Store(takes)
}

// askSettings asks a server for its settings, none when it does not tell them.
func askSettings(c *Client) (map[string]string, error) {
	settings, err := c.stats("stats settings")
	if err != nil && !errors.Is(err, ErrProtocol) {
		return nil, err
	}
	return settings, nil
}

// ForbidsFlush tells whether the server was started with -F, when it last came back:
// it refuses flush_all.
func (s *Server) ForbidsFlush() bool { return s.noFlush.Load() }
