package harness

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"
)

func TestMemcachedRestartsOnItsPort(t *testing.T) {
	s := StartMemcached(t)
	if err := MustDial(t, s.Addr).Set("k", "v"); err != nil {
		t.Fatal(err)
	}
	addr, pid := s.Addr, s.PID()
	s.Restart()
	if s.Addr != addr || s.PID() == pid {
		t.Fatalf("restarted on %s as %d, was on %s as %d", s.Addr, s.PID(), addr, pid)
	}
	if _, found, err := MustDial(t, s.Addr).Value("k"); found || err != nil {
		t.Fatalf("after a restart: found %v, %v", found, err)
	}
	if n := s.Stat("cmd_get"); n != 1 {
		t.Fatalf("cmd_get is %d", n)
	}
}

func TestFrozenMemcachedAnswersAfterThaw(t *testing.T) {
	s := StartMemcached(t, "-t", "4")
	c := MustDial(t, s.Addr)
	s.Freeze()
	c.Timeout = 100 * time.Millisecond
	if answer, err := c.Command("version"); err == nil {
		t.Fatalf("a frozen server answered %q", answer)
	}
	s.Thaw()
	if err := MustDial(t, s.Addr).Set("k", "v"); err != nil {
		t.Fatal(err)
	}
}

func TestClientReadsWhatMemcachedWrites(t *testing.T) {
	c := MustDial(t, StartMemcached(t).Addr)
	value := bytes.Repeat([]byte("\r\nEND\r\n"), 1000)
	if answer, err := c.Store("set", "k", 7, 100, value); answer != "STORED" || err != nil {
		t.Fatal(answer, err)
	}
	items, err := c.Gets("none", "k")
	if err != nil || len(items) != 1 {
		t.Fatal(items, err)
	}
	if it := items[0]; it.Key != "k" || it.Flags != 7 || it.CAS == 0 || !bytes.Equal(it.Value, value) {
		t.Fatalf("%+v", it)
	}
	peek, found, err := c.Peek("k")
	if err != nil || !found || peek.Flags != 7 || peek.TTL < 90 || peek.TTL > 100 || !bytes.Equal(peek.Value, value) {
		t.Fatalf("%+v %v %v", peek, found, err)
	}
}

func TestLinkPartitionKeepsBytesUntilHealed(t *testing.T) {
	s := StartMemcached(t)
	l := NewLink(t, s.Addr)
	c := MustDial(t, l.Addr)
	if err := c.Set("k", "v"); err != nil {
		t.Fatal(err)
	}
	l.Partition()
	if err := c.Send(Storage("set", "k", 0, 0, []byte("w"))); err != nil {
		t.Fatal(err)
	}
	Holds(t, 100*time.Millisecond, "the write stays in the link", func() bool {
		v, _, err := MustDial(t, s.Addr).Value("k")
		return err == nil && v == "v"
	})
	l.Heal()
	if answer, err := c.Line(); answer != "STORED" || err != nil {
		t.Fatal(answer, err)
	}
}

func TestLinkForgetsWhatAResetConnectionSent(t *testing.T) {
	s := StartMemcached(t)
	l := NewLink(t, s.Addr)
	c := MustDial(t, l.Addr)
	if err := c.Set("k", "v"); err != nil {
		t.Fatal(err)
	}
	l.Partition()
	if err := c.Send(Storage("set", "k", 0, 0, []byte("w"))); err != nil {
		t.Fatal(err)
	}
	if err := c.Conn().(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, 5*time.Second, "the link sees the reset", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.pairs) == 0
	})
	l.Heal()
	if v, _, err := MustDial(t, l.Addr).Value("k"); v != "v" || err != nil {
		t.Fatal(v, err)
	}
}

func TestLinkCutsInTheMiddleOfAnAnswer(t *testing.T) {
	l := NewLink(t, StartMemcached(t).Addr)
	c := MustDial(t, l.Addr)
	if err := c.Set("k", strings.Repeat("v", 1000)); err != nil {
		t.Fatal(err)
	}
	l.CutAnswerAfter(100)
	if err := c.Send([]byte("get k\r\n")); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Rest(); len(got) != 100 || err != nil {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if v, _, err := MustDial(t, l.Addr).Value("k"); len(v) != 1000 || err != nil {
		t.Fatal(len(v), err)
	}
}

func TestLinkRefusesAndMangles(t *testing.T) {
	l := NewLink(t, StartMemcached(t).Addr)
	c := MustDial(t, l.Addr)
	l.MangleKey("bad", Mangled{Answer: []byte("HELLO\r\n")})
	if answer, err := c.Command("get bad"); answer != "HELLO" || err != nil {
		t.Fatal(answer, err)
	}
	if _, err := c.Get("good"); err != nil {
		t.Fatal(err)
	}
	l.Refuse()
	if answer, err := c.Command("version"); err == nil {
		t.Fatalf("a refusing link answered %q", answer)
	}
	if c, err := Dial(l.Addr); err == nil {
		if answer, err := c.Command("version"); err == nil {
			t.Fatalf("a refusing link answered %q", answer)
		}
		_ = c.Close()
	}
	l.Heal()
	if _, err := MustDial(t, l.Addr).Get("good"); err != nil {
		t.Fatal(err)
	}
}

func TestSlowLink(t *testing.T) {
	l := NewLink(t, StartMemcached(t).Addr)
	c := MustDial(t, l.Addr)
	if err := c.Set("k", strings.Repeat("v", 100_000)); err != nil {
		t.Fatal(err)
	}
	l.Slow(400_000)
	start := time.Now()
	if v, _, err := c.Value("k"); len(v) != 100_000 || err != nil {
		t.Fatal(len(v), err)
	}
	if took := time.Since(start); took < 150*time.Millisecond {
		t.Fatalf("took only %v", took)
	}
}

func TestBlackholeHangs(t *testing.T) {
	addr := Blackhole(t)
	if conn, err := net.DialTimeout("tcp", addr, 200*time.Millisecond); err == nil {
		_ = conn.Close()
		t.Fatal("connected")
	}
}
