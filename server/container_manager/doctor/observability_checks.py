"""Checks that metrics can be served and traces sent, as configured."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress

from container_manager.addresses import Address, UnixAddress
from container_manager.config import TracingConfig
from container_manager.doctor.finding import Finding, Verdict
from container_manager.doctor.socket_checks import IN_USE_REMEDY, NOT_SERVED_REMEDY, check_free_path
from container_manager.errors import StartupError
from container_manager.observability.metrics_endpoint import PATH, metrics_address
from container_manager.observability.otlp_target import otlp_target
from container_manager.sockets.binding import check_free

_SECONDS = 2.0
# Only our own endpoint serves this metric.
_OURS = b"container_manager_build_info"


async def check_metrics(text: str, *, running: bool = False) -> Finding:
    """Check that the address for metrics is free, or, of a service that runs, that it serves metrics there."""
    name = "metrics"
    try:
        address = metrics_address(text)
    except StartupError as exc:
        return Finding(name, Verdict.FAILED, str(exc), "give a loopback address, such as 127.0.0.1:9464")
    if running:
        where = str(address) if isinstance(address, UnixAddress) else f"http://{address.grpc_target}{PATH}"
        if await _serves_metrics(address):
            return Finding(name, Verdict.OK, f"{where} is served by a container manager")
        return Finding(name, Verdict.FAILED, f"{where} is not served by a container manager", NOT_SERVED_REMEDY)
    if isinstance(address, UnixAddress):
        return check_free_path(name, address.path)
    try:
        check_free(address)
    except StartupError as exc:
        return Finding(name, Verdict.FAILED, str(exc), IN_USE_REMEDY)
    return Finding(name, Verdict.OK, f"{address.grpc_target} is free")


async def check_tracing(config: TracingConfig) -> Finding:
    """Check the collector's address, and that a program listens there."""
    name = "traces"
    try:
        target = otlp_target(config)
    except StartupError as exc:
        verdict = Verdict.FAILED if config.required else Verdict.WARNING
        return Finding(name, verdict, str(exc), "change what the sentence names")
    host, _, port = target.rpartition(":")
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.close()
    except OSError:
        detail = f"no program listens at {target}; without a collector, spans are dropped"
        return Finding(name, Verdict.WARNING, detail, f"start a collector there, or remove {config.source}")
    return Finding(name, Verdict.OK, f"a program listens at {target}")


async def _serves_metrics(address: Address) -> bool:
    request = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with suppress(OSError):
        async with asyncio.timeout(_SECONDS):
            if isinstance(address, UnixAddress):
                reader, writer = await asyncio.open_unix_connection(address.path)
            else:
                reader, writer = await asyncio.open_connection(address.host, address.port)
            with closing(writer):
                writer.write(request.encode())
                return _OURS in await reader.read()
    return False
