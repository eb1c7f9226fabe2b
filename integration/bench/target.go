package main

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// kind is how a target is started.
type kind int

const (
	mirroring kind = iota // magent with a backup: every set goes to two servers
	plain                 // magent without a backup
	nutcracker
	direct // no proxy: memcached itself
)

// The names under which the targets appear in --targets and in the tables.
const (
	nameMagent     = "magent"
	namePlain      = "magent-plain"
	nameNutcracker = "nutcracker"
	nameDirect     = "direct"
)

// target is one of the things that are compared.
type target struct {
	name string
	kind kind
	path string // of the program; of memcached for a direct one
}

// programs are the paths of what is started.
type programs struct {
	magent, nutcracker, memcached string
	perEvent                      int // requests that a memcached runs of one connection at once; see its option -R
}

// chooseTargets makes the list of targets from --targets and --also, and checks
// that their programs are there.
func chooseTargets(names string, also []string, p programs) ([]target, error) {
	known := []target{
		{nameMagent, mirroring, p.magent},
		{namePlain, plain, p.magent},
		{nameNutcracker, nutcracker, p.nutcracker},
		{nameDirect, direct, p.memcached},
	}
	var chosen []target
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(known, func(t target) bool { return t.name == name })
		if i < 0 {
			return nil, fmt.Errorf("--targets: %q is not one of %s, %s, %s, %s",
				name, nameMagent, namePlain, nameNutcracker, nameDirect)
		}
		chosen = append(chosen, known[i])
	}
	for _, s := range also {
		name, path, ok := strings.Cut(s, "=")
		if !ok || name == "" || path == "" {
			return nil, fmt.Errorf("--also %q: give name=path", s)
		}
		chosen = append(chosen, target{name, mirroring, path})
	}
	for i := range chosen {
		t := &chosen[i]
		if slices.ContainsFunc(chosen[:i], func(o target) bool { return o.name == t.name }) {
			return nil, fmt.Errorf("target %q is there twice", t.name)
		}
		path, err := exec.LookPath(t.path)
		if err != nil {
			return nil, fmt.Errorf("target %s: %w; %s", t.name, err, mend(t.kind))
		}
		t.path = path
	}
	return chosen, nil
}

// mend says how to get a program that is missing.
func mend(k kind) string {
	switch k {
	case mirroring, plain:
		return "build it and name it with --magent (or --also name=path)"
	case nutcracker:
		return "apt-get install nutcracker, or leave it out with --targets"
	default:
		return "apt-get install memcached"
	}
}
