package integration

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// The header of a packet: see protocol_binary.txt, "Packet Structure".
const (
	binaryHeader = 24
	binaryMagic  = 0x80
)

// Opcodes of memcached's protocol_binary.h.
const (
	opGet       = 0x00
	opSet       = 0x01
	opAdd       = 0x02
	opReplace   = 0x03
	opDelete    = 0x04
	opIncr      = 0x05
	opDecr      = 0x06
	opQuit      = 0x07
	opFlush     = 0x08
	opGetQ      = 0x09
	opNoop      = 0x0a
	opVersion   = 0x0b
	opGetK      = 0x0c
	opGetKQ     = 0x0d
	opAppend    = 0x0e
	opPrepend   = 0x0f
	opStat      = 0x10
	opSetQ      = 0x11
	opAddQ      = 0x12
	opReplaceQ  = 0x13
	opDeleteQ   = 0x14
	opIncrQ     = 0x15
	opDecrQ     = 0x16
	opQuitQ     = 0x17
	opFlushQ    = 0x18
	opAppendQ   = 0x19
	opPrependQ  = 0x1a
	opVerbosity = 0x1b
	opTouch     = 0x1c
	opGAT       = 0x1d
	opGATQ      = 0x1e
	opSASLList  = 0x20
	opSASLAuth  = 0x21
	opSASLStep  = 0x22
	opGATK      = 0x23
	opGATKQ     = 0x24
)

// binarySpeech speaks the binary protocol.
var binarySpeech = &protocol{
	name: "binary",
	read: readPacket,
	last: func(_ string, n int) []byte { return (&request{op: opNoop, opaque: lastOpaque(n)}).bytes() },
	isLast: func(a answer, n int) bool {
		p := a.(*packet)
		return len(p.header) == binaryHeader && p.header[1] == opNoop && binary.BigEndian.Uint32(p.header[12:]) == lastOpaque(n)
	},
	// What stands in `stats` is each server's own.
	ignore: func(a answer) bool {
		p := a.(*packet)
		return len(p.header) == binaryHeader && p.header[1] == opStat && p.status() == 0 && len(p.body) > 0
	},
}

// lastOpaque is the opaque of the command that ends a batch.
func lastOpaque(n int) uint32 { return 0xeeee0000 + uint32(n) } //nolint:gosec // a few thousand at most

// request is a packet to a server. The lengths in its header are those of its
// parts, unless they are given.
type request struct {
	op                 byte
	magic              byte
	key, extras, value []byte
	cas                uint64
	opaque             uint32
	datatype           byte
	vbucket            uint16
	keyLen, extrasLen  int // what the header says in place of the truth, if above 0
	bodyLen            int // the same
}

func (r *request) bytes() []byte {
	keyLen, extrasLen, bodyLen := len(r.key), len(r.extras), len(r.key)+len(r.extras)+len(r.value)
	if r.keyLen > 0 {
		keyLen = r.keyLen
	}
	if r.extrasLen > 0 {
		extrasLen = r.extrasLen
	}
	if r.bodyLen > 0 {
		bodyLen = r.bodyLen
	}
	b := make([]byte, binaryHeader, binaryHeader+len(r.extras)+len(r.key)+len(r.value))
	b[0], b[1] = binaryMagic, r.op
	if r.magic != 0 {
		b[0] = r.magic
	}
	binary.BigEndian.PutUint16(b[2:], uint16(keyLen)) //nolint:gosec // as wrong as it is meant to be
	b[4], b[5] = byte(extrasLen), r.datatype          //nolint:gosec // the same
	binary.BigEndian.PutUint16(b[6:], r.vbucket)
	binary.BigEndian.PutUint32(b[8:], uint32(bodyLen)) //nolint:gosec // the same
	binary.BigEndian.PutUint32(b[12:], r.opaque)
	binary.BigEndian.PutUint64(b[16:], r.cas)
	return append(append(append(b, r.extras...), r.key...), r.value...)
}

// packet is one answer.
type packet struct {
	header, body []byte
}

// readPacket reads one answer. What stands before an end of the stream in the
// middle of one is an answer, too.
func readPacket(r *bufio.Reader) (answer, error) {
	p := &packet{header: make([]byte, binaryHeader)}
	n, err := io.ReadFull(r, p.header)
	p.header = p.header[:n]
	if err != nil {
		if n > 0 {
			return p, nil //nolint:nilerr // the next one has the error
		}
		return nil, err
	}
	size := binary.BigEndian.Uint32(p.header[8:])
	if size > 64<<20 {
		return nil, fmt.Errorf("a packet of %d bytes: %q", size, p.header)
	}
	p.body = make([]byte, size)
	n, err = io.ReadFull(r, p.body)
	p.body = p.body[:n]
	if err != nil && n == 0 {
		return nil, err
	}
	return p, nil
}

func (p *packet) status() uint16 { return binary.BigEndian.Uint16(p.header[6:]) }

func (p *packet) token() uint64 { return binary.BigEndian.Uint64(p.header[16:]) }

func (p *packet) opaque() uint32 { return binary.BigEndian.Uint32(p.header[12:]) }

func (p *packet) String() string {
	if len(p.header) < binaryHeader {
		return fmt.Sprintf("cut off: %x", p.header)
	}
	return fmt.Sprintf("magic %02x opcode %02x status %d opaque %08x cas %d datatype %d key %d extras %d body %d: %s",
		p.header[0], p.header[1], p.status(), p.opaque(), p.token(), p.header[5],
		binary.BigEndian.Uint16(p.header[2:]), p.header[4], binary.BigEndian.Uint32(p.header[8:]), show(p.body))
}

func (p *packet) told() (uint64, string) {
	if len(p.header) < binaryHeader {
		return 0, ""
	}
	return p.token(), fmt.Sprint("binary ", p.opaque())
}

func (p *packet) kinds() []string {
	if len(p.header) < binaryHeader {
		return nil
	}
	return []string{fmt.Sprintf("opcode %02x status %d", p.header[1], p.status())}
}

func (p *packet) differs(other answer, m *meaning) string {
	o := other.(*packet)
	if len(p.header) != len(o.header) || len(p.header) < binaryHeader {
		if bytes.Equal(p.header, o.header) {
			return ""
		}
		return "another end"
	}
	switch {
	case !bytes.Equal(p.header[:16], o.header[:16]):
		return "another header"
	case !bytes.Equal(p.body, o.body):
		return "another body"
	}
	return m.differs(p.token(), o.token())
}
