package ketama_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"magent/ketama"
)

// goldenKeys returns the keys of testdata/keys.hex.
func goldenKeys(t testing.TB) [][]byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "keys.hex"))
	if err != nil {
		t.Fatal(err)
	}
	var keys [][]byte
	for line := range strings.Lines(string(text)) {
		key, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	if len(keys) < 2000 {
		t.Fatalf("%d keys in keys.hex, want at least 2000", len(keys))
	}
	return keys
}

// pool returns the servers of "host|port|weight host|port|weight ...".
func pool(t testing.TB, words string) []ketama.Server {
	t.Helper()
	var servers []ketama.Server
	for _, word := range strings.Fields(words) {
		part := strings.Split(word, "|")
		port, err1 := strconv.Atoi(part[1])
		weight, err2 := strconv.Atoi(part[2])
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		servers = append(servers, ketama.Server{Host: part[0], Port: port, Weight: weight})
	}
	return servers
}

// golden calls check for each pool of a golden file, with the index of each key's server.
func golden(t *testing.T, d ketama.Distribution, check func(t *testing.T, servers []ketama.Server, want []int)) {
	t.Helper()
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	text, err := os.ReadFile(filepath.Join("testdata", string(d)+".golden"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) < 20 {
		t.Fatalf("%d lines in the golden file, want at least 20", len(lines))
	}
	for i := 0; i < len(lines); i += 2 {
		words, ok := strings.CutPrefix(lines[i], "pool ")
		if !ok {
			t.Fatalf("line %d: %q, want a pool", i+1, lines[i])
		}
		want := make([]int, len(lines[i+1]))
		for k, c := range lines[i+1] {
			want[k] = strings.IndexRune(digits, c)
		}
		servers := pool(t, words)
		t.Run(fmt.Sprintf("%s/%d/%d servers", d, i/2, len(servers)), func(t *testing.T) {
			check(t, servers, want)
		})
	}
}

// promise: K1, K2, K3
//
// The golden files come from libmemcached itself and from a second program for
// the C magent's distributions; testdata/generate.sh makes them.
func TestKeysAreWhereOthersPutThem(t *testing.T) {
	keys := goldenKeys(t)
	for _, d := range distributions {
		golden(t, d, func(t *testing.T, servers []ketama.Server, want []int) {
			r, err := ketama.New(d, servers)
			if err != nil {
				t.Fatal(err)
			}
			if len(want) != len(keys) {
				t.Fatalf("%d places for %d keys: run testdata/generate.sh", len(want), len(keys))
			}
			for i, key := range keys {
				if got := r.Lookup(key); got != want[i] {
					t.Fatalf("key %q is on server %d, want %d", key, got, want[i])
				}
			}
		})
	}
}

// promise: K1
//
// Host and port are only there to be named; what is hashed can be given too.
func TestLabelIsWhatIsHashed(t *testing.T) {
	keys := goldenKeys(t)
	for _, d := range []ketama.Distribution{ketama.Ketama, ketama.KetamaOneAtATime} {
		golden(t, d, func(t *testing.T, servers []ketama.Server, want []int) {
			for i, s := range servers {
				label := s.Host
				if s.Port != 11211 {
					label = fmt.Sprintf("%s:%d", s.Host, s.Port)
				}
				servers[i] = ketama.Server{Label: label, Host: "other", Port: i + 1, Weight: s.Weight}
			}
			r, err := ketama.New(d, servers)
			if err != nil {
				t.Fatal(err)
			}
			for i, key := range keys {
				if got := r.Lookup(key); got != want[i] {
					t.Fatalf("key %q is on server %d, want %d", key, got, want[i])
				}
			}
		})
	}
}
