#!/bin/sh
# within.sh TREE COMMAND…: run COMMAND with the programs and libraries of TREE, another Debian release.
#
# In a mount namespace of its own, TREE's /usr lies over the machine's. Every other path is the machine's, so whatever
# is mounted or listened on is where the tests look for it; but for what the variable BIND lists, each FROM:TO, the
# first then lies over the second. The process keeps its id. Where HOLD names a file, a process that has it open stays
# in the namespace, and another start with the same file goes there.
set -eu
if [ -n "${HOLD:-}" ] && holder=$(pgrep --full --exact "docker-hold -f $HOLD"); then
    shift
    exec nsenter --mount="/proc/$holder/ns/mnt" env PATH=/usr/sbin:/usr/bin "$@"
fi
exec unshare --mount --propagation slave bash -euc '
    tree=$1
    shift
    for pair in ${BIND:-}; do
        mount --bind "${pair%%:*}" "${pair#*:}"
    done
    for path in /etc/alternatives /etc/ld.so.cache /usr; do
        mount --bind "$tree$path" "$path"
    done
    PATH=/usr/sbin:/usr/bin
    if [ -n "${HOLD:-}" ]; then
        (exec -a docker-hold tail -f "$HOLD" >/dev/null 2>&1) &
    fi
    exec "$@"
' bash "$@"
