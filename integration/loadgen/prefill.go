package main

import (
	"fmt"
	"net"
	"time"
)

const (
	prefillBatch = 50
	prefillLimit = 60 * time.Second
)

// prefill stores every key once, over a connection of its own, and checks that
// each was stored.
func prefill(t target, w *workload) error {
	conn, err := net.DialTimeout("tcp", t.text, connectSeconds*time.Second)
	if err != nil {
		return fmt.Errorf("prefill: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(prefillLimit)); err != nil {
		return fmt.Errorf("prefill: %w", err)
	}
	var out, in []byte
	chunk := make([]byte, 16<<10)
	for first := 0; first < w.keys; first += prefillBatch {
		last := min(first+prefillBatch, w.keys)
		out = out[:0]
		for k := first; k < last; k++ {
			out = w.appendSet(out, uint32(k))
		}
		if _, err := conn.Write(out); err != nil {
			return fmt.Errorf("prefill: %w", err)
		}
		for k := first; k < last; {
			var count counters
			taken, done, err := w.answer(&request{set: true, first: uint32(k), keys: 1}, in, &count)
			switch {
			case err != nil || count.errors > 0:
				return fmt.Errorf("prefill: set %s: %s", w.key(uint32(k)), count.firstError)
			case done:
				in = in[taken:]
				k++
				continue
			}
			n, err := conn.Read(chunk)
			if err != nil {
				return fmt.Errorf("prefill: set %s: no answer: %w", w.key(uint32(k)), err)
			}
			in = append(in, chunk[:n]...)
		}
	}
	return nil
}
