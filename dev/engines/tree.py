"""An engine of another Debian release: its files, unpacked once, and a `dockerd` that runs with them."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from dev.debian import MissingEngine, install
from dev.engines.releases import Release

_PACKAGE = Path(__file__).resolve().parent


def ensure_tree(release: Release, directory: Path) -> Path:
    """Make the tree of this release's suite below `directory`, unless it is there; return its path.

    Raises MissingEngine where it cannot be made.
    """
    tree = directory / release.suite
    stamp = directory / f"{release.suite}.packages"
    wanted = " ".join(release.packages)
    if tree.is_dir() and stamp.is_file() and stamp.read_text(encoding="ascii") == wanted:
        return tree
    install(["mmdebstrap"])
    print(f"Unpacking Debian {release.suite}", file=sys.stderr, flush=True)
    partial = directory / f"{release.suite}.partial"
    directory.mkdir(parents=True, exist_ok=True)
    for old in (tree, partial):
        shutil.rmtree(old, ignore_errors=True)
    command = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(release.packages)}"]
    command += [*(f"--aptopt={option}" for option in release.aptopts), release.suite, str(partial)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingEngine(f"mmdebstrap of {release.suite} failed:\n{done.stderr.strip()[-2000:]}")
    partial.rename(tree)
    stamp.write_text(wanted, encoding="ascii")
    return tree


def write_dockerd(release: Release, tree: Path, directory: Path) -> Path:
    """Write a program `dockerd` that starts the engine of the tree; return its path.

    With the directory first in PATH, a PrivateEngine starts that engine, also in the tests.
    """
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "dockerd"
    line = f"exec {shlex.join([str(_PACKAGE / 'within.sh'), str(tree)])} /usr/sbin/dockerd"
    if release.podman:
        command = shlex.join([sys.executable, "-m", "dev.engines.podman", str(_PACKAGE / "within.sh"), str(tree)])
        line = f"PYTHONPATH={shlex.quote(str(_PACKAGE.parent.parent))} exec {command}"
    program.write_text(f'#!/bin/sh\n{line} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return program
