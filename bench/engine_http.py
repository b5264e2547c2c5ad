"""The engine's HTTP API with nothing in between: the measure that the service and the SDK are compared with.

One keep-alive connection over the unix socket, one request at a time, no pool, no retry.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

MANAGED = "botmaker.managed=true"
"""The label of every container that the service manages."""
BOT = "@BOT@"
"""In a document: the place of a bot's id."""
_TIMEOUT_SECONDS = 120
_CHUNK = 65_536


def container_name(bot_id: str) -> str:
    """The name of a bot's container."""
    return f"botmaker-{bot_id}"


class EngineAnswerError(Exception):
    """The engine answered with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{text} (HTTP {status})")
        self.status = status


class RawEngine:
    """One connection to the engine, for one thread. It connects at the first request."""

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
        answer = self.get("/version")
        return f"{answer['Version']} (API {answer['ApiVersion']})"

    def create(self, name: str, body: str) -> None:
        """Create a container from the request's JSON."""
        self.send("POST", f"/containers/create?name={name}", body)

    def act(self, name: str, verb: str) -> None:
        """``start``, ``pause``, ``unpause``; ``stop?t=0`` to stop with no grace."""
        self.send("POST", f"/containers/{name}/{verb}")

    def remove(self, name: str) -> None:
        """Remove a container by force, with its anonymous volumes."""
        self.send("DELETE", f"/containers/{name}?v=true&force=true")

    def inspect(self, name: str) -> Any:
        """The inspect document of a container."""
        return self.get(f"/containers/{name}/json")

    def list(self, label: str) -> Any:
        """The rows of every container with this label, in any state."""
        return self.get("/containers/json?all=true", label=[label])

    def get(self, path: str, **filters: Sequence[str]) -> Any:
        """The document at a path."""
        if filters:
            path += ("&" if "?" in path else "?") + urlencode({"filters": json.dumps(filters)})
        return json.loads(self.send("GET", path))

    def events(self, name: str) -> Iterator[dict[str, Any]]:
        """A container's events from now on; the subscription stands when this returns. It takes this connection."""
        query = urlencode({"filters": json.dumps({"container": [name]})})
        self._connection.request("GET", f"/events?{query}")
        response = self._connection.getresponse()
        return (json.loads(line) for line in response if line.strip())

    def log(self, name: str, tail: str = "all") -> Iterator[bytes]:
        """A container's log so far, with times, in the engine's own framing. Read it to its end."""
        self._connection.request("GET", f"/containers/{name}/logs?stdout=1&stderr=1&timestamps=1&tail={tail}")
        with self._connection.getresponse() as response:
            while data := response.read1(_CHUNK):
                yield data

    def send(self, method: str, path: str, body: str | None = None) -> bytes:
        """Send a request: the answer's body. Raises :class:`EngineAnswerError`."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise EngineAnswerError(response.status, content.decode(errors="replace").strip())
        return content


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
