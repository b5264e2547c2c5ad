"""Looks up files of one container as its kernel would, running or not, through its mounts and links."""

from __future__ import annotations

import posixpath
import stat
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.transport_errors import EngineRejectedError

# Go's os.FileMode keeps the type in its high bits (io/fs, FileMode).
_GO_MODE_DIR = 1 << 31
_GO_MODE_SYMLINK = 1 << 27
_EXECUTE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
# The kernel's limits (path_resolution(7), NAME_MAX).
_MAX_LINKS = 40
_MAX_NAME_BYTES = 255
# Mounts that exist only while the container runs.
_RUN_TIME_MOUNTS = ("/proc", "/sys", "/dev")


class File(NamedTuple):
    """A file that is not a link."""

    path: str
    """Without links."""
    is_program: bool
    """A regular file that somebody may execute."""
    closed: tuple[str, ...] = ()
    """The directories of an absolute path that not everybody may enter."""


class UnknownFileError(Exception):
    """What the file is cannot be found out, as of one that only the running container has."""


class ContainerFiles:
    """Files of the container with this inspect document."""

    def __init__(self, engine: EngineClient, inspected: dict[str, Any], deadline: Deadline) -> None:
        self._engine = engine
        self._id = inspected["Id"]
        self._deadline = deadline
        self._directory = inspected["Config"].get("WorkingDir") or "/"
        self._mounts = [str(mount.get("Destination")) for mount in inspected.get("Mounts") or []]
        self._seen: dict[str, dict[str, Any] | None] = {}

    def may_change(self) -> bool:
        """Whether a mount has been looked into: what it holds may change at any time."""
        # A look at a destination adds to what has been seen.
        looked = [*self._seen]
        return _are_below(looked, self._mounts) or _are_below(looked, [self._without_links(m) for m in self._mounts])

    def find(self, path: str) -> File | None:
        """The file at a path, which may be relative to the working directory; ``None``: the path leads to none."""
        todo, here, links, mode = posixpath.join(self._directory, path).split("/")[::-1], "/", 0, _GO_MODE_DIR
        closed = []
        while todo:
            # Also before "", "." and "..".
            if not mode & _GO_MODE_DIR:
                return None
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                here = posixpath.dirname(here)
                continue
            if len(part.encode("utf-8", "surrogateescape")) > _MAX_NAME_BYTES:
                return None
            found = self._stat(posixpath.join(here, part))
            if found is None:
                return None
            if int(found["mode"]) & _GO_MODE_SYMLINK:
                links += 1
                if links > _MAX_LINKS:
                    return None
                target = str(found["linkTarget"])
                here = "/" if target.startswith("/") else here
                todo += target.split("/")[::-1]
            else:
                here, mode = posixpath.join(here, part), int(found["mode"])
                if mode & _GO_MODE_DIR and mode & _EXECUTE != _EXECUTE:
                    closed.append(here)
        # A process need not enter the directories above its working directory.
        closed = closed if path.startswith("/") else []
        is_program = not mode & _GO_MODE_DIR and bool(mode & _EXECUTE)
        return File(here, is_program, tuple(closed))

    def _stat(self, path: str) -> dict[str, Any] | None:
        if _is_below(path, _RUN_TIME_MOUNTS):
            raise UnknownFileError
        if path not in self._seen:
            self._seen[path] = self._look(path)
        return self._seen[path]

    def _look(self, path: str) -> dict[str, Any] | None:
        try:
            return self._engine.stat(self._id, path, self._deadline)
        except EngineRejectedError:
            # Docker follows a link to its end, and its answer to HEAD has no text.
            try:
                self._engine.read_start(self._id, path, 1, self._deadline)
            except EngineRejectedError as exc:
                if "too many" in exc.text:
                    return None
            raise

    def _without_links(self, destination: str) -> str:
        """Where the engine mounts what is to be at this path."""
        with suppress(UnknownFileError):
            for ancestor in map(str, (PurePosixPath(destination), *PurePosixPath(destination).parents)):
                if found := self.find(ancestor):
                    return posixpath.normpath(posixpath.join(found.path, posixpath.relpath(destination, ancestor)))
        return destination


def _is_below(path: str, tops: list[str] | tuple[str, ...]) -> bool:
    return any(path == top or path.startswith(f"{top}/") for top in tops)


def _are_below(paths: list[str], tops: list[str]) -> bool:
    return any(_is_below(path, tops) for path in paths)
