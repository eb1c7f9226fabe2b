package main

import (
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"
)

// The types below are the kinds of values that settings take. Each writes what
// it read to the setting, and says in its error how to write such a value.

// number is a whole number from min to max.
type number struct {
	to       *int
	min, max int
}

func (n number) String() string {
	if n.to == nil {
		return ""
	}
	return strconv.Itoa(*n.to)
}

func (n number) Set(text string) error {
	v, err := strconv.Atoi(text)
	if err != nil || v < n.min || v > n.max {
		if n.max == math.MaxInt {
			return fmt.Errorf("give a whole number of at least %d", n.min)
		}
		return fmt.Errorf("give a whole number from %d to %d", n.min, n.max)
	}
	*n.to = v
	return nil
}

// size is a number of bytes with an optional suffix k, m or g (powers of 1024),
// as in memcached.
type size struct {
	to       *int64
	min, max int64
}

func (s size) String() string {
	if s.to == nil {
		return ""
	}
	return formatSize(*s.to)
}

func formatSize(v int64) string {
	for _, unit := range []struct {
		letter string
		shift  uint
	}{{"g", 30}, {"m", 20}, {"k", 10}} {
		if v != 0 && v%(1<<unit.shift) == 0 {
			return strconv.FormatInt(v>>unit.shift, 10) + unit.letter
		}
	}
	return strconv.FormatInt(v, 10)
}

func (s size) Set(text string) error {
	digits, shift := text, uint(0)
	if n := len(text); n > 0 {
		if i := strings.IndexByte("kmg", text[n-1]|0x20); i >= 0 {
			digits, shift = text[:n-1], uint(10*(i+1))
		}
	}
	v, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || v < 0 || v > s.max>>shift || v<<shift < s.min {
		example := "1m, 512k or 1048576"
		if s.min > 512<<10 {
			example = formatSize(4*s.min) + " or 1g"
		}
		return fmt.Errorf("give a size from %s to %s, for example %s", formatSize(s.min), formatSize(s.max), example)
	}
	*s.to = v << shift
	return nil
}

// duration is a time with its unit.
type duration struct {
	to       *time.Duration
	min, max time.Duration
}

func (d duration) String() string {
	if d.to == nil {
		return ""
	}
	return formatDuration(*d.to)
}

// formatDuration writes 1m0s as 1m, and microseconds in letters that every
// keyboard has.
func formatDuration(v time.Duration) string {
	text := strings.ReplaceAll(v.String(), "µ", "u")
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func (d duration) Set(text string) error {
	v, err := time.ParseDuration(text)
	if err != nil || v < d.min || v > d.max {
		return fmt.Errorf("give a time with its unit from %s to %s, for example 250ms or 2s",
			formatDuration(d.min), formatDuration(d.max))
	}
	*d.to = v
	return nil
}

// permissions are the permission bits of a file, in octal.
type permissions struct{ to *fs.FileMode }

func (p permissions) String() string {
	if p.to == nil {
		return ""
	}
	return fmt.Sprintf("%04o", uint32(*p.to))
}

func (p permissions) Set(text string) error {
	v, err := strconv.ParseUint(text, 8, 32)
	if err != nil || v > 0o777 {
		return fmt.Errorf("give permissions in octal, for example 0700 or 0770")
	}
	*p.to = fs.FileMode(v)
	return nil
}

// choice is one of a few words.
type choice struct {
	to   *string
	from []string
}

func (c choice) String() string {
	if c.to == nil {
		return ""
	}
	return *c.to
}

func (c choice) Set(text string) error {
	for _, word := range c.from {
		if text == word {
			*c.to = word
			return nil
		}
	}
	return fmt.Errorf("choose %s", orList(c.from))
}

// orList joins words as in "a, b or c".
func orList(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
