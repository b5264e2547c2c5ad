"""How long the copy of a bot's state takes, as upgrades and backups make it: where blocks are shared, and where not.

Both file systems are images on the same disk, mounted in a namespace of their own, so that nothing is left of them. It
needs the superuser and the programs that make them. Each copy is compared with the state.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from bench.figures import ratio
from bench.processes import CHECKOUT, ProcessError
from bench.report import Part
from bench.run import Run
from container_manager.provisioning.tree_copy import copy_tree, sync_file_system

_SHARED, _FULL = "btrfs", "ext4"
_IMAGE_BYTES = 4 << 30
_LARGE_FILES, _LARGE_BYTES = 8, 32 << 20
_SMALL_FILES, _SMALL_BYTES = 2000, 4096


def measure(run: Run) -> Part:
    """Measure copies of one state on both."""
    part = Part("states")
    rounds = run.rounds(10, 5, 1)
    missing = [each for each in ("unshare", f"mkfs.{_SHARED}", f"mkfs.{_FULL}") if shutil.which(each) is None]
    if not run.is_smoke and (os.geteuid() != 0 or missing):
        part.table("copy of a state: not measured", ["it needs"], [[each] for each in ("the superuser", *missing)])
        return part
    print(f"states: {rounds} rounds", flush=True)
    places = {kind: run.scratch / kind for kind in (_FULL, _SHARED)}
    for place in places.values():
        place.mkdir()
    samples = _copies(1, places.values(), small=True) if run.is_smoke else _on_images(rounds, places)
    seconds = dict(zip(places, samples, strict=True))
    rows = [[kind, f"{median(s):.2f}", f"{min(s):.2f}", f"{max(s):.2f}"] for kind, s in seconds.items()]
    part.table(f"copy of a state of 264 MiB in 2,008 files (s, {rounds} rounds)", ["", "median", "least", "most"], rows)
    part.samples = dict(seconds)
    part.at_most("copy of a state: shared blocks / full copy", ratio(seconds[_SHARED], seconds[_FULL]), 0.5)
    return part


def _on_images(rounds: int, places: dict[str, Path]) -> list[list[float]]:
    """The same in a process that has a file system of its kind mounted at each place."""
    for kind, place in places.items():
        with place.with_suffix(".image").open("wb") as image:
            image.truncate(_IMAGE_BYTES)
        subprocess.run([f"mkfs.{kind}", "-q", image.name], check=True, stdout=subprocess.DEVNULL)
    mounts = "".join(f"mount -o loop {place}.image {place} && " for place in places.values())
    command = [sys.executable, "-m", "bench.states", str(rounds), *map(str, places.values())]
    enter = ["unshare", "--mount", "sh", "-c", f'{mounts} exec "$@"', "sh"]
    done = subprocess.run([*enter, *command], cwd=CHECKOUT, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise ProcessError("the states could not be copied")
    samples: list[list[float]] = json.loads(done.stdout)
    return samples


def _copies(rounds: int, places: Iterable[Path], *, small: bool = False) -> list[list[float]]:
    """Copy a state in each place by turns: the seconds. ``small``: in no time, and not to the disk."""
    for place in places:
        _fill(place / "state", 100 if small else 1)
    samples = [[_copied(place, sync=not small) for place in places] for _ in range(rounds)]
    return [list(of_place) for of_place in zip(*samples, strict=True)]


def _fill(state: Path, share: int) -> None:
    state.mkdir()
    for number in range(_LARGE_FILES):
        (state / f"large-{number}").write_bytes(os.urandom(_LARGE_BYTES // share))
    for number in range(_SMALL_FILES // share):
        (state / f"small-{number}").write_bytes(os.urandom(_SMALL_BYTES))


def _copied(place: Path, *, sync: bool) -> float:
    """The seconds until a copy is on the disk."""
    state, target = place / "state", place / "copy"
    target.mkdir()
    descriptors = [os.open(each, os.O_RDONLY) for each in (state, target)]
    if sync:
        sync_file_system(descriptors[0])
    begun = time.monotonic()
    copy_tree(*descriptors)
    if sync:
        sync_file_system(descriptors[1])
    seconds = time.monotonic() - begun
    for descriptor in descriptors:
        os.close(descriptor)
    # What was compared before had the same names and times.
    filecmp.clear_cache()
    names, copied = ({path.name for path in directory.iterdir()} for directory in (state, target))
    equal, *_ = filecmp.cmpfiles(state, target, names, shallow=False)
    if not names == copied == set(equal):
        raise ProcessError(f"the copy in {place} is not the state")
    shutil.rmtree(target)
    return seconds


if __name__ == "__main__":
    json.dump(_copies(int(sys.argv[1]), [Path(place) for place in sys.argv[2:]]), sys.stdout)
