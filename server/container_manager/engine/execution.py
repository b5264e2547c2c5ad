"""Runs a program inside a container, and passes on its output as it comes: the engine's exec endpoints."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Any
from urllib.parse import urlsplit

from container_manager.deadline import Deadline
from container_manager.engine.call_observer import observed
from container_manager.engine.client import EngineClient
from container_manager.engine.transport_errors import EngineRejectedError, error_text
from container_manager.errors import EngineTimeoutError, EngineUnavailableError

OnOutput = Callable[[bool, bytes], None]
"""Receives each piece of output, and whether it is of the standard error. Called in the thread of the call."""

_POLL_SECONDS = 0.05
_CHUNK_BYTES = 32 * 1024
_STDERR = 2
_HEADER = struct.Struct(">BxxxL")  # Docker Engine API, ContainerAttach: the stream's number and the size of its data
_FIRST_ERROR_STATUS = 400


class ExecClient(EngineClient):
    """Runs programs in containers of one engine, from any number of threads."""

    def execute(
        self, container_id: str, command: Sequence[str], *, stdin: bytes, seconds: float, on_output: OnOutput
    ) -> int:
        """The program's exit code.

        ``stdin`` goes over a connection to the program, and into nothing that the engine records.
        """
        exec_id: str = self._call(
            "exec_create",
            lambda api: api.exec_create(container_id, list(command), stdin=True, stdout=True, stderr=True)["Id"],
            None,
        )
        ends = time.monotonic() + seconds
        with observed(self._observer, "exec_start"), self._translated_errors():
            self._converse(exec_id, stdin, ends, on_output)
        return self._exit_code(exec_id, ends)

    def _exit_code(self, exec_id: str, ends: float) -> int:
        """The exit code, which the engine may know a moment after the end of the outputs."""
        while (ended := self._read("exec_inspect", lambda api: api.exec_inspect(exec_id), Deadline()))["Running"]:
            if time.monotonic() >= ends:
                raise EngineTimeoutError("the program has not ended in time")
            time.sleep(_POLL_SECONDS)
        if ended["ExitCode"] is None:
            raise EngineUnavailableError("the engine does not know how the program ended")
        return int(ended["ExitCode"])

    def _converse(self, exec_id: str, stdin: bytes, ends: float, on_output: OnOutput) -> None:
        """Start the program, send its input, and read both outputs to their end."""
        # The SDK loses what comes in one packet with the head of the response, and has no time-out.
        connection = http.client.HTTPConnection("localhost")
        connection.sock = self._connected()
        with closing(connection.sock), closing(connection):
            connection.sock.settimeout(_left(ends))
            connection.request(
                "POST",
                f"/v{self._api_version}/exec/{exec_id}/start",
                json.dumps({"Detach": False, "Tty": False}),
                {"Content-Type": "application/json", "Connection": "Upgrade", "Upgrade": "tcp"},
            )
            response = connection.getresponse()
            if response.status >= _FIRST_ERROR_STATUS:
                raise EngineRejectedError(response.status, error_text(response.read()))
            # A program may end without reading its input.
            with suppress(BrokenPipeError):
                connection.sock.sendall(stdin)
                connection.sock.shutdown(socket.SHUT_WR)
            _pass_on(response.fp, connection.sock, ends, on_output)

    def _connected(self) -> socket.socket:
        address = urlsplit(self._docker_host)
        if address.scheme != "unix":
            return socket.create_connection((address.hostname or "", address.port or 0), self._timeout_seconds)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(self._timeout_seconds)
            connection.connect(address.path)
        except BaseException:
            connection.close()
            raise
        return connection


def _pass_on(stream: Any, connection: socket.socket, ends: float, on_output: OnOutput) -> None:
    received = bytearray()
    while True:
        while len(received) >= _HEADER.size:
            kind, size = _HEADER.unpack_from(received)
            if len(received) < _HEADER.size + size:
                break
            on_output(kind == _STDERR, bytes(received[_HEADER.size : _HEADER.size + size]))
            del received[: _HEADER.size + size]
        connection.settimeout(_left(ends))
        chunk = stream.read1(_CHUNK_BYTES)
        if not chunk:
            return
        received += chunk


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError("the program has not ended in time")
    return left
