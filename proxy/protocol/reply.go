package protocol

// The answers that memcached gives without looking at stored data. They are
// variables only because Go has no constant slices; nothing writes to them.
var (
	replyError       = []byte("ERROR\r\n")
	replyEnd         = []byte("END\r\n")
	replyBadFormat   = []byte("CLIENT_ERROR bad command line format\r\n")
	replyBadChunk    = []byte("CLIENT_ERROR bad data chunk\r\n")
	replyBadExptime  = []byte("CLIENT_ERROR invalid exptime argument\r\n")
	replyBadDelta    = []byte("CLIENT_ERROR invalid numeric delta argument\r\n")
	replyBadDelete   = []byte("CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n")
	replyNoShutdown  = []byte("ERROR: shutdown not enabled\r\n")
	replyTooLarge    = []byte("SERVER_ERROR object too large for cache\r\n")
	replyLineTooLong = []byte("SERVER_ERROR out of memory reading request\r\n")
)
