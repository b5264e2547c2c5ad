"""The files of a Debian release, unpacked below a directory and kept there between runs."""

import shutil
import subprocess
import sys
from pathlib import Path

from dev.debian import MissingEngine, install
from dev.engines.releases import Release


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
    options = [f"--aptopt={option}" for option in release.aptopts]
    done = subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(release.packages)}"),
            *(*options, release.suite, str(partial)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise MissingEngine(f"mmdebstrap of {release.suite} failed:\n{done.stderr.strip()[-2000:]}")
    partial.rename(tree)
    stamp.write_text(wanted, encoding="ascii")
    return tree
