package backend

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"
)

// Prefix is what the keys begin with that are magent's own.
const Prefix = "__magent__:"

// LifeKey holds, on each server, the life that this server was known by. A
// connection asks for it first: a server that was started anew is empty and
// does not know it.
const LifeKey = Prefix + "life"

// LackingKey is held by a server that lacks keys which its twins hold: some
// proxy copies them, and who comes next has to go on.
const LackingKey = Prefix + "lacking"

// Life is one run of one memcached process. A restart begins a new life.
type Life struct {
	PID   int
	Start int64 // Unix seconds, by the server's own clock
}

func (l Life) String() string { return fmt.Sprintf("%d-%d", l.PID, l.Start) }

// ParseLife reads what String wrote.
func ParseLife(s string) (l Life, ok bool) {
	pid, start, ok := strings.Cut(s, "-")
	if !ok {
		return l, false
	}
	var err1, err2 error
	l.PID, err1 = strconv.Atoi(pid)
	l.Start, err2 = strconv.ParseInt(start, 10, 64)
	return l, err1 == nil && err2 == nil
}

// facts are what a server's stats tell of it.
type facts struct {
	life  Life
	items int64 // held at present
	clock int64 // nanoseconds that its clock is ahead of ours
}

// readFacts takes them from the answer to stats. uptime and time come from
// the same reading of memcached's clock (server_stats in memcached.c), so
// their difference is the same during a whole life.
func readFacts(stats map[string]string) (facts, error) {
	var f facts
	number := func(name string) int64 {
		n, err := strconv.ParseInt(stats[name], 10, 64)
		if err != nil {
			n = -1
		}
		return n
	}
	pid, now, uptime := number("pid"), number("time"), number("uptime")
	if pid < 0 || now < 0 || uptime < 0 {
		return f, fmt.Errorf("%w: its stats lack pid, time or uptime", ErrProtocol)
	}
	f.life = Life{PID: int(pid), Start: now - uptime}
	f.items = max(number("curr_items"), 0)
	f.clock = now*int64(time.Second) - time.Now().UnixNano()
	return f, nil
}

// Life asks the server for the life that it is in.
func (c *Client) Life() (Life, error) {
	stats, err := c.Stats()
	if err != nil {
		return Life{}, err
	}
	f, err := readFacts(stats)
	return f.life, err
}

// Life is the life that the server was in when it last came back, and false
// before the first time or when nobody asks for it.
func (s *Server) Life() (Life, bool) {
	if l := s.life.Load(); l != nil {
		return *l, true
	}
	return Life{}, false
}

// KnowLife sets the life that the server is known by, as another program
// before this one has seen it.
func (s *Server) KnowLife(l Life) { s.life.Store(&l) }

// Clock is the server's time of day, Unix seconds, as it counts it itself. It
// may be wrong by one: memcached counts whole seconds.
func (s *Server) Clock() int64 {
	return time.Now().Add(time.Duration(s.clock.Load()) + time.Second/2).Unix()
}

// setLife notes the life that begins to serve.
func (s *Server) setLife(l Life) {
	s.life.Store(&l)
	text := l.String()
	greeting := fmt.Sprintf("VALUE %s 0 %d\r\n%s\r\nEND\r\n", LifeKey, len(text), text)
	s.greeting.Store(&greeting)
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.Name() + " " + text))
	s.tag.Store((h.Sum64()%(ChosenToken>>tokenBits-1) + 1) << tokenBits)
}

// A cas token that a client is told is good for whatever server holds the item.
// What memcached counted up itself means something in one life of one server
// only: a client is told it with a mark of that life above it. Any other token
// came with the item, from the proxy that chose it or from the key's other
// server, and is told as it is.
const (
	tokenBits = 48
	tokenMask = 1<<tokenBits - 1
	// ChosenToken is set in the tokens that a proxy chooses, and in no other.
	// Clients read tokens as signed numbers, so the bit above stays free.
	ChosenToken = 1 << 62
	// givenToken is set in the tokens that clients choose (meta flag E). They are
	// told them without it.
	givenToken = 1 << 63
)

// GivenToken is the token under which an item is stored for which a client has
// chosen one. So it is no other token of the server's.
func (s *Server) GivenToken(token uint64) uint64 {
	if s.tag.Load() == 0 || token > tokenMask {
		return token // it is like none of the server's as it is
	}
	return token | givenToken
}

// IsChosen tells whether a proxy chose a token.
func IsChosen(token uint64) bool { return token&^(ChosenToken-1) == ChosenToken }

// ClientToken is the token that a client is told for an item's own.
func (s *Server) ClientToken(token uint64) uint64 {
	tag := s.tag.Load()
	switch {
	case token <= tokenMask:
		return tag | token
	case token&^tokenMask == givenToken && tag != 0:
		return token &^ givenToken
	}
	return token
}

// ServerToken is the token by which the server knows the item for which a client
// was told this one. One that nobody was told is taken for one that a client has
// chosen: no other item has it.
func (s *Server) ServerToken(token uint64) uint64 {
	tag := s.tag.Load()
	switch {
	case tag == 0:
		return token
	case token&^tokenMask == tag:
		return token & tokenMask
	}
	return s.GivenToken(token)
}
