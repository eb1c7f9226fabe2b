package harness

import (
	"fmt"
	"net"
	"testing"
)

// The kernel names the socket at the other end of a connection by the number
// under which its process has it open.
func TestSocketInode(t *testing.T) {
	ln, err := net.Listen("tcp", Loopback(FreePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = accepted.Close() }()
	inode, err := socketInode(conn.LocalAddr().(*net.TCPAddr), conn.RemoteAddr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	if !holds("/proc/self", fmt.Sprintf("socket:[%d]", inode)) {
		t.Errorf("this process does not hold socket %d", inode)
	}
	other, err := socketInode(conn.RemoteAddr().(*net.TCPAddr), conn.LocalAddr().(*net.TCPAddr))
	if err != nil || other == inode {
		t.Errorf("the other end: got %d, %v; want another number than %d", other, err, inode)
	}
	_, err = socketInode(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, conn.LocalAddr().(*net.TCPAddr))
	if err == nil {
		t.Error("a socket was found where there is none")
	}
}
