#!/usr/bin/env python3
"""Writes the keys that all golden files are about: one a line, in hexadecimal.

The keys are the same at every run. Among them are plain ones, as programs make
them, bytes above 127 and control characters, the lengths around an MD5 block,
and the longest key that memcached takes.
"""
import random

r = random.Random(11211)
keys = []


def add(key):
    if key and key not in keys:
        keys.append(key)


for n in range(700):
    add(b"key%d" % n)
for n in range(500):
    add(b"user:%d:session" % r.randrange(10**7))
for n in range(300):
    add(b"%032x" % r.getrandbits(128))
for text in ("ключ", "键", "clé", "chave_ã", "ключ:%d", "缓存%d"):
    for n in range(12):
        add((text.replace("%d", "") + str(n)).encode("utf-8"))
for byte in range(256):
    add(bytes([byte]))
for n in range(400):
    add(bytes(r.randrange(256) for _ in range(r.randrange(2, 24))))
for length in (54, 55, 56, 57, 63, 64, 65, 118, 119, 120, 127, 128, 129, 249, 250):
    add(bytes(r.randrange(256) for _ in range(length)))
    add(bytes(r.randrange(33, 127) for _ in range(length)))
for key in keys:
    print(key.hex())
