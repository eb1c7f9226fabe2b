package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// report is what `magent status --json` writes. The names of its fields stay;
// docs/recovery.md explains them.
type report struct {
	Version       string         `json:"version"`
	PID           int64          `json:"pid"`
	UptimeS       int64          `json:"uptime_s"`
	Asked         string         `json:"asked"`
	ThisMachine   bool           `json:"this_machine"`
	Listen        []string       `json:"listen"`
	Serves        bool           `json:"serves"`
	Problem       string         `json:"problem"`
	Clients       int64          `json:"clients"`
	MaxClients    int64          `json:"max_clients"`
	TurnedAway    int64          `json:"clients_turned_away"`
	Requests      int64          `json:"requests"`
	GetHits       int64          `json:"get_hits"`
	GetMisses     int64          `json:"get_misses"`
	HitRate       *float64       `json:"hit_rate"` // null before the first read
	Failovers     int64          `json:"failovers"`
	DivergentKeys int64          `json:"divergent_keys"`
	Servers       []serverReport `json:"servers"`
}

// serverReport is the part about one server. Its state and completeness have
// the words of `stats servers`.
type serverReport struct {
	Name         string `json:"name"`
	Role         string `json:"role"`
	State        string `json:"state"`
	OutS         int64  `json:"out_s"`
	OutWhy       string `json:"out_why"` // "" while it serves
	Complete     string `json:"complete"`
	MissedKeys   int64  `json:"missed_keys"`
	MissedMore   bool   `json:"missed_more"`     // than is known
	MissedWhy    string `json:"missed_more_why"` // "" when all is known
	ReplayedKeys int64  `json:"replayed_keys"`
	ResyncDone   int64  `json:"resync_done"`
	ResyncTotal  int64  `json:"resync_total"`
	ResyncEtaS   int64  `json:"resync_eta_s"`
	InFlight     int64  `json:"requests_in_flight"`
	Outages      int64  `json:"outages"`
	Flushes      int64  `json:"flushes"`
	Weight       int64  `json:"weight"`
	Version      string `json:"version"`
	Problem      string `json:"problem"` // why it does not let magent in, "" when it does
}

func (s serverReport) isPrimary() bool { return s.Role == "primary" || s.Role == "both" }
func (s serverReport) isBackup() bool  { return s.Role == "backup" || s.Role == "both" }
func (s serverReport) serves() bool    { return s.State == "up" || s.State == "warming" }

// newReport reads the answers to stats, stats settings and stats servers.
func newReport(where endpoint, r *reply) (*report, error) {
	general := r.answers[0].named()
	if general["magent_version"] == "" {
		return nil, fmt.Errorf("what listens at %s is no magent: %s", where.address, nameIt)
	}
	about := &report{
		Version:       general["magent_version"],
		PID:           whole(general["pid"]),
		UptimeS:       whole(general["uptime"]),
		Asked:         where.address,
		ThisMachine:   r.here,
		Listen:        []string{},
		Clients:       whole(general["curr_connections"]),
		MaxClients:    whole(general["max_connections"]),
		TurnedAway:    whole(general["rejected_connections"]),
		Requests:      whole(general["magent_requests"]),
		GetHits:       whole(general["get_hits"]),
		GetMisses:     whole(general["get_misses"]),
		Failovers:     whole(general["magent_failovers"]),
		DivergentKeys: whole(general["magent_divergent_keys"]),
		Servers:       serverReports(r.answers[2]),
	}
	if len(about.Servers) == 0 {
		return nil, errors.New("the answer names no server: it is no magent that answers: " + nameIt)
	}
	for _, s := range r.answers[1] {
		if s.name == "listen" {
			about.Listen = append(about.Listen, s.value)
		}
	}
	if reads := about.GetHits + about.GetMisses; reads > 0 {
		rate := float64(about.GetHits) / float64(reads)
		about.HitRate = &rate
	}
	about.Problem = unserved(about.Servers)
	about.Serves = about.Problem == ""
	return about, nil
}

// serverReports reads the lines of `stats servers`: host:port:field value.
func serverReports(lines answer) []serverReport {
	var list []serverReport
	for _, s := range lines {
		colon := strings.LastIndexByte(s.name, ':')
		if colon < 0 {
			continue
		}
		name, field := s.name[:colon], s.name[colon+1:]
		if len(list) == 0 || list[len(list)-1].Name != name {
			list = append(list, serverReport{Name: name})
		}
		list[len(list)-1].set(field, s.value)
	}
	return list
}

func (s *serverReport) set(field, value string) {
	switch field {
	case "role":
		s.Role = value
	case "state":
		s.State = value
	case "complete":
		s.Complete = value
	case "version":
		s.Version = value
	case "problem":
		s.Problem = value
	case "out_s":
		s.OutS = whole(value)
	case "out_why":
		s.OutWhy = value
	case "journal_keys":
		s.MissedKeys = whole(value)
	case "journal_overflow":
		s.MissedMore = value == "yes"
	case "journal_overflow_why":
		s.MissedWhy = value
	case "replayed_keys":
		s.ReplayedKeys = whole(value)
	case "resync_done":
		s.ResyncDone = whole(value)
	case "resync_total":
		s.ResyncTotal = whole(value)
	case "resync_eta_s":
		s.ResyncEtaS = whole(value)
	case "requests_in_flight":
		s.InFlight = whole(value)
	case "outages":
		s.Outages = whole(value)
	case "flushes":
		s.Flushes = whole(value)
	case "weight":
		s.Weight = whole(value)
	}
}

// whole is a whole number, 0 where an older magent has none.
func whole(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}
