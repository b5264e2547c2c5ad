#!/bin/sh
# Generates the stubs under client/ from proto/; with --check it only compares, and fails if they differ.
#
# The generators are those of .venv-protoc, at the lowest versions that we support. What they write is used as it is, but for
# the names of the async stubs.
set -eu
cd "$(dirname "$0")/.."

# generate DIRECTORY
generate() {
    # shellcheck disable=SC2046  # no path has blanks
    PYTHONWARNINGS=ignore .venv-protoc/bin/python -m grpc_tools.protoc \
        --plugin=protoc-gen-mypy_grpc=.venv-protoc/bin/protoc-gen-mypy_grpc --proto_path=proto \
        --python_out="$1" --pyi_out="$1" --grpc_python_out="$1" --mypy_grpc_out="quiet:$1" \
        $(cd proto && find . -name '*.proto' | sed 's|^\./||' | sort)
    # The type stubs declare a type of its own for a stub on an asyncio channel. It is the same class, and has no name in the
    # generated modules, so that a program could not import it.
    find "$1" -name '*_pb2_grpc.py' | while read -r module; do
        names=$(sed -n 's/^class \(.*\)Stub(object):$/\1AsyncStub = \1Stub/p' "$module")
        printf '\n\n%s\n' "$names" >>"$module"
    done
}

if [ "${1:-}" != --check ]; then
    find client -name '*_pb2*.py*' -not -path '*/__pycache__/*' -delete
    generate client
    exit
fi
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
generate "$new"
if ! diff --unified --recursive --new-file --exclude=__pycache__ --exclude=__init__.py --exclude=py.typed client/botmaker "$new/botmaker"; then
    echo "proto: the stubs under client/ are not those of proto/: run \`make proto\`" >&2
    exit 1
fi
