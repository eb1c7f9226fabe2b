package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// promise: C5
func TestTimersGoOffInOrder(t *testing.T) {
	l, do := runLoop(t, untilWoken)
	var order []int
	armed := time.Now()
	done := make(chan time.Duration, 1)
	do(func() {
		for i, ms := range []int{8, 2, 6, 4} {
			timer := &Timer{Func: func() {
				if order = append(order, i); len(order) == 4 {
					done <- time.Since(armed)
				}
			}}
			l.Arm(timer, time.Duration(ms)*time.Millisecond)
			if !timer.Armed() {
				t.Error("not armed")
			}
		}
	})
	if took := within(t, done, "four timers"); took < 8*time.Millisecond {
		t.Errorf("the timer of 8 ms went off after %v", took)
	}
	if want := []int{1, 3, 2, 0}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}

// A timer wakes a loop that would sleep for ever, or longer.
//
// promise: C5
func TestTimerWakesTheLoop(t *testing.T) {
	for _, wait := range []time.Duration{-1, time.Hour} {
		t.Run(fmt.Sprint(wait), func(t *testing.T) {
			l, do := runLoop(t, ownerFunc(func() time.Duration { return wait }))
			done := make(chan struct{})
			do(func() { l.Arm(&Timer{Func: func() { close(done) }}, time.Millisecond) })
			within(t, done, "the timer")
		})
	}
}

// at has the loop's clock stand at a time, and runs what is due.
func at(l *Loop, d time.Duration) {
	l.now = int64(d)
	l.runTimers()
}

func TestTimerArmedAgain(t *testing.T) {
	l := newLoop(t)
	l.now = 0
	fired := []time.Duration{}
	timer := &Timer{}
	timer.Func = func() {
		if timer.Armed() {
			t.Error("armed while it goes off")
		}
		if fired = append(fired, time.Duration(l.now)); len(fired) == 1 {
			l.Arm(timer, 5*time.Millisecond) // again from inside
		}
	}
	l.Arm(timer, 10*time.Millisecond)
	l.Arm(timer, 20*time.Millisecond) // later
	at(l, 19*time.Millisecond)
	l.Arm(timer, time.Hour)
	l.Arm(timer, 2*time.Millisecond) // earlier
	at(l, 20*time.Millisecond)
	at(l, 21*time.Millisecond)
	at(l, 25*time.Millisecond)
	at(l, 26*time.Millisecond)
	at(l, time.Hour)
	if want := []time.Duration{21 * time.Millisecond, 26 * time.Millisecond}; !slices.Equal(fired, want) {
		t.Errorf("went off at %v, want %v", fired, want)
	}
	if timer.Armed() || len(l.timers) != 0 {
		t.Error("still armed")
	}
}

// Two timers are due in the same turn; the first disarms the second.
func TestDisarmInsideATimer(t *testing.T) {
	l := newLoop(t)
	second := &Timer{Func: func() { t.Error("a disarmed timer went off") }}
	ran := 0
	third := &Timer{Func: func() { ran++ }}
	first := &Timer{Func: func() { l.Disarm(second) }}
	l.now = 0
	l.Arm(first, 1)
	l.Arm(second, 2)
	l.Arm(third, 3)
	at(l, 10)
	if second.Armed() || ran != 1 {
		t.Errorf("disarmed timer armed: %v; the third went off %d times", second.Armed(), ran)
	}
	l.Disarm(second) // a second time does nothing
	l.Arm(second, time.Hour)
	l.Disarm(second)
	if second.Armed() {
		t.Error("armed after Disarm")
	}
}

func TestShortenTheWait(t *testing.T) {
	l := newLoop(t)
	l.now = int64(time.Second)
	for _, wait := range []time.Duration{-1, 0, time.Hour} {
		if got := l.shorten(wait); got != wait {
			t.Errorf("without timers a wait of %v became %v", wait, got)
		}
	}
	l.Arm(&Timer{}, 5*time.Millisecond)
	for _, c := range []struct{ wait, want time.Duration }{
		{-1, 5 * time.Millisecond}, {0, 0}, {time.Millisecond, time.Millisecond}, {time.Hour, 5 * time.Millisecond},
	} {
		if got := l.shorten(c.wait); got != c.want {
			t.Errorf("a wait of %v became %v, want %v", c.wait, got, c.want)
		}
	}
	l.now += int64(time.Minute) // the timer is long due
	if got := l.shorten(-1); got != 0 {
		t.Errorf("a timer is due and the loop waits %v", got)
	}
}

// Timers are compared with the simplest thing that does the same: a table of
// when each is due.
func TestTimersAgainstATable(t *testing.T) {
	l := newLoop(t)
	rapid.Check(t, func(t *rapid.T) {
		const count = 12
		l.now, l.timers = 0, nil
		due := map[int]int64{}
		last := int64(-1)
		timers := make([]Timer, count)
		for i := range timers {
			timers[i].Func = func() {
				when, ok := due[i]
				switch {
				case !ok:
					t.Fatalf("timer %d went off and is not armed", i)
				case when > l.now:
					t.Fatalf("timer %d went off at %d, due at %d", i, l.now, when)
				case when < last:
					t.Fatalf("timer %d, due at %d, went off after one due at %d", i, when, last)
				}
				last = when
				delete(due, i)
			}
		}
		which := rapid.IntRange(0, count-1)
		t.Repeat(map[string]func(*rapid.T){
			"arm": func(t *rapid.T) {
				i, d := which.Draw(t, "timer"), rapid.Int64Range(1, 50).Draw(t, "delay")
				l.Arm(&timers[i], time.Duration(d))
				due[i] = l.now + d
			},
			"disarm": func(t *rapid.T) {
				i := which.Draw(t, "timer")
				l.Disarm(&timers[i])
				delete(due, i)
			},
			"turn": func(t *rapid.T) {
				l.now += rapid.Int64Range(0, 40).Draw(t, "time")
				last = -1
				l.runTimers()
			},
			"": func(t *rapid.T) {
				for i := range timers {
					if _, want := due[i]; timers[i].Armed() != want {
						t.Fatalf("timer %d armed: %v, want %v", i, timers[i].Armed(), want)
					}
				}
				l.runTimers()
				for i, when := range due {
					if when <= l.now {
						t.Fatalf("timer %d was due at %d and has not gone off at %d", i, when, l.now)
					}
				}
			},
		})
	})
}

func TestTimersAllocateNothing(t *testing.T) {
	l := newLoop(t)
	timers := make([]Timer, 100)
	for i := range timers {
		timers[i].Func = func() {}
		l.Arm(&timers[i], time.Hour)
	}
	l.now = int64(time.Hour) + 1
	l.runTimers()
	if n := testing.AllocsPerRun(100, func() {
		for i := range timers {
			l.Arm(&timers[i], time.Duration(1+i*37%100))
		}
		l.Disarm(&timers[50])
		l.now += 200
		l.runTimers()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
