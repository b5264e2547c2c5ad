"""Checks that a container's command exists and is executable.

An init process as PID 1 hides a wrong command from the engine: the init itself starts, fails to run the command, exits
with 127 and is revived by the restart policy for ever, while the engine's start answers success. So a command that is
plainly not in the image is found here, at create, and such a container is made without the init: then the engine itself
rejects its start, in its own words, and shows them in its inspect output.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterator
from typing import Any

from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.model import ContainerState

# The PATH that the engine gives a container whose image has none (moby, oci.DefaultPathEnv).
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Go's os.FileMode keeps the type in its high bits (io/fs, FileMode).
_GO_MODE_DIR = 1 << 31
_GO_MODE_SYMLINK = 1 << 27
# The limit of execve(2).
_MAX_PATH_LENGTH = 4_095
_MAX_LINKS = 8
# Each candidate costs a call to the engine.
_MAX_CANDIDATES = 64
_MAX_REMEMBERED = 1_000
_GOING = (ContainerState.REMOVING.value, ContainerState.DEAD.value)


class CommandCheck:
    """Looks up commands in new containers, and caches the result by image, whose files are all that it has."""

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine
        self._runnable: dict[tuple[str, ...], bool] = {}

    def is_runnable(self, inspected: dict[str, Any], deadline: Deadline) -> bool:
        """Whether a new container's command is an executable file. In doubt, true: the init process will report it.

        A container that somebody removes meanwhile is such a doubt.
        """
        command = _command(inspected)
        environment = dict(item.partition("=")[::2] for item in inspected["Config"].get("Env") or [])
        path = environment.get("PATH", _DEFAULT_PATH)
        directory = inspected["Config"].get("WorkingDir") or "/"
        if command.endswith("/") or len(command) > _MAX_PATH_LENGTH:
            return False
        key = (inspected["Image"], command, path, directory)
        if key in self._runnable:
            return self._runnable[key]
        candidates = list(dict.fromkeys(_candidates(command, path, directory)))
        if len(candidates) > _MAX_CANDIDATES:
            return True
        try:
            runnable = any(self._is_executable(inspected["Id"], candidate, deadline) for candidate in candidates)
            # The engine also finds nothing in a container that is being removed. That says nothing about the image.
            if not runnable and not self._is_there(inspected["Id"], deadline):
                return True
        except EngineRejectedError:
            return True
        if len(self._runnable) >= _MAX_REMEMBERED:
            self._runnable.clear()
        self._runnable[key] = runnable
        return runnable

    def _is_there(self, container_id: str, deadline: Deadline) -> bool:
        document = self._engine.inspect_container(container_id, deadline)
        return document is not None and document["State"]["Status"] not in _GOING

    def _is_executable(self, container_id: str, path: str, deadline: Deadline) -> bool:
        for _ in range(_MAX_LINKS):
            found = self._engine.stat(container_id, path, deadline)
            if found is None:
                return False
            mode = int(found["mode"])
            if not mode & _GO_MODE_SYMLINK:
                return not mode & _GO_MODE_DIR and bool(mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH))
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), found["linkTarget"]))
        return True


def _command(inspected: dict[str, Any]) -> str:
    """The container's program. With Podman and an init process, ``Path`` is the init's."""
    config = inspected["Config"]
    words = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
    return str(words[0] if words else inspected.get("Path") or "")


def _candidates(command: str, path: str, directory: str) -> Iterator[str]:
    if "/" in command:
        yield posixpath.join(directory, command)
    else:
        for folder in path.split(":"):
            yield posixpath.join(directory, folder, command)
