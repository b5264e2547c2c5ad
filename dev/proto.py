"""Generate the stubs under client/ from proto/: `python3 -m dev.proto`; with --check, only compare.

The generators are those of .venv-protoc, at the lowest versions that we support. What they write is used as it is.
"""

import difflib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
_PROTO = CHECKOUT / "proto"
_CLIENT = CHECKOUT / "client"
_TOOLS = CHECKOUT / ".venv-protoc" / "bin"
_PATTERNS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(target: Path) -> None:
    """Write the modules and their .pyi below `target`, which must exist."""
    sources = sorted(str(path.relative_to(_PROTO)) for path in _PROTO.rglob("*.proto"))
    command = [
        str(_TOOLS / "python"),
        "-m",
        "grpc_tools.protoc",
        f"--plugin=protoc-gen-mypy_grpc={_TOOLS / 'protoc-gen-mypy_grpc'}",
        f"--proto_path={_PROTO}",
        f"--python_out={target}",
        f"--pyi_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_grpc_out=quiet:{target}",
        *sources,
    ]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})


def stubs(root: Path) -> dict[Path, str]:
    """The generated files below `root`, by their relative paths."""
    paths = {path for pattern in _PATTERNS for path in root.rglob(pattern)}
    return {path.relative_to(root): path.read_text(encoding="utf-8") for path in paths}


def differences() -> list[str]:
    """A unified diff from what is there to what would be generated; empty if they agree."""
    with tempfile.TemporaryDirectory() as directory:
        generate(Path(directory))
        new = stubs(Path(directory))
    old = stubs(_CLIENT)
    lines: list[str] = []
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path, "").splitlines(), new.get(path, "").splitlines()
        lines += difflib.unified_diff(before, after, f"client/{path}", f"generated/{path}", lineterm="")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Generate, or compare with --check: then 1 if anything differs."""
    if arguments not in ([], ["--check"]):
        print("usage: python3 -m dev.proto [--check]", file=sys.stderr)
        return 2
    try:
        if not arguments:
            generate(_CLIENT)
            wanted = {path.with_suffix("").as_posix() for path in _PROTO.rglob("*.proto")}
            for path in stubs(_CLIENT):
                source = _PROTO / path.parent / path.name.partition("_pb2")[0]
                if source.as_posix() not in wanted:
                    (_CLIENT / path).unlink()
            return 0
        found = differences()
    except subprocess.CalledProcessError as error:
        print(f"proto: protoc failed with status {error.returncode}", file=sys.stderr)
        return 1
    if found:
        print("\n".join(found))
        print("proto: the stubs under client/ are not those of proto/: run `make proto`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
