package protocol

import "math"

const (
	// maxMetaLine leaves room for what may be added to a line on its way to a
	// server, which closes a connection whose line is too long for it. There it is
	// many clients' connection.
	maxMetaLine = maxCommandLine - 128

	maxMetaWords  = 19               // words of a meta request (MFLAG_MAX_OPT_LENGTH of memcached less the terminal token)
	maxMetaFlags  = maxMetaWords - 3 // behind ms, a key and a length
	maxMetaOpaque = 32               // bytes of the word of flag O (MFLAG_MAX_OPAQUE_LENGTH)
)

// IsCrowded tells whether a meta request has so many flags that memcached might
// not take two more, and IsFull whether it might not take one more: it reads the
// value behind them as commands then (process_mset_command).
func IsCrowded(flags []byte) bool { return countWords(flags) > maxMetaFlags-2 }

// IsFull is told of at IsCrowded.
func IsFull(flags []byte) bool { return countWords(flags) >= maxMetaFlags }

func countWords(line []byte) (n int) {
	for word, rest := NextKey(line); word != nil; word, rest = NextKey(rest) {
		n++
	}
	return n
}

// MetaFlags is a set of flags of a meta request, by their letters.
type MetaFlags uint64

// Has tells whether the set holds a flag.
func (f MetaFlags) Has(flag byte) bool { return f&metaFlag(flag) != 0 }

// HasAny tells whether the set holds one of some flags.
func (f MetaFlags) HasAny(flags string) bool {
	for i := range len(flags) {
		if f.Has(flags[i]) {
			return true
		}
	}
	return false
}

// Within tells whether the set holds none but some flags.
func (f MetaFlags) Within(flags string) bool {
	for i := range len(flags) {
		f &^= metaFlag(flags[i])
	}
	return f == 0
}

func metaFlag(flag byte) MetaFlags {
	if flag < 'A' || flag > 'z' {
		return 0
	}
	return 1 << (flag - 'A')
}

// metaError is what is wrong with the flags of a request: its answer.
type metaError []byte

var (
	metaBadFormat  = metaError(replyBadFormat)
	metaDuplicate  = metaError("CLIENT_ERROR duplicate flag\r\n")
	metaInvalid    = metaError("CLIENT_ERROR invalid flag\r\n")
	metaBadToken   = metaError("CLIENT_ERROR bad token in command line format\r\n")
	metaBadKey     = metaError("CLIENT_ERROR error decoding key\r\n")
	metaBadMode    = metaError("CLIENT_ERROR incorrect length for M token\r\n")
	metaBadInitial = metaError("CLIENT_ERROR invalid numeric initial value\r\n")
	metaBadDelta   = metaError("CLIENT_ERROR invalid numeric delta value\r\n")
	metaTooMany    = metaError("CLIENT_ERROR options flags are too long\r\n")

	metaTooManyElse = metaError("CLIENT_ERROR options flags too long\r\n")

	replyMetaFlag    = []byte("CLIENT_ERROR invalid or duplicate flag\r\n")
	replyMetaOpaque  = []byte("CLIENT_ERROR opaque token too long\r\n")
	replySetMode     = []byte("CLIENT_ERROR invalid mode for ms M token\r\n")
	replyArithMode   = []byte("CLIENT_ERROR invalid mode for ma M token\r\n")
	replyMetaNothing = []byte(FenceLine + "\r\n")
)

// parseMeta reads a line that begins with "m" and one more letter. n is the
// length of the line with its end, rest what stands behind the verb.
//
// What every memcached since 1.6.14 refuses is refused here, with its words.
// What only some of them understand is left to the server: the request comes
// back as Foreign. Of what is refused nothing has been done, also where
// memcached finds out too late.
func (p *Parser) parseMeta(in []byte, n int, verb, rest []byte, r *Request) (used, need int) {
	if n > maxMetaLine {
		return invalidClose(r, nil, in), 0 // as if it had not come as a whole
	}
	key, words := NextKey(rest)
	switch verb[1] {
	case 'n':
		*r = Request{Op: OpNoop, Dialect: Meta, Reply: replyMetaNothing}
		return n, 0
	case 'e':
		if key == nil {
			invalid(r, replyBadFormat)
			return n, 0
		}
	case 'g', 's', 'd', 'a':
		if key == nil {
			invalid(r, replyError)
			return n, 0
		}
	default:
		invalid(r, replyError)
		return n, 0
	}
	if len(key) > maxKey {
		invalid(r, replyBadFormat)
		return n, 0
	}
	switch verb[1] {
	case 'g':
		p.parseMetaGet(key, words, r)
	case 's':
		return p.parseMetaSet(in, n, key, words, r)
	case 'd':
		p.parseMetaDelete(key, words, r)
	case 'a':
		p.parseMetaArith(key, words, r)
	case 'e':
		parseMetaDebug(key, words, r)
	}
	return n, 0
}

func (p *Parser) parseMetaGet(key, words []byte, r *Request) {
	*r = Request{Op: OpMetaGet, Dialect: Meta, Key: key}
	if wrong := r.takeWords(words, 2, p.OldMeta); wrong != nil {
		invalid(r, wrong)
		return
	}
	r.finishMeta()
}

// parseMetaSet reads "ms <key> <bytes> <flags>*" and the value.
func (p *Parser) parseMetaSet(in []byte, header int, key, words []byte, r *Request) (n, need int) {
	word, words := NextKey(words)
	size, ok := parseInt32(word)
	if !ok || word == nil || size < 0 || size > math.MaxInt32-2 {
		reply := replyBadFormat
		if tooManyWords(words, 3) {
			reply = metaTooManyElse
		}
		invalid(r, reply)
		return header, 0
	}
	*r = Request{Op: OpSet, Dialect: Meta, Key: key}
	wrong := r.takeWords(words, 3, p.OldMeta)
	if string(wrong) == string(metaTooMany) {
		invalid(r, metaTooManyElse) // memcached reads the value as requests
		return header, 0
	}
	reply := []byte(wrong)
	if reply == nil {
		reply = r.setMode()
	}
	if reply == nil && !r.Foreign && r.opaqueTooLong() {
		reply = replyMetaOpaque
	}
	if reply != nil {
		*r = Request{Op: OpInvalid, Dialect: Meta, Reply: reply, Skip: int64(size) + 2}
		return header, 0
	}
	if int(size) > p.MaxItemSize {
		r.Op, r.Refused = OpTooLarge, OpSet // it always drops what the key had
		r.Reply, r.Skip, r.Quiet = replyTooLarge, int64(size)+2, false
		r.decodeKey()
		return header, 0
	}
	stop := header + int(size)
	if len(in) < stop+2 {
		return 0, stop + 2
	}
	if in[stop] != '\r' || in[stop+1] != '\n' {
		invalid(r, replyBadChunk)
		return stop + 2, 0
	}
	r.Value = in[header:stop:stop]
	r.finishMeta()
	return stop + 2, 0
}

// setMode makes the operation of a set the one of its mode (process_mset_command
// of memcached), and returns the answer to a wrong one.
func (r *Request) setMode() []byte {
	switch r.Mode {
	case 0, 'S':
		if r.Meta.Has('C') {
			r.Op = OpCas
		}
	case 'E':
		r.Op = OpAdd // compares nothing
	case 'A':
		r.Op = OpAppend
	case 'P':
		r.Op = OpPrepend
	case 'R':
		r.Op = OpReplace
		if r.Meta.Has('C') {
			r.Op = OpCas
		}
	default:
		if !r.Foreign {
			return replySetMode
		}
	}
	return nil
}

func (p *Parser) parseMetaDelete(key, words []byte, r *Request) {
	*r = Request{Op: OpDelete, Dialect: Meta, Key: key}
	if wrong := r.takeWords(words, 2, p.OldMeta); wrong != nil {
		refuseFlags(r, wrong)
		return
	}
	if r.Meta.HasAny("Ix") {
		r.Op = OpInvalidate
	}
	r.finishMeta()
}

func (p *Parser) parseMetaArith(key, words []byte, r *Request) {
	*r = Request{Op: OpIncr, Dialect: Meta, Key: key, Delta: 1}
	if wrong := r.takeWords(words, 2, p.OldMeta); wrong != nil {
		refuseFlags(r, wrong)
		return
	}
	switch r.Mode {
	case 0, 'I', '+':
	case 'D', '-':
		r.Op = OpDecr
	default:
		if !r.Foreign {
			invalid(r, replyArithMode)
			return
		}
	}
	r.HasInitial = r.Meta.Has('N')
	r.finishMeta()
}

// refuseFlags answers wrong flags of md and ma, for which memcached has one
// answer only.
func refuseFlags(r *Request, wrong metaError) {
	if string(wrong) == string(metaTooMany) {
		invalid(r, metaTooManyElse)
		return
	}
	invalid(r, replyMetaFlag)
}

// parseMetaDebug reads "me <key> [b]".
func parseMetaDebug(key, words []byte, r *Request) {
	*r = Request{Op: OpMetaDebug, Dialect: Meta, Key: key}
	if word, _ := NextKey(words); string(word) == "b" {
		r.Base64 = true
		if !r.decodeKey() {
			invalid(r, replyBadFormat)
		}
	}
}

// takeWords reads the flags behind the first words of a request. The order of
// the checks is that of _meta_flag_preparse of memcached.
func (r *Request) takeWords(words []byte, before int, old bool) (wrong metaError) {
	words = trimSpaces(words)
	r.Words = words
	if tooManyWords(words, before) {
		return metaTooMany
	}
	failed, reply := false, metaBadFormat
	for word, rest := NextKey(words); word != nil; word, rest = NextKey(rest) {
		flag := word[0]
		bit := metaFlag(flag)
		if flag >= 127 || r.Meta&bit != 0 {
			if r.Foreign {
				continue // what is wrong first depends on the server
			}
			return metaDuplicate
		}
		r.Meta |= bit
		if known := knownMetaFlags(old); known&bit == 0 {
			if r.Foreign {
				continue
			}
			return metaInvalid
		}
		if why, ok := r.takeFlag(flag, word[1:]); !ok {
			failed = true
			if why != nil {
				reply = why
			}
		}
	}
	if r.Foreign {
		if r.Base64 && !validBase64(r.Key) {
			return metaBadKey // no server can be found for it
		}
		return nil // it is the server's to judge
	}
	if failed {
		return reply
	}
	return nil
}

// tooManyWords tells whether words and those before them are more than a meta
// request may have.
func tooManyWords(words []byte, before int) bool {
	if len(words) < 2*(maxMetaWords-before) {
		return false // each has a byte, and a space before it
	}
	for word, rest := NextKey(words); word != nil; word, rest = NextKey(rest) {
		if before++; before > maxMetaWords {
			return true
		}
	}
	return false
}

// takeFlag reads one flag. It returns false when its token is wrong, and the
// answer to that, if there is one of its own.
func (r *Request) takeFlag(flag byte, token []byte) (why metaError, ok bool) {
	switch flag {
	case 'b':
		r.Base64 = true
		return metaBadKey, validBase64(r.Key)
	case 'N':
		r.InitialExpiry, ok = seconds(token)
		return metaBadToken, ok
	case 'T':
		r.Expiry, ok = seconds(token)
		return metaBadToken, ok
	case 'R':
		_, ok = seconds(token)
		return metaBadToken, ok
	case 'F':
		r.Flags, ok = parseUint32(token)
		return nil, ok
	case 'C':
		r.CAS, ok = parseUint64(token)
		r.HasCAS = ok
		return metaBadToken, ok
	case 'E':
		if r.NewCAS, r.HasNewCAS = parseUint64(token); !r.HasNewCAS {
			r.Foreign = true
		}
		return nil, true
	case 'M':
		if len(token) != 1 {
			return metaBadMode, false
		}
		r.Mode = token[0]
	case 'J':
		r.Initial, ok = parseUint64(token)
		return metaBadInitial, ok
	case 'D':
		r.Delta, ok = parseUint64(token)
		return metaBadDelta, ok
	case 'q':
		r.Quiet = true
	case 'O':
		r.Opaque = token
	case 'P', 'L', 'k', 's', 't', 'c', 'f', 'l', 'v', 'h', 'u', 'I':
	default:
		r.Foreign = true // not every memcached behind 1.6.27 knows it
	}
	return nil, true
}

// The flags that memcached 1.6.14 knows, and those that came after it.
var (
	oldMetaFlags = metaFlagsOf("bNTRlOPLkstcfvhuqFCMJDI")
	newMetaFlags = oldMetaFlags | metaFlagsOf("ExS")
)

func knownMetaFlags(old bool) MetaFlags {
	if old {
		return oldMetaFlags
	}
	return newMetaFlags
}

func metaFlagsOf(flags string) (f MetaFlags) {
	for i := range len(flags) {
		f |= metaFlag(flags[i])
	}
	return f
}

func seconds(token []byte) (int64, bool) {
	v, ok := parseInt32(token)
	return int64(v), ok
}

func (r *Request) opaqueTooLong() bool { return len(r.Opaque)+1 > maxMetaOpaque }

// finishMeta decodes the key of a request that is whole, or refuses it.
func (r *Request) finishMeta() {
	if !r.Foreign && r.opaqueTooLong() {
		invalid(r, replyMetaOpaque)
		return
	}
	r.decodeKey()
}

// decodeKey decodes a base64-encoded key in its place. It returns false for one
// that is none.
func (r *Request) decodeKey() bool {
	if !r.Base64 {
		return true
	}
	n := decodeBase64(r.Key, r.Key)
	if n == 0 {
		return false
	}
	r.Key = r.Key[:n:n]
	return true
}

// validBase64 tells whether a key can be decoded.
func validBase64(key []byte) bool {
	var scratch [maxKey]byte
	return decodeBase64(scratch[:], key) > 0
}
