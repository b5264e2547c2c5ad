"""``/metrics`` over HTTP on loopback, for a Prometheus or an agent on the same machine."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from container_manager.addresses import TcpAddress, parse_address
from container_manager.errors import AddressInUseError, StartupError

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
        raise StartupError(f"--metrics-listen: {text!r} is not an address and port, such as 127.0.0.1:9464")
    if not address.is_loopback:
        raise StartupError(
            f"--metrics-listen: {text!r} is not a loopback address; metrics are served without authentication"
        )
    return address


class MetricsEndpoint:
    """Serves a registry from :meth:`start` to :meth:`close`, on one event loop."""

    def __init__(self, address: TcpAddress, registry: CollectorRegistry, before: Callable[[], None]) -> None:
        """``before`` is called each time before the registry is read."""
        self._address = address
        self._registry = registry
        self._before = before
        self._runner: web.ServerRunner | None = None

    async def start(self) -> str:
        """Listen; returns the URL. Raises :class:`StartupError`."""
        log = _HttpLog(logging.getLogger(__name__))
        connections = _Connections(self._answer, access_log=None, logger=log, lingering_time=0)
        self._runner = web.ServerRunner(connections, shutdown_timeout=_CLOSE_SECONDS)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._address.host, self._address.port).start()
        except OSError as exc:
            where = self._address.grpc_target
            raise AddressInUseError(f"--metrics-listen: cannot listen on {where}: {_reason(exc)}") from exc
        served = TcpAddress(*self._runner.addresses[0][:2])
        return f"http://{served.grpc_target}{PATH}"

    async def close(self) -> None:
        """Stop listening, and end all connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        response = self._response(request)
        response.force_close()
        return response

    def _response(self, request: web.BaseRequest) -> web.Response:
        if request.path != PATH:
            return web.Response(status=404, text=f"only {PATH} is served here\n")
        if request.method not in _METHODS:
            return web.Response(status=405, text="only GET and HEAD\n", headers={"Allow": ", ".join(_METHODS)})
        encode, content_type = choose_encoder(",".join(request.headers.getall("Accept", [])))
        self._before()
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})


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
