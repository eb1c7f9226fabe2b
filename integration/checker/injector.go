package checker

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"magent/integration/harness"
)

// injector does one bad thing after the other. What it does depends on the
// seed alone; how long redundancy takes to be whole again does not.
type injector struct {
	rng     *rand.Rand
	cluster *Cluster
	round   *round
	kinds   []string // to choose from

	faults []Fault
	losses []Span
	notes  []string // what was done in the fault that is under way
	killed int      // the server whose life ended in it, -1 for none
	alarms int      // how often a server that was needed was taken out though it was well
}

// faultKinds are the kinds of faults and how to bring each about. Each ends
// with everything running and every link open.
func faultKinds() map[string]func(*injector) {
	return map[string]func(*injector){
		"kill":               (*injector).kill,
		"warm restart":       (*injector).warmRestart,
		"short freeze":       (*injector).shortFreeze,
		"long freeze":        (*injector).longFreeze,
		"cut in mid-answer":  (*injector).cutAnswer,
		"cut":                (*injector).cut,
		"partition":          (*injector).partition,
		"both in turn":       (*injector).bothInTurn,
		"answers lost":       (*injector).answersLost,
		"slow server":        (*injector).slow,
		"refusal":            (*injector).refuse,
		"magent dies":        (*injector).magentDies,
		"magent restarts":    (*injector).magentRestarts,
		"restart while cut":  (*injector).restartWhileCut,
		"hand-over":          (*injector).handOver,
		"kill while cut off": (*injector).killWhileCutOff,
		"kill then freeze":   (*injector).killThenFreeze,
		"kill and magent":    (*injector).killAndMagent,
		"kill on return":     (*injector).killOnReturn,
		"both copies":        (*injector).bothCopies,
	}
}

// oneServer reports whether a kind of fault concerns one server only.
func oneServer(kind string) bool {
	switch kind {
	case "both in turn", "magent dies", "magent restarts", "restart while cut", "hand-over",
		"kill then freeze", "kill and magent", "both copies":
		return false
	default:
		return true
	}
}

// run injects so many faults. An error says that redundancy did not become
// whole.
func (in *injector) run(n int) error {
	in.pause(100, 600)
	for range n {
		kind := in.kinds[in.rng.IntN(len(in.kinds))]
		in.notes, in.killed = nil, -1
		outages := in.cluster.outages()
		f := Fault{Kind: kind, Span: Span{From: in.round.now()}}
		losses := len(in.losses)
		faultKinds()[kind](in)
		lasted := in.round.now() - f.From
		err := in.cluster.awaitWhole()
		f.To = in.round.now()
		f.What = fmt.Sprintf("%s; it lasted %.3f s", strings.Join(in.notes, ", "), lasted.Seconds())
		if len(in.losses) == losses && in.killed >= 0 && in.cluster.outages()[1-in.killed] > outages[1-in.killed] {
			// This happens on a machine with too much to do, and may happen
			// just when the other copy goes.
			in.alarms++
			in.losses = append(in.losses, Span{From: f.From})
		}
		for i := losses; i < len(in.losses); i++ {
			in.losses[i].To = f.To
		}
		in.faults = append(in.faults, f)
		if err != nil {
			return fmt.Errorf("after the fault %q (%s): %w", f.Kind, f.What, err)
		}
		in.pause(50, 500)
	}
	return nil
}

// note says what is done now.
func (in *injector) note(format string, args ...any) {
	in.notes = append(in.notes, fmt.Sprintf("%.3f ", in.round.now().Seconds())+fmt.Sprintf(format, args...))
}

// pause lets a random time pass, between two numbers of milliseconds.
func (in *injector) pause(least, most int) {
	ms := least + in.rng.IntN(most-least+1)
	<-time.After(time.Duration(ms) * time.Millisecond)
}

// maybe is true half of the time.
func (in *injector) maybe() bool { return in.rng.IntN(2) == 0 }

// server chooses a server.
func (in *injector) server() (int, *harness.Memcached) {
	i := in.rng.IntN(2)
	return i, in.cluster.servers[i]
}

// active is the magent that clients use.
func (in *injector) active() int { return in.cluster.active }

// path chooses a link of the magent that clients use.
func (in *injector) path() (server int, link *harness.Link) {
	server = in.rng.IntN(2)
	return server, in.cluster.link(in.active(), server)
}

// heal opens a link again. What it kept back either arrives late or is lost
// with its connections.
func (in *injector) heal(server int, l *harness.Link) {
	lost := in.maybe()
	if lost {
		l.Cut()
	}
	l.Heal()
	in.note("the link to %s is open (what it kept back is lost: %v)", serverNames[server], lost)
}

// block closes a link in one of the ways in which networks do.
func (in *injector) block(server int, l *harness.Link) {
	switch in.rng.IntN(4) {
	case 0:
		l.Refuse()
		in.note("the link to %s refuses", serverNames[server])
	case 1:
		l.BlockAnswers()
		in.note("the link from %s is silent", serverNames[server])
	default:
		l.Partition()
		in.note("the link to %s is silent", serverNames[server])
	}
}

// end kills a server that may be needed no more: its twin has it all.
func (in *injector) end(i int) {
	in.killed = i
	in.cluster.servers[i].Kill()
	in.note("%s is killed", serverNames[i])
}

func (in *injector) kill() {
	i, s := in.server()
	in.end(i)
	if in.maybe() {
		in.pause(100, 2500)
	}
	s.Restart()
	in.note("%s runs, empty, pid %d", serverNames[i], s.PID())
}

func (in *injector) warmRestart() {
	i, s := in.server()
	if !in.cluster.warm[i] {
		i = 1 - i
		s = in.cluster.servers[i]
	}
	if !in.cluster.warm[i] {
		in.kill()
		return
	}
	in.note("%s is stopped", serverNames[i])
	in.killed = i
	// memcached takes a memory file only in a later second than it was left.
	in.cluster.warmRestart(i, func() { in.pause(1100, 2500) })
	in.note("%s runs with its items, pid %d", serverNames[i], s.PID())
}

func (in *injector) freeze(least, most int) {
	i, s := in.server()
	s.Freeze()
	in.note("%s stands still", serverNames[i])
	in.pause(least, most)
	s.Thaw()
	in.note("%s goes on", serverNames[i])
}

func (in *injector) shortFreeze() { in.freeze(20, 400) }

func (in *injector) longFreeze() { in.freeze(900, 3000) }

func (in *injector) cutAnswer() {
	server, l := in.path()
	n := in.rng.Int64N(600)
	l.CutAnswerAfter(n)
	in.note("a connection to %s breaks after %d bytes of answers", serverNames[server], n)
	in.pause(100, 400)
	l.Heal()
}

func (in *injector) cut() {
	server, l := in.path()
	l.Cut()
	in.note("all connections to %s break", serverNames[server])
}

func (in *injector) partition() {
	server, l := in.path()
	in.block(server, l)
	in.pause(50, 2500)
	in.heal(server, l)
}

// bothInTurn cuts magent off from one server and then from the other, which
// alone has the writes of the meantime.
func (in *injector) bothInTurn() {
	first, a := in.path()
	second := 1 - first
	b := in.cluster.link(in.active(), second)
	in.block(first, a)
	in.pause(300, 2000)
	if in.maybe() {
		in.heal(first, a)
		in.block(second, b)
	} else {
		in.block(second, b)
		in.pause(0, 300)
		in.heal(first, a)
	}
	in.pause(300, 2000)
	in.heal(second, b)
}

// answersLost makes writes whose effect nobody knows.
func (in *injector) answersLost() {
	server, l := in.path()
	l.BlockAnswers()
	in.note("answers of %s do not arrive", serverNames[server])
	in.pause(20, 900)
	l.Cut()
	l.Heal()
	in.note("they are lost")
}

// slow delays answers, on the whole for less than the time limit.
func (in *injector) slow() {
	server, l := in.path()
	in.note("%s is slow", serverNames[server])
	for range 5 + in.rng.IntN(10) {
		l.BlockAnswers()
		in.pause(20, 200)
		l.Unblock()
		in.pause(1, 20)
	}
	in.note("%s is not slow any more", serverNames[server])
}

func (in *injector) refuse() {
	server, l := in.path()
	l.Refuse()
	in.note("%s refuses connections", serverNames[server])
	in.pause(100, 1500)
	l.Heal()
	in.note("%s takes connections", serverNames[server])
}

// again ends the magent that clients use and starts it anew.
func (in *injector) again(crash bool) {
	at := in.active()
	in.cluster.endMagent(at, crash)
	in.note("magent %d is gone (by SIGKILL: %v)", at, crash)
	in.cluster.startMagent(at)
	in.cluster.moveClients(at)
	in.note("magent %d runs", at)
}

func (in *injector) magentDies() { in.again(true) }

func (in *injector) magentRestarts() { in.again(false) }

// restartWhileCut starts magent anew while a server is away and misses
// writes: what the first one knew of it must not be lost.
func (in *injector) restartWhileCut() {
	i, s := in.server()
	l := in.cluster.link(in.active(), i)
	frozen := in.maybe()
	if frozen {
		s.Freeze()
		in.note("%s stands still", serverNames[i])
	} else {
		in.block(i, l)
	}
	in.pause(600, 2000)
	back := in.maybe()
	restore := func() {
		if frozen {
			s.Thaw()
			in.note("%s goes on", serverNames[i])
		} else {
			in.heal(i, l)
		}
	}
	crash := in.maybe()
	at := in.active()
	if back {
		// The server is back before any magent looks for it.
		in.cluster.endMagent(at, crash)
		in.note("magent %d is gone (by SIGKILL: %v)", at, crash)
		restore()
		in.cluster.startMagent(at)
		in.cluster.moveClients(at)
		in.note("magent %d runs", at)
		return
	}
	in.again(crash)
	in.pause(100, 1500)
	restore()
}

// handOver moves the clients to the other magent while the first one is cut
// off from a server.
func (in *injector) handOver() {
	first := in.active()
	second := 1 - first
	server, l := in.path()
	in.block(server, l)
	in.pause(300, 2000)
	if in.cluster.magents[second] == nil {
		in.cluster.startMagent(second)
		in.note("magent %d runs", second)
		in.pause(0, 500)
	}
	in.cluster.moveClients(second)
	in.note("the clients use magent %d", second)
	in.pause(100, 1500)
	switch in.rng.IntN(3) {
	case 0:
		in.cluster.endMagent(first, in.maybe())
		in.note("magent %d is gone", first)
		in.heal(server, l)
	case 1:
		in.heal(server, l)
		in.pause(0, 1000)
		in.cluster.moveClients(first)
		in.note("the clients use magent %d again", first)
	default:
		in.heal(server, l)
	}
}

// killWhileCutOff restarts a server, empty, that has missed writes before.
func (in *injector) killWhileCutOff() {
	i, l := in.path()
	s := in.cluster.servers[i]
	in.block(i, l)
	in.pause(300, 1500)
	in.end(i)
	s.Restart()
	in.note("%s runs, empty, pid %d", serverNames[i], s.PID())
	in.pause(0, 700)
	in.heal(i, l)
}

// killOnReturn restarts a server, empty, while it gets what it has missed.
func (in *injector) killOnReturn() {
	i, l := in.path()
	in.block(i, l)
	in.pause(600, 2000)
	in.heal(i, l)
	in.pause(0, 500)
	in.end(i)
	in.cluster.servers[i].Restart()
	in.note("%s runs, empty", serverNames[i])
}

// killThenFreeze takes the twin away for a while when it is needed most:
// while a server that came back empty gets everything from it.
func (in *injector) killThenFreeze() {
	i, s := in.server()
	twin := in.cluster.servers[1-i]
	in.end(i)
	in.pause(0, 300)
	s.Restart()
	in.killed = -1 // an outage of the twin is not a surprise
	in.note("%s runs, empty", serverNames[i])
	in.pause(0, 400)
	l := in.cluster.link(in.active(), 1-i)
	if in.maybe() {
		twin.Freeze()
		in.note("%s stands still", serverNames[1-i])
		in.pause(100, 2000)
		twin.Thaw()
		in.note("%s goes on", serverNames[1-i])
		return
	}
	in.block(1-i, l)
	in.pause(100, 2000)
	in.heal(1-i, l)
}

// killAndMagent takes the magent away that knows what a server lacks which
// has come back empty.
func (in *injector) killAndMagent() {
	i, s := in.server()
	in.end(i)
	in.pause(0, 500)
	if in.maybe() {
		s.Restart()
		in.note("%s runs, empty", serverNames[i])
		in.pause(0, 500)
	}
	if in.maybe() {
		in.again(in.maybe())
	} else {
		second := 1 - in.active()
		if in.cluster.magents[second] == nil {
			in.cluster.startMagent(second)
			in.note("magent %d runs", second)
		}
		in.cluster.moveClients(second)
		in.note("the clients use magent %d", second)
		if in.maybe() {
			in.cluster.endMagent(1-second, true)
			in.note("magent %d is killed", 1-second)
		}
	}
	if !s.Running() {
		in.pause(0, 500)
		s.Restart()
		in.note("%s runs, empty", serverNames[i])
	}
}

// bothCopies ends the second server before the first one is whole again:
// what only the second one had is lost.
func (in *injector) bothCopies() {
	i, s := in.server()
	other := in.cluster.servers[1-i]
	l := in.cluster.link(in.active(), i)
	away := in.maybe()
	if away {
		in.block(i, l)
	} else {
		in.end(i)
	}
	in.pause(100, 1500)
	in.losses = append(in.losses, Span{From: in.round.now()})
	other.Kill()
	in.note("%s is killed", serverNames[1-i])
	in.pause(0, 500)
	if in.maybe() {
		other.Restart()
		in.note("%s runs, empty", serverNames[1-i])
		in.pause(0, 500)
	}
	if away {
		in.heal(i, l)
	} else {
		s.Restart()
		in.note("%s runs, empty", serverNames[i])
	}
	if !other.Running() {
		in.pause(0, 500)
		other.Restart()
		in.note("%s runs, empty", serverNames[1-i])
	}
}
