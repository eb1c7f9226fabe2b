package protocol

// binaryCommand is what one opcode of the binary protocol asks for.
type binaryCommand struct {
	op    Op         // OpNone: memcached does not know the opcode
	form  binaryForm // which lengths its header may have
	quiet bool       // memcached's noreply; see QuietSilences
	keyed bool       // the answer to a get repeats the key
}

// binaryForm is a class of opcodes whose headers look alike.
type binaryForm uint8

const (
	formBare   binaryForm = iota // nothing behind the header
	formKey                      // key
	formStore                    // flags, expiry, key, value
	formConcat                   // key, value
	formArith                    // delta, initial value, its expiry, key
	formTouch                    // expiry, key
	formFlush                    // nothing or delay
	formStat                     // key or none
	formSasl                     // mechanism in place of the key, data in place of the value
)

// hasValue tells whether what is behind the key belongs to the request.
func (f binaryForm) hasValue() bool {
	return f == formStore || f == formConcat || f == formSasl
}

// binaryCommands has the opcodes of memcached's protocol_binary.h that its
// proto_bin.c carries out. It is only read. Verbosity (0x1b), the range
// operations and those on virtual buckets have names there and nothing else.
var binaryCommands = [256]binaryCommand{
	0x00: {op: OpGets, form: formKey},
	0x01: {op: OpSet, form: formStore},
	0x02: {op: OpAdd, form: formStore},
	0x03: {op: OpReplace, form: formStore},
	0x04: {op: OpDelete, form: formKey},
	0x05: {op: OpIncr, form: formArith},
	0x06: {op: OpDecr, form: formArith},
	0x07: {op: OpQuit, form: formBare},
	0x08: {op: OpFlushAll, form: formFlush},
	0x09: {op: OpGets, form: formKey, quiet: true},
	0x0a: {op: OpNoop, form: formBare},
	0x0b: {op: OpVersion, form: formBare},
	0x0c: {op: OpGets, form: formKey, keyed: true},
	0x0d: {op: OpGets, form: formKey, keyed: true, quiet: true},
	0x0e: {op: OpAppend, form: formConcat},
	0x0f: {op: OpPrepend, form: formConcat},

	opcodeStat: {op: OpStats, form: formStat},

	0x11: {op: OpSet, form: formStore, quiet: true},
	0x12: {op: OpAdd, form: formStore, quiet: true},
	0x13: {op: OpReplace, form: formStore, quiet: true},
	0x14: {op: OpDelete, form: formKey, quiet: true},
	0x15: {op: OpIncr, form: formArith, quiet: true},
	0x16: {op: OpDecr, form: formArith, quiet: true},
	0x17: {op: OpQuit, form: formBare, quiet: true},
	0x18: {op: OpFlushAll, form: formFlush, quiet: true},
	0x19: {op: OpAppend, form: formConcat, quiet: true},
	0x1a: {op: OpPrepend, form: formConcat, quiet: true},
	0x1c: {op: OpTouch, form: formTouch},
	0x1d: {op: OpGats, form: formTouch},
	0x1e: {op: OpGats, form: formTouch, quiet: true},
	0x20: {op: OpSaslList, form: formBare},
	0x21: {op: OpSaslAuth, form: formSasl},
	0x22: {op: OpSaslStep, form: formSasl},
	0x23: {op: OpGats, form: formTouch, keyed: true},
	0x24: {op: OpGats, form: formTouch, keyed: true, quiet: true},
}

// opcodeStat is the opcode of every answer to a stat.
const opcodeStat = 0x10

// QuietSilences tells whether a request with opcode gets no answer when the
// answer would have status. A quiet get or gat keeps a miss to itself, and
// every other quiet opcode a success. All else is answered (protocol_binary.txt,
// and noreply in memcached's proto_bin.c).
func QuietSilences(opcode byte, status BinaryStatus) bool {
	c := &binaryCommands[opcode]
	if !c.quiet {
		return false
	}
	if c.op == OpGets || c.op == OpGats {
		return status == StatusNotFound
	}
	return status == StatusOK
}
