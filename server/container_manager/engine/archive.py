"""Reads what the engine's endpoint for a container's files sends: the status of a file, and the start of an archive."""

from __future__ import annotations

import base64
import json
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple


class FileStart(NamedTuple):
    """The start of a file in a container, and who may do what with it."""

    mode: int
    uid: int
    gid: int
    content: bytes


def path_stat(headers: Mapping[str, str]) -> dict[str, Any]:
    """``name``, ``size``, Go file ``mode`` and ``linkTarget`` of a file, from the headers of a response."""
    found: dict[str, Any] = json.loads(base64.b64decode(headers["X-Docker-Container-Path-Stat"]))
    return found


def first_file(stream: Any, size: int) -> FileStart | None:
    """The first ``size`` bytes of the first file; ``None`` if that is no regular file, or no archive.

    ``stream`` has ``read(size)``.
    """
    with suppress(tarfile.TarError), tarfile.open(fileobj=stream, mode="r|") as archive:
        member = archive.next()
        content = archive.extractfile(member) if member is not None else None
        if member is not None and content is not None:
            return FileStart(member.mode, member.uid, member.gid, content.read(size))
    return None
