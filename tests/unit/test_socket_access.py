"""The mode and the group of a unix socket and its directory, and those before they are set."""

from __future__ import annotations

import grp
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from container_manager.errors import StartupError
from container_manager.sockets.access import SocketAccess, socket_access
from container_manager.sockets.binding import socket_umask, unix_socket_path

GID = 54_321
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to any group")


@pytest.fixture
def path() -> Iterator[Path]:
    """A path that is short enough for sockets, in a directory that does not exist yet."""
    with tempfile.TemporaryDirectory(prefix="access-") as name:
        yield Path(name) / "run" / "cm.sock"


def listening(path: Path) -> socket.socket:
    """A socket that is bound as the server binds it."""
    listener = socket.socket(socket.AF_UNIX)
    with socket_umask():
        listener.bind(str(path))
    listener.listen()
    return listener


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("wanted", [0o660, 0o600, 0o620, 0o770])
@pytest.mark.parametrize("umask", [0, 0o077])
def test_the_socket_has_the_very_mode_whatever_the_umask(path: Path, wanted: int, umask: int) -> None:
    before = os.umask(umask)
    try:
        with unix_socket_path(path, SocketAccess(wanted)) as held, closing(listening(path)):
            held.bound()
            assert wanted == mode(path)
    finally:
        os.umask(before)


@only_root
def test_socket_and_directory_are_the_groups(path: Path) -> None:
    with unix_socket_path(path, SocketAccess(gid=GID)) as held, closing(listening(path)):
        held.bound()
        assert (GID, 0o660) == (path.stat().st_gid, mode(path))
        assert (GID, 0o750) == (path.parent.stat().st_gid, mode(path.parent))
        assert 0o600 == mode(path.with_name("cm.sock.lock"))


@only_root
def test_a_directory_that_is_there_already_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir(0o711)
    with unix_socket_path(path, SocketAccess(gid=GID)):
        assert (os.getegid(), 0o711) == (path.parent.stat().st_gid, mode(path.parent))


@only_root
def test_no_group_has_a_right_before_it_is_the_right_group(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moments: list[tuple[str, int, int]] = []
    change_group, change_mode = os.chown, os.chmod

    def seen(call: str, file: str) -> None:
        found = Path(file).stat()
        moments.append((call, found.st_gid, stat.S_IMODE(found.st_mode) & 0o077))

    def chown(file: str, uid: int, gid: int) -> None:
        seen("chown", file)
        change_group(file, uid, gid)

    def chmod(file: Path, wanted: int, **_: object) -> None:
        seen("chmod", str(file))
        change_mode(file, wanted)

    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr(os, "chmod", chmod)
    with unix_socket_path(path, SocketAccess(gid=GID)) as held, closing(listening(path)):
        held.bound()
    # Of the directory, and of the socket.
    assert [("chown", os.getegid(), 0), ("chmod", GID, 0)] * 2 == moments


@only_root
def test_what_has_taken_the_sockets_place_gets_no_right(path: Path) -> None:
    path.parent.mkdir()
    target = path.with_name("target")
    target.touch(0o600)
    path.symlink_to(target)
    with pytest.raises(StartupError, match="cannot be given its mode"):
        SocketAccess(gid=GID).grant(path)
    assert (os.getegid(), 0o600) == (target.stat().st_gid, mode(target))


def refuse(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_directory_that_cannot_be_given_to_the_group_is_not_left_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the next start it would count as the directory of someone else."""
    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(StartupError, match="must be a member of it"), unix_socket_path(path, SocketAccess(gid=GID)):
        pass
    assert not path.parent.exists()


def test_a_group_that_is_not_this_users_is_told_and_the_socket_stays_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    monkeypatch.setattr(os, "chown", refuse)
    with unix_socket_path(path, SocketAccess(gid=GID)) as held, closing(listening(path)):
        with pytest.raises(StartupError, match=f"group {GID}: this user must be a member of it"):
            held.bound()
        assert 0 == mode(path) & 0o077
    assert not path.exists()


@pytest.mark.parametrize("wanted", [0o666, 0o662, 0o664, 0o661, 0o777, 0o606])
def test_a_mode_that_gives_others_a_right_is_refused(wanted: int) -> None:
    with pytest.raises(StartupError, match=rf"{wanted:04o} gives rights to every user.*--socket-group GROUP"):
        socket_access(wanted, None)


@pytest.mark.parametrize("wanted", [0o2660, 0o4660, 0o1660])
def test_a_mode_that_means_nothing_for_a_socket_is_refused(wanted: int) -> None:
    with pytest.raises(StartupError, match="may grant rights to owner and group only"):
        socket_access(wanted, None)


def test_a_group_is_found_by_its_name_or_its_number() -> None:
    group = grp.getgrall()[-1]
    assert SocketAccess(0o660, group.gr_gid) == socket_access(0o660, group.gr_name)
    assert SocketAccess(0o600, GID) == socket_access(0o600, str(GID))
    assert SocketAccess() == socket_access(0o660, None)


@pytest.mark.parametrize("group", ["no-such-group", "", "-1", "4294967295", "9" * 30, "\u0661"])
def test_a_group_that_is_none_is_refused_by_its_text(group: str) -> None:
    with pytest.raises(StartupError, match="there is no group") as caught:
        socket_access(0o660, group)
    assert repr(group) in str(caught.value)
