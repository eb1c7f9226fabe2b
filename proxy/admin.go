package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"magent/proxy/engine"
	"magent/proxy/protocol"
)

// Two commands of magent's own, for its operator: `magent explain <key>` tells
// where a key lives and what both servers hold of it, `magent resync` has all
// servers given what they lack. They come from a client or, like some of the
// stats, through Ask.

// admin answers a line that memcached does not know, when it is one of
// magent's own commands.
func (s *session) admin(r *protocol.Request) bool {
	words := bytes.Fields(r.Args)
	if len(words) == 0 {
		return false
	}
	switch string(words[0]) {
	case "explain":
		if len(words) != 2 || len(words[1]) > 250 {
			s.sayNow(r, "CLIENT_ERROR write: magent explain <key>, with a key of at most 250 bytes")
			return true
		}
		q := s.order(r, nil)
		s.parked = q
		s.w.p.startExplain(q, string(words[1]))
	case "resync":
		if len(words) != 1 {
			s.sayNow(r, "CLIENT_ERROR write: magent resync, without anything behind it")
			return true
		}
		s.sayNow(r, s.w.p.resyncAsked())
	default:
		return false
	}
	return true
}

// resyncAsked begins a resync and returns what answers for it: OK, or a line for each
// server that is left out, and END.
func (p *Proxy) resyncAsked() string {
	leftOut, err := p.Resync()
	switch {
	case errors.Is(err, errNoBackup):
		return "CLIENT_ERROR " + err.Error()
	case err != nil:
		return "SERVER_ERROR " + err.Error()
	case len(leftOut) == 0:
		return string(okLine)
	}
	var b strings.Builder
	for _, server := range leftOut {
		fmt.Fprintf(&b, "STAT left_out %s%s", p.servers[server].Name(), lineEnd)
	}
	b.WriteString("END")
	return b.String()
}

func (s *session) sayNow(r *protocol.Request, line string) {
	r.Reply = append([]byte(line), lineEnd...)
	s.answerNow(r)
}

// startExplain has a client told where a key lives.
func (p *Proxy) startExplain(r *request, key string) {
	p.wg.Go(func() {
		text := p.explain(key)
		r.home.loop.Post(engine.TaskFunc(func() {
			r.answer = append(r.answer[:0], text...)
			r.settled = true
			r.home.replyStored(r)
		}))
	})
}

// explain asks both servers of a key what they hold of it.
func (p *Proxy) explain(key string) []byte {
	primary, backup := p.pools.find([]byte(key))
	var b bytes.Buffer
	stat := func(name string, value any) { fmt.Fprintf(&b, "STAT %s %v\r\n", name, value) }
	stat("key", key)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	first := p.explainOn(ctx, stat, "primary", primary, backup, key)
	same := "unknown"
	if backup >= 0 {
		second := p.explainOn(ctx, stat, "backup", backup, primary, key)
		if first.known && second.known {
			same = yesNo(first.present == second.present && first.item.Flags == second.item.Flags &&
				bytes.Equal(first.value, second.value) && sameExpiry(first.item.TTL, second.item.TTL))
		}
		stat("same", same)
	}
	b.Write(endLine)
	return b.Bytes()
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// held is what one server holds of a key.
type held struct {
	known, present bool
	item           protocol.Item
	value          []byte
}

// explainOn tells what one server holds of a key.
func (p *Proxy) explainOn(ctx context.Context, stat func(string, any), role string, server, other int32, key string) held {
	s := p.servers[server]
	state, _ := s.Load()
	stat(role, s.Name())
	stat(role+":state", state)
	_, missed := p.missed(server, other, []byte(key))
	journal := yesNo(missed)
	if missed && p.journals[server].lost() {
		journal = "unknown"
	}
	stat(role+":journal", journal)
	c, err := p.dial(ctx, server)
	if err == nil {
		defer c.Close()
		var h held
		if h.item, h.value, h.present, err = c.Item(key); err == nil {
			h.known = true
			stat(role+":present", yesNo(h.present))
			if h.present {
				stat(role+":size", h.item.Size)
				stat(role+":flags", h.item.Flags)
				stat(role+":ttl", h.item.TTL)
				stat(role+":token", s.ClientToken(h.item.CAS))
			}
			return h
		}
	}
	stat(role+":present", "unknown")
	return held{}
}
