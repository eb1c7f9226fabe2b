package protocol

import "testing"

// promise: W1, W4
func TestCommandsToServers(t *testing.T) {
	key := []byte("k")
	gets := AppendGetEnd(AppendKey(AppendKey(AppendGetStart(nil, OpGets), key), []byte("l")))
	gat := AppendGetEnd(AppendKey(AppendKey(AppendGatStart(nil, OpGat, 60), key), []byte("l")))
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{AppendStorage(nil, OpSet, key, 5, 0, 100, 7), "set k 5 0 100\r\n"},
		{AppendStorage(nil, OpAdd, key, 1<<32-1, -1, 0, 7), "add k 4294967295 -1 0\r\n"},
		{AppendStorage(nil, OpReplace, key, 0, 3600, 1, 0), "replace k 0 3600 1\r\n"},
		{AppendStorage(nil, OpAppend, key, 0, 0, 1, 0), "append k 0 0 1\r\n"},
		{AppendStorage(nil, OpPrepend, key, 0, 0, 1, 0), "prepend k 0 0 1\r\n"},
		{AppendStorage(nil, OpCas, key, 0, 0, 1, 1<<64-1), "cas k 0 0 1 18446744073709551615\r\n"},
		{AppendGetEnd(AppendKey(AppendGetStart(nil, OpGet), key)), "get k\r\n"},
		{gets, "gets k l\r\n"},
		{gat, "gat 60 k l\r\n"},
		{AppendGat(nil, OpGats, key, -1), "gats -1 k\r\n"},
		{AppendDelete(nil, key), "delete k\r\n"},
		{AppendArith(nil, OpIncr, key, 1<<64-1), "incr k 18446744073709551615\r\n"},
		{AppendArith(nil, OpDecr, key, 10), "decr k 10\r\n"},
		{AppendTouch(nil, key, 2147483647), "touch k 2147483647\r\n"},
		{AppendFlushAll(nil, 0), "flush_all\r\n"},
		{AppendFlushAll(nil, -5), "flush_all\r\n"},
		{AppendFlushAll(nil, 30), "flush_all 30\r\n"},
		{AppendVersion(nil), "version\r\n"},
		{AppendStats(nil, ""), "stats\r\n"},
		{AppendStats(nil, "settings"), "stats settings\r\n"},
		{AppendDelete([]byte("version\r\n"), key), "version\r\ndelete k\r\n"},
	} {
		if string(c.got) != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
