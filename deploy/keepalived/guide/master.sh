#!/bin/bash
# /opt/magent.sh on the master: keepalived runs it every two seconds. magent comes
# back at once when it runs already.
exec magent -u root -n 51200 -l 172.17.7.66 -p 12000 -s 172.17.7.101:11211 -b 172.17.7.102:11211
