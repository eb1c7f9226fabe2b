#!/usr/bin/env python3
"""The two distributions of the C magent, written from its published algorithm.

    ./magent.py ketama keys.hex pools.txt     (its -k)
    ./magent.py modula keys.hex pools.txt     (its default)

The output is that of libmemcached.c. Pools with unequal weights are left out,
because the C magent had no weights. It is simple and slow on purpose: no sorting
trick and no binary search that could share a fault with what it checks.
"""
import hashlib
import struct
import sys

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def f32(x):
    """x rounded to a C float."""
    return struct.unpack("<f", struct.pack("<f", x))[0]


def ring(servers):
    n = len(servers)
    share = f32(f32(100) / f32(100 * n))
    digests = int(f32(f32(share * 500) * f32(n)))
    points = []
    for index, (host, port) in enumerate(servers):
        for k in range(digests):
            digest = hashlib.md5(b"%s-%d-%d" % (host.encode(), port, k)).digest()
            points += [(value, index) for value in struct.unpack("<4I", digest)]
    points.sort()
    return points


def ketama(servers):
    points = ring(servers)

    def place(key):
        hash = struct.unpack("<I", hashlib.md5(key).digest()[:4])[0]
        return next((index for value, index in points if value >= hash), points[0][1])

    return place


def modula(servers):
    def place(key):
        hash = 5381
        for byte in key:
            char = byte - 256 if byte > 127 else byte
            hash = (hash * 33 + char) % 2**32
        return hash % 2**31 % len(servers)

    return place


distribution = {"ketama": ketama, "modula": modula}[sys.argv[1]]
keys = [bytes.fromhex(line) for line in open(sys.argv[2])]
for line in open(sys.argv[3]):
    if line.startswith("#"):
        continue
    words = [word.split("|") for word in line.split()]
    if len({weight for _, _, weight in words}) > 1:
        continue
    place = distribution([(host, int(port)) for host, port, _ in words])
    print("pool", line.strip())
    print("".join(DIGITS[place(key)] for key in keys))
