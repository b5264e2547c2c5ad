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

from container_manager.bot_directories import BotUser, RootDirectory
from container_manager.config import BackendConfig, ServerConfig, TlsConfig
from container_manager.doctor import Finding, Verdict, diagnose
from container_manager.doctor.host_checks import check_disk, check_root
from container_manager.doctor.sizes import size_text
from container_manager.doctor.socket_checks import check_socket
from container_manager.doctor.tcp_checks import check_token_file
from container_manager.errors import AddressInUseError, StartupError
from container_manager.root_ownership import UnusableRootError, check_usable
from container_manager.rpc.listeners.tcp_access import read_or_make_token
from container_manager.sockets.binding import unix_socket_path
from tests.support.certificates import Authority, server_files
from tests.unit.documents import BOT, OTHER_BOT

# The user of the bots is the one that runs these tests.
SELF = BotUser(os.geteuid(), os.getegid())
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
    findings = check_root("secrets", root, secrets_of=SELF)
    assert (OK, 1) == (worst(findings), len(findings))
    assert "0711" in findings[0].detail


@pytest.mark.parametrize(("mode", "verdict"), [(0o777, FAILED), (0o773, FAILED), (0o770, FAILED), (0o700, OK)])
def test_a_root_that_others_may_write_to_is_not_ok(root: Path, mode: int, verdict: Verdict) -> None:
    root.chmod(mode)
    assert verdict is worst(check_root("secrets", root, secrets_of=SELF))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_root_of_another_user_is_failed_by_the_doctor_as_by_the_start(root: Path) -> None:
    os.chown(root, 12_345, -1)
    [finding] = check_root("secrets", root, secrets_of=SELF)
    assert (FAILED, True) == (finding.verdict, "belongs to the user 12345" in finding.detail)
    # Root may have started the doctor by mistake: taking the root away from the service would be no help.
    assert finding.remedy.startswith("run it as the user 12345, or ")
    with pytest.raises(UnusableRootError, match="belongs to the user 12345"):
        check_usable(root)


def test_a_root_that_is_missing_or_no_directory_is_failed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "install -d" in check_root("secrets", tmp_path / "none", secrets_of=SELF)[0].remedy
    assert FAILED is worst(check_root("secrets", tmp_path / "none", secrets_of=SELF))
    assert FAILED is worst(check_root("secrets", tmp_path / "file", secrets_of=SELF))


def test_links_strange_names_and_open_directories_in_a_root_are_warnings_that_name_some(root: Path) -> None:
    (root / OTHER_BOT).symlink_to(root / BOT)
    for number in range(5):
        (root / f"backup {number}\n").mkdir()
    (root / BOT).chmod(0o755)
    links, strange, read = check_root("secrets", root, secrets_of=SELF)[1:]
    assert {WARNING} == {links.verdict, strange.verdict, read.verdict}
    assert "bots' secrets" == read.name
    assert OTHER_BOT in links.detail
    assert "'backup 0\\n'" in strange.detail
    assert "and 2 more" in strange.detail
    assert BOT in read.detail


def test_what_is_no_secret_may_be_open(root: Path) -> None:
    (root / BOT).chmod(0o755)
    assert OK is worst(check_root("state", root))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_secrets_that_a_bot_cannot_read_are_warnings_that_name_them(root: Path) -> None:
    (root / OTHER_BOT).mkdir(mode=0o700)
    os.chown(root / OTHER_BOT, 12_345, -1)
    for name, mode in {"FINE": 0o600, "OPEN": 0o640, "FOREIGN": 0o600}.items():
        (root / BOT / name).touch()
        (root / BOT / name).chmod(mode)
    os.chown(root / BOT / "FOREIGN", 12_345, -1)
    (root / BOT / "LINK").symlink_to("FINE")
    foreign, files = check_root("secrets", root, secrets_of=SELF)[1:]
    assert {WARNING} == {foreign.verdict, files.verdict}
    assert f"'{OTHER_BOT}' do not belong to the bots' user 0:0" in foreign.detail
    assert ", ".join(f"'{BOT}/{name}'" for name in ("FOREIGN", "LINK", "OPEN")) in files.detail


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_340_000, "2.3 MB"), (904_600_000, "905 MB"),
     (999_600_000, "1.0 GB"), (1_290_000_000, "1.3 GB"), (99_960_000_000, "100 GB"), (4e12, "4.0 TB"),
     (2e18, "2,000 PB")],
)  # fmt: skip
def test_a_size_has_the_unit_that_fits_it(size: float, text: str) -> None:
    assert text == size_text(size)


@pytest.mark.parametrize(("free", "verdict"), [(50, OK), (10, OK), (9, WARNING), (2, WARNING), (1, FAILED)])
def test_a_disk_that_fills_up_is_a_warning_and_at_last_failed(
    free: int, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - as shutil's own
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 100 - free, free))
    assert verdict is check_disk("disk", Path("/")).verdict


def test_a_served_socket_in_a_directory_of_its_own_is_ok_while_the_service_runs(bound: Path) -> None:
    finding = check_socket(bound, running=True)
    assert OK is finding.verdict
    assert "0660" in finding.detail
    assert "a server answers" in finding.detail


def test_a_socket_that_a_server_has_is_failed_before_a_start(bound: Path) -> None:
    """`serve` would not start either."""
    finding = check_socket(bound)
    assert (FAILED, f"{bound} is in use: a server has it") == (finding.verdict, finding.detail)
    assert "--running" in finding.remedy
    with pytest.raises(AddressInUseError), unix_socket_path(bound):
        pass


def test_a_server_that_accepts_no_connection_has_its_socket_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("container_manager.doctor.socket_checks._CONNECT_SECONDS", 0.1)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(tmp_path / "s.sock"))
        listener.listen(0)
        waiting.connect(str(tmp_path / "s.sock"))
        assert FAILED is check_socket(tmp_path / "s.sock").verdict


def test_a_socket_without_a_server_and_one_not_made_yet_are_ok_before_a_start_and_failed_after(
    bound: Path, tmp_path: Path
) -> None:
    stale = bound.parent / "stale.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    # The next start replaces it, whatever its mode is.
    stale.chmod(0o666)
    assert (OK, True) == (check_socket(stale).verdict, "no server answers" in check_socket(stale).detail)
    for path in (bound.parent / "none.sock", tmp_path / "none" / "s.sock"):
        assert (OK, True) == (check_socket(path).verdict, "nothing there yet" in check_socket(path).detail)
    for path in (stale, bound.parent / "none.sock", tmp_path / "none" / "s.sock"):
        finding = check_socket(path, running=True)
        assert (FAILED, f"{path}: no server answers") == (finding.verdict, finding.detail)


def test_a_socket_that_anybody_may_open_is_failed(bound: Path) -> None:
    bound.parent.chmod(0o755)
    assert WARNING is check_socket(bound, running=True).verdict
    bound.chmod(0o666)
    assert FAILED is check_socket(bound, running=True).verdict


@pytest.mark.parametrize(("mode", "group"), [(0o666, None), (0o4660, None), (0o660, "no-such-group-here")])
def test_a_mode_or_a_group_that_the_start_would_refuse_is_failed(bound: Path, mode: int, group: str | None) -> None:
    finding = check_socket(bound, mode, group)
    assert (FAILED, "give another --socket-mode or --socket-group") == (finding.verdict, finding.remedy)


def test_a_mode_that_is_not_the_one_asked_for_is_a_warning(bound: Path) -> None:
    assert OK is check_socket(bound, 0o660, running=True).verdict
    bound.chmod(0o666)
    finding = check_socket(bound, 0o660, running=True)
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
            closed = check_socket(directory / "s.sock", running=True)
            new = check_socket(directory / "new.sock"), check_socket(directory / "new" / "s.sock")
    assert (FAILED, True) == (unseen.verdict, "Permission denied" in unseen.detail), unseen
    assert (FAILED, True) == (foreign.verdict, "is not a member" in foreign.detail), foreign
    assert foreign.remedy.startswith("usermod -aG ")
    assert "this user may not open it" in closed.detail
    for finding in new:
        assert (FAILED, True) == (finding.verdict, f"may not write to {directory}" in finding.detail), finding


def test_another_file_in_the_sockets_place_is_failed_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s.sock").write_text("mine")
    assert FAILED is check_socket(tmp_path / "s.sock").verdict
    assert "mine" == (tmp_path / "s.sock").read_text()


def test_the_doctor_and_the_start_are_of_one_opinion_about_a_token_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert (OK, False) == (check_token_file(path).verdict, path.exists())
    path.write_text("x" * 32)
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "short").write_text("x")
    (tmp_path / "short").chmod(0o600)
    cases = {path: 0o600, tmp_path / "none" / "token": None, tmp_path / "link": None, tmp_path / "short": None}
    for file, mode in cases.items():
        path.chmod(mode or 0o600)
        finding = check_token_file(file)
        assert (OK if mode else FAILED) is finding.verdict, finding
        if finding.verdict is FAILED:
            with pytest.raises(StartupError):
                read_or_make_token(file)
    path.chmod(0o640)
    assert FAILED is check_token_file(path).verdict


def test_everything_that_serve_would_need_is_looked_at_and_nothing_is_made(root: Path, tmp_path: Path) -> None:
    state = RootDirectory(tmp_path / "state", tmp_path / "state")
    service = BackendConfig(
        secrets_root=RootDirectory(root, root), state_root=state, docker_host=f"unix://{tmp_path}/none.sock"
    )
    listen = (f"unix://{tmp_path}/run/s.sock", "tcp://127.0.0.1:0", "nonsense")
    config = ServerConfig(service=service, listen=listen, token_file=tmp_path / "token")
    before = sorted(tmp_path.rglob("*"))
    found = [(finding.name, finding.verdict) for finding in asyncio.run(diagnose(config))]
    assert before == sorted(tmp_path.rglob("*"))
    found = [each for each in found if each[0] != "secrets root's disk"]
    # The engine does not tell whose the secrets have to be.
    expected = [("engine", FAILED), ("secrets root", OK), ("state root", FAILED)]
    expected.append(("state mount", OK))
    assert [*expected, ("socket", OK), ("listener", OK), ("token file", OK), ("listener", FAILED)] == found


def test_roots_that_overlap_are_a_failure(root: Path, tmp_path: Path) -> None:
    state = RootDirectory(root / "state", root / "state")
    service = BackendConfig(RootDirectory(root, root), state, docker_host=f"unix://{tmp_path}/none.sock")
    findings = asyncio.run(diagnose(ServerConfig(service, ())))
    assert [FAILED] == [finding.verdict for finding in findings if finding.name == "roots"]


def tcp_findings(tmp_path: Path, listen: str, tls: TlsConfig | None, *, running: bool = False) -> list[Finding]:
    """The findings about a TCP listener, without those about its token file."""
    service = BackendConfig(RootDirectory(tmp_path, tmp_path), docker_host="unix:///nowhere.sock")
    config = ServerConfig(service, (listen,), token_file=tmp_path / "token", tls=tls)
    found = asyncio.run(diagnose(config, running=running))
    return [finding for finding in found if finding.name in ("listener", "TLS files")]


def test_a_tcp_listener_is_checked_as_the_start_does(tmp_path: Path) -> None:
    assert [("listener", OK)] == [
        (each.name, each.verdict) for each in tcp_findings(tmp_path, "tcp://127.0.0.1:0", None)
    ]
    (finding,) = tcp_findings(tmp_path, "tcp://0.0.0.0:0", None)
    assert finding.verdict is FAILED
    assert "--tls-cert, --tls-key and --tls-client-ca" in finding.detail
    tls = server_files(tmp_path, Authority())
    found = tcp_findings(tmp_path, "tcp://0.0.0.0:0", tls)
    assert [("TLS files", OK), ("listener", OK)] == [(each.name, each.verdict) for each in found]
    tls.key.unlink()
    (finding,) = tcp_findings(tmp_path, "tcp://0.0.0.0:0", tls)
    assert finding.verdict is FAILED
    assert str(tls.key) in finding.detail


def test_a_port_that_is_in_use_is_failed_before_a_start_and_ok_while_the_service_runs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        (before,) = tcp_findings(tmp_path, address, None)
        (during,) = tcp_findings(tmp_path, address, None, running=True)
    (after,) = tcp_findings(tmp_path, address, None, running=True)
    assert (FAILED, f"cannot listen on {address}: Address already in use") == (before.verdict, before.detail)
    assert "--running" in before.remedy
    assert (OK, FAILED) == (during.verdict, after.verdict)
    assert f"nothing listens at {address}" == after.detail


def test_services_that_keep_the_service_from_starting_are_found(tmp_path: Path) -> None:
    service = BackendConfig(RootDirectory(tmp_path, tmp_path), docker_host="unix:///nowhere.sock")

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
