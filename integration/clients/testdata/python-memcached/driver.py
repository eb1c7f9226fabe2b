"""Runs every operation of python-memcached: driver.py HOST PORT text."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "transcript"))
import memcache
import transcript as t

if sys.argv[1:] == ["--version"]:
    print(memcache.__version__)
    sys.exit()

host, port = sys.argv[1:3]
run = t.Transcript(host, port)
step = run.step


def connect(**options):
    # The limit on values is the server's to draw, so that of the client is raised.
    return memcache.Client(["%s:%s" % (host, port)], socket_timeout=10, cache_cas=True,
                           server_max_value_length=2 * t.MIB, **options)


c = connect()
c.set("e:set", "v", time=2)
c.add("e:add", "v", time=2)
c.set("e:touch", "v")
step("touch.hit", c.touch, "e:touch", 2)
step("touch.miss", c.touch, "absent", 2)
c.set("e:long", "v", time=300)
step("expiry.far", c.get, "e:long")

for name, value in [("text", "value"), ("empty", ""), ("bytes", t.EVERY_BYTE), ("integer", 42), ("long", 1 << 70),
                    ("true", True), ("float", 1.5), ("none", None), ("list", [1, "two"]), ("unicode", "\u4f60\u597d")]:
    step("set." + name, c.set, "v:" + name, value)
    step("get." + name, c.get, "v:" + name)
step("get.miss", c.get, "absent")

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
step("incr.after", c.get, "n")

other = connect()
c.set("c", "1")
step("gets.hit", c.gets, "c")
step("gets.miss", c.gets, "absent")
step("cas.stored", c.cas, "c", "2")
step("cas.used", c.cas, "c", "3")
c.gets("c")
other.set("c", "4")
step("cas.conflict", c.cas, "c", "5")
step("cas.get", c.get, "c")
c.gets("c")
other.delete("c")
step("cas.miss", c.cas, "c", "6")
step("cas.reset", c.reset_cas)

c.set("c", "1")
step("delete.hit", c.delete, "c")
step("delete.miss", c.delete, "c")

keys = ["m:%d" % i for i in range(100)]
step("multi-set", c.set_multi, {k: k * 3 for k in keys[::2]})
step("multi-get", c.get_multi, keys)
step("multi-get.none", c.get_multi, ["absent1", "absent2"])
step("multi-get.prefix", c.get_multi, ["0", "1", "2"], key_prefix="m:")
step("multi-delete", c.delete_multi, keys[:10])
step("multi-delete.get", c.get_multi, keys[:20])
step("multi-set.large", c.set_multi, {"l1": "1", "l2": t.TOO_LARGE, "l3": "3"})
step("multi-get.large", c.get_multi, ["l1", "l2", "l3"])

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
step("key.space", c.set, "a b", "v")
step("key.control", c.set, "a\nb", "v")
step("key.empty", c.set, "", "v")
step("key.unicode", c.set, "\u4f60\u597d", "v")
step("key.unicode-get", c.get, "\u4f60\u597d")
step("key.after", c.get, "v:text")
# The server draws the line where the client does not.
u = connect(check_keys=False)
step("key.unchecked", u.get, t.LONGEST_KEY + "k")
step("key.unchecked-after", u.get, "v:text")

step("noreply.set", c.set, "q", "1", noreply=True)
step("noreply.append", c.append, "q", "2", noreply=True)
step("noreply.prepend", c.prepend, "q", "0", noreply=True)
step("noreply.add", c.add, "q", "3", noreply=True)
step("noreply.replace", c.replace, "absent", "3", noreply=True)
step("noreply.get", c.get, "q")
step("noreply.incr", c.incr, "q", 1, noreply=True)
step("noreply.decr", c.decr, "q", 2, noreply=True)
step("noreply.touch", c.touch, "q", 300, noreply=True)
step("noreply.get-number", c.get, "q")
step("noreply.multi-set", c.set_multi, {"q1": "1", "q2": "2"}, noreply=True)
step("noreply.multi-delete", c.delete_multi, ["q1", "absent"], noreply=True)
c.gets("q")
step("noreply.cas", c.cas, "q", "3", noreply=True)
step("noreply.cas-get", c.get, "q")
step("noreply.delete", c.delete, "q", noreply=True)
step("noreply.multi-get", c.get_multi, ["q", "q1", "q2"])

step("stats", lambda: t.stats_names(c.get_stats()[0][1]))
step("stats.settings", lambda: "maxconns" in c.get_stats("settings")[0][1])
step("version", lambda: t.is_version(c.get_stats()[0][1]["version"]))

for name in ("set", "add", "touch"):
    run.until("expiry." + name, lambda: c.get("e:" + name) is None)
step("flush_all", c.flush_all)
step("flush_all.get", c.get, "v:text")
run.failover(c)
c.disconnect_all()
