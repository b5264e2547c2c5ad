"""Checks of TCP listeners: whether the service may serve there, its certificates and token, and the port."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from container_manager.addresses import TcpAddress
from container_manager.config import ServerConfig
from container_manager.doctor.finding import Finding, Verdict
from container_manager.doctor.ownership import described
from container_manager.doctor.socket_checks import IN_USE_REMEDY, NOT_SERVED_REMEDY
from container_manager.errors import StartupError
from container_manager.rpc.listeners.server_certificates import ServerCertificates
from container_manager.rpc.listeners.tcp_access import check_reach, read_token
from container_manager.sockets.binding import check_free

_NAME = "listener"
_CONNECT_SECONDS = 2.0


async def check_tcp(address: TcpAddress, config: ServerConfig, *, running: bool) -> list[Finding]:
    """Findings about one TCP listener. ``running``: the service is expected to serve there."""
    findings = []
    try:
        check_reach(address, config)
        if config.tls is not None:
            ServerCertificates(config.tls)
            findings.append(Finding("TLS files", Verdict.OK, f"{config.tls.cert} and its key belong together"))
    except StartupError as exc:
        findings.append(Finding(_NAME, Verdict.FAILED, str(exc), "change what the sentence names"))
    else:
        findings.append(await _served(address) if running else _free(address))
    if config.token_file is not None and not config.insecure_no_auth:
        findings.append(check_token_file(config.token_file))
    return findings


def check_token_file(path: Path) -> Finding:
    """The file with the token of the TCP listeners, as the service reads it at its start."""
    name = "token file"
    if not os.path.lexists(path):
        if os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
            return Finding(name, Verdict.OK, f"{path} does not exist yet; the first start creates it")
        if path.parent.is_dir():
            remedy = f"let the service's user write to {path.parent}, or give another --token-file"
            return Finding(name, Verdict.FAILED, f"{path} cannot be created by this user", remedy)
        remedy = f"install -d -m 0700 {path.parent}"
        return Finding(name, Verdict.FAILED, f"there is no directory {path.parent}", remedy)
    try:
        read_token(path)
    except StartupError as exc:
        remedy = f"chown {os.geteuid()} {path} && chmod 0600 {path}; or delete it, and the next start makes a new one"
        return Finding(name, Verdict.FAILED, str(exc), remedy)
    return Finding(name, Verdict.OK, f"{path}, {described(path.stat())}")


def _free(address: TcpAddress) -> Finding:
    try:
        check_free(address)
    except StartupError as exc:
        return Finding(_NAME, Verdict.FAILED, str(exc), IN_USE_REMEDY)
    return Finding(_NAME, Verdict.OK, f"{address} is free")


async def _served(address: TcpAddress) -> Finding:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(address.host, address.port)
            writer.close()
    except OSError:
        return Finding(_NAME, Verdict.FAILED, f"nothing listens at {address}", NOT_SERVED_REMEDY)
    return Finding(_NAME, Verdict.OK, f"a program listens at {address}")
