#!/bin/sh
# within.sh TREE COMMAND…: run COMMAND with the programs and libraries of TREE, another Debian release.
#
# In a mount namespace of its own, TREE's /usr lies over the machine's. Every other path is the machine's, so whatever
# is mounted or listened on is where the tests look for it; but for what the variable BIND lists, each FROM:TO, the
# first then lies over the second. The process keeps its id.
set -eu
exec unshare --mount --propagation slave sh -euc '
    tree=$1
    shift
    for path in /etc/alternatives /etc/ld.so.cache /usr; do
        mount --bind "$tree$path" "$path"
    done
    for pair in ${BIND:-}; do
        mount --bind "${pair%%:*}" "${pair#*:}"
    done
    PATH=/usr/sbin:/usr/bin exec "$@"
' sh "$@"
