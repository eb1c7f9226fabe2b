package proxy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func newTestProxy(t *testing.T, o Options) *Proxy {
	t.Helper()
	o.Threads = 1
	p, err := New(o, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, w := range p.workers {
			w.loop.Close()
		}
	})
	return p
}

// A key's backup is never its primary, also where the pools share servers,
// and crossed pools give each server both roles.
//
// promise: K4
func TestABackupIsNeverThePrimary(t *testing.T) {
	for _, distribution := range []string{"ketama", "magent-ketama", "magent-modula"} {
		o := Defaults()
		o.Distribution = distribution
		o.Primaries = []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}
		o.Backups = []string{"127.0.0.1:3", "127.0.0.1:2", "127.0.0.1:1"}
		p := newTestProxy(t, o)
		if len(p.servers) != 3 {
			t.Fatalf("%d servers, want each once", len(p.servers))
		}
		primaries, backups := map[int32]int{}, map[int32]int{}
		for i := range 3000 {
			primary, backup := p.pools.find(fmt.Appendf(nil, "key%d", i))
			if primary == backup || backup < 0 {
				t.Fatalf("%s: key%d has primary %d and backup %d", distribution, i, primary, backup)
			}
			primaries[primary]++
			backups[backup]++
		}
		if distribution == "magent-modula" {
			continue // a key's place is the same in both pools: the middle one is nobody's backup
		}
		for i := range int32(3) {
			if primaries[i] < 300 || backups[i] < 300 {
				t.Errorf("%s: server %d is primary of %d keys and backup of %d", distribution, i, primaries[i], backups[i])
			}
		}
	}
}

// promise: K4, C10
func TestNoBackupButThePrimary(t *testing.T) {
	o := Defaults()
	o.Primaries = []string{"127.0.0.1:1"}
	o.Backups = []string{"127.0.0.1:1"}
	p := newTestProxy(t, o)
	if primary, backup := p.pools.find([]byte("k")); primary != 0 || backup != -1 {
		t.Errorf("primary %d, backup %d", primary, backup)
	}
}

// promise: K1
func TestFindDoesNotAllocate(t *testing.T) {
	o := Defaults()
	o.Primaries = []string{"127.0.0.1:1", "127.0.0.1:2"}
	o.Backups = []string{"127.0.0.1:2", "127.0.0.1:1"}
	p := newTestProxy(t, o)
	key := []byte("some key")
	if n := testing.AllocsPerRun(100, func() { p.pools.find(key) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Bad options are refused with one line that names the value and the mend.
//
// promise: L6
func TestBadOptions(t *testing.T) {
	for _, test := range []struct {
		change func(*Options)
		says   []string
	}{
		{func(o *Options) { o.Primaries = nil }, []string{"no server", "-s"}},
		{func(o *Options) { o.Primaries = []string{"a:b"} }, []string{`"a:b"`, "host[:port[:weight]]"}},
		{func(o *Options) { o.Backups = []string{"1.2.3.999"} }, []string{"-b", `"1.2.3.999"`}},
		{func(o *Options) { o.Primaries = []string{"a:1", "a:1"} }, []string{"a:1"}},
		{func(o *Options) { o.Distribution = "modulo" }, []string{"modulo", "ketama"}},
		{func(o *Options) { o.Threads = -1 }, []string{"-1"}},
		{func(o *Options) { o.MaxClients = 0 }, []string{"-n"}},
		{func(o *Options) { o.MaxServerConnections = 0 }, []string{"-i"}},
		{func(o *Options) { o.MaxItemSize = 2 << 30 }, []string{"--max-item-size"}},
		{func(o *Options) { o.MaxMemory = 1 }, []string{"--max-memory"}},
		{func(o *Options) { o.ServerTimeout = 0 }, []string{"--server-timeout"}},
		{func(o *Options) { o.ServerFailures = 0 }, []string{"--server-failures"}},
		{func(o *Options) { o.Hold = -time.Second }, []string{"--hold"}},
	} {
		o := Defaults()
		o.Primaries = []string{"127.0.0.1:11211"}
		test.change(&o)
		_, err := New(o, zerolog.Nop())
		if !errors.Is(err, ErrOptions) {
			t.Errorf("%+v: error %v", o, err)
			continue
		}
		for _, part := range test.says {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", err, part)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q is more than a line", err)
		}
	}
}
