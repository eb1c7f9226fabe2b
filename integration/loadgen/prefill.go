package main

import (
	"bufio"
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
	reader := bufio.NewReader(conn)
	var out []byte
	for first := 0; first < w.keys; first += prefillBatch {
		last := min(first+prefillBatch, w.keys)
		out = out[:0]
		for k := first; k < last; k++ {
			out = w.appendSet(out, uint32(k))
		}
		if _, err := conn.Write(out); err != nil {
			return fmt.Errorf("prefill: %w", err)
		}
		for k := first; k < last; k++ {
			line, err := reader.ReadString('\n')
			if err != nil {
				return fmt.Errorf("prefill: set %s: no answer: %w", w.key(uint32(k)), err)
			}
			if line != "STORED\r\n" {
				return fmt.Errorf("prefill: set %s: answer %.80q instead of STORED", w.key(uint32(k)), line)
			}
		}
	}
	return nil
}
