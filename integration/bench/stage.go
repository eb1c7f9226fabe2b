package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	readyTime  = 10 * time.Second // for a server or proxy to answer
	readyPause = 10 * time.Millisecond
)

// stage is everything that runs for one measurement. close ends it.
type stage struct {
	address  string   // where the load goes
	proxy    *process // nil when there is none
	servers  []*process
	settings []string // "name=pid" of each process, for loadgen --watch

	addresses []string // of servers, in their order
}

// stager starts stages.
type stager struct {
	programs  programs
	proxyCore int
	loadCore  int
	ports     *ports
	dir       string // for nutcracker's configuration
	megabytes int    // memory of each server
}

// open starts the servers of a target and its proxy, and waits until a get is
// answered. extra is added to the arguments of a magent.
func (s *stager) open(ctx context.Context, t target, extra ...string) (*stage, error) {
	st := new(stage)
	if err := s.fill(ctx, st, t, extra); err != nil {
		return nil, errors.Join(err, st.close())
	}
	return st, nil
}

func (s *stager) fill(ctx context.Context, st *stage, t target, extra []string) error {
	primary, err := s.memcached(ctx, st, "server")
	if err != nil {
		return err
	}
	st.address = primary
	if t.kind == direct {
		return nil
	}
	port, err := s.ports.free()
	if err != nil {
		return err
	}
	st.address = local(port)
	var args []string
	switch t.kind {
	case mirroring, plain:
		args = []string{"-D", "--threads", "1", "-l", "127.0.0.1", "-p", strconv.Itoa(port), "-s", primary}
		if t.kind == mirroring {
			backup, err := s.memcached(ctx, st, "backup")
			if err != nil {
				return err
			}
			args = append(args, "-b", backup)
		}
		args = append(args, extra...)
	case nutcracker:
		if args, err = s.nutcrackerArgs(port, primary); err != nil {
			return err
		}
	}
	st.proxy, err = start(t.name, s.proxyCore, nil, t.path, args...)
	if err != nil {
		return err
	}
	st.settings = append(st.settings, fmt.Sprintf("%s=%d", watchProxy, st.proxy.pid))
	return waitReady(ctx, st.proxy, st.address)
}

// watchProxy is the name of the proxy in loadgen's result. All others are servers.
const watchProxy = "proxy"

// memcached starts a server and returns its address.
func (s *stager) memcached(ctx context.Context, st *stage, name string) (string, error) {
	port, err := s.ports.free()
	if err != nil {
		return "", err
	}
	p, err := s.startServer(name, local(port))
	if err != nil {
		return "", err
	}
	st.servers = append(st.servers, p)
	st.addresses = append(st.addresses, local(port))
	st.settings = append(st.settings, fmt.Sprintf("%s=%d", name, p.pid))
	return local(port), waitReady(ctx, p, local(port))
}

// serverMegabytes is the memory of a server that holds few keys.
const serverMegabytes = 256

func (s *stager) startServer(name, address string) (*process, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return start(name, s.loadCore, nil, s.programs.memcached,
		"-t", "1", "-m", strconv.Itoa(cmp.Or(s.megabytes, serverMegabytes)), "-R", strconv.Itoa(s.programs.perEvent), "-U", "0", "-l", host, "-p", port, "-u", "nobody")
}

// restart starts the first server again after it was killed.
func (s *stager) restart(ctx context.Context, st *stage) error {
	p, err := s.startServer(st.servers[0].name, st.addresses[0])
	if err != nil {
		return err
	}
	st.servers[0] = p
	return waitReady(ctx, p, st.addresses[0])
}

// nutcrackerArgs writes nutcracker's configuration: one pool of one server.
func (s *stager) nutcrackerArgs(port int, server string) ([]string, error) {
	statsPort, err := s.ports.free()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(s.dir, "nutcracker.yml")
	config := fmt.Sprintf(`bench:
  listen: %s
  hash: fnv1a_64
  distribution: ketama
  preconnect: true
  servers:
   - %s:1
`, local(port), server)
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	return []string{"-c", file, "-v", "0", "-a", "127.0.0.1", "-s", strconv.Itoa(statsPort)}, nil
}

// close ends all processes, the proxy first. The error names those that did not
// end as they should.
func (st *stage) close() error {
	var all []error
	if st.proxy != nil {
		all = append(all, st.proxy.stop())
	}
	for _, p := range st.servers {
		all = append(all, p.stop())
	}
	return errors.Join(all...)
}

// waitReady returns when a get at the address is answered with a miss.
func waitReady(ctx context.Context, p *process, address string) error {
	deadline := time.Now().Add(readyTime)
	for {
		err := getMiss(address)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer at %s within %v: %w; it said: %s", p.name, address, readyTime, err, p.said)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.ended:
			return p.died()
		case <-time.After(readyPause):
		}
	}
}

func getMiss(address string) error {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("get bench:ready\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && line != "END\r\n" {
		err = fmt.Errorf("get is answered %.80q", line)
	}
	return err
}
