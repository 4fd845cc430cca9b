#!/usr/bin/env bash
# Fetches the kernel that the machines of tests/hosts/tests/vm.rs boot: Debian's for clouds, with its modules.
#
#   kernel.sh FOLDER
#
# Needs apt-get with a Debian mirror, dpkg-deb and depmod; installs nothing. It is made beside FOLDER and put there whole, so
# that one that was interrupted is not taken for one that is ready. With FOLDER there already it does nothing.

set -euo pipefail

folder=${1:?the folder to make it in}

if [ -e "$folder" ]; then
  exit 0
fi
PATH="$PATH:/usr/sbin:/sbin"
command -v depmod > /dev/null || { echo "needs depmod: apt-get install kmod" >&2; exit 1; }
mkdir -p "$(dirname "$folder")"
folder=$(realpath "$folder")
new=$(mktemp -d "$folder.new.XXXXXX")
trap 'rm -rf -- "$new"' EXIT
chmod 755 "$new"
package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
[ -n "$package" ] || { echo "there is no package linux-image-cloud-amd64: apt-get update" >&2; exit 1; }
(cd "$new" && apt-get download -q "$package")
dpkg-deb -x "$new"/*.deb "$new/root"
version=$(ls "$new/root/lib/modules")
mv "$new/root/boot/vmlinuz-$version" "$new/vmlinuz"
depmod -b "$new/root" "$version"
mv "$new/root/lib/modules/$version" "$new/modules"
rm -rf -- "$new/root" "$new"/*.deb
mv -T "$new" "$folder"
trap - EXIT
echo "$folder: $version, $(du -sh "$folder" | cut -f1)"
