"""Checks that a container's program can be run.

An init process as PID 1 hides a program that cannot be run: the init itself starts, so the engine's start succeeds, and
the restart policy revives it for ever. What each kind of program gives, as seen with Docker 20.10 and tini 0.19:

    program                          with init                  without init
    missing, or not executable       exit 127 or 126            the engine rejects the start, in its own words
    interpreter or loader missing    exit 127                   exit 1
    for another machine, or no       a shell tries to run it,   exit 1
    program at all                   exit 0, 2 or 127
    script that its user may not     exit of its interpreter    the same
    read
    script of env(1), which finds    exit 127                   the same
    no such program
    below a directory that its       exit 126                   the engine rejects the start, in its own words
    user may not enter

So a container whose program is missing, not executable or out of reach is made without init: the engine then rejects
its start. The start of any other one that certainly fails is refused here. In doubt, the container has its init and is
started.

A program below a mount may come and go. Its container always has its init, and the program is looked for at each start.
Only conclusions that neither a mount nor the host can change are remembered: by image, since a look costs some
milliseconds for each directory of a path, and by container. No start is refused from memory: the program may have been
mended in the container, as by ``docker cp``. Nor is one started from memory whose program was found broken.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from container_manager.backends.docker.container_files import ContainerFiles, UnknownFileError
from container_manager.backends.docker.container_user import has_no_capabilities
from container_manager.backends.docker.program_format import Reader, search_path, why_not_run_by_name
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import CommandNotFoundError, StartFailedError
from container_manager.model import ContainerState

# The limit of execve(2).
_MAX_PATH_LENGTH = 4_095
_MAX_REMEMBERED = 1_000
_MAX_CONTAINERS = 20_000
_GOING = (ContainerState.REMOVING.value, ContainerState.DEAD.value)


@dataclass(frozen=True)
class Verdict:
    """What is known of a program."""

    error: type[StartFailedError] | None = None
    """Why it certainly cannot be run; ``None``: it can, or that is in doubt."""
    why: str = ""
    by_engine: bool = False
    """Without init, the engine rejects its start."""
    is_final: bool = True
    """Neither a mount nor the host can change it."""


_IN_DOUBT = Verdict(is_final=False)


class CommandCheck:
    """Looks up programs in containers. Safe for any number of threads."""

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine
        self._by_image: dict[bytes, Verdict] = {}
        self._sound_at_starts: dict[bytes, Verdict] = {}
        """By image too, for starts alone: a container that was started may have differed from its image."""
        self._by_container: dict[str, Verdict] = {}
        """Of containers that were checked at their create or at a start."""

    def needs_init(self, inspected: dict[str, Any], deadline: Deadline) -> bool:
        """Whether a new container has to have its init. ``False``: without it, the engine rejects the start."""
        verdict = self._check(inspected, deadline)
        if verdict.is_final and verdict.by_engine:
            return False
        self._remember(inspected["Id"], verdict)
        return True

    def engine_judges(self, container_id: str) -> None:
        """Note a new container that has no init."""
        self._remember(container_id, Verdict())

    def check_start(self, container_id: str, bot_id: str, deadline: Deadline) -> None:
        """Raise the reason why the container's program cannot be run, if that is certain.

        A container that nothing is remembered of is looked at.
        """
        verdict = self._by_container.get(container_id)
        try:
            if verdict is None or not verdict.is_final or verdict.error is not None:
                inspected = self._engine.inspect_container(container_id, deadline)
                if inspected is None or not (inspected.get("HostConfig") or {}).get("Init"):
                    return
                verdict = self._check(inspected, deadline, to_start=True)
                self._remember(container_id, verdict)
        except EngineRejectedError as exc:
            raise engine_error(exc, bot_id) from exc
        if verdict.error is not None:
            raise verdict.error(f"the container was not started: {verdict.why}", bot_id=bot_id)

    def _check(self, inspected: dict[str, Any], deadline: Deadline, *, to_start: bool = False) -> Verdict:
        config = inspected["Config"]
        command = _command(inspected)
        if command.endswith("/") or len(command) > _MAX_PATH_LENGTH:
            return Verdict(CommandNotFoundError, "its command is no path of a file", by_engine=True)
        mounts = sorted(str(mount.get("Destination")) for mount in inspected.get("Mounts") or [])
        place = [search_path(inspected), config.get("WorkingDir") or "/", str(config.get("User"))]
        parts = [inspected["Image"], command, *place, has_no_capabilities(inspected), *mounts]
        # A digest: a caller's PATH may take 128 KiB.
        key = hashlib.sha256(json.dumps(parts).encode()).digest()
        known = self._by_image.get(key)
        if known is None and to_start and inspected["Id"] not in self._by_container:
            known = self._sound_at_starts.get(key)
        if known is not None and (known.error is None or not to_start):
            return known
        files = ContainerFiles(self._engine, inspected, deadline)
        try:
            verdict = self._look(files, inspected, deadline)
            # The engine also finds nothing in a container that is being removed. That says nothing about the program.
            if verdict.error is not None and not self._is_there(inspected["Id"], deadline):
                return _IN_DOUBT
        except (EngineRejectedError, UnknownFileError):
            return _IN_DOUBT
        if verdict.is_final and not (to_start and verdict.error):
            by_image = self._sound_at_starts if to_start else self._by_image
            if len(by_image) >= _MAX_REMEMBERED:
                by_image.clear()
            by_image[key] = verdict
        return verdict

    def _look(self, files: ContainerFiles, inspected: dict[str, Any], deadline: Deadline) -> Verdict:
        command = _command(inspected)
        reader = Reader(self._engine, inspected, files, deadline)
        problem = why_not_run_by_name(reader, command, f"its command {command[:200]!r}")
        if problem is None:
            return Verdict(is_final=not files.may_change())
        # A path may have bytes that are not UTF-8.
        why = problem.why.encode("utf-8", "backslashreplace").decode()
        return Verdict(problem.error, why, problem.by_engine, problem.is_final and not files.may_change())

    def _remember(self, container_id: str, verdict: Verdict) -> None:
        if len(self._by_container) >= _MAX_CONTAINERS:
            self._by_container.clear()
        self._by_container[container_id] = verdict

    def _is_there(self, container_id: str, deadline: Deadline) -> bool:
        document = self._engine.inspect_container(container_id, deadline)
        return document is not None and document["State"]["Status"] not in _GOING


def _command(inspected: dict[str, Any]) -> str:
    """The container's program. With Podman and an init process, ``Path`` is the init's."""
    config = inspected["Config"]
    words = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
    return str(words[0] if words else inspected.get("Path") or "")
