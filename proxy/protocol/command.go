package protocol

import (
	"bytes"
	"math"
)

// parseLine reads the request whose line ends with the '\n' at in[eol]. The
// order of the checks is that of process_command_ascii, because the first
// that fails decides the answer.
func (p *Parser) parseLine(in []byte, eol int, r *Request) (n, need int) {
	n = eol + 1
	end := eol
	if eol > 0 && in[eol-1] == '\r' {
		end--
	}
	line := in[:end]
	// memcached's line is a C string.
	if nul := bytes.IndexByte(line, 0); nul >= 0 {
		line = line[:nul]
	}
	verb, rest := NextKey(line)
	if len(verb) < 2 {
		invalid(r, replyError)
		return n, 0
	}
	if verb[0] == 'g' || string(verb) == "bget" {
		if eol > p.MaxLine {
			return invalidClose(r, replyLineTooLong, in), 0
		}
		parseGet(verb, rest, r)
		return n, 0
	}
	if verb[0] == 'm' && len(verb) == 2 {
		return p.parseMeta(in, n, verb, rest, r)
	}
	var w words
	w.split(line)
	switch string(verb) {
	case "set":
		return p.parseStorage(in, n, OpSet, &w, r)
	case "add":
		return p.parseStorage(in, n, OpAdd, &w, r)
	case "replace":
		return p.parseStorage(in, n, OpReplace, &w, r)
	case "append":
		return p.parseStorage(in, n, OpAppend, &w, r)
	case "prepend":
		return p.parseStorage(in, n, OpPrepend, &w, r)
	case "cas":
		return p.parseStorage(in, n, OpCas, &w, r)
	case "delete":
		parseDelete(&w, r)
	case "incr":
		parseArith(OpIncr, &w, r)
	case "decr":
		parseArith(OpDecr, &w, r)
	case "touch":
		parseTouch(&w, r)
	case "flush_all":
		parseFlushAll(&w, r)
	case "verbosity":
		parseVerbosity(rest, &w, r)
	case "version":
		*r = Request{Op: OpVersion}
	case "stats":
		*r = Request{Op: OpStats, Args: trimSpaces(rest)}
	case "quit":
		*r = Request{Op: OpQuit}
	case "magent":
		*r = Request{Op: OpAdmin, Args: trimSpaces(rest), Reply: replyError}
	case "shutdown":
		invalid(r, replyNoShutdown)
	default:
		if closesOnHTTP(verb) && bytes.HasPrefix(w.last, []byte("HTTP/")) {
			return invalidClose(r, nil, in), 0
		}
		invalid(r, replyError)
	}
	return n, 0
}

// closesOnHTTP tells whether memcached gets to the question "is this a web
// browser?" with an unknown verb. It asks only at the end of its chain of
// comparisons; several first letters leave the chain early.
func closesOnHTTP(verb []byte) bool {
	switch verb[0] {
	case 'g', 's', 'a', 'c', 'i', 'd', 't':
		return false
	case 'm':
		return len(verb) != 2
	}
	switch string(verb) {
	case "lru_crawler", "lru", "watch", "extstore", "refresh_certs":
		return false
	}
	return true
}

// parseGet reads the verbs that start with g, and bget, an old name of get.
func parseGet(verb, rest []byte, r *Request) {
	first, more := NextKey(rest)
	if first == nil {
		invalid(r, replyError)
		return
	}
	var op Op
	var expiry int32
	switch string(verb) {
	case "get", "bget":
		op = OpGet
	case "gets":
		op = OpGets
	case "gat", "gats":
		op = OpGat
		if len(verb) == 4 {
			op = OpGats
		}
		var ok bool
		if expiry, ok = parseInt32(first); !ok {
			invalid(r, replyBadExptime)
			return
		}
		if first, more = NextKey(more); first == nil {
			invalid(r, replyEnd) // an expiry for no key at all is fine
			return
		}
	default:
		invalid(r, replyError)
		return
	}
	more = trimSpaces(more)
	for key, left := first, more; key != nil; key, left = NextKey(left) {
		if len(key) > maxKey {
			invalid(r, replyBadFormat)
			return
		}
	}
	*r = Request{Op: op, Key: first, Keys: more, Expiry: int64(expiry)}
}

// parseStorage reads set, add, replace, append, prepend and cas. header is the
// length of the line with its end.
func (p *Parser) parseStorage(in []byte, header int, op Op, w *words, r *Request) (n, need int) {
	want := 5
	if op == OpCas {
		want = 6
	}
	if w.n != want && w.n != want+1 {
		invalid(r, replyError)
		return header, 0
	}
	quiet := w.noreply()
	key := w.word[1]
	flags, okFlags := parseUint32(w.word[2])
	expiry, okExpiry := parseInt32(w.word[3])
	size, okSize := parseInt32(w.word[4])
	var cas uint64
	okCas := true
	if op == OpCas {
		cas, okCas = parseUint64(w.word[5])
	}
	if len(key) > maxKey || !okFlags || !okExpiry || !okSize || !okCas || size < 0 || size > math.MaxInt32-2 {
		invalidUnlessQuiet(r, quiet, replyBadFormat)
		return header, 0
	}
	if int(size) > p.MaxItemSize {
		*r = Request{Op: OpTooLarge, Refused: op, Quiet: quiet, Key: key, Skip: int64(size) + 2}
		if !quiet {
			r.Reply = replyTooLarge
		}
		return header, 0
	}
	stop := header + int(size)
	if len(in) < stop+2 {
		return 0, stop + 2
	}
	if in[stop] != '\r' || in[stop+1] != '\n' {
		invalidUnlessQuiet(r, quiet, replyBadChunk)
		return stop + 2, 0
	}
	*r = Request{
		Op:     op,
		Quiet:  quiet,
		Key:    key,
		Flags:  flags,
		Expiry: int64(expiry),
		CAS:    cas,
		Value:  in[header:stop:stop],
	}
	return stop + 2, 0
}

func parseDelete(w *words, r *Request) {
	if w.n < 2 || w.n > 4 {
		invalid(r, replyError)
		return
	}
	quiet := false
	if w.n > 2 {
		// protocol.txt once had a time here; only 0 is still taken.
		zero := string(w.word[2]) == "0"
		quiet = w.noreply()
		if (w.n == 3 && !zero && !quiet) || (w.n == 4 && (!zero || !quiet)) {
			invalidUnlessQuiet(r, quiet, replyBadDelete)
			return
		}
	}
	if len(w.word[1]) > maxKey {
		invalidUnlessQuiet(r, quiet, replyBadFormat)
		return
	}
	*r = Request{Op: OpDelete, Quiet: quiet, Key: w.word[1]}
}

// keyAndArgument checks what a line of a key and one argument has in common
// with others. It returns false when r holds the answer to a bad one.
func keyAndArgument(w *words, r *Request) (quiet, ok bool) {
	if w.n != 3 && w.n != 4 {
		invalid(r, replyError)
		return false, false
	}
	quiet = w.noreply()
	if len(w.word[1]) > maxKey {
		invalidUnlessQuiet(r, quiet, replyBadFormat)
		return quiet, false
	}
	return quiet, true
}

func parseArith(op Op, w *words, r *Request) {
	quiet, ok := keyAndArgument(w, r)
	if !ok {
		return
	}
	delta, ok := parseUint64(w.word[2])
	if !ok {
		invalidUnlessQuiet(r, quiet, replyBadDelta)
		return
	}
	*r = Request{Op: op, Quiet: quiet, Key: w.word[1], Delta: delta}
}

func parseTouch(w *words, r *Request) {
	quiet, ok := keyAndArgument(w, r)
	if !ok {
		return
	}
	expiry, ok := parseInt32(w.word[2])
	if !ok {
		invalidUnlessQuiet(r, quiet, replyBadExptime)
		return
	}
	*r = Request{Op: OpTouch, Quiet: quiet, Key: w.word[1], Expiry: int64(expiry)}
}

func parseFlushAll(w *words, r *Request) {
	if w.n > 3 {
		invalid(r, replyError)
		return
	}
	quiet := w.noreply()
	*r = Request{Op: OpFlushAll, Quiet: quiet}
	if w.n == 1 || (w.n == 2 && quiet) {
		return
	}
	delay, ok := parseInt32(w.word[1])
	if !ok {
		invalidUnlessQuiet(r, quiet, replyBadExptime)
		return
	}
	r.HasTime, r.Expiry = true, int64(delay)
}

func parseVerbosity(rest []byte, w *words, r *Request) {
	if w.n != 2 && w.n != 3 {
		invalid(r, replyError)
		return
	}
	quiet := w.noreply()
	if _, ok := parseUint32(w.word[1]); !ok {
		invalidUnlessQuiet(r, quiet, replyBadFormat)
		return
	}
	*r = Request{Op: OpVerbosity, Quiet: quiet, Args: trimSpaces(rest)}
}

// invalidUnlessQuiet answers an error that memcached finds after it has seen
// noreply, and which it therefore keeps to itself.
func invalidUnlessQuiet(r *Request, quiet bool, reply []byte) {
	if quiet {
		reply = nil
	}
	invalid(r, reply)
	r.Quiet = quiet
}

func trimSpaces(b []byte) []byte {
	for len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	for len(b) > 0 && b[len(b)-1] == ' ' {
		b = b[:len(b)-1]
	}
	return b
}
