"""Channels to the container manager with the options that its listeners need."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio

from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager_client.call_defaults import AioCallDefaults, AioStreamDefaults, SyncCallDefaults
from container_manager_client.tls import TlsFiles

_SERVICE = pb.DESCRIPTOR.services_by_name["ContainerManager"].full_name
_MAX_PORT = 65_535
# Never StartContainer and RestartContainer: a failed start is an answer. CreateContainer always carries a request id.
_RETRIED = ("GetContainerStatus", "ListManagedContainers", "StopContainer", "RemoveContainer", "CreateContainer")
_RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.2s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {"name": [{"service": _SERVICE, "method": method} for method in _RETRIED], "retryPolicy": _RETRY_POLICY}
        ]
    }
)
_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.service_config_disable_resolution", 1),
    # The service is on this machine: no proxy of the environment leads to it (grpc/grpc#11751).
    ("grpc.enable_http_proxy", 0),
    # As much as the server sends: a list of thousands of bots, each with the longest texts.
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The answer to a ping has a time-out of its own, a minute by default, and keepalive waits for that one.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # A server that was restarted is found again at once, not after the default's two minutes of backing off.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Has the name of another back-off, and is how long a connection may take, TLS included; the listener takes as long.
    ("grpc.min_reconnect_backoff_ms", 10_000),
)


def connect(target: str, *, token: str | None = None, tls: TlsFiles | None = None) -> grpc.Channel:
    """A channel for the generated stubs; close it, or use it in a ``with``. It connects at the first call.

    ``target``: ``unix:///path`` or ``tcp://host:port``, as the server's ``--listen`` writes them. ``token``: the TCP
    listeners' bearer token, sent to this machine alone unless there is TLS. ``tls``: of a TCP target, what each side
    shows the other; the host must be one that the server's certificate names. Raises :class:`ValueError` for another
    form of target or for files that hold no certificates and key, and :class:`OSError` for those that cannot be read.

    Calls without a timeout get one: 20 s for status and list, 60 s for start, 10 min for create, and for stop, restart
    and remove the grace period (90 s where the call names none) and a minute. UNAVAILABLE is retried up to three
    times, but for start and restart. Streams have no timeout and are not retried: to go on with a broken one is its
    reader's business, who knows what it has seen.
    """
    grpc_target, options = _target(target, token, tls)
    if tls is None:
        channel = grpc.insecure_channel(grpc_target, options=options)
    else:
        channel = grpc.secure_channel(grpc_target, tls.credentials(), options=options)
    return grpc.intercept_channel(channel, SyncCallDefaults(token))


def connect_aio(target: str, *, token: str | None = None, tls: TlsFiles | None = None) -> grpc.aio.Channel:
    """As :func:`connect`, for :mod:`grpc.aio`: close it with ``await``, or use it in an ``async with``."""
    grpc_target, options = _target(target, token, tls)
    interceptors = [AioCallDefaults(token), AioStreamDefaults(token)]
    if tls is None:
        return grpc.aio.insecure_channel(grpc_target, options=options, interceptors=interceptors)
    return grpc.aio.secure_channel(grpc_target, tls.credentials(), options=options, interceptors=interceptors)


def _target(target: str, token: str | None, tls: TlsFiles | None) -> tuple[str, list[tuple[str, Any]]]:
    if target.startswith("unix:///"):
        if tls is not None:
            raise ValueError(f"{target!r} is a unix socket, which has no TLS: its mode says who may open it")
        # gRPC would send the path, percent-encoded, as the authority, which strict servers refuse (grpc/grpc#38142).
        return "unix:" + quote(target.removeprefix("unix://")), [*_OPTIONS, ("grpc.default_authority", "localhost")]
    tcp = re.fullmatch(r"tcp://([^/:\[\]]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})", target)
    if tcp is None or int(tcp[2]) > _MAX_PORT:
        raise ValueError(f"{target!r} is no target: write unix:///path or tcp://host:port")
    if token is not None and tls is None and not _is_loopback(tcp[1].strip("[]")):
        raise ValueError(
            f"{target!r} is not on this machine: without TLS a token would travel in plain text; "
            "give a CA, a certificate and a key as well"
        )
    return target.removeprefix("tcp://"), list(_OPTIONS)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
