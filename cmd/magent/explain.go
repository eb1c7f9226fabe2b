package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// longestKey is memcached's limit, in bytes (protocol.txt, "Keys").
const longestKey = 250

// checkKey refuses what memcached does not take as a key: protocol.txt allows
// neither blanks nor control characters.
func checkKey(key string) error {
	if key == "" {
		return errors.New("the key is empty: give one of 1 to 250 bytes")
	}
	if len(key) > longestKey {
		return fmt.Errorf("the key has %d bytes: give one of at most %d", len(key), longestKey)
	}
	for i := range len(key) {
		if c := key[i]; c <= ' ' || c == 0x7f {
			return fmt.Errorf("the key %s holds %s: keys that only the binary protocol and base64 can name cannot be explained", strconv.Quote(key), strconv.QuoteRune(rune(c)))
		}
	}
	return nil
}

// showExplanation writes where a key lives, as `magent explain` is answered: one
// line for the key, one for each of its servers, and one that compares them.
// Columns of which nothing is known are left out.
func showExplanation(w io.Writer, stats map[string]string) error {
	key, known := stats["key"]
	if !known {
		return errors.New("the answer does not name the key: it is no magent that answers: " + nameIt)
	}
	rows := [][]string{{"primary"}, {"backup"}}
	for i, row := range rows {
		rows[i] = append(row, explainCopy(stats, row[0])...)
	}
	alignColumns(rows)
	lines := []string{"key      " + printable(key)}
	for _, row := range rows {
		lines = append(lines, strings.TrimRight(strings.Join(row, "  "), " "))
	}
	if same := cmp.Or(stats["same"], "unknown"); stats["backup"] != "" { // or there is nothing to compare
		lines = append(lines, "same     "+printable(same))
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

// explainCopy returns the columns about one of the two servers of a key: where
// it is, its state, and what it holds.
func explainCopy(stats map[string]string, role string) []string {
	address, known := stats[role]
	if !known {
		return []string{"none", "", "", "", "", "", "", ""}
	}
	of := func(name, before, after string) string {
		value, known := stats[role+":"+name]
		if !known {
			return ""
		}
		return before + printable(value) + after
	}
	present := of("present", "", "")
	switch present {
	case "yes":
		present = "present"
	case "no":
		present = "absent"
	}
	size := of("size", "", " bytes")
	if size == "1 bytes" {
		size = "1 byte"
	}
	expiry := of("ttl", "expires in ", " s")
	if stats[role+":ttl"] == "-1" {
		expiry = "never expires"
	}
	journal := ""
	switch stats[role+":journal"] {
	case "yes":
		journal = "waits to be replayed"
	case "unknown":
		journal = "not known whether it is right"
	}
	return []string{
		printable(address), of("state", "", ""), present, size, of("flags", "flags ", ""), expiry, of("token", "token ", ""), journal,
	}
}

// alignColumns drops the columns that are empty in all rows, and pads the cells
// of the others to the same width.
func alignColumns(rows [][]string) {
	for column := len(rows[0]) - 1; column >= 0; column-- {
		width := 0
		for _, row := range rows {
			width = max(width, utf8.RuneCountInString(row[column]))
		}
		for i, row := range rows {
			if width == 0 {
				rows[i] = append(row[:column], row[column+1:]...)
				continue
			}
			row[column] += strings.Repeat(" ", width-utf8.RuneCountInString(row[column]))
		}
	}
}

// printable returns text from elsewhere as it is, or quoted where a terminal
// would not show it as letters.
func printable(text string) string {
	for _, r := range text {
		if r == utf8.RuneError || !unicode.IsGraphic(r) {
			return strconv.Quote(text)
		}
	}
	return text
}
