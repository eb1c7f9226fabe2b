package checker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"magent/integration/harness"
)

// service is where clients connect to.
type service interface {
	dial() (*harness.Client, error)
	hangUp(conn *harness.Client)
}

// round is a few seconds of work on new keys.
type round struct {
	service    service
	name       string
	begin      time.Time
	think      time.Duration // a client's pause between commands, on average
	flushEvery int           // one in so many commands of the first client
	dialects   []Dialect     // that clients may speak

	over  atomic.Bool
	ended chan struct{} // closed when the round is over

	slots   []atomic.Pointer[string] // the key that is in use in each slot
	fillers int                      // keys that are written once, and read

	mu      sync.Mutex
	keys    []string       // all that were in use
	unknown map[string]int // commands without an answer, of each key
}

// mostUnknown is how many writes of a key may have an unknown outcome before
// another key is used in its place: each makes the check harder.
const mostUnknown = 5

func newRound(on service, name string, slots int, think time.Duration) *round {
	r := &round{
		service: on, name: name, begin: time.Now(), think: think, flushEvery: 3000, dialects: AllDialects(),
		ended: make(chan struct{}), slots: make([]atomic.Pointer[string], slots), unknown: make(map[string]int),
	}
	for s := range slots {
		r.rename(s, 0)
	}
	return r
}

// end stops the clients.
func (r *round) end() {
	if !r.over.Swap(true) {
		close(r.ended)
	}
}

// now is the time since the round began, by the monotonic clock.
func (r *round) now() time.Duration { return time.Since(r.begin) }

// deadline is the moment that stands behind the number of an expiry.
func (r *round) deadline(n int) time.Time {
	return r.begin.Add(firstDeadline + time.Duration(n)*deadlineStep)
}

// expiryOf is the number of the expiry of an item that has so many seconds to
// live: Never, or the deadline that is meant.
func (r *round) expiryOf(ttl int64) int {
	if ttl < 0 {
		return Never
	}
	end := time.Now().Add(time.Duration(ttl) * time.Second)
	n := int((end.Sub(r.begin) - firstDeadline + deadlineStep/2) / deadlineStep)
	if off := end.Sub(r.deadline(n)).Abs(); n < 1 || off > expirySlack {
		return noDeadline
	}
	return n
}

const (
	noDeadline = -2 // an expiry that nobody asked for
	// A relative expiry counts from when the command arrives, which may be late.
	expirySlack = 15 * time.Second
)

// key is the key that is in use in a slot.
func (r *round) key(slot int) string { return *r.slots[slot].Load() }

// filler is the name of a key that is written once.
func (r *round) filler(n int) string { return fmt.Sprintf("%s.filler.%d", r.name, n) }

// anyFiller chooses one of the keys that are written once.
func (r *round) anyFiller(rng *rand.Rand) (string, bool) {
	if r.fillers == 0 {
		return "", false
	}
	return r.filler(rng.IntN(r.fillers)), true
}

// fill writes keys that are only read afterwards. They make a resync last a
// while, and show what it leaves out.
func (r *round) fill(n int) ([]*Op, error) {
	conn, err := r.service.dial()
	if err != nil {
		return nil, err
	}
	defer r.service.hangUp(conn)
	var ops []*Op
	var request []byte
	call := r.now()
	for i := range n {
		o := &Op{Client: fillClient, Kind: Set, Key: r.filler(i), Value: fmt.Sprintf("filler %d", i), Flags: uint32(i), Expiry: i % 4, Call: call}
		exptime := 0
		if o.Expiry != Never {
			exptime = int(r.deadline(o.Expiry).Unix())
		}
		request = append(request, harness.Storage("set", o.Key, o.Flags, exptime, []byte(o.Value))...)
		ops = append(ops, o)
	}
	sent := make(chan error, 1)
	go func() { sent <- conn.Send(request) }()
	for _, o := range ops {
		if o.Answer, err = conn.Line(); err != nil {
			break
		}
		o.Return = r.now()
		if strings.HasPrefix(o.Answer, "SERVER_ERROR") { // a busy machine looks like a server that is out
			o.fail(o.Answer)
		}
		r.keys = append(r.keys, o.Key)
	}
	r.fillers = n
	return ops, errors.Join(err, <-sent)
}

// rename puts a new key into a slot. The caller holds mu, or is alone.
func (r *round) rename(slot, generation int) {
	key := fmt.Sprintf("%s.%d.%d", r.name, slot, generation)
	r.keys = append(r.keys, key)
	r.slots[slot].Store(&key)
}

// uncertain counts a write with an unknown outcome.
func (r *round) uncertain(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unknown[key]++
	if r.unknown[key] != mostUnknown {
		return
	}
	for slot := range r.slots {
		if r.key(slot) == key {
			var generation int
			if _, err := fmt.Sscanf(key[len(r.name):], fmt.Sprintf(".%d.%%d", slot), &generation); err != nil {
				panic(err)
			}
			r.rename(slot, generation+1)
		}
	}
}
