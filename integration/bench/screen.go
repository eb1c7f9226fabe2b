package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// screen shows how far a run is. On a terminal one line is written over and
// over; elsewhere only finished lines appear.
type screen struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	columns  int
}

func newScreen(f *os.File) *screen {
	s := &screen{out: f, columns: 80}
	if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
		s.terminal = true
		s.columns = max(int(size.Col), 40)
	}
	return s
}

// eraseLine is carriage return and "erase in line" (ECMA-48).
const eraseLine = "\r\x1b[K"

// update replaces the progress line.
func (s *screen) update(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.terminal {
		return
	}
	if r := []rune(text); len(r) >= s.columns {
		text = string(r[:s.columns-1])
	}
	fmt.Fprint(s.out, eraseLine, text)
}

// line writes a line that stays.
func (s *screen) line(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminal {
		text = eraseLine + text
	}
	fmt.Fprintln(s.out, text)
}
