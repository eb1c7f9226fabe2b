package backend

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"magent/proxy/protocol"
)

// metaCall is a testCall of a client's meta command. It is told a value as it
// came.
type metaCall struct {
	testCall
	request string
}

func (c *metaCall) Found(block []byte, h *protocol.ValueHeader, keep bool) {
	if string(h.Key) != string(c.Key) || len(block) != h.Len+h.Size+2 || !strings.HasPrefix(string(block), "VA ") {
		c.r.t.Errorf("%s was given %.60q, header %+v", c.name, block, *h)
	}
	if len(block) > 100 {
		c.told("found %d bytes of %.20q", len(block), block)
		return
	}
	c.told("found %q", block)
}

func (c *metaCall) Request(dst []byte) []byte { return append(dst, c.request...) }

// newMetaCall is a meta command with the form of a client's.
func (r *rig) newMetaCall(name, key, request string) *metaCall {
	c := &metaCall{testCall: testCall{r: r, name: name}, request: request}
	c.Owner, c.Kind, c.Key = c, Meta, []byte(key)
	c.Answers = protocol.AnswersTo(operations[strings.TrimRight(name, "#0123456789")])
	return c
}

// meta queues a meta command, behind all gets so far.
func (r *rig) meta(name, key, request string) *metaCall {
	r.conn.CloseGroup()
	c := r.newMetaCall(name, key, request)
	r.conn.End(c.Request(r.conn.Begin(len(request))))
	r.conn.Queue(&c.Call)
	return c
}

// mg puts a meta get into the open group.
func (r *rig) mg(name, key string) *metaCall {
	c := r.newMetaCall(name, key, "mg "+key+" v\r\n")
	r.conn.Get(&c.Call, protocol.OpMetaGet, hashOf(key))
	return c
}

// metaConversations are like conversations. Those that fail end the connection.
var metaConversations = []struct {
	name    string
	calls   func(r *rig)
	answers string
	told    string
	fails   bool
}{
	{"codes", func(r *rig) {
		for i, name := range []string{"hit", "miss", "set", "taken", "cas", "gone"} {
			r.meta(name, "k", fmt.Sprintf("ms k 0 O%d\r\n\r\n", i))
		}
	}, "HD f0 O0\r\nEN\r\nHD O2\r\nNS O3\r\nEX O4\r\nNF kk O5\r\n",
		"hit < HD f0 O0; miss < EN; set < HD O2; taken < NS O3; cas < EX O4; gone < NF kk O5", false},
	{"values", func(r *rig) { r.mg("a", "a"); r.mg("b", "b"); r.mg("c", "c"); r.mg("d", "d") },
		"VA 1 f7 c9 W\r\nx\r\nEN\r\nVA 0\r\n\r\nVA 4 kd b O\"\r\nEN\r\n\r\n",
		`a found "VA 1 f7 c9 W\r\nx\r\n"; b < EN; c found "VA 0\r\n\r\n"; d found "VA 4 kd b O\"\r\nEN\r\n\r\n"`, false},
	{"a value of arithmetic", func(r *rig) { r.meta("incr", "k", "ma k v\r\n"); r.meta("incr2", "k", "ma k\r\n") },
		"VA 2 t-1\r\n10\r\nHD\r\n", `incr found "VA 2 t-1\r\n10\r\n"; incr2 < HD`, false},
	{"gets of several kinds", func(r *rig) { r.mg("a", "a"); r.get("b", "b"); r.mg("c", "c"); r.send("set", "set\r\n") },
		"HD\r\n" + value("b", 0, "2") + "END\r\nVA 1\r\nx\r\nSTORED\r\n",
		`a < HD; b found "2" flags 0 cas 0; c found "VA 1\r\nx\r\n"; set < STORED`, false},
	{"errors", func(r *rig) { r.mg("a", "a"); r.mg("b", "b"); r.meta("set", "k", "ms k 0\r\n\r\n"); r.mg("c", "c") },
		"CLIENT_ERROR invalid flag\r\nSERVER_ERROR out of memory\r\nERROR\r\nEN\r\n",
		"a < CLIENT_ERROR invalid flag; b < SERVER_ERROR out of memory; set < ERROR; c < EN", false},
	{"a large value", func(r *rig) { r.mg("a", "a"); r.mg("b", "b") },
		fmt.Sprintf("VA %d f1\r\n%s\r\nHD\r\n", len(large), large), `a found 100016 bytes of "VA 100000 f1\r\n0,1,2,"; b < HD`, false},
	{"a header of nearly 1 KiB", func(r *rig) { r.mg("a", "a") },
		"VA 1 O" + strings.Repeat("o", 1000) + "\r\nx\r\n", `a found 1011 bytes of "VA 1 Ooooooooooooooo"`, false},

	{"a value with no end", func(r *rig) { r.mg("a", "a"); r.mg("b", "b") }, "VA 1 f1\r\nxyz\r\n", "a failed; b failed", true},
	{"a header that is none", func(r *rig) { r.mg("a", "a"); r.mg("b", "b") }, "VA x\r\n", "a failed; b failed", true},
	{"a header without end", func(r *rig) { r.mg("a", "a") }, "VA 1 O" + strings.Repeat("o", 1100), "a failed", true},
	{"a value that nobody may believe", func(r *rig) { r.mg("a", "a") }, "VA 1048577\r\n", "a failed", true},
	{"a classic value", func(r *rig) { r.mg("a", "a"); r.mg("b", "b") }, value("a", 0, "x") + "END\r\n", "a failed; b failed", true},
	{"a meta value for a classic get", func(r *rig) { r.get("a", "a"); r.mg("b", "b") }, "VA 1\r\nx\r\n", "a failed; b failed", true},
	{"a code for a classic get", func(r *rig) { r.get("a", "a"); r.mg("b", "b") }, "HD\r\nEN\r\n", "a failed; b failed", true},
	{"a number", func(r *rig) { r.mg("a", "a"); r.mg("b", "b") }, "42\r\nEN\r\n", "a failed; b failed", true},
	{"an answer too many", func(r *rig) { r.mg("a", "a") }, "EN\r\nEN\r\n", "a < EN", true},
	{"an answer to nothing", func(r *rig) { r.mg("a", "a") }, "MN\r\n", "a failed", true},
}

// promise: R4, W2
func TestAnswersToMetaCommands(t *testing.T) {
	for _, c := range metaConversations {
		t.Run(c.name, func(t *testing.T) {
			places := append(cuts(c.answers), len(c.answers))
			if len(c.answers) < 2000 && !c.fails {
				places = append(places, 0) // byte by byte
			}
			for _, cut := range places {
				r := newRig(t)
				c.calls(r)
				r.requests()
				if cut == 0 {
					for i := range c.answers {
						r.answer(c.answers[i : i+1])
					}
				} else {
					r.answer(c.answers[:cut])
					r.answer(c.answers[cut:])
				}
				if told := r.told(); told != c.told {
					t.Fatalf("cut at %d: told %q\nwant %q", cut, told, c.told)
				}
				if c.fails {
					r.wantErr(ErrProtocol)
				} else if len(r.errs) > 0 || r.conn.Waiting() > 0 || len(r.conn.rest) > 0 || r.conn.large != nil {
					t.Fatalf("cut at %d: failed with %v, %d calls wait, %d bytes kept", cut, r.errs, r.conn.Waiting(), len(r.conn.rest))
				}
				r.finish()
			}
		})
	}
}

// Meta gets are sent together, each by itself and before what comes behind them,
// and no more of them than a group takes.
//
// promise: W2, W6
func TestGroupOfMetaGets(t *testing.T) {
	r := newRig(t)
	r.mg("a", "a")
	r.mg("b", "b")
	if got := r.conn.out.Total(); got != 0 {
		t.Errorf("%d bytes are written before the group is closed", got)
	}
	if !r.conn.Asks(hashOf("a")) || !r.conn.Asks(hashOf("b")) {
		t.Error("the group does not know its keys")
	}
	r.meta("set", "c", "ms c 0\r\n\r\n")
	if r.conn.Asks(hashOf("a")) {
		t.Error("a closed group has keys")
	}
	r.get("g", "g")
	r.mg("d", "d")
	r.conn.CloseGroup()
	if got, want := r.requests(), "mg a v\r\nmg b v\r\nms c 0\r\n\r\nget g\r\nmg d v\r\n"; got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
	if n := r.conn.Waiting(); n != 5 {
		t.Errorf("%d calls wait, want 5", n)
	}
	r.answer("EN\r\nHD\r\nHD\r\nEND\r\nEN\r\n")
	r.want("a < EN; b < HD; set < HD; g missed; d < EN")

	var want strings.Builder
	for i := range groupLimit + 10 {
		key := fmt.Sprintf("%d-%s", i, strings.Repeat("k", i%240))
		r.mg("mg", key)
		fmt.Fprintf(&want, "mg %s v\r\n", key)
	}
	if n := r.conn.group.count; n != 10 {
		t.Errorf("%d calls are in the open group, want 10", n)
	}
	r.conn.CloseGroup()
	if got := r.requests(); got != want.String() {
		t.Errorf("%d bytes sent, want %d", len(got), want.Len())
	}
	r.answer(strings.Repeat("EN\r\n", groupLimit+10))
	if told := r.told(); strings.Count(told, "mg < EN") != groupLimit+10 || len(r.errs) > 0 {
		t.Errorf("told %.300q, %v", told, r.errs)
	}
}

// Any mixture of gets and meta commands: each call is told its own answer,
// however requests and answers are cut.
//
// promise: R4, W2, W6
func TestOrderOfMetaCalls(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	g := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		r := newRig(t)
		var answers, want []string
		for i := range 1 + g.IntN(40) {
			name, key := fmt.Sprintf("c%d", i), fmt.Sprintf("k%d", i)
			switch g.IntN(5) {
			case 0:
				r.mg(name, key)
				answers, want = append(answers, "EN\r\n"), append(want, name+" < EN")
			case 1:
				r.mg(name, key)
				block := fmt.Sprintf("VA %d k%s\r\n%s\r\n", len(key), key, key)
				answers, want = append(answers, block), append(want, fmt.Sprintf("%s found %q", name, block))
			case 2:
				r.meta(name, key, "md "+key+" k\r\n")
				answers, want = append(answers, "NF k"+key+"\r\n"), append(want, name+" < NF k"+key)
			case 3:
				r.get(name, key)
				r.conn.CloseGroup()
				answers, want = append(answers, value(key, 1, key)+"END\r\n"), append(want, fmt.Sprintf("%s found %q flags 1 cas 0", name, key))
			case 4:
				r.send("set", "set\r\n")
				answers, want = append(answers, "STORED\r\n"), append(want, "set < STORED")
			}
		}
		r.conn.CloseGroup()
		r.requests()
		for all := strings.Join(answers, ""); all != ""; {
			n := min(1+g.IntN(60), len(all))
			r.answer(all[:n])
			all = all[n:]
		}
		r.want(strings.Join(want, "; "))
		if len(r.errs) > 0 || t.Failed() {
			t.Fatalf("failed: %v", r.errs)
		}
		r.finish()
	}
}

// The server closes after any byte: each call has been told its whole answer,
// or is failed.
//
// promise: C4, R3
func TestEndAfterEveryByteOfMeta(t *testing.T) {
	const answers = "VA 3 f1\r\nabc\r\nEN\r\nHD c5\r\n"
	whole := []string{`a found "VA 3 f1\r\nabc\r\n"`, "b < EN", "md < HD c5"}
	ends := []int{14, 18, 25}
	for i := range len(answers) + 1 {
		r := newRig(t)
		r.mg("a", "a")
		r.mg("b", "b")
		r.meta("md", "c", "md c\r\n")
		r.requests()
		r.answer(answers[:i])
		r.end()
		var want []string
		for j, end := range ends {
			if i >= end {
				want = append(want, whole[j])
			} else {
				name, _, _ := strings.Cut(whole[j], " ")
				want = append(want, name+" failed")
			}
		}
		r.want(strings.Join(want, "; "))
		r.wantErr(ErrClosed)
		r.finish()
	}
}

// promise: W2
func TestMetaAnswersAllocateNothing(t *testing.T) {
	r := newRig(t)
	calls := make([]quietCall, 3)
	for i := range calls {
		calls[i].Owner, calls[i].Kind, calls[i].Key = &calls[i], Meta, []byte{byte('a' + i)}
	}
	buf := make([]byte, 4096)
	const answers = "VA 3 f1\r\nabc\r\nVA 0\r\n\r\nHD c5\r\n"
	turn := func() {
		for i := range calls {
			r.conn.Get(&calls[i].Call, protocol.OpMetaGet, uint64(i))
		}
		r.conn.CloseGroup()
		r.conn.Flush()
		unixWrite(t, r.peer, buf[:copy(buf, answers[:5])])
		r.conn.Ready(readable)
		unixWrite(t, r.peer, buf[:copy(buf, answers[5:])])
		r.conn.Ready(readable)
	}
	turn()
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations for a turn with three calls", n)
	}
	if calls[0].found == 0 || calls[1].found != calls[0].found || calls[2].lines != calls[0].found {
		t.Errorf("told %+v", calls)
	}
}

// A token that a client chooses is told clients as they chose it, on every server
// that they may meet it on, and is no other of the server's tokens.
//
// promise: C9, W2
func TestTokensThatClientsChoose(t *testing.T) {
	a, b, unknown := newUpServer(1), newUpServer(1), newUpServer(1)
	a.setLife(Life{1, time.Now().Unix()})
	b.setLife(Life{2, time.Now().Unix()})
	for _, token := range []uint64{0, 1, 7, 12345, tokenMask, tokenMask + 1, ChosenToken | 5, 1<<63 | 1<<50, 1<<64 - 1} {
		given := a.GivenToken(token)
		if given <= tokenMask {
			t.Errorf("%x is stored as %x, which the server may count up to", token, given)
		}
		if b.GivenToken(token) != given {
			t.Errorf("%x is stored as %x and %x", token, given, b.GivenToken(token))
		}
		for _, s := range []*Server{a, b} {
			if told := s.ClientToken(given); told != token {
				t.Errorf("%x is stored as %x, and told as %x", token, given, told)
			}
			if at := s.ServerToken(token); at != given {
				t.Errorf("%x is stored as %x, and looked for as %x", token, given, at)
			}
		}
		if own := a.ClientToken(token & tokenMask); own == token {
			t.Errorf("%x, counted up, is told like one that a client has chosen", token&tokenMask)
		}
		// A server whose life nobody knows gets tokens as they are.
		if unknown.GivenToken(token) != token || unknown.ClientToken(token) != token || unknown.ServerToken(token) != token {
			t.Errorf("%x on a server without a life: %x, %x, %x", token, unknown.GivenToken(token), unknown.ClientToken(token), unknown.ServerToken(token))
		}
	}
	// A life's own tokens are not another's.
	for _, own := range []uint64{1, 12345, tokenMask} {
		told := a.ClientToken(own)
		if a.ServerToken(told) != own || b.ServerToken(told) == own || told == own {
			t.Errorf("%x is told as %x, which the other server takes for %x", own, told, b.ServerToken(told))
		}
	}
}
