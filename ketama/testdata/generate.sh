#!/bin/sh
# Writes the golden files anew. Needs cc, libmemcached-dev (1.0 or 1.1) and python3.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 keys.py >keys.hex
cc -Wall -Wextra -o "$work/libmemcached" libmemcached.c -lmemcached
"$work/libmemcached" weighted keys.hex pools.txt >ketama.golden
"$work/libmemcached" plain keys.hex pools.txt >ketama-one-at-a-time.golden
python3 magent.py ketama keys.hex pools.txt >magent-ketama.golden
python3 magent.py modula keys.hex pools.txt >magent-modula.golden
