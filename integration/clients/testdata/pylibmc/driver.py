"""Runs every operation of pylibmc: driver.py HOST PORT text|binary."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "transcript"))
import pylibmc
import transcript as t

if sys.argv[1:] == ["--version"]:
    print(pylibmc.__version__)
    sys.exit()

host, port, protocol = sys.argv[1:4]
run = t.Transcript(host, port)
step = run.step


def connect(**behaviors):
    behaviors = {"cas": True, "receive_timeout": 10000000, "send_timeout": 10000000, **behaviors}
    return pylibmc.Client(["%s:%s" % (host, port)], binary=protocol == "binary", behaviors=behaviors)


c = connect()
soon = [("expiry.set", c.set("e:set", "v", 2)), ("expiry.add", c.add("e:add", "v", 2))]
c.set("e:touch", "v")
step("touch.hit", c.touch, "e:touch", 2)
step("touch.miss", c.touch, "absent", 2)
c.set("e:long", "v", 300)
step("expiry.far", c.get, "e:long")
step("expiry.past", lambda: (c.set("e:past", "v", 1000000000), c.get("e:past")))

for name, value in [("text", "value"), ("empty", ""), ("bytes", t.EVERY_BYTE), ("integer", 42), ("long", 1 << 70),
                    ("true", True), ("float", 1.5), ("none", None), ("list", [1, "two"]), ("unicode", "\u4f60\u597d")]:
    step("set." + name, c.set, "v:" + name, value)
    step("get." + name, c.get, "v:" + name)
step("get.miss", c.get, "absent")
step("get.default", c.get, "absent", "default")

step("add.stored", c.add, "a", "1")
step("add.refused", c.add, "a", "2")
step("replace.refused", c.replace, "absent", "1")
step("replace.stored", c.replace, "a", "3")
step("append.refused", c.append, "absent", "1")
step("append.stored", c.append, "a", "4")
step("prepend.refused", c.prepend, "absent", "1")
step("prepend.stored", c.prepend, "a", "2")
step("prepend.get", c.get, "a")

step("incr.miss", c.incr, "absent")
c.set("n", "10")
step("incr.one", c.incr, "n")
step("incr.many", c.incr, "n", 1000)
step("decr.one", c.decr, "n")
step("decr.below", c.decr, "n", 100000)
step("decr.miss", c.decr, "absent")
c.set("n", "18446744073709551615")
step("incr.wrap", c.incr, "n", 2)
c.set("a:text", "text")
step("incr.text", c.incr, "a:text")
c.set_multi({"n1": "1", "n2": "2"})
step("incr.multi", c.incr_multi, ["n1", "n2"], delta=5)
step("incr.multi-get", c.get_multi, ["n1", "n2"])

c.set("c", "1")
value, token = c.gets("c")
step("gets.hit", lambda: value)
step("gets.miss", c.gets, "absent")
step("cas.stored", c.cas, "c", "2", token)
step("cas.conflict", c.cas, "c", "3", token)
step("cas.get", c.get, "c")
step("cas.miss", c.cas, "absent", "1", token)

step("delete.hit", c.delete, "c")
step("delete.miss", c.delete, "c")

keys = ["m:%d" % i for i in range(100)]
step("multi-set", c.set_multi, {k: k * 3 for k in keys[::2]})
step("multi-get", c.get_multi, keys)
step("multi-get.none", c.get_multi, ["absent1", "absent2"])
step("multi-get.prefix", c.get_multi, ["0", "1", "2"], key_prefix="m:")
step("multi-add", c.add_multi, {"m:0": "no", "m:1": "yes"})
step("multi-delete", c.delete_multi, keys[:10:2])
step("multi-delete.miss", c.delete_multi, keys[:12:2])
step("multi-delete.get", c.get_multi, keys[:20])

step("large.fits", c.set, "l", t.LARGEST)
step("large.get", c.get, "l")
step("large.refused", c.set, "l", t.TOO_LARGE)
step("large.after", c.get, "v:text")
step("large.stale", c.get, "l")
step("compression.set", c.set, "z", t.COMPRESSIBLE, min_compress_len=1000)
step("compression.get", c.get, "z")

step("key.longest", c.set, t.LONGEST_KEY, "v")
step("key.longest-get", c.get, t.LONGEST_KEY)
step("key.too-long", c.set, t.LONGEST_KEY + "k", "v")
# Unchecked keys break the lines of the text protocol, and with them the connection.
step("key.space", connect().set, "a b", "v")
step("key.control", connect().set, "a\nb", "v")
step("key.verified", lambda: connect(verify_keys=True).set("a\nb", "v"))
step("key.empty", c.set, "", "v")
step("key.unicode", c.set, "\u4f60\u597d".encode(), "v")
step("key.unicode-get", c.get, "\u4f60\u597d".encode())
step("key.after", c.get, "v:text")

q = connect(_noreply=True)
q.set("q", "1")
q.append("q", "2")
q.add("q", "3")
q.delete("a")
q.disconnect_all()
run.until("noreply.set", lambda: c.get("q") == "12")
run.until("noreply.delete", lambda: c.get("a") is None)
b = connect(buffer_requests=True)
step("buffered.set", b.set, "b", "1")
step("buffered.append", b.append, "b", "2")
step("buffered.get", b.get, "b")
n = connect(no_block=True, tcp_nodelay=True)
step("unblocked.set", n.set, "u", "1")
step("unblocked.get", n.get, "u")

stats = dict(c.get_stats()[0][1])
step("stats", t.stats_names, stats)
step("version", t.is_version, stats["version"])

for name, stored in soon:
    run.until(name, lambda: stored and c.get("e:" + name.split(".")[1]) is None)
run.until("expiry.touch", lambda: c.get("e:touch") is None)
step("flush_all", c.flush_all)
step("flush_all.get", c.get, "v:text")
run.failover(c)
c.disconnect_all()
