"""Runs every operation of pymemcache: driver.py HOST PORT text."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "transcript"))
import pymemcache
import transcript as t
from pymemcache.client.base import Client, PooledClient
from pymemcache import serde

if sys.argv[1:] == ["--version"]:
    print(pymemcache.__version__)
    sys.exit()

host, port = sys.argv[1:3]
run = t.Transcript(host, port)
step = run.step


def connect(kind=Client, **options):
    return kind((host, int(port)), connect_timeout=10, timeout=10, **{"default_noreply": False, **options})


c = connect()
c.set("f", "1")
# What is written in the second of the flush is flushed too, and each server has seconds of its own:
# so this comes long before the failover.
step("flush_all.delayed", c.flush_all, 2)
run.until("flush_all.delayed-get", lambda: c.get("f") is None)
run.until("flush_all.settled", lambda: c.set("f", "2") and c.get("f"))

c.set("e:set", "v", expire=2)
c.add("e:add", "v", expire=2)
c.set("e:touch", "v")
step("touch.hit", c.touch, "e:touch", 2)
step("touch.miss", c.touch, "absent", 2)
c.set("e:long", "v", expire=300)
step("expiry.far", c.get, "e:long")
step("expiry.past", c.set, "e:long", "v", expire=-1)
step("expiry.past-get", c.get, "e:long")

for name, value in [("text", "value"), ("empty", ""), ("bytes", t.EVERY_BYTE), ("integer", 42)]:
    step("set." + name, c.set, "v:" + name, value)
    step("get." + name, c.get, "v:" + name)
step("get.miss", c.get, "absent")
step("get.default", c.get, "absent", "default")
s = connect(serde=serde.pickle_serde)
for name, value in [("text", "\u4f60\u597d"), ("integer", 42), ("list", [1, "two"]), ("flags", {"a": 1.5})]:
    step("set.pickled-" + name, s.set, "p:" + name, value)
    step("get.pickled-" + name, s.get, "p:" + name)
step("set.flags", c.set, "v:flags", "f", flags=4294967295)

step("add.stored", c.add, "a", "1")
step("add.refused", c.add, "a", "2")
step("replace.refused", c.replace, "absent", "1")
step("replace.stored", c.replace, "a", "3")
step("append.refused", c.append, "absent", "1")
step("append.stored", c.append, "a", "4")
step("prepend.refused", c.prepend, "absent", "1")
step("prepend.stored", c.prepend, "a", "2")
step("prepend.get", c.get, "a")

step("incr.miss", c.incr, "absent", 1)
c.set("n", "10")
step("incr.one", c.incr, "n", 1)
step("incr.many", c.incr, "n", 1000)
step("decr.one", c.decr, "n", 1)
step("decr.below", c.decr, "n", 100000)
step("decr.miss", c.decr, "absent", 1)
c.set("n", "18446744073709551615")
step("incr.wrap", c.incr, "n", 2)
c.set("a:text", "text")
step("incr.text", c.incr, "a:text", 1)
step("incr.negative", c.incr, "n", -1)
step("incr.after", c.get, "n")

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
step("multi-set", c.set_many, {k: k * 3 for k in keys[::2]})
step("multi-get", c.get_many, keys)
step("multi-get.none", c.get_many, ["absent1", "absent2"])
step("multi-gets", lambda: {k: v for k, (v, _) in c.gets_many(keys).items()})
step("multi-delete", c.delete_many, keys[:10])
step("multi-delete.get", c.get_many, keys[:20])

step("large.fits", c.set, "l", t.LARGEST)
step("large.get", c.get, "l")
step("large.refused", c.set, "l", t.TOO_LARGE)
step("large.after", c.get, "v:text")
step("large.stale", c.get, "l")
z = connect(serde=serde.CompressedSerde() if hasattr(serde, "CompressedSerde") else serde.pickle_serde)
step("compression.set", z.set, "z", t.COMPRESSIBLE)
step("compression.get", z.get, "z")

step("key.longest", c.set, t.LONGEST_KEY, "v")
step("key.longest-get", c.get, t.LONGEST_KEY)
step("key.too-long", c.set, t.LONGEST_KEY + "k", "v")
step("key.space", c.set, "a b", "v")
step("key.control", c.set, "a\nb", "v")
step("key.empty", c.set, "", "v")
step("key.unicode", connect(allow_unicode_keys=True).set, "\u4f60\u597d", "v")
step("key.unicode-get", connect(allow_unicode_keys=True).get, "\u4f60\u597d")
step("key.prefix", connect(key_prefix=b"m:").get, "20")
step("key.after", c.get, "v:text")

q = connect(default_noreply=True)
step("noreply.set", q.set, "q", "1")
step("noreply.append", q.append, "q", "2")
step("noreply.prepend", q.prepend, "q", "0")
step("noreply.add", q.add, "q", "3")
step("noreply.replace", q.replace, "absent", "3")
step("noreply.cas", q.cas, "q", "3", "1", noreply=True)
step("noreply.get", q.get, "q")
step("noreply.incr", q.incr, "q", 1, noreply=True)
step("noreply.decr", q.decr, "q", 2, noreply=True)
step("noreply.touch", q.touch, "q", 300)
step("noreply.get-number", q.get, "q")
step("noreply.multi-set", q.set_many, {"q1": "1", "q2": "2"})
step("noreply.multi-delete", q.delete_many, ["q1", "absent"])
step("noreply.delete", q.delete, "q")
step("noreply.multi-get", q.get_many, ["q", "q1", "q2"])
step("noreply.large", q.set, "q2", t.TOO_LARGE)
step("noreply.after", q.get, "v:text")

p = connect(PooledClient, max_pool_size=4)
step("pooled.set", p.set, "p", "1")
step("pooled.get", p.get, "p")
p.close()

step("stats", lambda: t.stats_names(c.stats()))
step("stats.settings", lambda: b"maxconns" in c.stats("settings"))
step("version", lambda: t.is_version(c.version()))
step("quit", connect().quit)

for name in ("set", "add", "touch"):
    run.until("expiry." + name, lambda: c.get("e:" + name) is None)
step("flush_all", c.flush_all)
step("flush_all.get", c.get, "v:text")
c.set("f", "1")
step("flush_all.noreply", q.flush_all)
step("flush_all.noreply-get", q.get, "f")
run.failover(c)
c.close()
