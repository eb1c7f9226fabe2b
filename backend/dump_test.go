package backend

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// dumped lists a server's keys. Its crawler may be busy with a run of its own,
// which says so and ends soon.
func dumped(t *testing.T, m *memcached, walk string) (keys map[string]int64, err error) {
	t.Helper()
	eventually(t, "the crawler is free", func() bool {
		keys = map[string]int64{}
		c := dialTest(t, m)
		defer c.Close()
		err = c.DumpKeys(walk, func(key []byte, access int64, _ int) {
			if _, twice := keys[string(key)]; twice && walk == DumpByHash {
				t.Errorf("%q is listed twice", key)
			}
			keys[string(key)] = access
		})
		return err == nil || !errors.Is(err, ErrClosed)
	})
	return keys, err
}

// Every key is listed once, however it looks; whether the LRU crawler is on or off, and it is left as it was.
//
// promise: C7
func TestDumpListsEveryKey(t *testing.T) {
	for name, args := range map[string][]string{
		// By class an item is left out that the LRU maintainer holds at this moment.
		"crawler on":  {"-o", "lru_crawler,no_lru_maintainer"},
		"crawler off": {"-o", "no_lru_crawler,no_lru_maintainer"},
	} {
		t.Run(name, func(t *testing.T) {
			m := startMemcached(t, args...)
			c := dialTest(t, m)
			begin := time.Now()
			want := map[string]bool{"%41%": true, "a=b": true, "key=x": true, "END": true, "\x01\x7f\xff\xc3\xa9": true, strings.Repeat("k", 250): true}
			for i := range 2000 {
				want[fmt.Sprintf("key%d", i)] = true
			}
			for key := range want {
				mustStore(t, c, "set", key, "x")
			}
			// Keys that only the binary protocol or base64 can name.
			for _, key := range []string{"with space", "line\nend", "\x00"} {
				want[key] = true
				if answer, err := c.Ask("ms %s 1 b\r\nx\r\n", base64.StdEncoding.EncodeToString([]byte(key))); answer != "HD" || err != nil {
					t.Fatalf("%q: %q, %v", key, answer, err)
				}
			}
			for _, walk := range []string{DumpByHash, DumpByClass} {
				keys, err := dumped(t, m, walk)
				if err != nil {
					t.Fatalf("%s: %v", walk, err)
				}
				for key := range want {
					if at, ok := keys[key]; !ok || time.Unix(at, 0).Before(begin.Add(-patience)) || time.Until(time.Unix(at, 0)) > patience {
						t.Errorf("%s: %.40q is listed: %v, used at %d", walk, key, ok, at)
					}
				}
				if len(keys) != len(want) {
					t.Errorf("%s: %d keys are listed, want %d", walk, len(keys), len(want))
				}
			}
			eventually(t, "the crawler is as it was", func() bool {
				off := m.ask(t, "lru_crawler metadump hash") == "CLIENT_ERROR lru crawler disabled"
				return off == (name == "crawler off")
			})
		})
	}
}

// promise: C7
func TestDumpOfAnEmptyServer(t *testing.T) {
	keys, err := dumped(t, startMemcached(t, "-o", "lru_crawler"), DumpByHash)
	if err != nil || len(keys) != 0 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

// A server that does not list its keys is told from one that is gone or busy:
// asking it once more is of no use.
//
// promise: C7
func TestDumpThatIsRefused(t *testing.T) {
	if _, err := dumped(t, startMemcached(t, "-X"), DumpByHash); !errors.Is(err, ErrNoDump) || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("started with -X: %v", err)
	}
	for _, c := range []struct {
		name    string
		answers map[string]string
		want    error
		noDump  bool
		keys    int
	}{
		{"too old", map[string]string{"lru_crawler metadump hash": "ERROR"}, ErrNoDump, true, 0},
		{"too old for this walk", map[string]string{"lru_crawler metadump hash": "BADCLASS invalid class id"}, ErrNoDump, true, 0},
		{"busy", map[string]string{"lru_crawler metadump hash": "BUSY currently processing crawler request"}, ErrClosed, false, 0},
		{"a crawler that cannot be turned on", map[string]string{
			"lru_crawler metadump hash": "CLIENT_ERROR lru crawler disabled", "lru_crawler enable": "ERROR failed to start lru crawler thread",
		}, ErrNoDump, true, 0},
		{"a crawler that stays off", map[string]string{
			"lru_crawler metadump hash": "CLIENT_ERROR lru crawler disabled", "lru_crawler enable": "OK", "lru_crawler disable": "OK",
		}, ErrNoDump, true, 0},
		{"nonsense among the keys", map[string]string{"lru_crawler metadump hash": "key=a exp=-1 la=1 cas=1 fetch=no cls=1 size=1\nnonsense"}, ErrProtocol, false, 1},
		{"an error among the keys", map[string]string{"lru_crawler metadump hash": "key=a exp=-1 la=1\nCLIENT_ERROR lru crawler disabled"}, ErrProtocol, false, 1},
		{"no end", map[string]string{"lru_crawler metadump hash": "key=a exp=-1 la=1\nkey=b exp=-1 la=1"}, ErrTimeout, false, 2},
	} {
		f := newFakeServer(t, "127.0.0.1:0", func(line string) string { return c.answers[line] })
		limit := patience
		if errors.Is(c.want, ErrTimeout) {
			limit = time.Second // the whole answer comes within it
		}
		client, err := DialClient(t.Context(), addressAt(f.at()), patience, limit)
		if err != nil {
			t.Fatal(err)
		}
		keys := 0
		err = client.DumpKeys(DumpByHash, func([]byte, int64, int) { keys++ })
		if !errors.Is(err, c.want) || errors.Is(err, ErrNoDump) != c.noDump || keys != c.keys {
			t.Errorf("%s: %d keys, %v; want %d, %v", c.name, keys, err, c.keys, c.want)
		}
		if len(f.all()) > 4 {
			t.Errorf("%s: asked %q", c.name, f.all())
		}
		if f.got("lru_crawler enable") > 0 && strings.HasPrefix(c.answers["lru_crawler enable"], "OK") && f.got("lru_crawler disable") != 1 {
			t.Errorf("%s: the crawler that was turned on is not turned off: %q", c.name, f.all())
		}
		client.Close()
		f.close()
	}
}
