#!/bin/busybox sh
# The first process of a small machine: what its kernel has to have, then a line after the other from the second serial port,
# each carried out, with what it said and how it ended written back.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
/bin/busybox --install -s 2> /dev/null
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm
mount -t tmpfs tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
while read -r module; do insmod /modules/$module; done < /modules/order

for word in $(cat /proc/cmdline); do
  case $word in
    host=*) hostname "${word#host=}" ;;
    address=*) address=${word#address=} ;;
  esac
done
ip link set lo up
ip addr add "$address" dev eth0
ip link set eth0 up

# Not this process itself: it inherits what others leave running, and a child that ends while it reads would cost it a line.
answer() {
  exec 3<> /dev/ttyS1
  stty raw -echo <&3
  printf '\n\001up 0\n' >&3
  while read -r number command <&3; do
    (eval "$command") > /tmp/said 2>&1 < /dev/null 3>&-
    rc=$?
    { cat /tmp/said; printf '\n\001%s %s\n' "$number" "$rc"; } >&3
  done
}
answer &
while :; do sleep 1; done
