#!/bin/sh
# /etc/keepalived/magent.sh on both machines, owned by root and writable by nobody
# else. It returns at once when magent runs already.
exec /usr/local/bin/magent -u nobody -n 51200 -l 172.17.7.66 -p 12000 \
  -s 172.17.7.101:11211 -b 172.17.7.102:11211 --log-file /var/log/magent.log
