package harness

import (
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes and positions in the messages of sock_diag(7).
const (
	diagRequestSize = unix.SizeofNlMsghdr + 56 // struct inet_diag_req_v2
	diagInodeAt     = unix.SizeofNlMsghdr + 68 // idiag_inode in struct inet_diag_msg
	diagByFamily    = 20                       // SOCK_DIAG_BY_FAMILY
	anyCookie       = 0xffffffff               // INET_DIAG_NOCOOKIE
)

// socketInode returns the inode of the socket at the local end of a TCP
// connection over IPv4, as /proc/PID/fd names it. It asks the kernel for that
// one socket (see sock_diag(7)): reading the table of all sockets takes long
// on a machine that has many.
func socketInode(local, remote *net.TCPAddr) (uint32, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	limit := unix.NsecToTimeval(int64(time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return 0, err
	}

	host := binary.NativeEndian
	request := host.AppendUint32(nil, diagRequestSize)
	request = host.AppendUint16(request, diagByFamily)
	request = host.AppendUint16(request, unix.NLM_F_REQUEST)
	request = append(request, make([]byte, 8)...) // sequence number and port
	request = append(request, unix.AF_INET, unix.IPPROTO_TCP, 0, 0)
	request = host.AppendUint32(request, 0xffffffff) // in every state
	request = binary.BigEndian.AppendUint16(request, uint16(local.Port))
	request = binary.BigEndian.AppendUint16(request, uint16(remote.Port))
	request = append(append(request, local.IP.To4()...), make([]byte, 12)...)
	request = append(append(request, remote.IP.To4()...), make([]byte, 12)...)
	request = host.AppendUint32(request, 0) // on any interface
	request = host.AppendUint32(request, anyCookie)
	request = host.AppendUint32(request, anyCookie)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}

	answer := make([]byte, 1024)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return 0, err
	}
	if n < diagInodeAt+4 || host.Uint16(answer[4:]) != diagByFamily {
		return 0, fmt.Errorf("there is no socket %s to %s", local, remote)
	}
	inode := host.Uint32(answer[diagInodeAt:])
	if inode == 0 {
		return 0, fmt.Errorf("the socket %s to %s is closed", local, remote)
	}
	return inode, nil
}
