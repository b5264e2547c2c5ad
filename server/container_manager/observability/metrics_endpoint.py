"""``/metrics`` over HTTP, on loopback, for a Prometheus or an agent on the same machine.

Each connection serves one request, lives for a short time whatever its client does, and there are few of them: the
oldest one makes room for a new one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from container_manager.addresses import TcpAddress, parse_address
from container_manager.errors import StartupError

MAX_CONNECTIONS = 16
PATH = "/metrics"
_CONNECTION_SECONDS = 10.0
_CLOSE_SECONDS = 1.0
_METHODS = ("GET", "HEAD")


def metrics_address(text: str) -> TcpAddress:
    """The address that is written ``127.0.0.1:9464``. Raises :class:`StartupError`."""
    try:
        address = parse_address(f"tcp://{text}")
    except StartupError:
        address = None
    if not isinstance(address, TcpAddress):
        raise StartupError(f"--metrics-listen: {text!r} is no address and port, as 127.0.0.1:9464 is")
    if not address.is_loopback:
        raise StartupError(
            f"--metrics-listen: {text!r} is not a loopback address; metrics are served without asking who comes"
        )
    return address


class MetricsEndpoint:
    """Serves a registry from :meth:`start` to :meth:`close`, on one event loop."""

    def __init__(self, address: TcpAddress, registry: CollectorRegistry, before: Callable[[], None]) -> None:
        """``before`` is called each time before the registry is read."""
        self._address = address
        self._registry = registry
        self._before = before
        self._http: _Connections | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen; the URL. Raises :class:`StartupError`."""
        log = _HttpLog(logging.getLogger(__name__))
        self._http = _Connections(self._answer, access_log=None, logger=log, lingering_time=0)
        host, port = self._address.host, self._address.port
        try:
            self._server = await asyncio.get_running_loop().create_server(self._http, host, port)
        except OSError as exc:
            where = self._address.grpc_target
            raise StartupError(f"--metrics-listen: cannot listen on {where}: {_reason(exc)}") from exc
        served = TcpAddress(host, self._server.sockets[0].getsockname()[1])
        return f"http://{served.grpc_target}{PATH}"

    async def close(self) -> None:
        """Listen no more, and end what is being served."""
        if self._server is None or self._http is None:
            return
        self._server.close()
        self._http.abort()
        await self._http.shutdown(0)
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._server.wait_closed()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        response = self._response(request)
        response.force_close()
        return response

    def _response(self, request: web.BaseRequest) -> web.Response:
        if request.path != PATH:
            return web.Response(status=404, text=f"there is nothing but {PATH} here\n")
        if request.method not in _METHODS:
            return web.Response(status=405, text="only GET and HEAD\n", headers={"Allow": ", ".join(_METHODS)})
        encode, content_type = choose_encoder(",".join(request.headers.getall("Accept", [])))
        self._before()
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})


class _Connections(web.Server):
    """Bounded in number and in time."""

    def __init__(self, handler: Any, **kwargs: Any) -> None:
        super().__init__(handler, **kwargs)
        self._open: dict[Any, tuple[asyncio.Transport, asyncio.TimerHandle]] = {}
        self._closing = False

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if self._closing:
            # Accepted before the end, and told only now.
            transport.abort()
            return
        if len(self._open) >= MAX_CONNECTIONS:
            # Out of the list at once: its end is told later, and further connections may be made before.
            oldest, oldest_timer = self._open.pop(next(iter(self._open)))
            oldest_timer.cancel()
            oldest.abort()
        timer = asyncio.get_running_loop().call_later(_CONNECTION_SECONDS, transport.abort)
        self._open[handler] = transport, timer

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        _, timer = self._open.pop(handler, (None, None))
        if timer is not None:
            timer.cancel()
        super().connection_lost(handler, exc)

    def abort(self) -> None:
        """End every connection, also those still to be told of."""
        self._closing = True
        for transport, _ in self._open.values():
            transport.abort()


class _HttpLog(logging.LoggerAdapter[logging.Logger]):
    """aiohttp has a traceback for every request that is none."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if isinstance(kwargs.get("exc_info"), HttpProcessingError):
            self.logger.warning("refused a request for metrics that is not HTTP")
        else:
            super().log(level, msg, *args, **kwargs)


def _reason(exc: OSError) -> str:
    return os.strerror(exc.errno) if exc.errno else str(exc)
