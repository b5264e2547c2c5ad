"""Containers with a command, and the files that an engine in memory shows in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from container_manager.backends.docker.command_check import CommandCheck
from container_manager.engine.client import EngineClient
from tests.support.fake_engine import FakeEngine, Json, error
from tests.unit.documents import archived, inspected, path_stat

DIRECTORY = 1 << 31
LINK = 1 << 27
ARCHIVE = ("HEAD", "/containers/*/archive")
CONTENT = ("GET", "/containers/*/archive")
INSPECT = ("GET", "/containers/*/json")
STATE = "/home/node/.openclaw"
PROGRAM, PLAIN, FOLDER = path_stat(0o755), path_stat(0o644), path_stat(DIRECTORY | 0o755)
Files = Mapping[str, Json]


def command_check(engine: FakeEngine, client: EngineClient) -> CommandCheck:
    """The check of commands in containers whose programs are of the engine's machine."""
    engine.on(*INSPECT, Json(inspected()))
    engine.on(*CONTENT, archived(b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x02\0>\0" + b"\0" * 100))
    engine.on("GET", "/version", Json({"ApiVersion": "1.41", "Arch": "amd64"}))
    return CommandCheck(client)


def has(engine: FakeEngine, files: Files) -> None:
    """Let the containers have these files, in real directories unless a link is among them."""
    folders = {parent.as_posix() for path in files for parent in PurePosixPath(path).parents}
    known = {**dict.fromkeys(folders, path_stat(DIRECTORY | 0o755)), **files}
    engine.on(*ARCHIVE, lambda request: known.get(request.query["path"], error(404, "no such file")))


def container(command: str, path: str | None = "/usr/bin:/bin", directory: str = "", **changes: Any) -> dict[str, Any]:
    environment = ["A=1"] if path is None else ["A=1", f"PATH={path}"]
    mounts = [{"Destination": "/run/secrets"}, {"Destination": STATE}]
    document = {"Path": command, "Mounts": mounts, "HostConfig": {"Init": True, "CapDrop": ["ALL"]}, **changes}
    return inspected(config={"Env": environment, "WorkingDir": directory}, **document)
