package main

import (
	"slices"
	"strings"
	"testing"
)

// promise: L5
func TestResolveUser(t *testing.T) {
	const root, daemon, someone = 0, 1, 4242
	for _, c := range []struct {
		user, group string
		euid, egid  int
		uid, gid    int // -1: unchanged
		warning     string
	}{
		{"", "", root, root, -1, -1, ""},
		{"root", "", root, root, -1, -1, ""},
		{"0", "", root, root, -1, -1, ""},
		{"root", "", someone, someone, -1, -1, "-u root"},
		{"0", "", someone, someone, -1, -1, "-u 0"},
		{"root", "root", someone, someone, -1, -1, "-g root"},
		{"daemon", "", root, root, 1, 1, ""},
		{"1", "", root, root, 1, 1, ""},
		{"daemon", "", daemon, daemon, -1, -1, ""},
		{"daemon", "", someone, someone, 1, 1, ""}, // refused when it is tried
		{"4242", "", root, root, 4242, 4242, ""},   // no entry
		{"4242", "daemon", root, root, 4242, 1, ""},
		{"daemon", "4242", root, root, 1, 4242, ""},
		{"daemon", "0", root, root, 1, 0, ""},
		{"root", "daemon", root, root, -1, 1, ""},
		{"", "daemon", root, root, -1, 1, ""},
		{"", "root", root, root, -1, -1, ""},
		{"", "4242", someone, someone, -1, -1, ""},
	} {
		id, warning, err := resolveUser(c.user, c.group, c.euid, c.egid)
		if err != nil {
			t.Errorf("-u %q -g %q as %d: %v", c.user, c.group, c.euid, err)
			continue
		}
		if id.uid != c.uid || id.gid != c.gid || (warning == "") != (c.warning == "") || !strings.Contains(warning, c.warning) {
			t.Errorf("-u %q -g %q as %d: %+v, warning %q; want %d %d, %q", c.user, c.group, c.euid, id, warning, c.uid, c.gid, c.warning)
		}
		if id.uid >= 0 && !slices.Contains(id.groups, id.gid) {
			t.Errorf("-u %q -g %q: the groups %v lack %d", c.user, c.group, id.groups, id.gid)
		}
		if id.uid >= 0 && c.group != "0" && slices.Contains(id.groups, 0) {
			t.Errorf("-u %q -g %q keeps group 0", c.user, c.group)
		}
	}
}

// promise: L5, L6
func TestResolveUserMistakes(t *testing.T) {
	for _, c := range [][2]string{{"nosuchuser", ""}, {"-1", ""}, {"", "nosuchgroup"}, {"root", "1x"}, {"99999999999", ""}} {
		if id, _, err := resolveUser(c[0], c[1], 0, 0); err == nil {
			t.Errorf("-u %q -g %q: %+v", c[0], c[1], id)
		}
	}
}
