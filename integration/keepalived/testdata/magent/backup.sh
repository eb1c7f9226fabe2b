#!/bin/bash
k=`ip a|grep 172.17.7.66 |wc -l`

if [ $k -gt 0 ];then

magent -u root -n 51200 -l 172.17.7.66 -p 12000 -s 172.17.7.101:11211 -b 172.17.7.102:11211

else

pkill -9 magent

fi
