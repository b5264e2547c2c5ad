"""Opens channels to the container manager, with the options that match its listeners."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio

from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager_client.call_defaults import SyncCallDefaults, aio_call_defaults
from container_manager_client.tls import TlsFiles
from container_manager_client.unregistered_channel import UnregisteredChannel

_PACKAGE = pb.DESCRIPTOR.package
_MAX_PORT = 65_535
# Of sockaddr_un, without the NUL at its end.
_MAX_UNIX_PATH_BYTES = 107
# Reads, which are the contract's NO_SIDE_EFFECTS, and what may be repeated: not StartContainer and RestartContainer, as
# a start happens at most once. CreateContainer always has a request id. By name, as most callers need no other service.
_RETRIED = {
    "ContainerManager": (
        "GetContainerStatus",
        "ListManagedContainers",
        "StopContainer",
        "RemoveContainer",
        "CreateContainer",
    ),
    "ContainerObserver": ("GetStats", "GetContainerConfig", "GetServerInfo"),
    "ContainerMaintainer": ("ListBackups",),
    "BotProvisioner": ("ListSecrets",),
}
# Together the waits last at least 3 s, as long as a restart of the service; gRPC takes up to a fifth off each.
_RETRY_POLICY = {
    "maxAttempts": 5,
    "initialBackoff": "0.3s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [
                    {"service": f"{_PACKAGE}.{service}", "method": method}
                    for service, methods in _RETRIED.items()
                    for method in methods
                ],
                "retryPolicy": _RETRY_POLICY,
            }
        ]
    }
)
_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.service_config_disable_resolution", 1),
    # gRPC would use the environment's proxy even for loopback (grpc/grpc#11751).
    ("grpc.enable_http_proxy", 0),
    # The same as the server's limit: a list of thousands of bots, each with the longest texts.
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    # gRPC retries no call whose request is larger, by default 256 KiB. A create may have more than 2 MiB.
    ("grpc.per_rpc_retry_buffer_size", 8 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Older versions of gRPC stop pinging after two pings without data, and a quiet stream may be quiet for days.
    ("grpc.http2.max_pings_without_data", 0),
    # The response to a ping has a separate time-out, one minute by default, and keepalive waits for it.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # Reconnect quickly to a restarted server. By default the back-off grows to two minutes. gRPC adds up to a fifth to
    # it, and the last retry must come after it.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
    # Despite its name, this is the time-out for opening a connection, including TLS. The listener's is the same.
    ("grpc.min_reconnect_backoff_ms", 10_000),
)


def connect(target: str, *, token: str | None = None, tls: TlsFiles | None = None) -> grpc.Channel:
    """Returns a channel for the generated stubs. Close it, or use it in a ``with``. It connects at the first call.

    ``target`` is ``unix:///path`` or ``tcp://host:port``, as for the server's ``--listen``. ``token`` is the bearer
    token of the TCP listeners; without TLS it is sent only to loopback. ``tls`` is for TCP targets only; the server's
    certificate must contain the host of the target. Raises :class:`ValueError` for an invalid target or token and for
    files without a certificate or key, and :class:`OSError` for files that cannot be read.

    A call without a timeout gets a default: 20 s for reads, 60 s for provisioning, 4 min for ReloadSecrets, 10 min for
    create and start. For stop and remove it is the grace period (90 s if the call sets none) plus one minute, and for
    restart plus ten.
    Reads, create, stop and remove that end with UNAVAILABLE are retried up to four times in about 4 s, no other calls.
    Streams have no timeout and are not retried, because only their reader knows where to resume.
    """
    grpc_target, options = _target(target, token, tls)
    if tls is None:
        channel = grpc.insecure_channel(grpc_target, options=options)
    else:
        channel = grpc.secure_channel(grpc_target, tls.credentials(), options=options)
    return grpc.intercept_channel(UnregisteredChannel(channel), SyncCallDefaults(token))


def connect_aio(target: str, *, token: str | None = None, tls: TlsFiles | None = None) -> grpc.aio.Channel:
    """The same as :func:`connect` for :mod:`grpc.aio`. Close it with ``await``, or use it in an ``async with``."""
    grpc_target, options = _target(target, token, tls)
    interceptors = aio_call_defaults(token)
    if tls is None:
        return grpc.aio.insecure_channel(grpc_target, options=options, interceptors=interceptors)
    return grpc.aio.secure_channel(grpc_target, tls.credentials(), options=options, interceptors=interceptors)


def _target(target: str, token: str | None, tls: TlsFiles | None) -> tuple[str, list[tuple[str, Any]]]:
    # gRPC would end each call with INTERNAL.
    if token is not None and not (token.isascii() and token.isprintable()):
        raise ValueError("the token is not one line of printable ASCII characters")
    if target.startswith("unix:///"):
        if tls is not None:
            raise ValueError(f"{target!r} is a unix socket: TLS is for TCP targets only")
        if len(os.fsencode(target.removeprefix("unix://"))) > _MAX_UNIX_PATH_BYTES:
            raise ValueError(f"{target!r} is too long: a socket's path has at most {_MAX_UNIX_PATH_BYTES} bytes")
        # Otherwise gRPC sends the percent-encoded path as the authority, which strict servers refuse (grpc/grpc#38142).
        return "unix:" + quote(target.removeprefix("unix://")), [*_OPTIONS, ("grpc.default_authority", "localhost")]
    tcp = re.fullmatch(r"tcp://([^/:\[\]]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})", target)
    if tcp is None or int(tcp[2]) > _MAX_PORT:
        raise ValueError(f"{target!r} is not a valid target: use unix:///path or tcp://host:port")
    if token is not None and tls is None and not _is_loopback(tcp[1].strip("[]")):
        raise ValueError(
            f"{target!r} is another machine, and without TLS the token would be sent in plain text: "
            "pass a CA, a certificate and a key too"
        )
    return target.removeprefix("tcp://"), list(_OPTIONS)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
