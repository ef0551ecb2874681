#!/bin/sh
# Makes the disk, kernel and initrd that the VM tests boot, once, in $1 (kept between runs).
#
# Needs root (mmdebstrap's fastest mode, which also keeps owners right), and the
# Debian packages mmdebstrap, e2fsprogs and qemu-system-x86.
set -eu

out=${1:?"usage: build-image.sh FOLDER"}
here=$(cd "$(dirname "$0")" && pwd)
# The release decides the guest's glibc: not older than that of the machine that builds keel.
own=$(. /etc/os-release 2>/dev/null && test "$ID" = debian && echo "$VERSION_CODENAME" || echo bookworm)
suite=${KEEL_VM_SUITE:-$own}

if [ "$(cat "$out/stamp" 2>/dev/null)" = "$suite" ] && [ "$out/stamp" -nt "$here/build-image.sh" ] && [ "$out/stamp" -nt "$here/guest-setup.sh" ]; then
    exit 0
fi
mkdir -p "$out"
root=$(mktemp -d "$out/root.XXXXXX")
trap 'rm -rf "$root"' EXIT

# An initrd with just the drivers of this machine boots in a fraction of the time.
mmdebstrap --mode=root --variant=minbase --skip=check/qemu \
    --include=linux-image-cloud-amd64,systemd-sysv,udev,dbus,initramfs-tools,iproute2,procps,git,ca-certificates,busybox-static,crun,apparmor,gcc,libc6-dev \
    --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"' \
    --essential-hook='printf "MODULES=list\nCOMPRESS=lz4\n" > "$1/etc/initramfs-tools/conf.d/vm"' \
    --essential-hook='printf "virtio_pci\nvirtio_blk\next4\ncrc32c_generic\n" > "$1/etc/initramfs-tools/modules"' \
    --include=lz4 \
    --customize-hook="cp '$here/guest-setup.sh' \"\$1/tmp/\" && chroot \"\$1\" sh /tmp/guest-setup.sh" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$root" ${KEEL_VM_MIRROR:+"$KEEL_VM_MIRROR"}

cp "$root"/boot/vmlinuz-* "$out/vmlinuz"
cp "$root"/boot/initrd.img-* "$out/initrd"
rm -rf "$root"/boot/* "$root"/var/cache/apt "$root"/var/lib/apt/lists
rm -f "$out/disk.img"
truncate -s 4G "$out/disk.img"
mke2fs -q -t ext4 -F -L root -d "$root" "$out/disk.img"
echo "$suite" > "$out/stamp"
