"""What the drivers of the Python clients have in common.

A step is one line: `ok NAME RESULT`, or `error NAME EXCEPTION MESSAGE`. The
part of NAME before its dot is the operation. Tokens, times, addresses and
values of stats stay out, so that two servers that behave alike give the same
lines.
"""

import random
import re
import sys
import time
import zlib

POLL = 0.05
PATIENCE = 8
KIB = 1024
MIB = 1024 * KIB

LARGEST = random.Random(1).randbytes(MIB - KIB)
TOO_LARGE = random.Random(2).randbytes(MIB + 1)
COMPRESSIBLE = b"the same words again and again " * 8000
EVERY_BYTE = bytes(range(256)) + b"\r\nEND\r\n"
LONGEST_KEY = "k" * 250


def show(value):
    """Return a value as one short word or list that does not change."""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, (bytes, bytearray)):
        if len(value) > 60:
            return "%d-bytes-%08x" % (len(value), zlib.crc32(value))
        return repr(bytes(value))[1:]
    if isinstance(value, dict):
        return "{%s}" % ", ".join("%s: %s" % (show(k), show(value[k])) for k in sorted(value))
    if isinstance(value, (list, tuple)):
        return "[%s]" % ", ".join(show(v) for v in value)
    return repr(value)


class Transcript:
    """Prints the steps of one run against one server."""

    def __init__(self, host, port):
        self.server = re.compile(r"%s:%s" % (re.escape(host), port))

    def line(self, kind, name, text):
        # Messages name the server, and objects by their address in memory.
        text = re.sub(r"0x[0-9a-f]+", "0x", self.server.sub("SERVER", text))
        print(kind, name, " ".join(ascii(text).strip("'\"").split())[:300], flush=True)

    def step(self, name, call, *args, **named):
        """Run one call and print what came of it; return its result."""
        try:
            result = call(*args, **named)
        except Exception as e:
            self.line("error", name, "%s %s" % (type(e).__name__, e))
            return None
        self.line("ok", name, show(result))
        return result

    def until(self, name, cond):
        """Poll until cond holds and print whether it did."""
        end = time.monotonic() + PATIENCE
        while not cond():
            if time.monotonic() > end:
                self.line("error", name, "it did not happen")
                return
            time.sleep(POLL)
        self.line("ok", name, "yes")

    def failover(self, client):
        """Run the steps around the death of the primary. `client` has get, set, incr, append and delete."""
        self.until("failover.ready", lambda: client.set("fo:value", "before") and client.get("fo:value"))
        client.set("fo:number", "41")
        client.set("fo:text", "a")
        client.set("fo:deleted", "here")
        print("ready", flush=True)
        sys.stdin.readline()
        self.plain("read", lambda: client.get("fo:value"))
        self.plain("incr", lambda: client.incr("fo:number", 1))
        self.plain("incr-again", lambda: client.incr("fo:number", 1))
        self.plain("append", lambda: client.append("fo:text", "b") and client.get("fo:text"))
        self.plain("write", lambda: client.set("fo:value", "after") and client.get("fo:value"))
        self.plain("delete", lambda: client.delete("fo:deleted") and client.get("fo:deleted") or "gone")

    def plain(self, name, call):
        """Print a step of the failover: its result as it is, since the test knows what to expect."""
        try:
            result = call()
        except Exception as e:
            self.line("error", "failover." + name, "%s %s" % (type(e).__name__, e))
            return
        self.line("ok", "failover." + name, result.decode() if isinstance(result, bytes) else str(result))


def stats_names(stats):
    """Return those of a few well-known names that a server's stats have."""
    names = {n.decode() if isinstance(n, bytes) else n for n in stats}
    return [n for n in ("pid", "uptime", "version", "curr_connections", "cmd_get", "cmd_set", "get_hits") if n in names]


def is_version(version):
    """Tell whether clients can read a number from what `version` answered."""
    text = version.decode() if isinstance(version, bytes) else version
    return bool(re.match(r"\d+\.\d+", text))
