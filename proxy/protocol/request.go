package protocol

// Op is what a client asks for. It says nothing of the dialect that the
// question came in: classic text, meta and binary requests share these.
type Op uint8

// The operations of memcached's protocol.
const (
	OpNone    Op = iota
	OpInvalid    // malformed: answer Reply, then go on or close
	OpGet        // value and flags
	OpGets       // value, flags and cas token
	OpGat        // as OpGet, and set the expiry
	OpGats       // as OpGets, and set the expiry
	OpSet
	OpAdd
	OpReplace
	OpAppend
	OpPrepend
	OpCas
	OpTooLarge // a storage request whose value exceeds the limit; Refused says which
	OpDelete
	OpIncr
	OpDecr
	OpTouch
	OpFlushAll
	OpVersion
	OpVerbosity
	OpStats
	OpAdmin // a command of magent's own, in Args; Reply is what memcached answers
	OpQuit
	OpMetaGet    // a meta get; the flags say what is asked for
	OpMetaDebug  // what the server knows of an item itself
	OpInvalidate // a meta delete that leaves the item, marked as stale or emptied
	OpNoop       // binary, and meta mn: an answer that comes behind all others
	OpSaslList   // binary: which mechanisms are there; see Parser.ParseBinary
	OpSaslAuth   // binary: begin with the mechanism Key and the data Value
	OpSaslStep   // as OpSaslAuth, and go on
)

// Dialect is the form in which a request came and its answer has to go.
type Dialect uint8

// The dialects of memcached's protocol.
const (
	Text Dialect = iota
	Meta
	Binary
)

// Request is one request in the form that all dialects share. Every slice
// in it aliases the input that was parsed and is valid only as long as that
// input is; whoever keeps a request longer copies what it needs.
type Request struct {
	Op      Op
	Refused Op // OpTooLarge: the storage operation that was refused
	Dialect Dialect
	Quiet   bool // noreply, or meta flag q: no answer when all went as usual
	Base64  bool // the key came base64-encoded and has to be answered so
	Close   bool // close the connection after the answer

	Key  []byte // the key; of a get with several keys, the first
	Keys []byte // OpGet…OpGats: the keys behind the first, for NextKey

	Flags  uint32 // client flags of a storage request
	Expiry int64  // seconds, as the client wrote them: relative, absolute or negative
	CAS    uint64 // token to compare (OpCas, meta flag C, or a binary request)
	Delta  uint64 // OpIncr, OpDecr
	Value  []byte // storage requests: the value without its line end; OpSaslAuth, OpSaslStep: the data

	Opcode     byte   // of a binary request, as the client sent it
	OpaqueWord uint32 // of a binary request: bytes 12 to 15 of its header, read as big-endian

	Meta              MetaFlags // the flags of a meta request
	Words             []byte    // they and their tokens as they came
	Foreign           bool      // there are some among them that only the server can judge
	Opaque            []byte    // meta flag O
	NewCAS            uint64    // meta flag E: the token to store
	HasCAS, HasNewCAS bool      // meta: the token of flag C or E is a number
	Mode              byte      // meta flag M, 0 when absent

	// OpIncr and OpDecr, and meta flags N and J: what to store when the key is
	// missing. A meta get stores an empty value.
	HasInitial    bool
	Initial       uint64
	InitialExpiry int64 // seconds, as Expiry

	Args    []byte // OpStats, OpVerbosity, OpAdmin: the rest of the line, or the key of a binary stat; OpFlushAll uses Expiry
	HasTime bool   // OpFlushAll: a delay was given

	Reply []byte // OpInvalid, OpTooLarge, OpAdmin: the answer, empty for none; OpSaslAuth, OpSaslStep: see Parser.ParseBinary
	Skip  int64  // bytes that follow this request and have to be thrown away
}
