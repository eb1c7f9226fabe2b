#!/bin/bash
 
C_DATE=`date +"[%Y-%m-%d %H:%M:%S]"`
LOGFILE=/var/log/keepalived-memcached-state.log
 
echo "${C_DATE} [fault]" >> $LOGFILE
