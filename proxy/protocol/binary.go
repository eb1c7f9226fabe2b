package protocol

import (
	"encoding/binary"
	"math"
)

const (
	// BinaryRequest is the first byte of every binary request, and of no other
	// (protocol_binary.txt).
	BinaryRequest  = 0x80
	binaryResponse = 0x81 // the first byte of an answer

	// BinaryHeaderSize is the length in bytes of the header that each request
	// and each answer of the binary protocol starts with.
	BinaryHeaderSize = 24

	// memcached's buffer has to hold a header, its extras and its key as one. It
	// closes without an answer when they are longer (READ_BUFFER_SIZE).
	maxBinaryHead = 16 << 10

	maxSaslMechanism = 32       // MAX_SASL_MECH_LEN of memcached
	maxSaslData      = 64 << 10 // memcached's limit is that of an item, 512 KiB; no mechanism needs so much

	noInitial = math.MaxUint32 // the expiry of an increment that does not create
)

// ParseBinary is Parse for the binary protocol (protocol_binary.txt): the
// request at the start of in has n bytes, and when n is 0 more input is needed.
// Then need is the length of the part that ParseBinary wants as a whole, header
// included, or 0 while the header is not there; calling again before so many
// bytes are there is of no use. A length that the client claims never comes
// back as need unless the value is within MaxItemSize.
//
// ParseBinary overwrites r, and sets Dialect, Opcode and OpaqueWord for every
// request whose header was read. Key may hold any byte. Value is the value
// alone: no "\r\n" is behind it in the input, and who sends it to a server as
// text has to add that.
//
// Quiet is set for the quiet opcodes; QuietSilences says which answers they do
// not get. An error is always answered, so that Reply is there for them too.
//
// The checks are those of dispatch_bin_command of memcached's proto_bin.c in
// its order. What fails them is OpInvalid with the whole binary answer in
// Reply:
//
//   - a first byte other than 0x80, or more than 16 KiB up to the end of the
//     key: no answer, and Close;
//   - a body shorter than extras and key: "Unknown command", and Close;
//   - a key of more than 250 bytes, or a length that does not fit the opcode:
//     "Invalid arguments", and Close;
//   - an opcode that memcached does not know: "Unknown command", and Skip is
//     the length of the body. memcached throws so many bytes away behind the
//     extras and the key, which are already gone: a request with both loses
//     what follows it. Verbosity is such an opcode.
//
// A body behind the key of a touch, a gat or a stat is not part of the
// request for memcached: it is read as the next one.
//
// A set, add or replace with a token is OpCas, as in memcached, and finds no
// difference between the three. A value larger than MaxItemSize is OpTooLarge
// with Reply and Skip; Refused then says which of the three it was with and
// without a token, because memcached drops the old value of a refused set.
//
// The SASL operations are passed on with the mechanism in Key and the data in
// Value. A memcached without SASL answers StatusUnknownCommand to them and goes
// on. One with it answers Reply, when that is not empty, in place of
// carrying out the request: the mechanism or the data is too long. In both
// cases Skip bytes follow.
//
// An expiry is an unsigned number here and a signed one in text. What text
// cannot express, times behind 2038-01-19T03:14:07Z, becomes that time.
//
// One thing is not memcached's: it takes a value of 2 GiB or more for one of
// negative length, answers, and reads the value as requests. Here the value is
// thrown away.
func (p *Parser) ParseBinary(in []byte, r *Request) (n, need int) {
	if len(in) < BinaryHeaderSize {
		return 0, 0
	}
	if in[0] != BinaryRequest {
		return invalidClose(r, nil, in), 0
	}
	h := binaryHead{
		opcode: in[1],
		key:    int(binary.BigEndian.Uint16(in[2:])),
		extras: int(in[4]),
		body:   int64(binary.BigEndian.Uint32(in[8:])),
		opaque: binary.BigEndian.Uint32(in[12:]),
	}
	n = BinaryHeaderSize + h.extras + h.key
	if n > maxBinaryHead {
		return invalidClose(r, nil, in), 0
	}
	c := &binaryCommands[h.opcode]
	if status, closing := h.check(c); status != StatusOK {
		if len(in) < n {
			return 0, n
		}
		*r = Request{Op: OpInvalid, Reply: h.refuse(status), Close: closing}
		h.stamp(r)
		if closing {
			return len(in), 0
		}
		r.Skip = h.body
		return n, 0
	}
	refused := StatusOK
	if c.form.hasValue() {
		if refused = h.checkValue(c, p.MaxItemSize); refused == StatusOK {
			n = BinaryHeaderSize + int(h.body)
		}
	}
	if len(in) < n {
		return 0, n
	}
	h.fill(c, in[:n:n], r)
	if refused != StatusOK {
		r.Reply = h.refuse(refused)
		r.Skip = h.value()
		if refused == StatusTooLarge {
			r.Op, r.Refused = OpTooLarge, c.op
		}
	}
	return n, 0
}

// PeekBinary sets Op, Dialect, Opcode and OpaqueWord of r to those of the request
// of which in holds the header at least.
func PeekBinary(in []byte, r *Request) {
	*r = Request{Op: binaryCommands[in[1]].op, Dialect: Binary, Opcode: in[1], OpaqueWord: binary.BigEndian.Uint32(in[12:])}
}

// binaryHead is what the header of a binary request says, without the token.
// The bytes for data type and virtual bucket mean nothing to memcached.
type binaryHead struct {
	opcode byte
	extras int   // bytes behind the header
	key    int   // bytes behind the extras
	body   int64 // bytes behind the header, extras and key included
	opaque uint32
}

// value is the length of what is behind the key.
func (h *binaryHead) value() int64 { return h.body - int64(h.extras) - int64(h.key) }

// stamp writes what every answer needs into r.
func (h *binaryHead) stamp(r *Request) {
	r.Dialect, r.Opcode, r.OpaqueWord = Binary, h.opcode, h.opaque
}

// refuse makes the answer to a request that is not carried out.
func (h *binaryHead) refuse(status BinaryStatus) []byte {
	return AppendBinaryError(nil, h.opcode, h.opaque, status)
}

// check judges the lengths. closing says that memcached closes after the
// answer.
func (h *binaryHead) check(c *binaryCommand) (status BinaryStatus, closing bool) {
	switch {
	case h.value() < 0:
		return StatusUnknownCommand, true
	case h.key > maxKey:
		return StatusInvalid, true
	case c.op == OpNone:
		return StatusUnknownCommand, false
	case !h.fits(c.form):
		return StatusInvalid, true
	}
	return StatusOK, false
}

// fits tells whether the lengths are those that an opcode of the form has.
func (h *binaryHead) fits(form binaryForm) bool {
	switch form {
	case formBare:
		return h.body == 0
	case formKey:
		return h.extras == 0 && h.key > 0 && h.value() == 0
	case formStore:
		return h.extras == 8 && h.key > 0
	case formConcat, formSasl:
		return h.extras == 0 && h.key > 0
	case formArith:
		return h.extras == 20 && h.key > 0 && h.value() == 0
	case formTouch:
		return h.extras == 4 && h.key > 0
	case formFlush:
		return h.key == 0 && h.value() == 0 && (h.extras == 0 || h.extras == 4)
	case formStat:
		return h.extras == 0
	}
	return false
}

// checkValue judges the length of the value.
func (h *binaryHead) checkValue(c *binaryCommand, maxItemSize int) BinaryStatus {
	if c.form == formSasl {
		if h.key > maxSaslMechanism {
			return StatusInvalid
		}
		if h.value() > maxSaslData {
			return StatusOutOfMemory
		}
		return StatusOK
	}
	if h.value() > int64(maxItemSize) {
		return StatusTooLarge
	}
	return StatusOK
}

// fill reads a request that passed the checks. in is the whole of it.
func (h *binaryHead) fill(c *binaryCommand, in []byte, r *Request) {
	start := BinaryHeaderSize + h.extras
	stop := start + h.key
	*r = Request{
		Op:    c.op,
		Quiet: c.quiet,
		Key:   in[start:stop:stop],
	}
	h.stamp(r)
	token := binary.BigEndian.Uint64(in[16:])
	switch c.form {
	case formStore:
		r.Flags = binary.BigEndian.Uint32(in[24:])
		r.Expiry = binaryExpiry(in[28:])
		r.Value = in[stop:]
		if r.CAS = token; token != 0 {
			r.Op = OpCas
		}
	case formConcat:
		r.Value = in[stop:]
		r.CAS = token
	case formSasl:
		r.Value = in[stop:]
	case formKey:
		if c.op == OpDelete {
			r.CAS = token
		}
	case formArith:
		r.CAS = token
		r.Delta = binary.BigEndian.Uint64(in[24:])
		if r.HasInitial = binary.BigEndian.Uint32(in[40:]) != noInitial; r.HasInitial {
			r.Initial = binary.BigEndian.Uint64(in[32:])
			r.InitialExpiry = binaryExpiry(in[40:])
		}
	case formTouch:
		r.Expiry = binaryExpiry(in[24:])
	case formFlush:
		r.Key = nil
		if r.HasTime = h.extras > 0; r.HasTime {
			r.Expiry = binaryExpiry(in[24:])
		}
	case formStat:
		r.Key, r.Args = nil, r.Key
	case formBare:
		r.Key = nil
	}
}

// binaryExpiry reads an expiry as text has it. Numbers up to 30 days are
// relative, 0 is never, and all others are absolute in both (realtime of
// memcached.c). Text holds them in 31 bits and takes the rest for times that
// are past.
func binaryExpiry(in []byte) int64 {
	return int64(min(binary.BigEndian.Uint32(in), math.MaxInt32))
}
