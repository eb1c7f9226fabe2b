// Package checker runs clients and faults against magent and real memcacheds,
// and proves from what the clients saw that no promise was broken.
//
//	Run       the whole of it: a number of rounds, each with new keys
//	Cluster   two memcacheds, two magents, and a link between each two of them
//	client    one client: random commands, each recorded as an Op
//	Dialect   classic text, meta commands or the binary protocol: text.go,
//	          meta.go and binary.go put an Op into its words, check the answer,
//	          and tell it in those of classic text
//	injector  one fault after the other; between two of them it waits until
//	          redundancy is whole
//	Op        one command on one key: when it was sent, when and what was answered
//	History   everything that happened in one round, taken apart by key
//
//	clients ─▶ magent 0 ─▶ link 0A ─▶ memcached A
//	   :         │  └────▶ link 0B ─▶ memcached B
//	   :         :                      :   :
//	   └····▶ magent 1 ─▶ link 1A ······┘   :
//	                └───▶ link 1B ··········┘
//
// All clients use one of the two magents at a time, as behind an address that
// is moved between two machines. The other one runs or does not.
//
// # The model
//
// The history of each key is given to porcupine with a model of one item in a
// cache that forgets nothing (see step). That is: a miss is right only if the
// key was deleted, flushed, had expired, or if both copies were gone; an
// answer with an overwritten or deleted value is never right.
//
//   - A command without a proper answer may have taken effect at any time after
//     it was sent, or never.
//   - Where the faults destroy both copies on purpose, each key gets a loss: it
//     may have become absent in that time.
//   - flush_all is a delete of each key, at any time between call and answer.
//   - A cas, and whatever else has a token, succeeds only with one that was got
//     for the version that is there, by a read or with the answer to a write.
//     EXISTS is right whenever there is an item and there was a fault since, or
//     the item is stale: magent looks at it for a binary client.
//   - An item that is not stale is never said to be. That a stale one is said to
//     be, and that one client only is told to write it anew, is certain while
//     nothing has failed.
//   - An incr with an initial value makes the key if it is missing.
//
// Each client chooses by the seed what it speaks on a connection: one dialect,
// or text and meta in turns. MAGENT_DIALECTS names those to choose from. Quiet
// commands are followed by mn or noop, and so have an answer too: silence.
//
// After each round both servers are asked directly: they have to hold the
// same, and what they hold is one more read in each key's history.
package checker
