"""The engine's HTTP API with nothing in between: the measure that all others are compared with.

One keep-alive connection over the unix socket, one request at a time, JSON in and out, no pool, no retry.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

_TIMEOUT_SECONDS = 120
_CHUNK = 65_536


class EngineAnswerError(Exception):
    """The engine answered with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{text} (HTTP {status})")
        self.status = status


class RawEngine:
    """One connection to the engine, for one thread."""

    def __init__(self, docker_host: str) -> None:
        """``docker_host``: ``unix:///path``; any other raises :class:`ValueError`."""
        if not docker_host.startswith("unix:///"):
            raise ValueError(f"{docker_host!r}: the benchmark needs an engine on a unix socket, as unix:///path")
        self._connection = _UnixConnection(docker_host.removeprefix("unix://"))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def version(self) -> str:
        """The engine's version and its API's."""
        answer = self._request("GET", "/version")
        return f"{answer['Version']} (API {answer['ApiVersion']})"

    def create(self, name: str, body: Mapping[str, Any]) -> str:
        """Create a container; its id."""
        container_id: str = self._request("POST", f"/containers/create?name={quote(name)}", body)["Id"]
        return container_id

    def start(self, name: str) -> None:
        """Start a container."""
        self._request("POST", f"/containers/{name}/start")

    def stop(self, name: str) -> None:
        """Stop a container with no grace."""
        self._request("POST", f"/containers/{name}/stop?t=0")

    def remove(self, name: str) -> None:
        """Remove a container by force, with its anonymous volumes."""
        self._request("DELETE", f"/containers/{name}?v=true&force=true")

    def pause(self, name: str) -> None:
        """Freeze a running container."""
        self._request("POST", f"/containers/{name}/pause")

    def unpause(self, name: str) -> None:
        """Let a frozen container go on."""
        self._request("POST", f"/containers/{name}/unpause")

    def inspect(self, name: str) -> dict[str, Any]:
        """The inspect document of a container."""
        document: dict[str, Any] = self._request("GET", f"/containers/{name}/json")
        return document

    def list(self, label: str) -> list[dict[str, Any]]:
        """The rows of every container with this label, in any state."""
        query = urlencode({"all": "true", "filters": json.dumps({"label": [label]})})
        rows: list[dict[str, Any]] = self._request("GET", f"/containers/json?{query}")
        return rows

    def events(self, name: str) -> Iterator[dict[str, Any]]:
        """A container's events from now on; the subscription stands when this returns. It takes this connection."""
        filters = json.dumps({"container": [name]})
        self._connection.request("GET", f"/events?{urlencode({'filters': filters})}")
        response = self._connection.getresponse()
        return (json.loads(line) for line in response)

    def log(self, name: str, tail: int | None = None) -> Iterator[bytes]:
        """A container's log so far, or the last lines of it, with times, in the engine's own framing.

        It takes this connection.
        """
        lines = "all" if tail is None else tail
        self._connection.request("GET", f"/containers/{name}/logs?stdout=1&stderr=1&timestamps=1&tail={lines}")
        response = self._connection.getresponse()
        return iter(lambda: response.read1(_CHUNK), b"")

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        if body is None:
            self._connection.request(method, path)
        else:
            self._connection.request(method, path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        content = response.read()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise EngineAnswerError(response.status, content.decode(errors="replace").strip())
        return json.loads(content) if content else None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
