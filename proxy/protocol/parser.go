package protocol

import "bytes"

const (
	maxKey = 250 // KEY_MAX_LENGTH of memcached

	// memcached closes a connection that has sent more than this without a
	// line end, unless it is a get. See try_read_command_ascii.
	maxCommandLine   = 2048
	maxLeadingSpaces = 100

	defaultMaxLine = 32 << 20
)

// Parser reads requests of classic text. It holds only settings, so one may
// serve any number of connections. The zero value is not ready; use NewParser.
type Parser struct {
	// MaxItemSize is the largest value, in bytes, that a storage request may
	// bring. A larger one comes back as OpTooLarge before it is read.
	MaxItemSize int
	// MaxLine is the longest line of a get, gets, gat or gats, in bytes. For
	// other commands memcached's own limits hold.
	MaxLine int
	// TextOnly says that the connection is known to speak text, because its
	// first byte did. Then a line that starts with 0x80 is an unknown command
	// as any other, as in memcached, and not the start of a binary request.
	TextOnly bool
	// OldMeta says that the servers are older than memcached 1.6.27: what meta
	// flags they do not know is refused here, in their words.
	OldMeta bool
}

// NewParser returns a parser that takes values up to maxItemSize bytes and
// lines of a get up to 32 MiB.
func NewParser(maxItemSize int) *Parser {
	return &Parser{MaxItemSize: maxItemSize, MaxLine: defaultMaxLine}
}

// Parse reads the request at the start of in. It returns n, the number of
// bytes that belong to the request, and overwrites r; the slices of r alias
// in. When n is 0 more input is needed and r has no meaning. Then need, when
// it is not 0, is the length that the whole request will have, so that the
// caller can make room once; calling again before so many bytes are there is
// of no use.
//
// What memcached answers without looking at stored data comes back as
// OpInvalid with the Reply, which is empty when the client asked for none.
// Close says that memcached would close the connection after it; then n is
// len(in).
//
// The result does not depend on how much input follows the request, with one
// exception that is memcached's: a line of more than 2048 bytes that is not a
// get, or a get behind more than 100 spaces, is answered when it is there as a
// whole and closes the connection when it is not.
//
// One thing is not memcached's: it carries out the keys in front of a bad one
// before it refuses a gat, and forgets answers that it has not yet sent when
// it refuses a get. Here a request is refused as a whole and by itself.
func (p *Parser) Parse(in []byte, r *Request) (n, need int) {
	return p.ParseFrom(in, 0, r)
}

// ParseFrom is Parse for a caller that comes back with more input: searched is
// the number of bytes at the start of in that are known to hold no line end.
// That is the length of in at the last call, when it returned 0, 0; in every
// other case, and for other input, it is 0. With it a long line that comes in many pieces is
// searched once.
func (p *Parser) ParseFrom(in []byte, searched int, r *Request) (n, need int) {
	if searched == 0 && len(in) > 4 && in[3] == ' ' {
		switch {
		case in[0] == 'g' && in[1] == 'e' && in[2] == 't':
			if n = parseOneKeyGet(in, r); n > 0 {
				return n, 0
			}
		case in[0] == 's' && in[1] == 'e' && in[2] == 't':
			if n, need = p.parsePlainSet(in, r); n > 0 || need > 0 {
				return n, need
			}
		}
	}
	if len(in) > 0 && in[0] == BinaryRequest && !p.TextOnly {
		return invalidClose(r, replyError, in), 0
	}
	eol := bytes.IndexByte(in[searched:], '\n')
	if eol < 0 {
		return p.unfinishedLine(in, r), 0
	}
	eol += searched
	return p.parseLine(in, eol, r)
}

// parseOneKeyGet reads "get <key>\r\n", the most common request. It returns 0
// for everything that is not exactly of this form.
func parseOneKeyGet(in []byte, r *Request) int {
	end := indexControl(in, 4)
	if end+1 >= len(in) || in[end] != '\r' || in[end+1] != '\n' || end == 4 || end > 4+maxKey {
		return 0
	}
	*r = Request{Op: OpGet, Key: in[4:end:end]}
	return end + 2
}

// parsePlainSet reads "set <key> <flags> <exptime> <bytes>\r\n" and the value
// when every number is written in one to nine digits. It returns 0, 0 for
// everything else, and 0, need when only the end of the value is missing.
func (p *Parser) parsePlainSet(in []byte, r *Request) (n, need int) {
	end := indexControl(in, 4)
	if end >= len(in) || in[end] != ' ' || end == 4 || end > 4+maxKey {
		return 0, 0
	}
	flags, i := shortNumber(in, end+1)
	if i >= len(in) || in[i] != ' ' {
		return 0, 0
	}
	expiry, i := shortNumber(in, i+1)
	if i >= len(in) || in[i] != ' ' {
		return 0, 0
	}
	size, i := shortNumber(in, i+1)
	if i+1 >= len(in) || in[i] != '\r' || in[i+1] != '\n' || size > p.MaxItemSize {
		return 0, 0
	}
	start := i + 2
	stop := start + size
	if len(in) < stop+2 {
		return 0, stop + 2
	}
	if in[stop] != '\r' || in[stop+1] != '\n' {
		return 0, 0
	}
	*r = Request{
		Op:     OpSet,
		Key:    in[4:end:end],
		Flags:  uint32(flags),
		Expiry: int64(expiry),
		Value:  in[start:stop:stop],
	}
	return stop + 2, 0
}

// shortNumber reads one to nine digits at i and returns the index behind
// them, or len(in) when there are none or more.
func shortNumber(in []byte, i int) (v, next int) {
	first := i
	for i < len(in) && in[i]-'0' < 10 {
		v = v*10 + int(in[i]-'0')
		i++
		if i-first > 9 {
			return 0, len(in)
		}
	}
	if i == first {
		return 0, len(in)
	}
	return v, i
}

// unfinishedLine decides about input without a line end: 0 to wait for more.
func (p *Parser) unfinishedLine(in []byte, r *Request) int {
	if len(in) <= maxCommandLine {
		return 0
	}
	spaces := 0
	for spaces < maxLeadingSpaces && in[spaces] == ' ' {
		spaces++
	}
	if !mayBeLong(in[spaces:]) {
		return invalidClose(r, nil, in)
	}
	if len(in) > p.MaxLine {
		return invalidClose(r, replyLineTooLong, in)
	}
	return 0
}

// mayBeLong tells whether the command at the start of in takes any number of
// keys. memcached waits for the rest of get and gets only; it serves a long
// gat that happens to arrive in one piece, which is why it is listed here.
func mayBeLong(in []byte) bool {
	for _, verb := range [...]string{"get ", "gets ", "gat ", "gats "} {
		if len(in) >= len(verb) && string(in[:len(verb)]) == verb {
			return true
		}
	}
	return false
}

// invalid fills r with an answer to a malformed request.
func invalid(r *Request, reply []byte) {
	*r = Request{Op: OpInvalid, Reply: reply}
}

// invalidClose is invalid for an answer after which nothing more is read.
func invalidClose(r *Request, reply, in []byte) int {
	*r = Request{Op: OpInvalid, Reply: reply, Close: true}
	return len(in)
}
