"""``/metrics`` over HTTP on loopback or a unix socket, for a Prometheus or an agent on the same machine."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from container_manager.addresses import Address, TcpAddress, UnixAddress, parse_address
from container_manager.errors import AddressInUseError, StartupError
from container_manager.sockets.access import SocketAccess
from container_manager.sockets.binding import socket_umask
from container_manager.sockets.path import SocketPath
from container_manager.sockets.watch import SocketWatch

MAX_CONNECTIONS = 16
PATH = "/metrics"
KEPT_SECONDS = 0.25
"""How old an answer may be. To render one takes some milliseconds of the event loop, and anybody may ask for it."""
_CONNECTION_SECONDS = 10.0
_CLOSE_SECONDS = 1.0
_METHODS = ("GET", "HEAD")
_OPENMETRICS = "application/openmetrics-text"
# As a loopback address: every user who may enter the directory reads them, and nobody changes anything.
_ACCESS = SocketAccess(0o666)


def metrics_address(text: str) -> Address:
    """The address that is written ``127.0.0.1:9464`` or ``unix:///path``. Raises :class:`StartupError`."""
    if text.startswith("unix://"):
        try:
            return parse_address(text)
        except StartupError as exc:
            raise StartupError(f"--metrics-listen: {exc}") from exc
    try:
        address = parse_address(f"tcp://{text}")
    except StartupError:
        address = None
    if not isinstance(address, TcpAddress):
        raise StartupError(f"--metrics-listen: {text!r} is not 127.0.0.1:PORT or unix:///PATH")
    if not address.is_loopback:
        raise StartupError(
            f"--metrics-listen: {text!r} is not a loopback address; metrics are served without authentication"
        )
    return address


class MetricsEndpoint:
    """Serves a registry from :meth:`start` to :meth:`close`, on one event loop."""

    def __init__(self, address: Address, registry: CollectorRegistry, before: Callable[[], None]) -> None:
        """``before`` is called each time before the registry is read."""
        self._address = address
        self._registry = registry
        self._before = before
        # By format: the loop's time from which it is too old, the text, and its content type.
        self._rendered: dict[str, tuple[float, bytes, str]] = {}
        self._runner: web.ServerRunner | None = None
        self._held: SocketPath | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Listen; returns the URL, or the address of a unix socket. Raises :class:`StartupError`."""
        log = _HttpLog(logging.getLogger(__name__))
        connections = _Connections(self._answer, access_log=None, logger=log, lingering_time=0)
        self._runner = runner = web.ServerRunner(connections, shutdown_timeout=_CLOSE_SECONDS)
        await runner.setup()
        if isinstance(self._address, UnixAddress):
            await self._listen_at(self._address.path, runner)
            return str(self._address)
        try:
            await web.TCPSite(runner, self._address.host, self._address.port).start()
        except OSError as exc:
            where = self._address.grpc_target
            raise AddressInUseError(f"--metrics-listen: cannot listen on {where}: {_reason(exc)}") from exc
        served = TcpAddress(*runner.addresses[0][:2])
        return f"http://{served.grpc_target}{PATH}"

    async def close(self) -> None:
        """Stop listening, and end all connections."""
        if self._watch is not None:
            self._watch.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._held is not None:
            self._held.release()

    async def _listen_at(self, path: Path, runner: web.ServerRunner) -> None:
        self._held = held = SocketPath(path, _ACCESS)

        async def bind() -> None:
            listening = socket.socket(socket.AF_UNIX)
            with socket_umask():
                listening.bind(str(path))
            await web.SockSite(runner, listening).start()

        try:
            held.take()
            await bind()
            held.bound()
        except StartupError as exc:
            raise type(exc)(f"--metrics-listen: {exc}") from exc
        except OSError as exc:
            raise AddressInUseError(f"--metrics-listen: cannot listen on {path}: {_reason(exc)}") from exc
        self._watch = asyncio.create_task(SocketWatch(held, bind).run())

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        response = self._response(request)
        response.force_close()
        return response

    def _response(self, request: web.BaseRequest) -> web.Response:
        if request.path != PATH:
            return web.Response(status=404, text=f"only {PATH} is served here\n")
        if request.method not in _METHODS:
            return web.Response(status=405, text="only GET and HEAD\n", headers={"Allow": ", ".join(_METHODS)})
        accepted = ",".join(request.headers.getall("Accept", [])).split(",")
        # Two formats: the encoder's own choice has more, and repeats what the caller has written.
        is_open = any(each.partition(";")[0].strip() == _OPENMETRICS for each in accepted)
        body, content_type = self._render(_OPENMETRICS if is_open else "")
        return web.Response(body=body, headers={"Content-Type": content_type})

    def _render(self, accepted: str) -> tuple[bytes, str]:
        """The metrics in this format, and its content type; all who ask within :data:`KEPT_SECONDS` share them."""
        now = asyncio.get_running_loop().time()
        expires, body, content_type = self._rendered.get(accepted, (now, b"", ""))
        if expires <= now:
            encode, content_type = choose_encoder(accepted)
            self._before()
            body = encode(self._registry)
            self._rendered[accepted] = now + KEPT_SECONDS, body, content_type
        return body, content_type


class _Connections(web.Server):
    """aiohttp's connections, bounded in number and in time, since it sets no limit to either.

    Otherwise a local process that opens connections and neither writes nor reads takes all the service's descriptors.
    The oldest connection makes room for a new one.
    """

    def __init__(self, handler: Any, **kwargs: Any) -> None:
        super().__init__(handler, **kwargs)
        self._open: dict[Any, tuple[asyncio.Transport, asyncio.TimerHandle]] = {}

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        timer = asyncio.get_running_loop().call_later(_CONNECTION_SECONDS, transport.abort)
        self._open[handler] = transport, timer
        for oldest, _ in list(self._open.values())[:-MAX_CONNECTIONS]:
            oldest.abort()

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        if handler in self._open:
            _, timer = self._open.pop(handler)
            timer.cancel()
        super().connection_lost(handler, exc)


class _HttpLog(logging.LoggerAdapter[logging.Logger]):
    """Replaces the traceback that aiohttp logs for each malformed request."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if isinstance(kwargs.get("exc_info"), HttpProcessingError):
            self.logger.warning("refused a request for metrics that is not HTTP")
        else:
            super().log(level, msg, *args, **kwargs)


def _reason(exc: OSError) -> str:
    return os.strerror(exc.errno) if exc.errno else str(exc)
