#!/bin/sh
# `buf breaking`: is the contract in the work tree still compatible with the one that others have?
#
# That is main's (origin/main in a clone of a branch). On main itself, as in CI on a clean clone, comparing main with
# main would find nothing, so there it is the contract as it was before the last commit that changed it.
set -eu
cd "$(dirname "$0")/.."

skip() {
    echo "buf breaking: skipped, $1"
    exit 0
}

git rev-parse --quiet --verify HEAD >/dev/null 2>&1 || skip "there is no commit yet"

reference=
for branch in main origin/main; do
    if git cat-file -e "$branch:proto" 2>/dev/null; then
        reference=$(git rev-parse "$branch")
        break
    fi
done
[ -n "$reference" ] || skip "main has no proto yet"

if [ "$reference" = "$(git rev-parse HEAD)" ] && git diff --quiet HEAD -- proto; then
    reference=$(git log --skip=1 --max-count=1 --format=%H -- proto)
    [ -n "$reference" ] || skip "the contract has not changed since its first commit"
    git cat-file -e "$reference:proto" 2>/dev/null || skip "this clone does not reach back to the last change"
fi

# The files as they were, from git archive: buf's own clone would need the network in a shallow checkout.
before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
# shellcheck disable=SC2046  # one name or none
git archive "$reference" proto $(git ls-tree --name-only "$reference" buf.yaml) | tar -x -C "$before"
.venv/bin/buf breaking --against "$before"
