# What the device suites share; to be sourced. The base (a Debian root, its kernel with the virtual camera `vivid`) is made once
# and kept in the user's cache.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tapetum/device
target=${CARGO_TARGET_DIR:-$repo/target}
say() { printf '    %s (%s s)\n' "$*" "$SECONDS"; }
fail() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }
need() { local c; for c; do command -v "$c" > /dev/null || fail "needs $c; tests/device/packages installs it"; done; }

# The root: Debian's essential packages, systemd and udev, as one tar.
base_root() {
    [ -f "$cache/root-3.tar" ] && return
    need mmdebstrap
    mkdir -p "$cache"
    local sources=()
    for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
        # This machine's own mirrors; third parties' packages have no place in the image.
        [ -s "$f" ] && grep -qi 'debian.org\|/debian' "$f" && sources+=("$f")
    done
    mmdebstrap --quiet --architectures=amd64 --variant=essential \
        --include=systemd,systemd-sysv,udev,dbus,kmod,v4l-utils,iproute2,libstdc++6,adduser,init-system-helpers \
        --aptopt='Apt::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt=force-unsafe-io bookworm "$cache/root.part.tar" "${sources[@]}"
    mv "$cache/root.part.tar" "$cache/root-3.tar"
    say "root: $(du -h "$cache/root-3.tar" | cut -f1)"
}

# The kernel with its modules; sets `version`.
base_kernel() {
    local package
    if [ ! -f "$cache/kernel/version" ]; then
        need dpkg-deb modprobe depmod
        # The exact name: a pattern would fetch every kernel.
        package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
        [ -n "$package" ] || fail "apt knows no linux-image-amd64; run apt-get update"
        rm -rf "$cache/kernel" "$cache/kernel.part"
        mkdir -p "$cache/kernel.part"
        (cd "$cache/kernel.part" && apt-get download -qq "$package" && dpkg-deb -x ./*.deb . && rm ./*.deb)
        version=${package#linux-image-}
        depmod -b "$cache/kernel.part" "$version"
        echo "$version" > "$cache/kernel.part/version"
        mv "$cache/kernel.part" "$cache/kernel"
        say "kernel $version"
    fi
    version=$(cat "$cache/kernel/version")
}

# Files of the modules "$@" and of what they need, in the order of loading.
modules() {
    local m
    for m; do modprobe -d "$cache/kernel" -S "$version" --show-depends "$m" | awk '/^insmod/ { print $2 }'; done |
        awk '!seen[$0]++'
}

# A folder with the root as it is on a device: fresh_root FOLDER
fresh_root() {
    base_root
    mkdir -p "$1"
    tar -C "$1" -xf "$cache/root-3.tar" --exclude=./dev/'*'
}

# Adds the kernel's modules and a network to a root, and makes an image of it: image ROOT OUT [OPTION OF vivid…]
image() {
    local root=$1 out=$2 m rel
    shift 2
    base_kernel
    need mke2fs cpio busybox
    modules vivid virtio_net | while read -r m; do
        rel=${m#"$cache/kernel/"}
        install -D -m 644 "$m" "$root/usr/lib/${rel#lib/}"
    done
    depmod -b "$root" "$version"
    echo vivid > "$root/etc/modules-load.d/vivid.conf"
    echo "options vivid n_devs=1 node_types=0x1 $*" > "$root/etc/modprobe.d/vivid.conf"
    mkdir -p "$root/etc/systemd/network"
    printf '[Match]\nType=ether\n[Network]\nDHCP=yes\n' > "$root/etc/systemd/network/10-guest.network"
    mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
    ln -sf /lib/systemd/system/systemd-networkd.service "$root/etc/systemd/system/multi-user.target.wants/"
    echo guest > "$root/etc/hostname"
    : > "$root/etc/machine-id"
    for m in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer systemd-timesyncd.service; do
        ln -sf /dev/null "$root/etc/systemd/system/$m"
    done
    mkdir -p "$out"
    rm -f "$out/root.img"
    truncate -s 900M "$out/root.img"
    mke2fs -q -t ext4 -d "$root" -L root -E root_owner=0:0 "$out/root.img"

    # A first root of busybox, the disk's driver and its file system.
    local first
    first=$(mktemp -d)
    mkdir -p "$first"/{bin,proc,sys,dev,new}
    cp "$(command -v busybox)" "$first/bin/busybox"
    for m in sh mount insmod switch_root sleep; do ln -s busybox "$first/bin/$m"; done
    {
        printf '#!/bin/sh\nmount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev\n'
        { find "$cache/kernel/lib/modules/$version" -name 'crc32c_generic.ko'; modules virtio_pci virtio_blk ext4; } |
            awk '!seen[$0]++' | while read -r m; do
            cp "$m" "$first/"
            echo "insmod /$(basename "$m")"
        done
        printf 'n=0; while [ ! -b /dev/vda ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done\n'
        printf 'mount -t ext4 /dev/vda /new && exec switch_root /new /sbin/init\n'
    } > "$first/init"
    chmod +x "$first/init"
    (cd "$first" && find . | cpio -o -H newc --quiet | gzip -1) > "$out/initrd.img"
    cp "$cache/kernel/boot/vmlinuz-$version" "$out/vmlinuz"
    rm -rf "$first"
    say "image"
}

# Boots an image without hardware virtualisation and writes its serial console: boot OUT SECONDS [OPTION OF qemu…]
boot() {
    local out=$1 limit=$2
    shift 2
    need qemu-system-x86_64
    timeout "$limit" qemu-system-x86_64 -machine q35,accel=tcg -cpu max -smp 2 -m 1024 -nodefaults -no-user-config \
        -no-reboot -display none -serial "file:$out/serial.log" -kernel "$out/vmlinuz" -initrd "$out/initrd.img" \
        -drive "file=$out/root.img,if=none,id=disk,format=raw,snapshot=on" -device virtio-blk-pci,drive=disk \
        -append "console=ttyS0 root=/dev/vda rw loglevel=3 panic=-1 systemd.show_status=0" "$@"
}
