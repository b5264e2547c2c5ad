"""The credentials that a TCP listener demands, and the errors of a configuration that demands too little."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from container_manager.addresses import TcpAddress, UnixAddress
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager.errors import StartupError
from container_manager.rpc.listeners.tcp_access import TcpAccess, read_token, tcp_access
from tests.support.certificates import Authority, server_files
from tests.support.descriptors import opened_below

LOOPBACK = TcpAddress("127.0.0.1", 1)
ELSEWHERE = [TcpAddress("0.0.0.0", 1), TcpAddress("::", 1), TcpAddress("192.0.2.1", 1)]


def config(path: Path, *, tls: bool = False, **further: Any) -> ServerConfig:
    """A configuration with a token file."""
    files = server_files(path, Authority()) if tls else None
    service = BackendConfig(RootDirectory(path, path))
    return ServerConfig(service, (), **{"token_file": path / "token", "tls": files, **further})


def test_unix_sockets_alone_make_no_token(tmp_path: Path) -> None:
    assert TcpAccess() == tcp_access([UnixAddress(tmp_path / "s")], config(tmp_path))
    assert not (tmp_path / "token").exists()


def test_loopback_asks_for_the_token(tmp_path: Path) -> None:
    access = tcp_access([LOOPBACK], config(tmp_path))
    assert (tmp_path / "token").read_text().strip() == access.token
    assert access.credentials is None


@pytest.mark.parametrize("address", [LOOPBACK, *ELSEWHERE], ids=str)
def test_with_tls_any_address_asks_for_token_and_certificate(tmp_path: Path, address: TcpAddress) -> None:
    access = tcp_access([address], config(tmp_path, tls=True))
    assert access.token
    assert access.credentials is not None


@pytest.mark.parametrize("address", ELSEWHERE, ids=str)
def test_an_address_beyond_this_machine_is_refused_without_tls(tmp_path: Path, address: TcpAddress) -> None:
    with pytest.raises(StartupError) as caught:
        tcp_access([LOOPBACK, address], config(tmp_path))
    for said in (str(address), "--tls-cert, --tls-key and --tls-client-ca", "127.0.0.1"):
        assert said in str(caught.value)
    assert not (tmp_path / "token").exists()


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("address", ELSEWHERE, ids=str)
def test_insecure_no_auth_is_refused_beyond_this_machine_with_tls_too(
    tmp_path: Path, address: TcpAddress, tls: bool
) -> None:
    with pytest.raises(StartupError, match="--insecure-no-auth is for loopback addresses alone"):
        tcp_access([address], config(tmp_path, tls=tls, insecure_no_auth=True))


def test_without_a_token_file_there_is_no_tcp(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="needs a token file"):
        tcp_access([LOOPBACK], config(tmp_path, token_file=None))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "fifo"])
def test_a_token_file_that_is_no_file_is_told_and_not_left_open(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "token")
    with pytest.raises(StartupError, match=f"the token file {tmp_path}/token"):
        read_token(tmp_path / "token")
    assert [] == opened_below(tmp_path)
