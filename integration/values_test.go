package integration

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"magent/integration/harness"
)

// promise: W1, W4
func TestValuesOfEverySizeUpToTheServersLimit(t *testing.T) {
	t.Parallel()
	m, direct := startMirrored(t, patient...), harness.StartMemcached(t)
	a, b := harness.MustDial(t, m.Addr), harness.MustDial(t, direct.Addr)
	sizes := []int{0, 1, 2, 3, 100, 1023, 1024, 2047, 2048, 4095, 4096, 4097, 8191, 16383, 16384, 16385, 32768, 65535, 65536, 65537, 131072, 262143, 500_000, 524288, 1_000_000}
	// Around 1 MB the server decides, and magent says what it says.
	for size := 1<<20 - 300; size <= 1<<20+2; size += 37 {
		sizes = append(sizes, size)
	}
	sizes = append(sizes, 1<<20-1, 1<<20)
	keys := []string{}
	for _, size := range sizes {
		key, value := fmt.Sprint("size", size), []byte(largeValue(size))
		answer, err := a.Store("set", key, 1, 0, value)
		must(t, err)
		want, err := b.Store("set", key, 1, 0, value)
		must(t, err)
		if answer != want {
			t.Fatalf("%d bytes: magent answers %q, memcached %q", size, answer, want)
		}
		if want != "STORED" {
			expectMiss(t, a, key)
			continue
		}
		expectValue(t, a, key, string(value))
		keys = append(keys, key)
	}
	awaitEqual(t, m.primary, m.backup, keys)
	// And all at once, 14 MB in one answer.
	items, err := a.Get(keys...)
	if err != nil || len(items) != len(keys) {
		t.Fatalf("%d of %d values, %v", len(items), len(keys), err)
	}
	for i, it := range items {
		size := 0
		fmt.Sscanf(keys[i], "size%d", &size) //nolint:errcheck // made above
		if it.Key != keys[i] || string(it.Value) != largeValue(size) {
			t.Fatalf("value %d is wrong: %s of %d bytes", i, it.Key, len(it.Value))
		}
	}
}

// promise: W1, R2
func TestValuesOfManyMegabytes(t *testing.T) {
	p, b := harness.StartMemcached(t, "-I", "64m", "-m", "1024"), harness.StartMemcached(t, "-I", "64m", "-m", "1024")
	m := harness.StartMagent(t, harness.Config{Primaries: []string{p.Addr}, Backups: []string{b.Addr}, Args: patient})
	c := harness.MustDial(t, m.Addr)
	for _, size := range []int{2 << 20, 16<<20 + 1, 63 << 20} {
		key, value := fmt.Sprint("mega", size), largeValue(size)
		must(t, c.Set(key, value))
		expectValue(t, c, key, value)
		awaitEqual(t, p, b, []string{key})
	}
	// Another client is served while a large value is on its way.
	sender, other := harness.MustDial(t, m.Addr), harness.MustDial(t, m.Addr)
	request := harness.Storage("set", "parts", 0, 0, []byte(largeValue(40<<20)))
	for sent := 0; sent < len(request); sent += 4 << 20 {
		must(t, sender.Send(request[sent:min(len(request), sent+4<<20)]))
		must(t, other.Set("small", fmt.Sprint(sent)))
		expectValue(t, other, "small", fmt.Sprint(sent))
	}
	if answer, err := sender.Line(); err != nil || answer != "STORED" {
		t.Fatalf("%q, %v", answer, err)
	}
	awaitEqual(t, p, b, []string{"parts", "small"})
	p.Kill()
	expectValue(t, c, "parts", largeValue(40<<20))
}

// promise: R1, R2, R3
func TestTooLargeValuesAreRefusedAndTheConnectionGoesOn(t *testing.T) {
	t.Parallel()
	m := startMirrored(t, append([]string{"--max-item-size", "200k"}, patient...)...)
	c := harness.MustDial(t, m.Addr)
	const refused = "SERVER_ERROR object too large for cache"
	for _, verb := range []string{"set", "add", "replace", "append", "prepend", "cas"} {
		var extra []string
		if verb == "cas" {
			extra = []string{"1"}
		}
		for _, size := range []int{200<<10 + 1, 1 << 20, 5 << 20} {
			must(t, c.Set("k", "v"))
			answer, err := c.Store(verb, "k", 0, 0, make([]byte, size), extra...)
			if err != nil || answer != refused {
				t.Fatalf("%s of %d bytes: %q, %v", verb, size, answer, err)
			}
			must(t, c.Set("next", "v"))
			expectValue(t, c, "next", "v")
		}
	}
	value := largeValue(200 << 10)
	must(t, c.Set("fits", value))
	expectValue(t, c, "fits", value)
	awaitEqual(t, m.primary, m.backup, []string{"k", "next", "fits"})
}

// promise: W1, W4, R2
func TestHundredThousandKeysInOneGet(t *testing.T) {
	for _, servers := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d primaries", servers), func(t *testing.T) {
			t.Parallel()
			m := startPools(t, servers, servers, patient...)
			direct := harness.StartMemcached(t)
			a, b := harness.MustDial(t, m.Addr), harness.MustDial(t, direct.Addr)
			const count = 100_000
			var sets bytes.Buffer
			var get strings.Builder
			get.WriteString("gets")
			for i := range count {
				fmt.Fprintf(&get, " key%d", i)
				if i%3 > 0 {
					fmt.Fprintf(&sets, "set key%d %d 0 5 noreply\r\n%05d\r\n", i, i, i%100_000)
				}
			}
			for _, c := range []*harness.Client{a, b} {
				must(t, c.Send(sets.Bytes()))
				must(t, c.Set("done", "x"))
			}
			x, err := a.Retrieve(get.String())
			must(t, err)
			y, err := b.Retrieve(get.String())
			must(t, err)
			if len(x) != len(y) || len(x) != count*2/3 {
				t.Fatalf("magent answers %d values, memcached %d", len(x), len(y))
			}
			for i := range x {
				if x[i].Key != y[i].Key || x[i].Flags != y[i].Flags || !bytes.Equal(x[i].Value, y[i].Value) {
					t.Fatalf("value %d: magent %s %d %q, memcached %s %d %q", i,
						x[i].Key, x[i].Flags, x[i].Value, y[i].Key, y[i].Flags, y[i].Value)
				}
			}
			// The connection goes on, and others were not forgotten.
			expectValue(t, a, "done", "x")
			expectValue(t, harness.MustDial(t, m.Addr), "key1", "00001")
		})
	}
}
