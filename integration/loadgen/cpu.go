package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// watched is a process whose processor time is measured together with the run.
type watched struct {
	name string
	pid  int
}

// watchFlag reads "--watch name=pid", which may be given more than once.
type watchFlag []watched

func (f *watchFlag) String() string { return "" }

// Set takes one value of the flag.
func (f *watchFlag) Set(s string) error {
	name, number, ok := strings.Cut(s, "=")
	pid, err := strconv.Atoi(number)
	if !ok || name == "" || err != nil || pid < 1 {
		return fmt.Errorf("%q is not name=pid", s)
	}
	*f = append(*f, watched{name: name, pid: pid})
	return nil
}

// processCPU is the processor time in nanoseconds that the living threads of a
// process have used: the first number of each /proc/PID/task/*/schedstat
// (Documentation/scheduler/sched-stats.rst of the Linux kernel).
func processCPU(pid int) (int64, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("process %d is not there, or the kernel keeps no schedstat", pid)
	}
	var sum int64
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		first, _, _ := bytes.Cut(text, []byte(" "))
		ns, err := strconv.ParseInt(string(first), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += ns
	}
	return sum, nil
}

// ownCPU is the processor time in nanoseconds of loadgen itself.
func ownCPU() (int64, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return u.Utime.Nano() + u.Stime.Nano(), nil
}

// tickNanos is the unit of /proc/stat: USER_HZ is 100 on all of Linux.
const tickNanos = 10_000_000

// machineCPU is the time that all processors together have been busy, and that
// was stolen from them: the first line of /proc/stat (man 5 proc_stat).
func machineCPU() (busy, stolen int64, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	const user, nice, system, irq, softirq, steal = 1, 2, 3, 6, 7, 8
	fields := strings.Fields(line)
	if len(fields) <= steal {
		return 0, 0, fmt.Errorf("/proc/stat: unknown first line %q", line)
	}
	at := func(i int) int64 {
		ticks, parseErr := strconv.ParseInt(fields[i], 10, 64)
		if parseErr != nil && err == nil {
			err = fmt.Errorf("/proc/stat: %w", parseErr)
		}
		return ticks * tickNanos
	}
	busy = at(user) + at(nice) + at(system) + at(irq) + at(softirq)
	stolen = at(steal)
	return busy, stolen, err
}

// cpuSample is the processor time, in nanoseconds, used until one moment.
type cpuSample struct {
	at      time.Time
	own     int64
	watched []int64
	machine int64 // by everything on this machine
	stolen  int64 // by other machines on the same hardware
}

func sampleCPU(processes []watched) (cpuSample, error) {
	var s cpuSample
	var err error
	if s.own, err = ownCPU(); err != nil {
		return s, err
	}
	s.at = time.Now()
	if s.machine, s.stolen, err = machineCPU(); err != nil {
		return s, err
	}
	for _, p := range processes {
		ns, err := processCPU(p.pid)
		if err != nil {
			return s, fmt.Errorf("--watch %s=%d: %w", p.name, p.pid, err)
		}
		s.watched = append(s.watched, ns)
	}
	return s, nil
}
