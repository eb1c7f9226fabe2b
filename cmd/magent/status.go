package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// showStatus shows the state of a magent: for people, or as JSON.
func showStatus(w io.Writer, s *settings, where endpoint, r *reply) error {
	about, err := newReport(where, r)
	if err != nil {
		return err
	}
	if s.json {
		return json.NewEncoder(w).Encode(about)
	}
	var text strings.Builder
	about.writeHead(&text)
	text.WriteByte('\n')
	about.writeTable(&text)
	text.WriteByte('\n')
	for _, sentence := range about.words() {
		for _, line := range wrap(sentence, helpWidth) {
			text.WriteString(line + "\n")
		}
	}
	_, err = io.WriteString(w, text.String())
	return err
}

// writeHead writes what concerns the magent as a whole.
func (about *report) writeHead(w io.Writer) {
	fmt.Fprintf(w, "magent %s, pid %d, up for %s\n", printable(about.Version), about.PID, longTime(about.UptimeS))
	for i, address := range about.Listen {
		label := "listens at"
		if i > 0 {
			label = ""
		}
		e := endpoint{network: "tcp", address: address}
		switch {
		case address == "" || strings.HasPrefix(address, "/"):
		case about.ThisMachine && !isHere(e) && len(e.covers()) > 0:
			address += "  (this machine does not have the address now)"
		}
		fmt.Fprintf(w, "%-11s %s\n", label, printable(address))
	}
	if !about.ThisMachine {
		fmt.Fprintf(w, "%-11s %s, on another machine\n", "asked at", printable(about.Asked))
	}
	fmt.Fprintf(w, "%-11s %d of at most %d\n", "clients", about.Clients, about.MaxClients)
	fmt.Fprintf(w, "%-11s %d\n", "requests", about.Requests)
	rate := "no reads yet"
	if about.HitRate != nil {
		rate = fmt.Sprintf("%.1f %% of %d keys read", 100**about.HitRate, about.GetHits+about.GetMisses)
	}
	fmt.Fprintf(w, "%-11s %s\n", "hit rate", rate)
}

// writeTable writes a line for each server. Columns without a use now are left
// out.
func (about *report) writeTable(w io.Writer) {
	rows := [][]string{{"SERVER", "ROLE", "STATE", "COMPLETE", "MISSED", "", "WAITING"}}
	for _, s := range about.Servers {
		copying := s.copying()
		if copying != "" {
			rows[0][5] = "COPIED"
		}
		missed := fmt.Sprint(s.MissedKeys)
		if s.MissedMore {
			missed = "too many"
			if s.MissedWhy == "flush_all" {
				missed = s.MissedWhy
			}
		}
		rows = append(rows, []string{
			printable(s.Name), printable(s.Role), printable(s.State), printable(s.Complete),
			missed, copying, fmt.Sprint(s.InFlight),
		})
	}
	alignColumns(rows)
	for _, row := range rows {
		fmt.Fprintln(w, strings.TrimRight(strings.Join(row, "  "), " "))
	}
}

// copying tells how far the resync of a server is; "" when there is none.
func (s serverReport) copying() string {
	if s.State != "warming" || s.ResyncTotal == 0 {
		return ""
	}
	text := fmt.Sprintf("%d %%", 100*min(s.ResyncDone, s.ResyncTotal)/s.ResyncTotal)
	if s.ResyncEtaS > 0 {
		text += ", " + longTime(s.ResyncEtaS)
	}
	return text
}

// words say what is wrong and what happens by itself, a paragraph each.
func (about *report) words() []string {
	var words []string
	if !about.Serves {
		words = append(words, "Keys without a server that is up or warming are answered SERVER_ERROR: "+about.Problem+".")
	}
	for _, s := range about.Servers {
		twins := about.twinsOf(s)
		if text := s.words(len(twins) > 0, slices.ContainsFunc(twins, serverReport.serves)); text != "" {
			words = append(words, text)
		}
	}
	if about.Clients >= about.MaxClients {
		words = append(words, fmt.Sprintf("New clients are turned away: all %d connections are in use. Raise --max-clients, which SIGHUP reads anew from the config file.", about.MaxClients))
	}
	if about.DivergentKeys > 0 {
		words = append(words, fmt.Sprintf("Copies of %d keys differed while both servers were up, and were mended: something beside magent writes to the servers.", about.DivergentKeys))
	}
	if len(words) > 0 {
		return words
	}
	if about.mirrored() {
		return []string{"All is well: every write goes to two servers."}
	}
	return []string{"All servers are up. Not every key has a backup: what has none is on one server only."}
}

// mirrored says whether every key has a backup.
func (about *report) mirrored() bool {
	for _, s := range about.Servers {
		if s.isPrimary() && len(backupsOf(s, about.Servers)) == 0 {
			return false
		}
	}
	return true
}

// twinsOf are the servers that can hold the second copies of a server's keys.
func (about *report) twinsOf(s serverReport) []serverReport {
	return slices.DeleteFunc(slices.Clone(about.Servers), func(other serverReport) bool {
		return other.Name == s.Name || !(s.isPrimary() && other.isBackup() || s.isBackup() && other.isPrimary())
	})
}

// words say of one server that is not up what that means, and what happens by
// itself. twin tells whether another server holds second copies of its keys, and
// answers whether one of these serves.
func (s serverReport) words(twin, answers bool) string {
	switch {
	case s.Problem != "" && !s.serves():
		return fmt.Sprintf("%s. It has been out for %s and is tried again at least once a second.", s.refusal(), longTime(s.OutS))
	case s.State == "down", s.State == "dirty":
		return s.wordsWhenOut(twin, answers)
	case s.State == "warming" && s.MissedMore:
		return fmt.Sprintf("%s is warming: %s. Each key is copied from its twins before it is read, until the server can be flushed and filled anew. Until then its twins have to stay up.", printable(s.Name), s.missedMore())
	case s.State == "warming" && !answers:
		return fmt.Sprintf("%s is warming: it serves, but may lack keys, and no twin of it serves. What it does not hold is answered SERVER_ERROR until a twin is back, or counts as gone (--lost-after).", printable(s.Name))
	case s.State == "warming":
		text := fmt.Sprintf("%s is warming: it serves, and what it lacks is copied from its twins", printable(s.Name))
		if s.ResyncTotal > 0 {
			text += fmt.Sprintf(": %d of %d keys so far", min(s.ResyncDone, s.ResyncTotal), s.ResyncTotal)
			if s.ResyncEtaS > 0 {
				text += ", the rest in about " + longTime(s.ResyncEtaS)
			}
		}
		return text + ". It is up when that is done. Until then its twins have to stay up."
	}
	return ""
}

// wordsWhenOut are words for a server that does not serve.
func (s serverReport) wordsWhenOut(twin, answers bool) string {
	text := fmt.Sprintf("%s is %s", printable(s.Name), printable(s.State))
	if s.OutWhy != "" {
		text += ": " + printable(s.OutWhy) + ". It"
	} else {
		text += ": it"
	}
	switch {
	case s.State == "down" && s.Version == "unknown":
		text += fmt.Sprintf(" has not been reached since magent started %s ago.", longTime(s.OutS))
	case s.State == "down":
		text += fmt.Sprintf(" has been out of reach for %s and has missed nothing so far.", longTime(s.OutS))
	case s.MissedMore && s.MissedWhy != "":
		text += fmt.Sprintf(" has been out of reach for %s, and %s.", longTime(s.OutS), s.missedMore())
	default:
		text += fmt.Sprintf(" has been out of reach for %s and has missed writes.", longTime(s.OutS))
	}
	if answers {
		text += " Its twins answer for it where they serve."
	}
	text += " It is tried again at least once a second"
	switch {
	case s.State == "down":
		return text + "."
	case !twin:
		return text + ", and flushed when it answers."
	case s.MissedMore:
		return text + ", and when it answers it is flushed and filled from its twins before anything old is read."
	}
	return text + ", and when it answers it gets what it has missed from its twins before anything old is read."
}

// missedMore says why it is not known what the server has missed.
func (s serverReport) missedMore() string {
	text := "it has missed more writes than are known"
	if s.MissedWhy != "" {
		text += " (" + printable(s.MissedWhy) + ")"
	}
	return text
}

// longTime writes a time for people, in its two largest units.
func longTime(seconds int64) string {
	switch s := max(seconds, 0); {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 60*60:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 24*60*60:
		return fmt.Sprintf("%d h %d min", s/3600, s/60%60)
	default:
		return fmt.Sprintf("%d d %d h", s/86400, s/3600%24)
	}
}
