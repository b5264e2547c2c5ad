"""How long the copy of a bot's state takes, as upgrades and backups make it: where blocks are shared, and where not.

Both file systems are images on the same disk, mounted in a namespace of their own, so that nothing is left of them. It
needs the superuser and the programs that make them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from bench.figures import ratio
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
    rounds = run.rounds(10, 5, 2)
    programs = [f"mkfs.{kind}" for kind in (_SHARED, _FULL)]
    missing = [each for each in ("unshare", *programs) if shutil.which(each) is None]
    if not run.is_smoke and (os.geteuid() != 0 or missing):
        part.table("copy of a state: not measured", ["it needs"], [[each] for each in ("the superuser", *missing)])
        return part
    print(f"states: {rounds} rounds", flush=True)
    places = {kind: run.scratch / kind for kind in (_FULL, _SHARED)}
    for place in places.values():
        place.mkdir()
    command = [sys.executable, "-m", "bench.states", str(rounds), str(int(run.is_smoke)), *map(str, places.values())]
    if not run.is_smoke:
        for kind, place in places.items():
            with place.with_suffix(".image").open("wb") as image:
                image.truncate(_IMAGE_BYTES)
            subprocess.run([f"mkfs.{kind}", "-q", image.name], check=True, stdout=subprocess.DEVNULL)
        mounts = "".join(f"mount -o loop {place}.image {place} && " for place in places.values())
        command = ["unshare", "--mount", "sh", "-c", f'{mounts} exec "$@"', "sh", *command]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    seconds: dict[str, list[float]] = dict(zip(places, json.loads(done.stdout), strict=True))
    rows = [[kind, f"{median(s):.2f}", f"{min(s):.2f}", f"{max(s):.2f}"] for kind, s in seconds.items()]
    part.table(f"copy of a state of 264 MiB in 2,008 files (s, {rounds} rounds)", ["", "median", "least", "most"], rows)
    part.samples = dict(seconds)
    part.at_most("copy of a state: shared blocks / full copy", ratio(seconds[_SHARED], seconds[_FULL]), 0.5)
    return part


def _fill(state: Path, share: int) -> None:
    state.mkdir()
    for number in range(_LARGE_FILES // share):
        (state / f"large-{number}").write_bytes(os.urandom(_LARGE_BYTES // share))
    for number in range(_SMALL_FILES // share):
        (state / f"small-{number}").write_bytes(os.urandom(_SMALL_BYTES))


def _copied(place: Path) -> float:
    """The seconds until a copy is on the disk."""
    target = place / "copy"
    target.mkdir()
    descriptors = [os.open(each, os.O_RDONLY) for each in (place / "state", target)]
    begun = time.monotonic()
    copy_tree(*descriptors)
    sync_file_system(descriptors[1])
    seconds = time.monotonic() - begun
    for descriptor in descriptors:
        os.close(descriptor)
    shutil.rmtree(target)
    return seconds


def _main(rounds: str, is_smoke: str, *places: str) -> None:
    for place in places:
        _fill(Path(place) / "state", 8 if int(is_smoke) else 1)
    os.sync()
    samples = [[_copied(Path(place)) for place in places] for _ in range(int(rounds))]
    json.dump(list(zip(*samples, strict=True)), sys.stdout)


if __name__ == "__main__":
    _main(*sys.argv[1:])
