package integration

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"magent/integration/harness"
)

// raceClients is how many clients race, on raceKeys keys.
const (
	raceClients = 300
	raceKeys    = 10
)

// racer is a client that writes keys that all others write, too.
type racer struct {
	*harness.Client
	rng   *rand.Rand
	keys  []string
	token map[string]uint64
}

// random returns some write, or a gets for the next cas.
func (r *racer) random() operation {
	op := operation{key: r.keys[r.rng.IntN(len(r.keys))], flags: r.rng.Uint32N(1 << 20), delta: r.rng.Uint64N(5)}
	verbs := []string{
		"set", "set", "append", "prepend", "incr", "incr", "decr", "gets", "gets", "cas", "cas",
		"delete", "add", "replace", "touch", "get",
	}
	op.verb = verbs[r.rng.IntN(len(verbs))]
	op.value = strconv.Itoa(200 + r.rng.IntN(600)) // no decr makes it shorter, see owner.random in model_test.go
	if op.verb == "append" || op.verb == "prepend" {
		op.value = string('a' + byte(r.rng.IntN(26)))
	}
	if op.verb == "cas" {
		op.cas = r.token[op.key]
	}
	return op
}

// run sends ops in one write and reads their answers. Any answer that
// memcached may give is right: the keys are everybody's.
func (r *racer) run(ops []operation) error {
	var out []byte
	for _, op := range ops {
		out = append(out, op.wire()...)
	}
	if err := r.Send(out); err != nil {
		return err
	}
	for _, op := range ops {
		answer, token, err := op.read(r.Client)
		if err != nil {
			return fmt.Errorf("%v: %w", op, err)
		}
		if op.verb == "gets" {
			r.token[op.key] = token
		}
		if !op.quiet && !op.allows(answer) {
			return fmt.Errorf("%v answered %q", op, answer)
		}
	}
	return nil
}

// allows reports whether the command may get this answer, whatever the key holds.
func (o operation) allows(answer string) bool {
	switch o.verb {
	case "get", "gets", "gat":
		return true
	case "set":
		return answer == "STORED"
	case "cas":
		return slices.Contains([]string{"STORED", "EXISTS", "NOT_FOUND"}, answer)
	case "add", "replace", "append", "prepend":
		return answer == "STORED" || answer == "NOT_STORED"
	case "delete":
		return answer == "DELETED" || answer == "NOT_FOUND"
	case "touch":
		return answer == "TOUCHED" || answer == "NOT_FOUND"
	}
	_, err := strconv.ParseUint(answer, 10, 64)
	return err == nil || answer == "NOT_FOUND" || answer == "CLIENT_ERROR cannot increment or decrement non-numeric value"
}

// race lets all clients write for a while and waits until they are done.
func race(t *testing.T, addr string, keys []string, during time.Duration) {
	t.Helper()
	seed := newRand(t).Uint64()
	end := time.Now().Add(during)
	group(t, raceClients, func(i int) error {
		c, err := harness.Dial(addr)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		r := &racer{Client: c, rng: rand.New(rand.NewPCG(seed, uint64(i))), keys: keys, token: map[string]uint64{}}
		for n := 0; n < 5 || time.Now().Before(end); n++ {
			ops := []operation{r.random()}
			switch i % 3 {
			case 1: // noreply now and then
				ops[0].quiet = r.rng.IntN(2) == 0 && ops[0].verb != "get" && ops[0].verb != "gets"
			case 2: // pipelined
				for range r.rng.IntN(20) {
					ops = append(ops, r.random())
				}
			}
			if err := r.run(ops); err != nil {
				return err
			}
		}
		// What was noreply has been done when a later command is answered.
		_, err = c.Get(keys...)
		return err
	})
}

// promise: C2
func TestThreeHundredClientsRaceOnTenKeys(t *testing.T) {
	m := startMirrored(t, patient...)
	keys := keysNamed("race", raceKeys)
	for range 3 {
		race(t, m.Addr, keys, 1500*time.Millisecond)
		awaitEqual(t, m.primary, m.backup, keys)
	}
}

// promise: C2, K4
func TestRaceOnCrossedPools(t *testing.T) {
	a, b := harness.StartMemcached(t), harness.StartMemcached(t)
	m := harness.StartMagent(t, harness.Config{
		Primaries: []string{a.Addr, b.Addr}, Backups: []string{b.Addr, a.Addr}, Args: patient,
	})
	keys := keysNamed("cross", raceKeys)
	race(t, m.Addr, keys, 2*time.Second)
	awaitEqual(t, a, b, keys)
}

// promise: C2, K1
func TestRaceOnManyServers(t *testing.T) {
	m := startPools(t, 3, 2, patient...)
	keys := keysNamed("many", 3*raceKeys)
	race(t, m.Addr, keys, 2*time.Second)
	for _, key := range keys {
		p, b := holder(t, m.primaries, key), holder(t, m.backups, key)
		switch {
		case p == nil && b == nil:
		case p == nil || b == nil:
			t.Errorf("%s: on a primary: %v, on a backup: %v", key, p != nil, b != nil)
		default:
			awaitEqual(t, p, b, []string{key})
		}
	}
}

// A number that everybody raises: no two clients get the same one, and none
// is lost on either server.
//
// promise: C1, C2
func TestEveryIncrementCountsOnce(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	must(t, harness.MustDial(t, m.Addr).Set("n", "0"))
	const clients, each = 60, 100
	seen := make([][]string, clients)
	group(t, clients, func(i int) error {
		c, err := harness.Dial(m.Addr)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		for range each {
			answer, err := c.Command("incr n 1")
			if err != nil {
				return err
			}
			seen[i] = append(seen[i], answer)
		}
		return nil
	})
	all := slices.Concat(seen...)
	slices.Sort(all)
	if distinct := len(slices.Compact(all)); distinct != clients*each {
		t.Errorf("%d different answers to %d increments", distinct, clients*each)
	}
	expectValue(t, harness.MustDial(t, m.Addr), "n", strconv.Itoa(clients*each))
	awaitEqual(t, m.primary, m.backup, []string{"n"})
}

// Of many clients that compare and swap one key at once, one succeeds each time.
//
// promise: C1, C2
func TestCompareAndSwapLosesNothing(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, patient...)
	must(t, harness.MustDial(t, m.Addr).Set("n", "0"))
	const clients, each = 16, 20
	group(t, clients, func(int) error {
		c, err := harness.Dial(m.Addr)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		for done := 0; done < each; {
			items, err := c.Gets("n")
			if err != nil || len(items) != 1 {
				return fmt.Errorf("gets: %v, %w", items, err)
			}
			n, err := strconv.Atoi(string(items[0].Value))
			if err != nil {
				return err
			}
			answer, err := c.Store("cas", "n", 0, 0, []byte(strconv.Itoa(n+1)), strconv.FormatUint(items[0].CAS, 10))
			switch {
			case err != nil:
				return err
			case answer == "STORED":
				done++
			case answer != "EXISTS":
				return &harness.AnswerError{Line: answer}
			}
		}
		return nil
	})
	expectValue(t, harness.MustDial(t, m.Addr), "n", strconv.Itoa(clients*each))
	awaitEqual(t, m.primary, m.backup, []string{"n"})
}

// holder returns the server that has the key, nil for none. More than one
// fails the test.
func holder(t *testing.T, servers []*harness.Memcached, key string) *harness.Memcached {
	t.Helper()
	var found *harness.Memcached
	for _, s := range servers {
		c := harness.MustDial(t, s.Addr)
		_, has, err := c.Peek(key)
		must(t, err)
		must(t, c.Close())
		if !has {
			continue
		}
		if found != nil {
			t.Errorf("%s is on %s and on %s", key, found.Addr, s.Addr)
		}
		found = s
	}
	return found
}
