package main

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// holder is the program that listens where magent wants to.
type holder struct {
	listening bool // a listening socket is there
	pid       int  // 0 when the program cannot be seen, which takes its user or root
	comm      string
}

func (h holder) String() string {
	if h.pid == 0 {
		return "another program"
	}
	return fmt.Sprintf("%s (pid %d)", h.comm, h.pid)
}

// findHolder looks in proc(5), mounted at root, for whoever listens where e
// would.
func findHolder(root string, e endpoint) holder {
	var inodes []string
	if e.network == "unix" {
		inodes = unixInodes(root, e.address)
	} else if want, err := netip.ParseAddrPort(e.address); err == nil {
		inodes = append(tcpInodes(filepath.Join(root, "net/tcp"), want), tcpInodes(filepath.Join(root, "net/tcp6"), want)...)
	}
	if len(inodes) == 0 {
		return holder{}
	}
	h := holder{listening: true}
	sockets := make(map[string]bool, len(inodes))
	for _, inode := range inodes {
		sockets["socket:["+inode+"]"] = true
	}
	h.pid = ownerOf(root, sockets)
	if h.pid != 0 {
		comm, err := os.ReadFile(filepath.Join(root, strconv.Itoa(h.pid), "comm"))
		if err != nil {
			return holder{listening: true}
		}
		h.comm = strings.TrimSpace(string(comm))
	}
	return h
}

// listens says whether anyone listens where e would; without /proc, where that
// cannot be seen, yes.
func listens(e endpoint) bool {
	if _, err := os.Stat("/proc/net/unix"); err != nil {
		return true
	}
	return findHolder("/proc", e).listening
}

// tcpInodes returns the inodes of the listening sockets of a table such as
// /proc/net/tcp that leave no room for a socket on want.
func tcpInodes(table string, want netip.AddrPort) []string {
	var inodes []string
	eachLine(table, func(fields []string) {
		const listen = "0A"
		if len(fields) < 10 || fields[3] != listen {
			return
		}
		at, ok := parseProcAddress(fields[1])
		if !ok || at.Port() != want.Port() {
			return
		}
		if at.Addr() == want.Addr() || at.Addr().IsUnspecified() || want.Addr().IsUnspecified() {
			inodes = append(inodes, fields[9])
		}
	})
	return inodes
}

// unixInodes returns the inode of the socket that listens on path.
func unixInodes(root, path string) []string {
	var inodes []string
	eachLine(filepath.Join(root, "net/unix"), func(fields []string) {
		const acceptsConnections = "00010000"
		if len(fields) >= 8 && fields[3] == acceptsConnections && strings.Join(fields[7:], " ") == path {
			inodes = append(inodes, fields[6])
		}
	})
	return inodes
}

// eachLine calls f with the fields of every line of a file but the first.
func eachLine(path string, f func(fields []string)) {
	file, err := os.Open(path)
	if err != nil {
		return
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		if fields := strings.Fields(scanner.Text()); len(fields) > 0 {
			f(fields)
		}
	}
}

// parseProcAddress reads "0100007F:2EE0": an address as 32-bit words in the
// machine's byte order, and a port.
func parseProcAddress(text string) (netip.AddrPort, bool) {
	addrText, portText, _ := strings.Cut(text, ":")
	port, err := strconv.ParseUint(portText, 16, 16)
	if err != nil {
		return netip.AddrPort{}, false
	}
	raw, err := hex.DecodeString(addrText)
	if err != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr, uint16(port)), true
}

// ownerOf returns a process that has one of the sockets open, 0 when none can
// be seen.
func ownerOf(root string, sockets map[string]bool) int {
	processes, err := os.ReadDir(root)
	if err != nil {
		return 0
	}
	for _, process := range processes {
		pid, err := strconv.Atoi(process.Name())
		if err != nil {
			continue
		}
		directory := filepath.Join(root, process.Name(), "fd")
		files, err := os.ReadDir(directory)
		if err != nil {
			continue
		}
		for _, file := range files {
			if target, err := os.Readlink(filepath.Join(directory, file.Name())); err == nil && sockets[target] {
				return pid
			}
		}
	}
	return 0
}
