"""A directory to put first in PATH, with a `dockerd` that is the engine of another release."""

import shlex
import sys
from pathlib import Path

from dev.engines.releases import Release

_PACKAGE = Path(__file__).resolve().parent


def write_programs(release: Release, tree: Path, directory: Path) -> Path:
    """Write `dockerd` into `directory`; return its path.

    Whatever starts an engine by that name, PrivateEngine in the tests included, starts the release's one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "dockerd"
    within = shlex.join([str(_PACKAGE / "within.sh"), str(tree)])
    if release.podman:
        checkout = shlex.quote(str(_PACKAGE.parent.parent))
        line = f"PYTHONPATH={checkout} exec {shlex.quote(sys.executable)} -m dev.engines.podman {within}"
    else:
        line = f"exec {within} /usr/sbin/dockerd"
    program.write_text(f'#!/bin/sh\n{line} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return program
