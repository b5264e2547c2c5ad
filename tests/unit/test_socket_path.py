"""A socket's path that is removed or replaced: what is noticed, what is bound again, and what belongs to another."""

from __future__ import annotations

import fcntl
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from container_manager.errors import StartupError
from container_manager.sockets.binding import unix_socket_path
from container_manager.sockets.path import SocketPath


@pytest.fixture
def path() -> Iterator[Path]:
    """A path that is short enough for sockets, in a directory that does not exist yet."""
    with tempfile.TemporaryDirectory(prefix="path-") as name:
        yield Path(name) / "run" / "cm.sock"


@pytest.fixture
def held(path: Path) -> Iterator[SocketPath]:
    """The reserved path, with a listening socket of ours."""
    with unix_socket_path(path) as held, closing(listening(path)):
        held.bound()
        yield held


def listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()}


def descriptors(path: Path) -> int:
    """How many of this process lead to files of that directory, deleted ones too."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        # The one that reads the directory is closed by now.
        with suppress(FileNotFoundError):
            count += str(link.readlink()).startswith(f"{path.parent}/")
    return count


def test_the_path_leads_here_from_the_bind_until_the_file_is_gone(path: Path) -> None:
    with unix_socket_path(path) as held, closing(listening(path)):
        assert not held.leads_here
        held.bound()
        assert held.leads_here
        path.unlink()
        assert not held.leads_here


def test_another_socket_at_the_path_is_not_ours(path: Path, held: SocketPath) -> None:
    path.unlink()
    with closing(listening(path)):
        assert not held.leads_here


def test_a_mode_that_was_changed_leaves_it_ours(path: Path, held: SocketPath) -> None:
    path.chmod(0o666)
    assert held.leads_here


def test_taken_anew_it_can_be_bound_anew_under_the_same_lock(path: Path, held: SocketPath) -> None:
    lock = path.with_name("cm.sock.lock").stat().st_ino
    path.unlink()
    held.take()
    with closing(listening(path)):
        held.bound()
        assert held.leads_here
        assert path.with_name("cm.sock.lock").stat().st_ino == lock
        with pytest.raises(StartupError, match="another server holds"), unix_socket_path(path):
            pass


def test_with_the_whole_directory_gone_directory_and_lock_are_made_anew(path: Path, held: SocketPath) -> None:
    shutil.rmtree(path.parent)
    held.take()
    assert {"cm.sock.lock"} == names(path)
    with pytest.raises(StartupError, match="another server holds"), unix_socket_path(path):
        pass


def test_what_a_dead_server_left_there_meanwhile_is_replaced(path: Path, held: SocketPath) -> None:
    path.unlink()
    listening(path).close()
    held.take()
    assert not path.exists()


def test_a_server_that_took_the_path_and_a_lock_of_its_own_meanwhile_keeps_both(path: Path) -> None:
    with unix_socket_path(path) as held, closing(listening(path)):
        held.bound()
        shutil.rmtree(path.parent)
        with unix_socket_path(path) as other, closing(listening(path)):
            other.bound()
            with pytest.raises(StartupError, match="another server holds"):
                held.take()
            held.release()
            assert other.leads_here
            assert {"cm.sock", "cm.sock.lock"} == names(path)


def test_a_live_socket_of_another_program_is_left_alone_while_held_and_at_release(path: Path) -> None:
    with unix_socket_path(path) as held, closing(listening(path)):
        held.bound()
        path.unlink()
        with closing(listening(path)):
            with pytest.raises(StartupError, match="another program answers there"):
                held.take()
            held.release()
            assert {"cm.sock"} == names(path)


def test_a_lock_file_that_its_last_holder_removes_meanwhile_is_made_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise this process would hold a file without a name, and the next one another lock."""
    flock = fcntl.flock

    def removed_first(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        path.with_name("cm.sock.lock").unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with (
        unix_socket_path(path),
        pytest.raises(StartupError, match="another server holds"),
        unix_socket_path(path),
    ):
        pass


def test_no_descriptor_is_left_of_taking_and_failing_to_take(path: Path) -> None:
    with unix_socket_path(path) as held:
        assert 1 == descriptors(path)
        shutil.rmtree(path.parent)
        held.take()
        held.take()
        path.with_name("cm.sock.lock").unlink()
        path.with_name("cm.sock.lock").mkdir()
        with pytest.raises(StartupError, match="cannot be made"):
            held.take()
        assert 1 == descriptors(path)
        path.with_name("cm.sock.lock").rmdir()
