"""The doctor's findings about directories, sockets and files: each problem has a verdict and a remedy."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from container_manager.bot_directories import RootDirectory
from container_manager.config import DockerServiceConfig, ServerConfig, TlsConfig
from container_manager.doctor import Finding, Verdict, diagnose
from container_manager.doctor.host_checks import check_disk, check_root, check_token_file
from container_manager.doctor.socket_checks import check_socket
from tests.support.certificates import Authority, server_files
from tests.unit.documents import BOT, OTHER_BOT

OK, WARNING, FAILED = Verdict.OK, Verdict.WARNING, Verdict.FAILED


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    path.mkdir(mode=0o711)
    (path / BOT).mkdir(mode=0o700)
    return path


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[Path]:
    """A socket with a listening server, in a new directory."""
    directory = tmp_path / "run"
    directory.mkdir(mode=0o750)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "s.sock"))
        listener.listen()
        (directory / "s.sock").chmod(0o660)
        yield directory / "s.sock"


def worst(findings: list[Finding]) -> Verdict:
    for finding in findings:
        assert (finding.verdict is not OK) == bool(finding.remedy), "a remedy exactly where one is needed"
    return max((finding.verdict for finding in findings), key=list(Verdict).index)


def test_a_root_in_order_is_ok(root: Path) -> None:
    findings = check_root("secrets", root, secret=True)
    assert (OK, 1) == (worst(findings), len(findings))
    assert "0711" in findings[0].detail


@pytest.mark.parametrize(("mode", "verdict"), [(0o777, FAILED), (0o773, FAILED), (0o770, FAILED), (0o700, OK)])
def test_a_root_that_others_may_write_to_is_not_ok(root: Path, mode: int, verdict: Verdict) -> None:
    root.chmod(mode)
    assert verdict is worst(check_root("secrets", root, secret=True))


def test_a_root_of_another_user_is_failed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 12_345)
    monkeypatch.setattr(Path, "stat", lambda *_, **__: os.stat_result((0o40711, 1, 1, 1, 777, 777, 0, 0, 0, 0)))
    assert FAILED is worst(check_root("secrets", root, secret=True))


def test_a_root_that_is_missing_or_no_directory_is_failed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "install -d" in check_root("secrets", tmp_path / "none", secret=True)[0].remedy
    assert FAILED is worst(check_root("secrets", tmp_path / "none", secret=True))
    assert FAILED is worst(check_root("secrets", tmp_path / "file", secret=True))


def test_links_strange_names_and_open_directories_in_a_root_are_warnings_that_name_some(root: Path) -> None:
    (root / OTHER_BOT).symlink_to(root / BOT)
    for number in range(5):
        (root / f"backup {number}\n").mkdir()
    (root / BOT).chmod(0o755)
    links, strange, read = check_root("secrets", root, secret=True)[1:]
    assert {WARNING} == {links.verdict, strange.verdict, read.verdict}
    assert OTHER_BOT in links.detail
    assert "'backup 0\\n'" in strange.detail
    assert "and 2 more" in strange.detail
    assert BOT in read.detail


def test_what_is_no_secret_may_be_open(root: Path) -> None:
    (root / BOT).chmod(0o755)
    assert OK is worst(check_root("state", root, secret=False))


@pytest.mark.parametrize(("free", "verdict"), [(50, OK), (10, OK), (9, WARNING), (2, WARNING), (1, FAILED)])
def test_a_disk_that_fills_up_is_a_warning_and_at_last_failed(
    free: int, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - as shutil's own
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 100 - free, free))
    assert verdict is check_disk("disk", Path("/")).verdict


def test_a_served_socket_in_a_directory_of_its_own_is_ok_and_told(bound: Path) -> None:
    finding = check_socket(bound)
    assert OK is finding.verdict
    assert "0660" in finding.detail
    assert "a server answers" in finding.detail


def test_a_socket_without_a_server_and_one_not_made_yet_are_ok_and_told(bound: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(bound.parent / "stale.sock"))
    assert "no server answers" in check_socket(bound.parent / "stale.sock").detail
    for path in (bound.parent / "none.sock", tmp_path / "none" / "s.sock"):
        assert (OK, True) == (check_socket(path).verdict, "nothing there yet" in check_socket(path).detail)


def test_a_socket_that_anybody_may_open_is_failed(bound: Path) -> None:
    bound.parent.chmod(0o755)
    assert WARNING is check_socket(bound).verdict
    bound.chmod(0o666)
    assert FAILED is check_socket(bound).verdict


@pytest.mark.parametrize(("mode", "group"), [(0o666, None), (0o4660, None), (0o660, "no-such-group-here")])
def test_a_mode_or_a_group_that_the_start_would_refuse_is_failed(bound: Path, mode: int, group: str | None) -> None:
    finding = check_socket(bound, mode, group)
    assert (FAILED, "give another --socket-mode or --socket-group") == (finding.verdict, finding.remedy)


def test_a_mode_that_is_not_the_one_asked_for_is_a_warning(bound: Path) -> None:
    assert OK is check_socket(bound, 0o660).verdict
    bound.chmod(0o666)
    finding = check_socket(bound, 0o660)
    assert (WARNING, True) == (finding.verdict, "0666" in finding.detail)
    assert finding.remedy.startswith(f"chmod 0660 {bound}")


@contextmanager
def another_user() -> Iterator[None]:
    """Run as a user who owns none of these files."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(65_534)
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_socket_is_neither_missing_nor_in_order(
    session_dir: Path,
) -> None:
    directory = session_dir / "doctor"
    directory.mkdir(mode=0o750)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "s.sock"))
        listener.listen()
        (directory / "s.sock").chmod(0o660)
        with another_user():
            unseen = check_socket(directory / "s.sock")
            foreign = check_socket(directory / "s.sock", 0o660, "0")
        directory.chmod(0o755)
        with another_user():
            closed = check_socket(directory / "s.sock")
    assert (FAILED, True) == (unseen.verdict, "Permission denied" in unseen.detail), unseen
    assert (FAILED, True) == (foreign.verdict, "is not a member" in foreign.detail), foreign
    assert foreign.remedy.startswith("usermod -aG ")
    assert "this user may not open it" in closed.detail


def test_another_file_in_the_sockets_place_is_failed_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s.sock").write_text("mine")
    assert FAILED is check_socket(tmp_path / "s.sock").verdict
    assert "mine" == (tmp_path / "s.sock").read_text()


def test_a_token_file_is_ok_only_where_it_is_this_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert OK is check_token_file(path).verdict
    path.write_text("x" * 32)
    path.chmod(0o600)
    assert OK is check_token_file(path).verdict
    path.chmod(0o640)
    assert FAILED is check_token_file(path).verdict
    (tmp_path / "link").symlink_to(path)
    assert FAILED is check_token_file(tmp_path / "link").verdict
    assert FAILED is check_token_file(tmp_path / "none" / "token").verdict


def test_everything_that_serve_would_need_is_looked_at_and_nothing_is_made(root: Path, tmp_path: Path) -> None:
    state = RootDirectory(tmp_path / "state", tmp_path / "state")
    service = DockerServiceConfig(
        secrets_root=RootDirectory(root, root), state_root=state, docker_host=f"unix://{tmp_path}/none.sock"
    )
    listen = (f"unix://{tmp_path}/run/s.sock", "tcp://127.0.0.1:0", "nonsense")
    config = ServerConfig(service=service, listen=listen, token_file=tmp_path / "token")
    before = sorted(tmp_path.rglob("*"))
    found = [(finding.name, finding.verdict) for finding in asyncio.run(diagnose(config))]
    assert before == sorted(tmp_path.rglob("*"))
    found = [each for each in found if each[0] != "secrets root's disk"]
    expected = [("engine", FAILED), ("secrets root", OK), ("state root", FAILED)]
    assert [*expected, ("socket", OK), ("token file", OK), ("listener", FAILED)] == found


def test_roots_that_overlap_are_a_failure(root: Path, tmp_path: Path) -> None:
    state = RootDirectory(root / "state", root / "state")
    service = DockerServiceConfig(RootDirectory(root, root), state, docker_host=f"unix://{tmp_path}/none.sock")
    findings = asyncio.run(diagnose(ServerConfig(service, ())))
    assert [FAILED] == [finding.verdict for finding in findings if finding.name == "roots"]


def tcp_findings(tmp_path: Path, listen: str, tls: TlsConfig | None) -> list[Finding]:
    """The findings about a TCP listener, without those about its token file."""
    service = DockerServiceConfig(RootDirectory(tmp_path, tmp_path), docker_host="unix:///nowhere.sock")
    config = ServerConfig(service, (listen,), token_file=tmp_path / "token", tls=tls)
    found = asyncio.run(diagnose(config))
    return [finding for finding in found if finding.name in ("listener", "TLS files")]


def test_a_tcp_listener_is_checked_as_the_start_does(tmp_path: Path) -> None:
    assert [] == tcp_findings(tmp_path, "tcp://127.0.0.1:1", None)
    (finding,) = tcp_findings(tmp_path, "tcp://0.0.0.0:1", None)
    assert finding.verdict is FAILED
    assert "--tls-cert, --tls-key and --tls-client-ca" in finding.detail
    tls = server_files(tmp_path, Authority())
    (finding,) = tcp_findings(tmp_path, "tcp://0.0.0.0:1", tls)
    assert ("TLS files", OK) == (finding.name, finding.verdict)
    tls.key.unlink()
    (finding,) = tcp_findings(tmp_path, "tcp://0.0.0.0:1", tls)
    assert finding.verdict is FAILED
    assert str(tls.key) in finding.detail


def test_services_that_keep_the_service_from_starting_are_found(tmp_path: Path) -> None:
    service = DockerServiceConfig(RootDirectory(tmp_path, tmp_path), docker_host="unix:///nowhere.sock")

    def found(*services: str) -> list[tuple[Verdict, str]]:
        config = ServerConfig(service, ("tcp://127.0.0.1:1",), token_file=tmp_path / "token", services=services)
        findings = asyncio.run(diagnose(config))
        return [(finding.verdict, finding.detail) for finding in findings if finding.name == "services"]

    assert [] == found()
    expected = (OK, "tcp://127.0.0.1:1 serves ContainerObserver, BotProvisioner")
    assert [expected] == found("tcp://127.0.0.1:1=provisioner,observer")
    for wrong in ("tcp://127.0.0.1:2=manager", "tcp://127.0.0.1:1=nothing"):
        ((verdict, detail),) = found(wrong)
        assert verdict is FAILED
        assert wrong in detail
