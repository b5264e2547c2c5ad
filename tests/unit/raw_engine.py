"""A real HTTP server on a unix socket that sends exactly the bytes of a test, and can stop in the middle."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

Answer = bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """A complete answer."""
    return head(status, content_length=str(len(body)), **headers) + body


def head(status: str = "200 OK", **headers: str) -> bytes:
    """The head of an answer."""
    fields = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    """A chunk of a chunked body; an empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKED = head(transfer_encoding="chunked", content_type="application/json; charset=utf-8")


class RawEngine:
    """Runs on the test's event loop. Requests get the answers in order, and then the last; then the connection ends."""

    def __init__(self, *answers: Answer) -> None:
        self.version = "1.41"
        self.requests: list[str] = []
        """The paths, such as ``/v1.41/…``, without those of requests for the version."""
        self.versions_told = 0
        self.open = 0
        """The number of open connections."""
        self.answers = list(answers)

    async def __aenter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="engine-")
        path = Path(self._directory.name) / "engine.sock"
        self.url = f"unix://{path}"
        self._server = await asyncio.start_unix_server(self._serve, path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        try:
            await self.until(lambda: self.open == 0)
        finally:
            self._directory.cleanup()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for the condition."""
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - any condition
                await asyncio.sleep(0.001)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has closed the connection
        finally:
            writer.close()
            self.open -= 1

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        if request == "/version":
            self.versions_told += 1
            writer.write(answer(json.dumps({"ApiVersion": self.version}).encode(), connection="close"))
            return
        self.requests.append(request)
        script = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(script, bytes):
            writer.write(script)
        else:
            await script(reader, writer)
