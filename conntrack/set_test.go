package conntrack

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type member struct{ Client }

func collect(s *Set[*member]) map[*member]bool {
	all := map[*member]bool{}
	s.Each(func(m *member) { all[m] = true })
	return all
}

// A Set does what a map of its members does.
//
// promise: W5
func TestSetAgainstAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Set[*member]
		model := map[*member]bool{}
		var order []*member // those in the model, so that a draw picks the same one again
		pick := func(t *rapid.T) *member {
			if len(order) == 0 {
				t.Skip("empty")
			}
			return order[rapid.IntRange(0, len(order)-1).Draw(t, "which")]
		}
		forget := func(m *member) {
			delete(model, m)
			order = slices.DeleteFunc(order, func(o *member) bool { return o == m })
		}
		add := func(active int64) {
			m := &member{Client{Active: active}}
			s.Add(m)
			model[m] = true
			order = append(order, m)
		}
		activity := rapid.Int64Range(0, 20)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) { add(activity.Draw(t, "active")) },
			"remove": func(t *rapid.T) {
				m := pick(t)
				s.Remove(m)
				forget(m)
			},
			"add again": func(t *rapid.T) {
				m := pick(t)
				s.Remove(m)
				s.Add(m)
			},
			"active": func(t *rapid.T) { pick(t).Active = activity.Draw(t, "active") },
			// Each visits everyone once, although it removes some of them.
			"each": func(t *rapid.T) {
				every := rapid.IntRange(1, 4).Draw(t, "remove one of")
				want := maps.Clone(model)
				i := 0
				s.Each(func(m *member) {
					if !want[m] {
						t.Fatal("Each gave a client twice, or one that is not there")
					}
					delete(want, m)
					if i++; i%every == 0 {
						s.Remove(m)
						forget(m)
					}
				})
				if len(want) > 0 {
					t.Fatalf("Each left %d clients out", len(want))
				}
			},
			"silent": func(t *rapid.T) {
				since := activity.Draw(t, "since")
				remove := rapid.Bool().Draw(t, "remove")
				want := map[*member]bool{}
				for m := range model {
					if m.Active < since {
						want[m] = true
					}
				}
				s.Silent(since, func(m *member) {
					if !want[m] {
						t.Fatalf("a client active at %d is silent since %d", m.Active, since)
					}
					delete(want, m)
					if remove {
						s.Remove(m)
						forget(m)
					}
				})
				if len(want) > 0 {
					t.Fatalf("%d silent clients were left out", len(want))
				}
			},
			"": func(t *rapid.T) {
				if s.Len() != len(model) || !maps.Equal(collect(&s), model) {
					t.Fatalf("%d members, want %d", s.Len(), len(model))
				}
			},
		})
	})
}

// A wave of clients that have left leaves neither memory nor the clients
// themselves behind.
//
// promise: R2
func TestSetGivesMemoryBack(t *testing.T) {
	var s Set[*member]
	const many = 20_000
	all := make([]*member, many)
	for i := range all {
		all[i] = &member{}
		s.Add(all[i])
	}
	for i, m := range all {
		if i%1000 == 0 {
			continue
		}
		s.Remove(m)
	}
	if s.Len() != many/1000 || cap(s.members) > 2048 {
		t.Errorf("%d members, room for %d", s.Len(), cap(s.members))
	}
	for _, gone := range s.members[len(s.members):cap(s.members)] {
		if gone != nil {
			t.Fatal("a client that has left is kept")
		}
	}
	for i := 0; i < many; i += 1000 {
		s.Remove(all[i])
	}
	if s.Len() != 0 {
		t.Errorf("%d members are left", s.Len())
	}
}
