package clients

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"magent/integration/harness"
)

const mib = 1 << 20

// answers are errors of the client that are answers of the server.
var answers = []error{memcache.ErrCacheMiss, memcache.ErrNotStored, memcache.ErrCASConflict}

// goDriver is the driver of gomemcache. It writes a transcript as the drivers
// in testdata do.
type goDriver struct {
	*memcache.Client
	addr string
}

func driveGomemcache(host, port string) error {
	d := goDriver{addr: net.JoinHostPort(host, port)}
	d.Client = memcache.New(d.addr)
	d.Timeout = 10 * time.Second
	d.begin()
	d.store()
	d.numbers()
	d.tokens()
	d.many()
	d.large()
	d.badKeys()
	d.end()
	d.do("close", d.Close())
	return d.failover()
}

// step writes the line of one step.
func (d goDriver) step(name string, result any, err error) {
	switch {
	case slices.ContainsFunc(answers, func(answer error) bool { return errors.Is(err, answer) }):
		fmt.Println("ok", name, err)
	case err != nil:
		fmt.Println("error", name, strings.ReplaceAll(strconv.Quote(err.Error()), d.addr, "SERVER"))
	default:
		fmt.Println("ok", name, show(result))
	}
}

// do is a step without a result.
func (d goDriver) do(name string, err error) { d.step(name, "done", err) }

// get is a step that reads one key.
func (d goDriver) get(name, key string) {
	item, err := d.Get(key)
	d.step(name, item, err)
}

func (d goDriver) until(name string, cond func() bool) {
	if harness.Poll(8*time.Second, cond) {
		fmt.Println("ok", name, "yes")
	} else {
		fmt.Println("error", name, "it did not happen")
	}
}

func show(result any) string {
	switch r := result.(type) {
	case *memcache.Item:
		if len(r.Value) > 60 {
			return fmt.Sprintf("%d-bytes-%08x", len(r.Value), crc32.ChecksumIEEE(r.Value))
		}
		return fmt.Sprintf("%q flags %d", r.Value, r.Flags)
	case map[string]*memcache.Item:
		var items []string
		for key, item := range r {
			items = append(items, key+": "+show(item))
		}
		slices.Sort(items)
		return strings.Join(items, ", ")
	default:
		return fmt.Sprint(r)
	}
}

func item(key, value string) *memcache.Item {
	return &memcache.Item{Key: key, Value: []byte(value)}
}

// begin stores what has to expire until the end.
func (d goDriver) begin() {
	for _, name := range []string{"set", "touch", "gat"} {
		soon := item("e:"+name, "v")
		if name == "set" {
			soon.Expiration = 2
		}
		d.do("set.soon-"+name, d.Set(soon))
	}
	d.do("add.soon", d.Add(&memcache.Item{Key: "e:add", Value: []byte("v"), Expiration: 2}))
	d.do("touch.hit", d.Touch("e:touch", 2))
	d.do("touch.miss", d.Touch("absent", 2))
	got, err := d.GetAndTouch("e:gat", 2)
	d.step("gat.hit", got, err)
	got, err = d.GetAndTouch("absent", 2)
	d.step("gat.miss", got, err)
	d.do("expiry.far", d.Set(&memcache.Item{Key: "e:long", Value: []byte("v"), Expiration: 300}))
	d.get("expiry.far-get", "e:long")
	d.do("expiry.past", d.Set(&memcache.Item{Key: "e:long", Value: []byte("v"), Expiration: -1}))
	d.get("expiry.past-get", "e:long")
}

func (d goDriver) store() {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	d.do("ping", d.Ping())
	d.do("set.text", d.Set(item("v:text", "value")))
	d.get("get.text", "v:text")
	d.do("set.empty", d.Set(item("v:empty", "")))
	d.get("get.empty", "v:empty")
	d.do("set.bytes", d.Set(item("v:bytes", string(every)+"\r\nEND\r\n")))
	d.get("get.bytes", "v:bytes")
	d.do("set.flags", d.Set(&memcache.Item{Key: "v:flags", Value: []byte("f"), Flags: 1<<32 - 1}))
	d.get("get.flags", "v:flags")
	d.get("get.miss", "absent")

	d.do("add.stored", d.Add(item("a", "1")))
	d.do("add.refused", d.Add(item("a", "2")))
	d.do("replace.refused", d.Replace(item("absent", "1")))
	d.do("replace.stored", d.Replace(item("a", "3")))
	d.do("append.refused", d.Append(item("absent", "1")))
	d.do("append.stored", d.Append(item("a", "4")))
	d.do("prepend.refused", d.Prepend(item("absent", "1")))
	d.do("prepend.stored", d.Prepend(item("a", "2")))
	d.get("prepend.get", "a")
	d.do("delete.hit", d.Delete("a"))
	d.do("delete.miss", d.Delete("a"))
}

func (d goDriver) numbers() {
	number := func(name string, call func(string, uint64) (uint64, error), key string, delta uint64) {
		n, err := call(key, delta)
		d.step(name, n, err)
	}
	number("incr.miss", d.Increment, "absent", 1)
	d.do("set.number", d.Set(item("n", "10")))
	number("incr.one", d.Increment, "n", 1)
	number("incr.many", d.Increment, "n", 1000)
	number("decr.one", d.Decrement, "n", 1)
	number("decr.below", d.Decrement, "n", 100000)
	number("decr.miss", d.Decrement, "absent", 1)
	d.do("set.largest-number", d.Set(item("n", "18446744073709551615")))
	number("incr.wrap", d.Increment, "n", 2)
	number("incr.text", d.Increment, "v:text", 1)
	d.get("incr.after", "n")
}

func (d goDriver) tokens() {
	d.do("set.token", d.Set(item("c", "1")))
	first, err := d.Get("c")
	d.step("gets.hit", first, err)
	if err != nil {
		return
	}
	lost := *first
	first.Value = []byte("2")
	d.do("cas.stored", d.CompareAndSwap(first))
	lost.Value = []byte("3")
	d.do("cas.conflict", d.CompareAndSwap(&lost))
	d.get("cas.get", "c")
	gone, err := d.Get("c")
	d.step("gets.again", gone, err)
	d.do("delete.token", d.Delete("c"))
	if err == nil {
		d.do("cas.miss", d.CompareAndSwap(gone))
	}
}

func (d goDriver) many() {
	var keys []string
	for i := range 100 {
		key := "m:" + strconv.Itoa(i)
		keys = append(keys, key)
		if i%2 == 0 {
			if err := d.Set(item(key, strings.Repeat(key, 3))); err != nil {
				d.do("multi-get.set-"+key, err)
			}
		}
	}
	got, err := d.GetMulti(keys)
	d.step("multi-get.some", got, err)
	got, err = d.GetMulti([]string{"absent1", "absent2"})
	d.step("multi-get.none", got, err)
}

func (d goDriver) large() {
	random := rand.NewChaCha8([32]byte{})
	fits, refused := make([]byte, mib-1024), make([]byte, mib+1)
	_, _ = random.Read(fits) // it never fails
	_, _ = random.Read(refused)
	d.do("large.fits", d.Set(&memcache.Item{Key: "l", Value: fits}))
	d.get("large.get", "l")
	d.do("large.refused", d.Set(&memcache.Item{Key: "l", Value: refused}))
	d.get("large.after", "v:text")
	d.get("large.stale", "l")
}

func (d goDriver) badKeys() {
	longest := string(bytes.Repeat([]byte("k"), 250))
	d.do("key.longest", d.Set(item(longest, "v")))
	d.get("key.longest-get", longest)
	d.do("key.too-long", d.Set(item(longest+"k", "v")))
	d.do("key.space", d.Set(item("a b", "v")))
	d.do("key.control", d.Set(item("a\nb", "v")))
	d.do("key.empty", d.Set(item("", "v")))
	d.do("key.unicode", d.Set(item("\u4f60\u597d", "v")))
	d.get("key.unicode-get", "\u4f60\u597d")
	d.get("key.after", "v:text")
}

func (d goDriver) end() {
	for _, name := range []string{"set", "add", "touch", "gat"} {
		d.until("expiry."+name, func() bool {
			_, err := d.Get("e:" + name)
			return errors.Is(err, memcache.ErrCacheMiss)
		})
	}
	d.do("flush_all.delete-all", d.DeleteAll())
	d.get("flush_all.deleted", "v:text")
	d.do("set.again", d.Set(item("v:text", "value")))
	d.do("flush_all", d.FlushAll())
	d.get("flush_all.get", "v:text")
}

// failover runs the steps around the death of the primary.
func (d goDriver) failover() error {
	for _, it := range []*memcache.Item{item("fo:value", "before"), item("fo:number", "41"), item("fo:text", "a"), item("fo:deleted", "here")} {
		d.do("failover.set-"+it.Key, d.Set(it))
	}
	fmt.Println(ready)
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	value := func(name, key string, err error) {
		got := &memcache.Item{}
		if err == nil {
			got, err = d.Get(key)
		}
		if err != nil {
			fmt.Println("error", "failover."+name, err)
			return
		}
		fmt.Println("ok", "failover."+name, string(got.Value))
	}
	value("read", "fo:value", nil)
	n, err := d.Increment("fo:number", 1)
	d.step("failover.incr", n, err)
	n, err = d.Increment("fo:number", 1)
	d.step("failover.incr-again", n, err)
	value("append", "fo:text", d.Append(item("fo:text", "b")))
	value("write", "fo:value", d.Set(item("fo:value", "after")))
	err = d.Delete("fo:deleted")
	if err == nil {
		if _, err = d.Get("fo:deleted"); errors.Is(err, memcache.ErrCacheMiss) {
			err = nil
		}
	}
	d.step("failover.delete", "gone", err)
	return nil
}
