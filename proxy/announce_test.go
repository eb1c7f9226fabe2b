package proxy

import (
	"testing"
	"time"
)

// Clients wait until the others have taken note on every server, and not for ever.
//
// promise: C6
func TestClientsWaitUntilOthersKnow(t *testing.T) {
	heard := make(chan struct{})
	p := &presence{told: map[int32]chan struct{}{0: make(chan struct{}), 1: heard}}
	close(p.told[0])
	ended := make(chan struct{})
	go func() {
		p.awaitHeard()
		close(ended)
	}()
	select {
	case <-ended:
		t.Fatal("clients are served before the others know")
	case <-time.After(50 * time.Millisecond):
	}
	close(heard)
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("clients are not served when the others know")
	}
}

// The counts of lines are read; what makes no sense is left out.
//
// promise: C6
func TestCountsOfLines(t *testing.T) {
	got := countsOf([]byte("a 1 60000 -\nnonsense\nb 22 5 127.0.0.1:1!\n"))
	if len(got) != 2 || got["a"] != "1" || got["b"] != "22" {
		t.Errorf("the counts are %v", got)
	}
	if got := countsOf(nil); len(got) != 0 {
		t.Errorf("the counts of nothing are %v", got)
	}
}
