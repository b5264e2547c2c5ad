"""Node, and the example client in TypeScript, built once for each state of its files: `python3 -m dev.node_client`.

It is built in a copy, so that its packages do not lie among our sources.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parent.parent
NODE_CLIENT = CHECKOUT / ".dev" / "node_client"
"""The built copy, as deep in the checkout as the example."""
_EXAMPLE = CHECKOUT / "examples" / "node_client"
_LOWEST_MAJOR = 20
_OWN_NODE = CHECKOUT / ".venv-node"
# What `npm` makes in the example of somebody who works there.
_MADE = ("dist", "node_modules", "generated", "botmaker")


class Node(NamedTuple):
    """A Node that is recent enough, with its npm."""

    program: str
    environment: dict[str, str]

    def npm(self, directory: Path, *arguments: str) -> None:
        """Run npm in a directory; shows its output only if it fails."""
        done = subprocess.run(
            ["npm", *arguments],
            cwd=directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"npm {' '.join(arguments)} failed in {directory}:\n{done.stdout}")


def ensure_node() -> Node:
    """The machine's Node; where it has none, or an older one, Node from Python's package index, in `.venv-node`."""
    return _node(os.environ.get("PATH", os.defpath)) or _own_node()


def ensure_node_client() -> Node:
    """Install the client's packages and compile it, unless that is done; return the Node that runs it."""
    node = ensure_node()
    NODE_CLIENT.mkdir(parents=True, exist_ok=True)
    with (NODE_CLIENT / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        stamp = NODE_CLIENT / "stamp"
        wanted = _sources()
        if not stamp.exists() or stamp.read_text(encoding="ascii") != wanted:
            for name in ("src", "test"):
                shutil.rmtree(NODE_CLIENT / name, ignore_errors=True)
            shutil.copytree(_EXAMPLE, NODE_CLIENT, ignore=shutil.ignore_patterns(*_MADE), dirs_exist_ok=True)
            node.npm(NODE_CLIENT, "ci", "--no-audit", "--no-fund")
            node.npm(NODE_CLIENT, "run", "build")
            # Last, so that an interrupted build is not taken for a finished one.
            stamp.write_text(wanted, encoding="ascii")
    return node


def _node(path: str) -> Node | None:
    """The Node on this path."""
    if shutil.which("node", path=path) is None or shutil.which("npm", path=path) is None:
        return None
    environment = {**os.environ, "PATH": path}
    asked = ["node", "--print", "`${process.execPath} ${process.versions.node}`"]
    done = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False)
    program, _, version = done.stdout.strip().rpartition(" ")
    if done.returncode or int(version.split(".")[0]) < _LOWEST_MAJOR:
        return None
    return Node(program, environment)


def _own_node() -> Node:
    subprocess.run([str(CHECKOUT / "dev" / "env.sh"), "node"], stdin=subprocess.DEVNULL, stdout=sys.stderr, check=True)
    node = _node(f"{_OWN_NODE / 'bin'}:{os.environ.get('PATH', os.defpath)}")
    if node is None:
        raise RuntimeError(f"{_OWN_NODE} has no Node {_LOWEST_MAJOR}")
    return node


def _sources() -> str:
    """One hash over everything that the client is built from."""
    digest = hashlib.sha256()
    for top in (_EXAMPLE, CHECKOUT / "proto"):
        for path in sorted(top.rglob("*")):
            made = top == _EXAMPLE and set(path.relative_to(top).parts) & set(_MADE)
            if path.is_file() and not made:
                digest.update(f"{path.relative_to(CHECKOUT)}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    print(ensure_node_client().program)
