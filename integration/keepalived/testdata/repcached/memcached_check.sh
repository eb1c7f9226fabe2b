#!/bin/bash

C_DATE=`date +"[%Y-%m-%d %H:%M:%S]"`

kill -0 `cat /var/run/memcached_repcached.pid`

if [ "$?" -eq 0 ]; then
 echo "${C_DATE} memcached is ALIVE"
 exit 0
else
 echo "${C_DATE} memcached is DOWN"
 exit 1
fi
