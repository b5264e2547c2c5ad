"""Whether the roots of secrets, states and backups are apart, however their directories are mounted."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from container_manager.bot_directories import RootDirectory

_MOUNT_ID = re.compile(r"^mnt_id:\s*(\d+)$", re.MULTILINE)
_OCTAL = re.compile(r"\\([0-7]{3})")


def overlap(secrets: RootDirectory, state: RootDirectory | None, backups: Path | None) -> str | None:
    """Why these roots cannot be used together; ``None`` when they are apart.

    A state directory is writable for its bot. Below the secrets root it could hold secrets of a bot, and the other way
    round secrets would appear in a bot's state. Backups have the states of all bots.
    """
    seen_here, seen_by_engine = {"secrets": secrets.path}, {"secrets": secrets.engine_path}
    if state is not None:
        seen_here["state"], seen_by_engine["state"] = state.path, state.engine_path
    if backups is not None:
        seen_here["backup"] = backups
    for roots in (seen_here, seen_by_engine):
        for (what, one), (what_other, other) in combinations(roots.items(), 2):
            (first, *above_first), (second, *above_second) = _identities(one), _identities(other)
            if first == second:
                return f"the {what} root {one} and the {what_other} root {other} are the same directory"
            first_place, second_place = _place(one), _place(other)
            if (
                first in above_second
                or second in above_first
                or first_place.directory in second_place.unseen
                or second_place.directory in first_place.unseen
            ):
                return f"of the {what} root {one} and the {what_other} root {other}, one contains the other"
    return None


def _identities(path: Path) -> list[tuple[int, int] | Path]:
    """The identity of a directory and of those above it, which a mount at another place does not change."""
    resolved = path.resolve()
    found: list[tuple[int, int] | Path] = []
    for place in (resolved, *resolved.parents):
        try:
            status = place.stat()
        except OSError:
            found.append(place)
        else:
            found.append((status.st_dev, status.st_ino))
    return found


class _Place(NamedTuple):
    """Where a directory is in its file system; mounts show a part of that, at any place."""

    directory: tuple[str, Path] | None = None
    """The device and the path there; ``None``: unknown."""
    unseen: Collection[tuple[str, Path] | None] = ()
    """Those above the part that is mounted."""


def _place(path: Path) -> _Place:
    resolved = path.resolve()
    try:
        descriptor = os.open(resolved, os.O_PATH | os.O_CLOEXEC)
        try:
            mount_id = _MOUNT_ID.findall(Path(f"/proc/self/fdinfo/{descriptor}").read_text("ascii"))
        finally:
            os.close(descriptor)
        mounts = os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).split("\n")
    except OSError:
        return _Place()
    for mount in mounts:
        # proc_pid_mountinfo(5): mount, parent, device, what of the file system is mounted, where.
        fields = [_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), field) for field in mount.split(" ")]
        if fields[:1] == mount_id and resolved.is_relative_to(fields[4]):
            device, mounted = fields[2], Path(fields[3])
            above = [(device, each) for each in mounted.parents]
            return _Place((device, mounted / resolved.relative_to(fields[4])), above)
    return _Place()
