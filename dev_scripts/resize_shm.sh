#!/usr/bin/env bash
# Gives shared memory (/dev/shm) another size, until the next boot. As root, or with sudo:
#
#   dev_scripts/resize_shm.sh 8G
#   dev_scripts/resize_shm.sh 64M
#
# SIZE is a number of bytes, or has the suffix K, M or G (times 1024, 1024^2, 1024^3). What lies in shared memory stays.
set -euo pipefail

fail() {
    echo "resize_shm.sh: $1" >&2
    exit "$2"
}

[ $# -eq 1 ] || fail "expected one argument, SIZE, such as 64M or 8G; got $#" 2
size=$1
# tmpfs takes 0 for "no limit at all", and what is too large for the kernel's counters for some other size.
[[ $size =~ ^([1-9][0-9]{0,17}|[1-9][0-9]{0,8}[KkMmGg])$ ]] || fail "expected a size such as 64M or 8G, got '$size'" 2
[ "$(id -u)" -eq 0 ] || fail "only root may resize /dev/shm: run it with sudo" 1
mountpoint --quiet /dev/shm || fail "nothing is mounted on /dev/shm, so it has no size of its own" 1

used_and_size() { df --block-size=K --output=used,size /dev/shm | tail -n 1; }

read -r _ before < <(used_and_size)
mount -o "remount,size=$size" /dev/shm || fail "/dev/shm stays as it was: $before" 1
read -r used after < <(used_and_size)
echo "/dev/shm: $before before, $after now, $used of them used"
