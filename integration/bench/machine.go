package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fact is a line about where and how was measured.
type fact struct{ name, value string }

// facts are date, machine, versions and the command, for the report.
func facts(args []string, targets []target, p programs, proxyCore, loadCore int) []fact {
	all := []fact{
		{"date", time.Now().UTC().Format("2006-01-02 15:04 UTC")},
		{"kernel", kernel()},
		{"processor", fmt.Sprintf("%s, %d cores", cpuModel(), runtime.NumCPU())},
		{"cores", fmt.Sprintf("proxy on %d, load generator and servers on %d", proxyCore, loadCore)},
		{"memcached", fmt.Sprintf("%s, -R %d", version(p.memcached, "-V"), p.perEvent)},
	}
	for _, t := range targets {
		switch t.kind {
		case mirroring:
			all = append(all, fact{t.name, version(t.path, "--version")})
		case nutcracker:
			all = append(all, fact{t.name, version(t.path, "-V")})
		}
	}
	all = append(all, fact{"Go", runtime.Version()})
	command := filepath.Base(args[0])
	for _, a := range args[1:] {
		if strings.ContainsAny(a, " '\"$") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		command += " " + a
	}
	return append(all, fact{"command", command})
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown: " + err.Error()
	}
	text := func(b []byte) string { s, _, _ := bytes.Cut(b, []byte{0}); return string(s) }
	return text(u.Sysname[:]) + " " + text(u.Release[:]) + " " + text(u.Machine[:])
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// version is the first line that a program says about itself.
func version(path, flag string) string {
	out, err := exec.Command(path, flag).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" {
		return fmt.Sprintf("unknown (%v)", err)
	}
	return strings.TrimPrefix(line, "This is ") // nutcracker's way
}
