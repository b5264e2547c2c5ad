"""Addresses, and conflicts about a socket's path."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_manager.addresses import TcpAddress, UnixAddress, parse_address
from container_manager.config import MAX_UNIX_PATH_BYTES
from container_manager.errors import StartupError
from container_manager.sockets.binding import socket_umask, unix_socket_path


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="listener-") as name:
        yield Path(name)


@pytest.mark.parametrize(
    ("text", "address", "target"),
    [
        ("unix:///run/a.sock", UnixAddress(Path("/run/a.sock")), "unix:/run/a.sock"),
        ("unix:///run/a b/é.sock", UnixAddress(Path("/run/a b/é.sock")), "unix:/run/a%20b/%C3%A9.sock"),
        ("unix:///run/50%25#?.sock", UnixAddress(Path("/run/50%25#?.sock")), "unix:/run/50%2525%23%3F.sock"),
        ("tcp://127.0.0.1:50051", TcpAddress("127.0.0.1", 50_051), "127.0.0.1:50051"),
        ("tcp://127.8.9.1:0", TcpAddress("127.8.9.1", 0), "127.8.9.1:0"),
        ("tcp://[::1]:65535", TcpAddress("::1", 65_535), "[::1]:65535"),
        ("tcp://0.0.0.0:1", TcpAddress("0.0.0.0", 1), "0.0.0.0:1"),
        ("tcp://192.0.2.1:1", TcpAddress("192.0.2.1", 1), "192.0.2.1:1"),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, address: object, target: str) -> None:
    parsed = parse_address(text)
    assert address == parsed
    assert (text, target) == (str(parsed), parsed.grpc_target)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/run/a.sock",
        "unix:",
        "unix:/run/a.sock",
        "unix://run/a.sock",
        "unix://",
        "unix:///",
        "unix:///run/a\0.sock",
        "UNIX:///run/a.sock",
        "127.0.0.1:50051",
        "http://127.0.0.1:50051",
        "tcp://",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:",
        "tcp://127.0.0.1:x",
        "tcp://127.0.0.1:-1",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:+80",
        "tcp://127.0.0.1: 80",
        "tcp://127.0.0.1:\u0661",
        "tcp://127.0.0.1:\u00b2",
        "tcp://127.0.0.1:" + "9" * 5_000,
        "tcp://:50051",
        "tcp://localhost:50051",
        "tcp://[fe80::1%lo]:50051",
        "tcp://127.1:50051",
        "tcp://example.com:50051",
        "tcp://127.0.0.1:50051/x",
        "tcp://user@127.0.0.1:50051",
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_another_address_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(StartupError) as caught:
        parse_address(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("128.0.0.1", False),
        ("fe80::1", False),
        ("::ffff:192.0.2.1", False),
    ],
)
def test_loopback_is_what_no_other_machine_can_reach(host: str, loopback: bool) -> None:
    assert loopback is TcpAddress(host, 1).is_loopback


def test_a_path_is_measured_in_bytes_as_the_system_does() -> None:
    longest = "/" + "a" * (MAX_UNIX_PATH_BYTES - 1)
    assert UnixAddress(Path(longest)) == parse_address(f"unix://{longest}")
    for too_long in (longest + "a", "/" + "é" * 54):
        with pytest.raises(StartupError, match="at most 107 bytes"):
            parse_address(f"unix://{too_long}")


def serve(path: Path) -> socket.socket:
    """A socket that listens at ``path``."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    return listening


def stale(path: Path) -> None:
    serve(path).close()


def test_lock_and_socket_are_gone_afterwards_and_the_directory_stays(directory: Path) -> None:
    path = directory / "cm.sock"
    with unix_socket_path(path), serve(path):
        assert {"cm.sock", "cm.sock.lock"} == {entry.name for entry in directory.iterdir()}
    assert [] == list(directory.iterdir())


def test_lock_and_socket_are_gone_after_a_failure_too(directory: Path) -> None:
    path = directory / "cm.sock"
    with pytest.raises(ZeroDivisionError), unix_socket_path(path), serve(path):
        raise ZeroDivisionError
    assert [] == list(directory.iterdir())


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_a_missing_directory_is_made_for_its_owner_and_group_whatever_the_umask(directory: Path, umask: int) -> None:
    path = directory / "a" / "b" / "cm.sock"
    before = os.umask(umask)
    try:
        with unix_socket_path(path):
            assert 0o750 == stat.S_IMODE(path.parent.stat().st_mode)
            assert 0 == path.parent.parent.stat().st_mode & 0o022
    finally:
        os.umask(before)


def test_a_second_holder_is_refused_while_the_first_one_holds(directory: Path) -> None:
    path = directory / "cm.sock"
    with unix_socket_path(path), serve(path):
        for _ in range(2):
            with pytest.raises(StartupError, match=r"another server holds cm\.sock\.lock"), unix_socket_path(path):
                pass
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    with unix_socket_path(path):
        pass


def test_a_stale_socket_and_a_stale_lock_are_replaced(directory: Path) -> None:
    path = directory / "cm.sock"
    stale(path)
    (directory / "cm.sock.lock").write_text("")
    with unix_socket_path(path):
        assert not path.exists()


def test_a_live_socket_of_another_program_is_refused_and_untouched(directory: Path) -> None:
    path = directory / "cm.sock"
    with serve(path), pytest.raises(StartupError, match="another program answers there"), unix_socket_path(path):
        pass
    assert ["cm.sock"] == [entry.name for entry in directory.iterdir()]


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_refused_and_untouched(directory: Path, kind: str) -> None:
    path = directory / "cm.sock"
    (directory / "target").write_text("kept")
    if kind == "file":
        path.write_text("kept")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(directory / "target")
    with pytest.raises(StartupError, match="left alone"), unix_socket_path(path):
        pass
    assert {"cm.sock", "target"} == {entry.name for entry in directory.iterdir()}
    assert kind != "file" or path.read_text() == "kept"


@pytest.mark.parametrize("kind", ["link", "directory"])
def test_a_lock_that_is_no_file_is_refused(directory: Path, kind: str) -> None:
    lock = directory / "cm.sock.lock"
    if kind == "link":
        lock.symlink_to(directory / "target")
    else:
        lock.mkdir()
    with pytest.raises(StartupError, match=r"cm\.sock\.lock cannot be made"), unix_socket_path(directory / "cm.sock"):
        pass
    assert not (directory / "target").exists()


def test_a_directory_that_cannot_be_made_is_told(directory: Path) -> None:
    (directory / "file").write_text("")
    for path in (directory / "file" / "cm.sock", directory / "file" / "deeper" / "cm.sock"):
        with pytest.raises(StartupError, match="cannot be made"), unix_socket_path(path):
            pass


def test_a_socket_bound_under_the_umask_is_its_owners_alone(directory: Path) -> None:
    before = os.umask(0)
    try:
        with socket_umask(), serve(directory / "cm.sock"):
            assert 0 == stat.S_IMODE((directory / "cm.sock").stat().st_mode) & 0o077
            # Another thread creates a bot's state directory, which its owner must be able to enter.
            (directory / "made meanwhile").mkdir(0o700)
            assert 0o700 == stat.S_IMODE((directory / "made meanwhile").stat().st_mode)
        assert 0 == os.umask(0)
    finally:
        os.umask(before)


def test_the_umask_is_restored_after_a_failure() -> None:
    before = os.umask(0o027)
    try:
        with pytest.raises(ZeroDivisionError), socket_umask():
            raise ZeroDivisionError
        assert 0o027 == os.umask(0o027)
    finally:
        os.umask(before)
