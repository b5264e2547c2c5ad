#!/bin/sh
# Makes an environment from its locked requirements; done at once when nothing changed. All others need .venv first.
#
#   dev/env.sh          .venv, for all work
#   dev/env.sh protoc   .venv-protoc, for generating the stubs
#   dev/env.sh lock     .venv-lock, with uv, for `make lock`
#   dev/env.sh lowest   .venv-lowest, with the lowest versions that we support, for `make test-lowest`
#   dev/env.sh audit    .venv-audit, with pip-audit, for `make audit`
#   dev/env.sh node     .venv-node, with Node and npm, for examples/node_client where the machine has no recent ones
set -eu
cd "$(dirname "$0")/.."

find_python() {
    for python in python3.13 python3.12 python3.11 python3.14 python3; do
        # A Debian python3 may lack ensurepip, and with it venv.
        if "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            return
        fi
    done
    python=
}

require_python() {
    find_python
    if [ -z "$python" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing Python from Debian's packages" >&2
        apt-get -qq update >&2
        DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install --yes \
            --no-install-recommends ca-certificates python3 python3-venv >&2
        find_python
    fi
    if [ -z "$python" ]; then
        echo "env: needs Python 3.11 or later with its venv module (Debian: apt-get install python3-venv)" >&2
        exit 1
    fi
}

# What an environment was made from; another path or another lock makes it anew.
wanted() {
    { pwd; cat dev/env.sh "$@"; } | cksum
}

current() {
    environment=$1
    shift
    [ -x "$environment/bin/python" ] && [ "$(cat "$environment/stamp" 2>/dev/null)" = "$(wanted "$@")" ]
}

# make_environment ENVIRONMENT REQUIREMENTS [PROJECT]
make_environment() {
    environment=$1 requirements=$2 project=${3:-}
    echo "Making $environment from $requirements" >&2
    rm -rf "$environment"
    # One pip serves all: making an environment without it takes a tenth of the time.
    if [ "$environment" = .venv ]; then
        "$python" -m venv .venv
    else
        .venv/bin/python -m venv --without-pip "$environment"
    fi
    pip_install --require-hashes --only-binary :all: --requirement "$requirements"
    if [ -n "$project" ]; then
        pip_install --no-build-isolation --editable "$project"
    fi
    # Last, so that an interrupted run is not taken for a finished one.
    wanted "$requirements" ${project:+pyproject.toml} >"$environment/stamp"
}

pip_install() {
    .venv/bin/python -m pip --python "$environment/bin/python" install \
        --quiet --disable-pip-version-check --no-input --no-deps "$@"
}

ensure() {
    if current "$1" "$2" ${3:+pyproject.toml}; then
        return
    fi
    require_python
    make_environment "$@"
}

project='.[server,cli,age,tracing]'
ensure .venv requirements/dev.txt "$project"
case ${1:-} in
lock) ensure .venv-lock requirements/uv.txt ;;
lowest) ensure .venv-lowest requirements/lowest.txt "$project" ;;
audit) ensure .venv-audit requirements/audit.txt ;;
protoc) ensure .venv-protoc requirements/protoc.txt ;;
node) ensure .venv-node requirements/node.txt ;;
esac
