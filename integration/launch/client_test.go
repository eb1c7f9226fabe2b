package launch

import (
	"fmt"
	"net"
	"time"

	"magent/integration/harness"
)

// dial connects to magent over TCP or a Unix socket.
func dial(network, addr string) (*harness.Client, error) {
	conn, err := net.DialTimeout(network, addr, eventTime)
	if err != nil {
		return nil, err
	}
	return harness.NewClient(conn), nil
}

// roundTrip stores a value and reads it back.
func roundTrip(network, addr string) error {
	c, err := dial(network, addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	value := fmt.Sprint(time.Now().UnixNano())
	if err := c.Set("launch", value); err != nil {
		return err
	}
	got, found, err := c.Value("launch")
	if err != nil {
		return err
	}
	if !found || got != value {
		return fmt.Errorf("stored %q and read %q (found %v)", value, got, found)
	}
	return nil
}
