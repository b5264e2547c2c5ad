"""What the engine's endpoint for a container's files sends and takes: the status of a file, and archives."""

from __future__ import annotations

import base64
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any, NamedTuple

import requests

from container_manager.engine.transport_errors import EngineRejectedError

# An archive's record of the extended attribute of capabilities(7).
_CAPABILITIES = "SCHILY.xattr.security.capability"


class FileStart(NamedTuple):
    """The start of a file in a container, and who may do what with it."""

    mode: int
    uid: int
    gid: int
    content: bytes
    capabilities: bytes = b""
    """``vfs_cap_data`` of linux/capability.h; empty: none."""


class ArchiveStream:
    """The body of one response."""

    def __init__(
        self, response: requests.Response, translated_errors: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._response = response
        self._translated_errors = translated_errors

    def read(self, count: int) -> bytes:
        """At most ``count`` bytes; empty at the end.

        Raises :class:`EngineUnavailableError` if the connection ended before the response did, and
        :class:`EngineTimeoutError`.
        """
        with self._translated_errors():
            data: bytes = self._response.raw.read(count)
            return data


def archive_response(
    api: Any, method: str, container_id: str, path: str, body: Iterable[bytes] | None = None
) -> requests.Response:
    """The response of the endpoint, which the SDK offers for whole files only. ``api``: the SDK's client.

    ``body``: an archive, sent piece by piece. Raises :class:`EngineRejectedError` for an error response.
    """
    url = f"{api.base_url}/v{api.api_version}/containers/{container_id}/archive"
    plain = {"Accept-Encoding": "identity"}
    streams = method == "GET"
    # A name in a program may have any bytes.
    query = {"path": path.encode("utf-8", "surrogateescape")}
    response: requests.Response = api.request(
        method, url, params=query, data=body, headers=plain, stream=streams, timeout=api.timeout
    )
    if not response.ok:
        # A response to HEAD has no body; the reason phrase is its only text.
        text = response.reason
        with response, suppress(ValueError, LookupError, TypeError, requests.RequestException):
            text = str(response.json()["message"])
        raise EngineRejectedError(response.status_code, text)
    return response


def path_stat(headers: Mapping[str, str]) -> dict[str, Any]:
    """``name``, ``size``, Go file ``mode`` and ``linkTarget`` of a file, from the headers of a response."""
    found: dict[str, Any] = json.loads(base64.b64decode(headers["X-Docker-Container-Path-Stat"]))
    return found


def first_file(stream: Any, size: int) -> FileStart | None:
    """The first ``size`` bytes of the first file; a directory has none.

    ``None`` if that is neither a directory nor a regular file, or no archive. ``stream`` has ``read(size)``.
    """
    with suppress(tarfile.TarError), tarfile.open(fileobj=stream, mode="r|") as archive:
        member = archive.next()
        file = archive.extractfile(member) if member is not None else None
        if member is not None and (file is not None or member.isdir()):
            content = file.read(size) if file is not None else b""
            # As tarfile decodes it.
            capabilities = member.pax_headers.get(_CAPABILITIES, "").encode("utf-8", "surrogateescape")
            return FileStart(member.mode, member.uid, member.gid, content, capabilities)
    return None
