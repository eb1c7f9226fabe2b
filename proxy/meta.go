package proxy

import (
	"bytes"
	"strconv"

	"magent/backend"
	"magent/proxy/protocol"
)

// A meta command goes to its primary as the client wrote it, but for the cas
// tokens, which are told and understood in the client's form, and for q: every
// answer is needed here. So the server judges its flags, and its answer says
// what the flags ask for. What the command did goes to the backup as a command
// that says only that.

// notForBackup are the flags that ask for something, or that the primary has
// decided.
const notForBackup = "qCkOcstfvhlu"

// withoutMeaning are the flags that a meta command does not look at, besides their
// form. They are left out where a line has no room for what is to be added.
func (r *request) withoutMeaning() string {
	switch r.op {
	case protocol.OpMetaGet:
		return "PLFCMJDI"
	case protocol.OpDelete, protocol.OpInvalidate:
		return "PLRlvhuJDFM"
	case protocol.OpIncr, protocol.OpDecr:
		return "PLRlhufF"
	}
	return "PLRlvhuJDtf"
}

// metaVerb is the verb of a request's meta command.
func (r *request) metaVerb() string {
	switch r.op {
	case protocol.OpMetaGet:
		return "mg "
	case protocol.OpMetaDebug:
		return "me "
	case protocol.OpDelete, protocol.OpInvalidate:
		return "md "
	case protocol.OpIncr, protocol.OpDecr:
		return "ma "
	}
	return "ms "
}

// words are the flags of a meta request as they came.
func (r *request) words() []byte { return r.data[r.keyLen : r.keyLen+r.wordsLen] }

// plainSet tells whether a meta set says no more than a classic one could, so
// that it may travel with others.
func (r *request) plainSet() bool {
	return r.op == protocol.OpSet && !r.foreign && r.seen.Within("bFTMqOkPL")
}

// appendRaw writes a meta request as the client wrote it to a server, or its
// effect.
func (r *request) appendRaw(dst []byte, s *backend.Server, effect bool) []byte {
	dst = append(dst, r.metaVerb()...)
	dst = protocol.AppendMetaKey(dst, r.key(), r.base64)
	if isStorage(r.op) {
		dst = strconv.AppendInt(append(dst, ' '), int64(len(r.value())-len(lineEnd)), 10)
	}
	if r.op == protocol.OpMetaDebug && r.base64 {
		dst = append(dst, " b"...)
	}
	if r.op == protocol.OpMetaGet && !effect && !r.tokened && !r.encoded && !r.seen.HasAny("CEq") && r.wordsLen > 0 {
		return append(append(append(dst, ' '), r.words()...), lineEnd...) // as most are
	}
	keys, quiets := 0, 0
	idle := ""
	if protocol.IsCrowded(r.words()) {
		idle = r.withoutMeaning()
	}
	start := len(dst)
	for word, rest := protocol.NextKey(r.words()); word != nil; word, rest = protocol.NextKey(rest) {
		switch flag := word[0]; {
		case flag == 'k' && r.encoded && !effect:
			if keys++; keys == 2 {
				dst = append(dst, " k k"...) // for the server to refuse
			}
		case flag == 'q' && !effect:
			if quiets++; quiets == 2 {
				dst = append(dst, " q q"...) // for the server to refuse
			}
		case flag == 'q', isOneOf(flag, idle), effect && isOneOf(flag, notForBackup), effect && flag == 'E':
		case flag == 'C' && r.compares:
			dst = strconv.AppendUint(append(dst, " C"...), s.ServerToken(r.compare), 10)
		case flag == 'E' && r.given != 0:
			dst = strconv.AppendUint(append(dst, " E"...), r.given, 10)
		default:
			dst = append(append(dst, ' '), word...)
		}
	}
	// Where there is still no room flags are doubled, and the server refuses them.
	if r.tokened && (effect || !r.seen.Has('E')) && !isArith(r.op) && !protocol.IsFull(dst[start:]) {
		dst = strconv.AppendUint(append(dst, " E"...), r.token, 10)
	}
	if isArith(r.op) { // both are needed to compare what the servers did
		if effect || !r.seen.Has('v') {
			dst = append(dst, " v"...)
		}
		if effect || !r.seen.Has('c') {
			dst = append(dst, " c"...)
		}
	}
	return append(dst, lineEnd...)
}

func isOneOf(flag byte, flags string) bool {
	for i := range len(flags) {
		if flags[i] == flag {
			return true
		}
	}
	return false
}

// answeredRaw is told the line that a server answered to a meta request as the
// client wrote it.
func (w *worker) answeredRaw(r *request, line []byte, kind protocol.Answer) {
	if r.op != protocol.OpMetaGet && r.op != protocol.OpMetaDebug {
		w.confirmed(r, line, plainKind(r.op, kind), 0)
		return
	}
	switch kind {
	case protocol.End:
		if w.lacked(r) {
			return
		}
		w.stats.getMisses++
		w.answerMiss(r, line)
	case protocol.Done, protocol.Other:
		w.stats.getHits++
		w.won(r, line)
		mirrored := w.mirrorMetaGet(r, line)
		w.answerMeta(r, line, kind, 0)
		if mirrored {
			return
		}
	default:
		w.stats.serverErrors++
		w.answerMeta(r, line, kind, 0)
	}
	w.settle(r)
}

// foundRaw is told the value that a server answered to a meta request as the
// client wrote it, with its line.
func (w *worker) foundRaw(r *request, block []byte, header *protocol.ValueHeader, keep bool) {
	line := block[:header.Len-len(lineEnd)]
	if isArith(r.op) {
		number, ok := protocol.ParseNumber(block[header.Len : len(block)-len(lineEnd)])
		if !ok {
			w.confirmed(r, []byte("SERVER_ERROR the server answered no number"), protocol.ServerError, 0)
			return
		}
		r.Token = protocol.TokenOf(line)
		w.confirmed(r, line, protocol.Number, number)
		return
	}
	w.stats.getHits++
	w.won(r, line)
	mirrored := w.mirrorMetaGet(r, line)
	if r.encoded && r.seen.Has('k') || r.seen.Has('c') && w.p.pools.backup != nil {
		w.line = append(w.editMeta(w.line[:0], r, line), lineEnd...)
		w.replyBytes(r, w.line, block[header.Len:], keep)
	} else {
		w.replyBytes(r, nil, block, keep)
	}
	if !mirrored {
		w.settle(r)
	}
}

// mirrorMetaGet mirrors what a meta get has changed: an expiry, or an empty item
// that it has made.
func (w *worker) mirrorMetaGet(r *request, line []byte) bool {
	if !r.Write || r.backup < 0 || r.onTwin {
		return false
	}
	switch {
	case protocol.IsWon(line):
		return w.mirror(r, protocol.OpMetaGet)
	case r.seen.Has('T'):
		return w.mirror(r, protocol.OpTouch)
	}
	return false
}

// editMeta appends a server's line as the client is told it: with cas tokens in
// the client's form, and without what was asked for besides.
func (w *worker) editMeta(dst []byte, r *request, line []byte) []byte {
	word, rest := protocol.NextKey(line)
	if isArith(r.op) && !r.seen.Has('v') && string(word) == "VA" {
		word = []byte("HD")
		_, rest = protocol.NextKey(rest) // the length
	}
	dst = append(dst, word...)
	if string(word) == "VA" {
		word, rest = protocol.NextKey(rest)
		dst = append(append(dst, ' '), word...)
	}
	asked := r.words()
	for word, rest = protocol.NextKey(rest); word != nil; word, rest = protocol.NextKey(rest) {
		if r.encoded && r.seen.Has('k') {
			dst, asked = r.echoKeyBefore(dst, asked, word[0])
		}
		dst = w.appendTold(dst, r, word)
	}
	if r.encoded && r.seen.Has('k') {
		dst, _ = r.echoKeyBefore(dst, asked, 0)
	}
	return dst
}

// echoKeyBefore appends the key, if it was asked for ahead of the flag that comes
// next in an answer. memcached would tell a key that holds a space or a line end
// as it is, unless it was stored base64-encoded, so it is not asked for it.
func (r *request) echoKeyBefore(dst, asked []byte, next byte) (_, left []byte) {
	if isOneOf(next, "bZXW") { // what nobody asks for comes last
		next = 0
	}
	for word, rest := protocol.NextKey(asked); word != nil; word, rest = protocol.NextKey(rest) {
		switch word[0] {
		case 'k':
			dst = append(protocol.AppendMetaKey(append(dst, " k"...), r.key(), true), " b"...)
		case next:
			return dst, rest
		}
		asked = rest
	}
	return dst, asked
}

// appendTold appends a flag of an answer as the client is told it.
func (w *worker) appendTold(dst []byte, r *request, word []byte) []byte {
	if word[0] != 'c' {
		return append(append(dst, ' '), word...)
	}
	token, ok := protocol.ParseNumber(word[1:])
	switch {
	case !r.seen.Has('c'):
		return dst
	case !ok || token == 0 || w.p.pools.backup == nil:
		return append(append(dst, ' '), word...)
	}
	return strconv.AppendUint(append(dst, " c"...), w.p.servers[r.at].ClientToken(token), 10)
}

// tellDebug appends the answer to me, with the token in the client's form.
func (w *worker) tellDebug(dst []byte, r *request, line []byte) []byte {
	before, token, behind, ok := cutDebugToken(line)
	if !ok || token == 0 || w.p.pools.backup == nil {
		return append(dst, line...)
	}
	dst = strconv.AppendUint(append(dst, before...), w.p.servers[r.at].ClientToken(token), 10)
	return append(dst, behind...)
}

// cutDebugToken finds the token in the answer to me. The key stands before it, and
// may hold anything.
func cutDebugToken(line []byte) (before []byte, token uint64, behind []byte, ok bool) {
	const name = " cas="
	at := bytes.LastIndex(line, []byte(name))
	if at < 0 {
		return nil, 0, nil, false
	}
	at += len(name)
	end := len(line)
	if space := bytes.IndexByte(line[at:], ' '); space >= 0 {
		end = at + space
	}
	token, ok = protocol.ParseNumber(line[at:end])
	return line[:at], token, line[end:], ok
}

// hushed tells whether flag q keeps an answer of this kind back (protocol.txt,
// "Quiet mode").
func (r *request) hushed(kind protocol.Answer) bool {
	if !r.hush {
		return false
	}
	switch kind {
	case protocol.End:
		return r.op == protocol.OpMetaGet
	case protocol.Stored, protocol.Deleted:
		return true
	case protocol.Number:
		return !r.created
	}
	return false
}

// metaCodes are the codes of the meta dialect, by kind.
var metaCodes = [...]string{
	protocol.Stored: "HD", protocol.Deleted: "HD", protocol.Done: "HD", protocol.Touched: "HD", protocol.NotStored: "NS",
	protocol.Exists: "EX", protocol.NotFound: "NF", protocol.End: "EN",
}

// answerMeta gives a client of the meta dialect its answer: the server's line
// when the server was asked in the client's words, and otherwise one made of its
// kind.
func (w *worker) answerMeta(r *request, line []byte, kind protocol.Answer, number uint64) {
	if r.hushed(kind) {
		w.replyBytes(r, nil, nil, false)
		return
	}
	b := w.line[:0]
	switch {
	case r.refusal != nil, kind == protocol.Error, kind == protocol.ClientError, kind == protocol.ServerError:
		b = append(b, line...)
	case kind == protocol.Other:
		b = w.tellDebug(b, r, line)
	case r.raw && len(line) > 0:
		b = w.editMeta(b, r, line)
		if kind == protocol.Number && r.seen.Has('v') {
			b = strconv.AppendUint(append(b, lineEnd...), number, 10)
		}
	case kind == protocol.Number:
		text := strconv.AppendUint(nil, number, 10)
		if r.seen.Has('v') {
			b = r.echo(strconv.AppendInt(append(b, "VA "...), int64(len(text)), 10), 0, nil)
			b = append(append(b, lineEnd...), text...)
		} else {
			b = r.echo(append(b, metaCodes[protocol.Done]...), 0, nil)
		}
	case int(kind) < len(metaCodes) && metaCodes[kind] != "":
		b = r.echo(append(b, metaCodes[kind]...), 0, nil)
	default:
		b = append(b, line...)
	}
	w.line = append(b, lineEnd...)
	w.replyBytes(r, w.line, nil, false)
}

// echo appends what an answer repeats of its request, and, with a header, what
// the request asks of it.
func (r *request) echo(dst []byte, token uint64, h *protocol.ValueHeader) []byte {
	for word, rest := protocol.NextKey(r.words()); word != nil; word, rest = protocol.NextKey(rest) {
		switch flag := word[0]; {
		case flag == 'O':
			dst = append(append(dst, ' '), word...)
		case flag == 'k':
			dst = protocol.AppendMetaKey(append(dst, " k"...), r.key(), r.base64)
			if r.base64 {
				dst = append(dst, " b"...)
			}
		case h == nil:
		case flag == 'f':
			dst = strconv.AppendUint(append(dst, " f"...), uint64(h.Flags), 10)
		case flag == 's':
			dst = strconv.AppendInt(append(dst, " s"...), int64(h.Size), 10)
		case flag == 'c':
			dst = strconv.AppendUint(append(dst, " c"...), token, 10)
		}
	}
	return dst
}

// answerMetaValue answers a meta get by what a classic one was answered.
func (w *worker) answerMetaValue(r *request, block []byte, h *protocol.ValueHeader, keep bool) {
	b := w.line[:0]
	if r.seen.Has('v') {
		b = strconv.AppendInt(append(b, "VA "...), int64(h.Size), 10)
	} else {
		b = append(b, metaCodes[protocol.Done]...)
		block = nil
	}
	token := h.CAS
	if w.p.pools.backup != nil {
		token = w.p.servers[r.at].ClientToken(h.CAS)
	}
	w.line = append(r.echo(b, token, h), lineEnd...)
	if block != nil {
		block = block[h.Len:]
	}
	w.replyBytes(r, w.line, block, keep)
}

func isStorage(op protocol.Op) bool { return op >= protocol.OpSet && op <= protocol.OpCas }

func isArith(op protocol.Op) bool { return op == protocol.OpIncr || op == protocol.OpDecr }
