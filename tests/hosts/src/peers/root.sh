#!/usr/bin/env bash
# Makes the system that the benchmark's Pacemaker and Corosync run in: a Debian 12 with systemd, in a folder of its own.
#
#   root.sh FOLDER
#
# Needs root, mmdebstrap, systemd-nspawn, and a Debian mirror. It is made beside FOLDER and put there whole, so that one
# that was interrupted is not taken for one that is ready. With FOLDER there already it does nothing.

set -euo pipefail

folder=${1:?the folder to make it in}
packages=systemd,systemd-sysv,dbus,iproute2,iputils-arping,procps,python3-minimal,corosync,pacemaker,crmsh,resource-agents

if [ -e "$folder" ]; then
  echo "$folder is there already"
  exit 0
fi
for program in mmdebstrap systemd-nspawn; do
  command -v "$program" > /dev/null || {
    echo "needs $program: apt-get install --no-install-recommends mmdebstrap systemd-container" >&2
    exit 1
  }
done
mkdir -p "$(dirname "$folder")"
new=$(mktemp -d "$folder.new.XXXXXX")
trap 'rm -rf -- "$new"' EXIT
# Nothing starts by itself: the measurement starts both when their config is there.
mmdebstrap --variant=minbase --include="$packages" \
  --customize-hook='chroot "$1" systemctl disable corosync pacemaker' \
  --customize-hook='rm -f "$1/etc/corosync/corosync.conf"; mkdir -p "$1/var/log/corosync"' \
  --customize-hook=': > "$1/etc/machine-id"' \
  bookworm "$new"
chmod 755 "$new"
mv -T "$new" "$folder"
trap - EXIT
echo "$folder: $(du -sh "$folder" | cut -f1)"
