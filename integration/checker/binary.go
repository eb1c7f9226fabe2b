package checker

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// Opcodes of the binary protocol (protocol_binary.txt, "Command opcodes").
const (
	binGet      = 0x00
	binSet      = 0x01
	binAdd      = 0x02
	binReplace  = 0x03
	binDelete   = 0x04
	binIncr     = 0x05
	binDecr     = 0x06
	binFlush    = 0x08
	binGetQ     = 0x09
	binNoop     = 0x0a
	binGetK     = 0x0c
	binGetKQ    = 0x0d
	binAppend   = 0x0e
	binPrepend  = 0x0f
	binSetQ     = 0x11
	binAddQ     = 0x12
	binReplaceQ = 0x13
	binDeleteQ  = 0x14
	binIncrQ    = 0x15
	binDecrQ    = 0x16
	binFlushQ   = 0x18
	binAppendQ  = 0x19
	binPrependQ = 0x1a
	binTouch    = 0x1c
	binGat      = 0x1d
	binGatQ     = 0x1e
	binGatK     = 0x23
	binGatKQ    = 0x24
)

const (
	binHeader   = 24
	binRequest  = 0x80
	binResponse = 0x81

	// binPast is a moment that is over: a negative time is one far away,
	// because times have no sign here.
	binPast = 1_000_000_000
	// binNoCreate as the expiry of an incr leaves a missing key missing.
	binNoCreate = 0xffffffff
	// binMostBody bounds what is read for an answer.
	binMostBody = 1 << 20
)

// Status codes of the binary protocol (protocol_binary.txt, "Response Status").
const (
	binOK        = 0x00
	binNotFound  = 0x01
	binExists    = 0x02
	binTooLarge  = 0x03
	binInvalid   = 0x04
	binNotStored = 0x05
	binNoNumber  = 0x06
	binNoCommand = 0x81
)

// packet is one request or answer.
type packet struct {
	opcode byte
	status uint16 // of an answer
	opaque uint32
	cas    uint64
	extras []byte
	key    string
	value  string
}

func (p *packet) append(dst []byte) []byte {
	dst = append(dst, binRequest, p.opcode)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(p.key)))
	dst = append(dst, byte(len(p.extras)), 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.extras)+len(p.key)+len(p.value)))
	dst = binary.BigEndian.AppendUint32(dst, p.opaque)
	dst = binary.BigEndian.AppendUint64(dst, p.cas)
	return append(append(append(dst, p.extras...), p.key...), p.value...)
}

// sayBinary runs operations in the binary protocol: one, or retrievals of
// several keys, which are pipelined. Some are quiet, and then followed by noop.
func (c *client) sayBinary(ops []*Op) error {
	quiet := ops[0].Kind != Touch && (c.rng.IntN(8) == 0 || len(ops) > 1 && c.rng.IntN(2) == 0)
	var request []byte
	asked := make([]packet, len(ops))
	for i, o := range ops {
		asked[i] = c.binaryRequest(o, quiet)
		request = asked[i].append(request)
	}
	c.opaque++
	noop := packet{opcode: binNoop, opaque: c.opaque}
	if quiet {
		request = noop.append(request)
	}
	if err := c.conn.Send(request); err != nil {
		return err
	}
	for next := 0; next < len(ops) || quiet; next++ {
		got, err := c.binaryAnswer()
		if err != nil {
			return err
		}
		// Answers come in order; quiet commands may have none.
		for quiet && next < len(ops) && got.opaque != asked[next].opaque {
			ops[next].Answer = ops[next].silence()
			next++
		}
		if next == len(ops) {
			if got.opcode != binNoop || got.opaque != noop.opaque || got.status != binOK {
				return c.nonsense("quiet commands and noop were answered %+v", *got)
			}
			return nil
		}
		if err := c.comprehend(ops[next], &asked[next], got); err != nil {
			return err
		}
	}
	return nil
}

// loudOrQuiet are the two forms of an opcode.
func loudOrQuiet(quiet bool, loud, silent byte) byte {
	if quiet {
		return silent
	}
	return loud
}

// binaryRequest makes a request of an operation.
func (c *client) binaryRequest(o *Op, quiet bool) packet {
	c.opaque++
	p := packet{opaque: c.opaque, key: o.Key, cas: o.Token}
	withKey := c.rng.IntN(2) == 0
	switch o.Kind {
	case Get, Gets:
		p.opcode = loudOrQuiet(quiet, binGet, binGetQ)
		if withKey {
			p.opcode = loudOrQuiet(quiet, binGetK, binGetKQ)
		}
	case Gat:
		p.opcode = loudOrQuiet(quiet, binGat, binGatQ)
		if withKey {
			p.opcode = loudOrQuiet(quiet, binGatK, binGatKQ)
		}
		p.extras = c.appendExpiry(nil, o)
	case Touch:
		p.opcode = binTouch
		p.extras = c.appendExpiry(nil, o)
	case Delete:
		p.opcode = loudOrQuiet(quiet, binDelete, binDeleteQ)
	case Flush:
		p.opcode = loudOrQuiet(quiet, binFlush, binFlushQ)
	case Incr, Decr:
		p.opcode = loudOrQuiet(quiet, binIncr, binIncrQ)
		if o.Kind == Decr {
			p.opcode = loudOrQuiet(quiet, binDecr, binDecrQ)
		}
		p.extras = c.countExtras(o)
	case Append:
		p.opcode, p.value = loudOrQuiet(quiet, binAppend, binAppendQ), o.Value
	case Prepend:
		p.opcode, p.value = loudOrQuiet(quiet, binPrepend, binPrependQ), o.Value
	default:
		p.value = o.Value
		switch {
		case o.Kind == Add:
			p.opcode = loudOrQuiet(quiet, binAdd, binAddQ)
		case o.Kind == Replace, o.Kind == Cas && withKey: // a cas is either
			p.opcode = loudOrQuiet(quiet, binReplace, binReplaceQ)
		default:
			p.opcode = loudOrQuiet(quiet, binSet, binSetQ)
		}
		p.extras = c.appendExpiry(binary.BigEndian.AppendUint32(nil, o.Flags), o)
	}
	return p
}

// countExtras are the extras of an incr or decr: delta, initial value, expiry.
func (c *client) countExtras(o *Op) []byte {
	delta, err := strconv.ParseUint(o.Value, 10, 64)
	if err != nil {
		panic("delta is not a number: " + o.Value)
	}
	b := binary.BigEndian.AppendUint64(nil, delta)
	if o.Initial == "" {
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, 0), binNoCreate)
	}
	initial, err := strconv.ParseUint(o.Initial, 10, 64)
	if err != nil {
		panic("initial value is not a number: " + o.Initial)
	}
	return c.appendExpiry(binary.BigEndian.AppendUint64(b, initial), o)
}

func (c *client) appendExpiry(dst []byte, o *Op) []byte {
	t := c.exptime(o.Expiry)
	if o.Expiry == Past {
		t = binPast
	}
	return binary.BigEndian.AppendUint32(dst, uint32(t))
}

// binaryAnswer reads one answer.
func (c *client) binaryAnswer() (*packet, error) {
	h := make([]byte, binHeader)
	if err := c.conn.Full(h); err != nil {
		return nil, err
	}
	p := &packet{
		opcode: h[1], status: binary.BigEndian.Uint16(h[6:]),
		opaque: binary.BigEndian.Uint32(h[12:]), cas: binary.BigEndian.Uint64(h[16:]),
	}
	extras, key := int(h[4]), int(binary.BigEndian.Uint16(h[2:]))
	size := binary.BigEndian.Uint32(h[8:])
	if h[0] != binResponse || h[5] != 0 || size > binMostBody || int(size) < extras+key {
		return nil, c.nonsense("an answer has the header % x", h)
	}
	body := make([]byte, size)
	if err := c.conn.Full(body); err != nil {
		return nil, err
	}
	p.extras, p.key, p.value = body[:extras], string(body[extras:extras+key]), string(body[extras+key:])
	return p, nil
}

// comprehend tells the answer in the words of classic text.
func (c *client) comprehend(o *Op, asked, got *packet) error {
	keyed := asked.opcode == binGetK || asked.opcode == binGetKQ || asked.opcode == binGatK || asked.opcode == binGatKQ
	if got.opcode != asked.opcode || got.opaque != asked.opaque ||
		got.key != "" && got.key != o.Key || keyed && got.status == binOK && got.key != o.Key {
		return c.nonsense("%s, opcode 0x%02x, opaque %d, was answered %+v", o, asked.opcode, asked.opaque, *got)
	}
	if got.status != binOK {
		o.Answer = refusal(o, got)
		return nil
	}
	o.GotToken = got.cas
	switch {
	case o.reads():
		if len(got.extras) != 4 {
			return c.nonsense("%s was answered with extras % x", o, got.extras)
		}
		o.Answer, o.GotValue, o.GotFlags = Hit, got.value, binary.BigEndian.Uint32(got.extras)
	case o.Kind == Incr || o.Kind == Decr:
		if len(got.value) != 8 {
			return c.nonsense("%s was answered with %d bytes", o, len(got.value))
		}
		o.Answer = strconv.FormatUint(binary.BigEndian.Uint64([]byte(got.value)), 10)
	default:
		o.Answer = succeeded(o.Kind)
	}
	return nil
}

// refusal is the line of classic text that means the same as a status. One
// that says that something is broken becomes a SERVER_ERROR.
func refusal(o *Op, got *packet) string {
	switch got.status {
	case binNotFound:
		switch {
		case o.reads():
			return Miss
		case o.Kind == Replace:
			return "NOT_STORED"
		}
		return "NOT_FOUND"
	case binExists:
		if o.Kind == Add {
			return "NOT_STORED"
		}
		return "EXISTS"
	case binNotStored:
		return "NOT_STORED"
	case binNoNumber:
		return NotANumber
	case binTooLarge, binInvalid, binNoCommand:
		return fmt.Sprintf("CLIENT_ERROR status 0x%02x: %s", got.status, got.value) // which nobody deserves
	}
	if strings.HasPrefix(got.value, "SERVER_ERROR") {
		return got.value
	}
	return fmt.Sprintf("SERVER_ERROR status 0x%02x: %s", got.status, got.value)
}
