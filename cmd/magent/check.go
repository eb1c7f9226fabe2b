package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// showCheck says that the magent serves every key, or what is in the way of
// that, as an error.
func showCheck(w io.Writer, _ *settings, where endpoint, r *reply) error {
	about, err := newReport(where, r)
	if err != nil {
		return err
	}
	if !about.Serves {
		return fmt.Errorf("the magent at %s cannot serve every key: %s", where.address, about.Problem)
	}
	line := fmt.Sprintf("magent at %s serves, %s", where.address, countStates(about.Servers))
	for _, s := range about.Servers {
		if !s.serves() && s.Problem != "" {
			line += "; " + s.refusal()
		}
	}
	if r.full {
		line += fmt.Sprintf("; it turns new clients away: all %d connections are in use, raise --max-clients", about.MaxClients)
	}
	_, err = fmt.Fprintln(w, line)
	return err
}

// countStates tells how many servers are up, and what the others are.
func countStates(servers []serverReport) string {
	count := map[string]int{}
	for _, s := range servers {
		count[s.State]++
	}
	word := "servers"
	if len(servers) == 1 {
		word = "server"
	}
	text := fmt.Sprintf("%d of %d %s up", count["up"], len(servers), word)
	for _, state := range []string{"warming", "down", "dirty"} {
		if n := count[state]; n > 0 {
			text += fmt.Sprintf(", %d %s", n, state)
		}
	}
	return text
}

// unserved says which servers are in the way of serving every key, and how to
// mend that; "" when all keys are served. Each primary may share keys with each
// backup, as in the proxy's pools.twins: where a primary does not serve, all
// backups but itself have to.
func unserved(servers []serverReport) string {
	concerned := map[string]bool{}
	alone := false
	for _, primary := range servers {
		if !primary.isPrimary() || primary.serves() {
			continue
		}
		backups := backupsOf(primary, servers)
		missing := slices.DeleteFunc(slices.Clone(backups), serverReport.serves)
		if len(backups) > 0 && len(missing) == 0 {
			continue
		}
		alone = alone || len(backups) == 0
		for _, s := range append(missing, primary) {
			concerned[s.Name] = true
		}
	}
	var out []string
	for _, s := range servers {
		if concerned[s.Name] && s.Problem != "" {
			return s.refusal()
		}
		if concerned[s.Name] {
			out = append(out, fmt.Sprintf("%s is %s", printable(s.Name), printable(s.State)))
		}
	}
	const there = ": start memcached there, or mend the way to it"
	switch n := len(out); {
	case n == 0:
		return ""
	case n == 1 && alone:
		return out[0] + " and has no backup" + there
	case n > 3:
		return fmt.Sprintf("%s, %s and %d more servers are out", out[0], out[1], n-2) + there
	}
	return strings.Join(out, " and ") + there
}

// refusal says that a server does not let magent in, and how to mend that.
func (s serverReport) refusal() string {
	return fmt.Sprintf("%s is %s: %s", printable(s.Name), printable(s.State), printable(s.Problem))
}

// backupsOf returns the servers that may be the backup of a key of a primary.
func backupsOf(primary serverReport, servers []serverReport) []serverReport {
	return slices.DeleteFunc(slices.Clone(servers), func(s serverReport) bool {
		return !s.isBackup() || s.Name == primary.Name
	})
}
