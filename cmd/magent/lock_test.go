package main

import (
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// someEndpoint returns an endpoint that no other test and no other run uses.
// Nothing listens on it: these tests are about the locks.
func someEndpoint(t *testing.T) endpoint {
	t.Helper()
	return endpoint{network: "unix", address: t.TempDir() + fmt.Sprintf("/%d", os.Getpid())}
}

// patient is more than any test takes.
func patient() patience {
	return patience{time.Now().Add(time.Minute), time.Now().Add(time.Minute)}
}

// claimed takes locks that have to be free, until the test ends.
func claimed(t *testing.T, endpoints ...endpoint) *lock {
	t.Helper()
	l, taken, err := claim(endpoints, patient())
	if err != nil || l == nil {
		t.Fatalf("taken %v, error %v", taken, err)
	}
	t.Cleanup(sync.OnceFunc(l.close))
	return l
}

// promise: L3
func TestLockIsTakenOnce(t *testing.T) {
	e, other := someEndpoint(t), someEndpoint(t)
	if o := ask(e, patient()); o != nil {
		t.Fatalf("before anyone has it: %+v", o)
	}
	l := claimed(t, e)
	l.serve(nil)
	for _, second := range [][]endpoint{{e}, {other, e}, {e, other}} {
		// What is taken in part is asked for again until the patience is over.
		got, taken, err := claim(second, patience{time.Now().Add(100 * time.Millisecond), time.Now().Add(time.Minute)})
		if err != nil || got != nil || len(taken) != 1 || taken[0].pid != os.Getpid() || taken[0].silent || !taken[0].endpoint.same(e) {
			t.Errorf("a second claim: lock %v, taken %+v, error %v", got, taken, err)
		}
	}
	// What the claims that failed took on their way, they gave back.
	claimed(t, other)
}

// promise: L3
func TestLockIsFreeWhenItsHolderIsGone(t *testing.T) {
	e := someEndpoint(t)
	holder, err := net.Listen("unix", e.lockName())
	if err != nil {
		t.Fatal(err)
	}
	// One who waits for a holder that ends before it serves takes the lock itself.
	result := make(chan *lock)
	go func() {
		second, _, _ := claim([]endpoint{e}, patient())
		result <- second
	}()
	conn, err := holder.Accept()
	if err != nil {
		t.Fatal(err)
	}
	holder.Close()
	conn.Close()
	if second := <-result; second == nil {
		t.Error("the lock was not taken over")
	} else {
		second.close()
	}
}

// promise: L3
func TestLockWaitsUntilItsHolderServes(t *testing.T) {
	e := someEndpoint(t)
	l := claimed(t, e)
	answer := make(chan *occupant)
	go func() { answer <- ask(e, patient()) }()
	l.serve(nil)
	if o := <-answer; o == nil || o.silent || o.pid != os.Getpid() {
		t.Errorf("the answer is %+v", o)
	}
}

// promise: L3
func TestSilentHolder(t *testing.T) {
	e := someEndpoint(t)
	claimed(t, e) // and does not serve
	o := ask(e, patience{time.Now().Add(20 * time.Millisecond), time.Now().Add(40 * time.Millisecond)})
	if o == nil || !o.silent || o.pid != os.Getpid() {
		t.Fatalf("the answer is %+v", o)
	}
	// It does not even listen, and so does not serve.
	if err := servedBy([]endpoint{e}, []occupant{*o}); err == nil {
		t.Error("a holder that neither answers nor listens counts as serving")
	}
	listener, err := net.Listen("unix", e.address)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := servedBy([]endpoint{e}, []occupant{*o}); err != nil {
		t.Errorf("a holder that listens but hangs: %v", err)
	}
	// One that listens is not given the time of one that starts.
	o = ask(e, patience{time.Now().Add(20 * time.Millisecond), time.Now().Add(time.Hour)})
	if o == nil || !o.silent {
		t.Errorf("the answer is %+v", o)
	}
}

// promise: L3
func TestManyClaimsAtOnce(t *testing.T) {
	// In two orders: claims of several locks must not wait for each other.
	a, b := someEndpoint(t), someEndpoint(t)
	const claims = 20
	var mu sync.Mutex
	var winners []*lock
	var refused int
	var wg sync.WaitGroup
	for range claims {
		wg.Go(func() {
			l, taken, err := claim([]endpoint{a, b}, patient())
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Error(err)
			case l != nil:
				l.serve(nil)
				winners = append(winners, l)
			case len(taken) == 2:
				refused++
			default:
				t.Errorf("taken %+v", taken)
			}
		})
	}
	wg.Wait()
	if len(winners) != 1 || refused != claims-1 {
		t.Errorf("%d claims won and %d found it taken, of %d", len(winners), refused, claims)
	}
	for _, l := range winners {
		l.close()
	}
}

// One that ends is seen whole or not at all.
// promise: L3
func TestClaimWhileTheHolderEnds(t *testing.T) {
	for range 100 {
		both := []endpoint{someEndpoint(t), someEndpoint(t)}
		old, _, err := claimOnce(both, patient())
		if err != nil {
			t.Fatal(err)
		}
		old.serve(nil)
		var wg sync.WaitGroup
		wg.Go(old.close)
		l, taken, err := claim(both, patient())
		if err != nil || l == nil && len(taken) != 2 {
			t.Errorf("lock %v, taken %+v, error %v", l, taken, err)
		}
		wg.Wait()
		if l != nil {
			l.close()
		}
		if t.Failed() {
			return
		}
	}
}

// promise: L3
func TestServedInPartIsAnError(t *testing.T) {
	e, other := someEndpoint(t), someEndpoint(t)
	if err := servedBy([]endpoint{e, other}, []occupant{{endpoint: e, pid: 7}}); err == nil {
		t.Error("one of two addresses counts as both")
	}
	if err := servedBy([]endpoint{e}, []occupant{{endpoint: e, pid: 7}}); err != nil {
		t.Error(err)
	}
}

// promise: L3
func TestOneWhoServesAllAddressesServesEach(t *testing.T) {
	// A port that is in use here, so that no other test has it.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	claimed(t, endpoint{network: "tcp", address: fmt.Sprintf("0.0.0.0:%d", port)}).serve(nil)
	narrow := endpoint{network: "tcp", address: fmt.Sprintf("10.66.77.88:%d", port)}
	taken := survey([]endpoint{narrow}, patient())
	if len(taken) != 1 || !taken[0].endpoint.same(narrow) {
		t.Errorf("%+v", taken)
	}
}

// promise: L7
func TestLockIsHandedOver(t *testing.T) {
	e := someEndpoint(t)
	old := claimed(t, e)
	names, fds, err := old.handOver()
	if err != nil || len(names) != 1 || len(fds) != 1 {
		t.Fatalf("names %v, descriptors %v, error %v", names, fds, err)
	}
	next, err := adoptLock(names, duplicates(t, fds))
	if err != nil {
		t.Fatal(err)
	}
	defer next.close()
	next.serve(nil)
	if o := ask(e, patient()); o == nil || o.silent {
		t.Errorf("the answer is %+v", o)
	}
}
