"""The token of the TCP listeners, and the file that holds it."""

from __future__ import annotations

import errno
import hmac
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from container_manager.errors import StartupError
from container_manager.rpc.interceptors import authentication as auth_interceptor
from container_manager.rpc.interceptors.authentication import AuthenticationInterceptor
from container_manager.rpc.listeners.tcp_access import read_or_make_token

TOKEN = "0123456789abcdef"


def test_a_missing_token_is_made_for_its_owner_alone_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "token"
    before = os.umask(0)
    try:
        token = read_or_make_token(path)
    finally:
        os.umask(before)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert token + "\n" == path.read_text()
    assert len(token) >= 32
    assert token == read_or_make_token(path)
    assert token != read_or_make_token(tmp_path / "another")


@pytest.mark.parametrize("content", [TOKEN, TOKEN + "\n", f"  {TOKEN}\r\n"])
@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_token_file_of_this_user_is_read(tmp_path: Path, content: str, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(mode)
    assert TOKEN == read_or_make_token(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o777])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(mode)
    with pytest.raises(StartupError, match="mode 0600"):
        read_or_make_token(path)


def test_a_file_of_another_users_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(StartupError, match="of this user's"):
        read_or_make_token(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", TOKEN[:-1].encode(), f"{TOKEN}\n{TOKEN}".encode(), "é".encode() * 16, b"\0" * 16, b"\xff" * 16],
    ids=ascii,
)
def test_a_file_without_a_token_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(StartupError, match="at least 16 ASCII characters") as caught:
        read_or_make_token(path)
    assert TOKEN[:8] not in str(caught.value)


def _link(path: Path) -> None:
    target = path.with_name("target")
    target.write_text(TOKEN)
    target.chmod(0o600)
    path.symlink_to(target)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "make",
    [_link, lambda path: path.symlink_to("nowhere"), Path.mkdir, os.mkfifo],
    ids=["link", "dangling link", "directory", "fifo"],
)
def test_anything_but_a_regular_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "token")
    with pytest.raises(StartupError, match="the token file"):
        read_or_make_token(tmp_path / "token")
    assert not (tmp_path / "nowhere").exists()


def test_a_missing_directory_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="there is no directory"):
        read_or_make_token(tmp_path / "no" / "token")


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can get a single byte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_token_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with full_disk(), pytest.raises(StartupError, match=f"the token file {path} cannot be made: File too large"):
        read_or_make_token(path)
    assert [] == list(tmp_path.iterdir())


_KILLED_WHILE_IT_WRITES = """
import pathlib, resource, signal, sys
from container_manager.rpc.listeners.tcp_access import read_or_make_token
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
read_or_make_token(pathlib.Path(sys.argv[1]))
"""


def test_a_start_that_is_killed_while_it_makes_the_token_stops_no_later_one(tmp_path: Path) -> None:
    path = tmp_path / "token"
    killed = subprocess.run([sys.executable, "-c", _KILLED_WHILE_IT_WRITES, path], check=False)
    assert -signal.SIGXFSZ == killed.returncode
    assert len(read_or_make_token(path)) >= 32
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_file_system_without_hard_links_gets_a_token_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    path = tmp_path / "token"
    disk = ExitStack()

    def link(*_: Path) -> NoReturn:
        disk.enter_context(full_disk())
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", link)
    with disk, pytest.raises(StartupError, match="cannot be made: File too large"):
        read_or_make_token(path)
    assert [] == list(tmp_path.iterdir())
    monkeypatch.setattr(f"{__name__}.full_disk", nullcontext)
    assert read_or_make_token(path) + "\n" == path.read_text()
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert [path] == list(tmp_path.iterdir())


def test_processes_that_start_at_once_have_one_token(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def make(path: Path) -> str:
        together.wait(10)
        return read_or_make_token(path)

    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            assert 1 == len(set(pool.map(make, [tmp_path / str(number)] * 8)))
    assert 20 == len(list(tmp_path.iterdir()))


class Details:
    def __init__(self, *metadata: tuple[str, str | bytes]) -> None:
        self.invocation_metadata = metadata


@pytest.mark.parametrize(
    ("metadata", "accepted"),
    [
        ([("authorization", f"Bearer {TOKEN}")], True),
        ([("authorization", f"bearer {TOKEN}")], True),
        ([("authorization", f"BEARER {TOKEN}")], True),
        ([("other", "x"), ("authorization", f"Bearer {TOKEN}")], True),
        ([], False),
        ([("authorization", TOKEN)], False),
        # gRPC gives a value that is not ASCII as bytes.
        ([("authorization", f"Bearer {TOKEN}é".encode())], False),
        ([("authorization", f"Basic {TOKEN}")], False),
        ([("authorization", f"Bearer {TOKEN}x")], False),
        ([("authorization", f"Bearer {TOKEN[:-1]}")], False),
        ([("authorization", "Bearer ")], False),
        ([("authorization", "Bearer é")], False),
        ([("authorization", f"Bearer {TOKEN}")] * 2, False),
        ([("x-authorization", f"Bearer {TOKEN}")], False),
    ],
)
def test_only_the_exact_token_is_accepted(metadata: list[tuple[str, str]], accepted: bool) -> None:
    assert accepted is AuthenticationInterceptor(TOKEN)._accepts(Details(*metadata))  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [TOKEN, "wrong", "", "é"])
def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """hmac's comparison decides, and gets both tokens complete."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(auth_interceptor, "hmac", SimpleNamespace(compare_digest=compare))
    details = Details(("authorization", f"Bearer {given}"))
    assert (given == TOKEN) is AuthenticationInterceptor(TOKEN)._accepts(details)  # type: ignore[arg-type]
    assert [(given.encode(), TOKEN.encode())] == compared
