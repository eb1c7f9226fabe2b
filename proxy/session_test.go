package proxy

import (
	"reflect"
	"testing"

	"magent/backend"
)

// What makes a client wait before more of it is read.
//
// promise: R2
func TestBlocked(t *testing.T) {
	o := Defaults()
	o.Primaries = []string{"127.0.0.1:1"}
	w := newTestProxy(t, o).workers[0]
	for _, test := range []struct {
		name   string
		change func(s *session)
		want   bool
	}{
		{"nothing under way", func(*session) {}, false},
		{"few, however large", func(s *session) { s.inFlight, s.usual = windowLeast-1, 1<<30 }, false},
		{"many small ones", func(s *session) { s.inFlight, s.usual = windowMost-1, 10 }, false},
		{"too many small ones", func(s *session) { s.inFlight, s.usual = windowMost, 10 }, true},
		{"answers that fit", func(s *session) { s.inFlight, s.usual = windowLeast, windowBytes/windowLeast-1 }, false},
		{"answers that do not", func(s *session) { s.inFlight, s.usual = windowLeast, windowBytes/windowLeast }, true},
		{"closed", func(s *session) { s.closed = true }, true},
		{"has said quit", func(s *session) { s.leaving = true }, true},
		{"a request that all later ones wait for", func(s *session) { s.parked = &request{} }, true},
		{"a read that another loop runs", func(s *session) { s.away = 1 }, true},
		{"a value that found no room", func(s *session) { s.postponed = 1 }, true},
		{"answers that are not read", func(s *session) { s.out.Link(&w.loop.Pool, make([]byte, outputLimit)) }, true},
		{"answers that may still wait", func(s *session) { s.out.Link(&w.loop.Pool, make([]byte, outputLimit-1)) }, false},
		{"a server that takes no more", func(s *session) { s.waitRoom = &backend.Conn{} }, true},
		{"an upgrade", func(*session) { w.frozen = true }, true},
		{"an upgrade within a get", func(s *session) { w.frozen, s.keys = true, 1 }, false},
	} {
		s := &session{w: w, usual: windowStart}
		test.change(s)
		if got := s.blocked(); got != test.want {
			t.Errorf("%s: blocked %v, want %v", test.name, got, test.want)
		}
		s.out.Drop(&w.loop.Pool)
		w.frozen = false
	}
}

// A client's window follows the size of its answers: at once when they grow,
// within a few answers when they shrink.
//
// promise: R2
func TestUsualSizeOfAnswers(t *testing.T) {
	s := &session{usual: windowStart}
	s.sawAnswer(4 * windowStart)
	if s.usual != 4*windowStart {
		t.Errorf("after a large answer %d bytes are usual", s.usual)
	}
	for i := 0; s.usual > 100; i++ {
		if s.sawAnswer(100); i > 20 {
			t.Fatalf("after 20 answers of 100 bytes %d are usual", s.usual)
		}
	}
	if s.usual != 100 {
		t.Errorf("after answers of 100 bytes %d are usual", s.usual)
	}
}

// stats sums every counter of every worker up.
//
// promise: W5
func TestEveryCounterIsSummedUp(t *testing.T) {
	var sum, one counters
	fields := reflect.TypeFor[counters]()
	for i := range fields.NumField() {
		*(*uint64)(reflect.ValueOf(&one).Elem().Field(i).Addr().UnsafePointer()) = uint64(i) + 1
	}
	sum.add(&one)
	sum.add(&one)
	for i := range fields.NumField() {
		if got := reflect.ValueOf(sum).Field(i).Uint(); got != 2*(uint64(i)+1) {
			t.Errorf("%s: %d, want %d", fields.Field(i).Name, got, 2*(i+1))
		}
	}
}
