"""What systemd hears of the service, on a real datagram socket."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_manager.cli.service_manager import ServiceManager
from tests.support.serving import server_process
from tests.support.virtual_loop import virtual


@pytest.fixture
def systemd() -> Iterator[socket.socket]:
    """The socket that the service manager listens on, at a name in the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{uuid.uuid4()}")
        listener.settimeout(0)
        yield listener


def name(listener: socket.socket) -> str:
    """The socket's address as in NOTIFY_SOCKET."""
    address = listener.getsockname()
    return address if isinstance(address, str) else "@" + address[1:].decode()


def heard(listener: socket.socket) -> list[str]:
    """All that has been said so far."""
    states = []
    while True:
        try:
            states.append(listener.recv(1000).decode())
        except BlockingIOError:
            return states


def test_systemd_hears_of_a_service_when_it_listens_and_when_it_stops(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    (tmp_path / "secrets").mkdir(mode=0o700)
    arguments = [
        *("--listen", f"unix://{tmp_path}/run/s", "--secrets-root", str(tmp_path / "secrets")),
        *("--docker-host", f"unix://{tmp_path}/no-engine", "--token-file", str(tmp_path / "token")),
    ]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(60)
        with server_process(arguments, tmp_path / "log", NOTIFY_SOCKET=path) as process:
            assert b"READY=1" == listener.recv(1000)
            assert (tmp_path / "run" / "s").is_socket()
            process.terminate()
            assert b"STOPPING=1" == listener.recv(1000)
            assert 0 == process.wait()


@virtual
async def test_the_event_loop_says_twice_in_each_time_out_that_it_is_alive(systemd: socket.socket) -> None:
    ServiceManager({"NOTIFY_SOCKET": name(systemd), "WATCHDOG_USEC": "30000000"}).ready()
    assert ["READY=1", "WATCHDOG=1"] == heard(systemd)
    await asyncio.sleep(60)
    assert ["WATCHDOG=1"] * 4 == heard(systemd)


@virtual
@pytest.mark.parametrize(
    "watchdog",
    [
        {},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getppid())},
    ],
)
async def test_without_a_watchdog_for_this_process_nothing_is_repeated(
    systemd: socket.socket, watchdog: dict[str, str]
) -> None:
    ServiceManager({"NOTIFY_SOCKET": name(systemd), **watchdog}).ready()
    await asyncio.sleep(60)
    assert ["READY=1"] == heard(systemd)


@pytest.mark.parametrize("address", ["", "/nowhere/socket", "@nobody", "x" * 200])
def test_a_service_manager_that_is_not_there_changes_nothing(address: str) -> None:
    ServiceManager({"NOTIFY_SOCKET": address}).stopping()
