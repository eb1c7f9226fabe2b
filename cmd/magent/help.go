package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// shortUsage follows the line that says what is wrong.
const shortUsage = `usage: magent -s HOST[:PORT] ... [-b HOST[:PORT] ...] [-l ADDRESS] [-p PORT]
              [-f SOCKET] [-u USER] [-n CLIENTS] [-D] [other flags]
       magent check | status | explain KEY | resync  [-l ADDRESS] [-p PORT] ...
       magent --help shows all flags, with examples
`

const helpHead = `magent - a proxy in front of memcached that keeps each key on two servers

Usage:
  magent --server HOST[:PORT] ... [--backup HOST[:PORT] ...] [flags]
  magent --config FILE
  magent check | status | explain KEY | resync [flags]
  magent version

Clients talk to magent as to one memcached. It sends each key to its server in
the primary pool, mirrors what was written to the key's server in the backup
pool, and answers from there when the first one fails. It goes to the background
once it serves; launching it again while it serves changes nothing.

Four commands ask a running magent. --listen, --port and --socket say which one,
as they say where it listens; without them it is the one at 127.0.0.1:11211.
All other flags of a launch may stand there too.
  check         for scripts such as keepalived's: exit 0 when the magent of this
                machine answers within 1s and can serve every key, that is at
                least one server of each pair; otherwise exit 1 and say why.
                It need not have its address now
  status        show the magent and its servers; with --json, for programs
  explain KEY   show where the key lives and what both of its servers hold
  resync        copy what servers may lack from their twins once more

Examples:
  Two servers, each key on both, for clients on port 12000:
    magent -s 10.0.0.1:11211 -b 10.0.0.2:11211 -p 12000

  On the address that keepalived moves between two machines, as user nobody:
    magent -u nobody -n 51200 -l 10.0.0.66 -p 12000 -s 10.0.0.1 -b 10.0.0.2

  Two pools of two servers, in the foreground, for systemd or a container:
    magent --foreground --server 10.0.0.1,10.0.0.2 --backup 10.0.0.3,10.0.0.4
`

const helpTail = `
Every flag can also be set in the environment (--max-clients is
MAGENT_MAX_CLIENTS) and in the config file, in TOML, under its long name:
    server = ["10.0.0.1:11211"]
    max-clients = 51200
A flag goes before the environment, and that before the config file.

Sizes take the suffixes k, m and g; times take ms, s, m and h.
The weight of a server is its share of the keys; without one it is 1.

Signals: TERM and INT finish what is in flight and end magent; HUP reads the
config file and the files of users, and opens the log file, anew; USR2 goes on
with the program that the file of magent holds now, without losing a connection.
Exit status: 0, also when magent serves there already; 1 when it cannot serve,
when a magent that was asked has not answered as it should, and when check finds
keys that no server serves. One line on standard error says why; behind one
about wrong flags stands the short usage.
`

// helpWidth is the widest a line of help may be.
const helpWidth = 80

// helpPage is what --help shows.
func helpPage(rows []setting) string {
	var page strings.Builder
	page.WriteString(helpHead)
	for _, group := range groups {
		fmt.Fprintf(&page, "\n%s:\n", group)
		for _, row := range rows {
			if row.group == group {
				writeRow(&page, row)
			}
		}
	}
	page.WriteString(helpTail)
	return page.String()
}

// writeRow writes one flag: its spellings on one line, what it does below, so
// that long names do not squeeze the text.
func writeRow(page *strings.Builder, row setting) {
	letter := "    "
	if row.letters != "" {
		letter = "-" + row.letters[:1] + ", "
	}
	fmt.Fprintf(page, "  %s--%s", letter, row.name)
	if row.value != "" {
		fmt.Fprintf(page, " %s", row.value)
	}
	page.WriteByte('\n')
	text := row.usage
	if len(row.letters) > 1 {
		text += "; also -" + row.letters[1:]
	}
	if preset := row.defaultText(); preset != "" {
		text += " (default " + preset + ")"
	}
	for _, line := range wrap(text, helpWidth-10) {
		fmt.Fprintf(page, "          %s\n", line)
	}
}

// defaultText is the value that holds when nothing is said, "" for none.
func (s setting) defaultText() string {
	if s.preset != "" {
		return s.preset
	}
	switch to := s.to.(type) {
	case *string:
		return *to
	case cli.Generic:
		if _, isList := to.(*cli.StringSlice); !isList {
			return to.String()
		}
	}
	return ""
}

// wrap breaks text into lines of at most width characters.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
