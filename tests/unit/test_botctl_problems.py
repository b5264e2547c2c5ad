"""A user's mistakes: each gives one line that says what to do, and its own exit code."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from botctl import reachability
from botctl.connection import Connection
from botctl.exit_codes import MEANINGS, ExitCode
from botctl.problems import explain
from botctl.reachability import why_unreachable
from container_manager.errors import (
    CapacityExceededError,
    ContainerManagerError,
    EngineAccessDeniedError,
    EngineTimeoutError,
    EngineUnavailableError,
    FieldViolation,
    ImageNotAllowedError,
    ImageRegistryUnavailableError,
    InvalidConfigError,
    SecretsUnavailableError,
    ShuttingDownError,
    UnauthenticatedError,
)
from tests.support.scripted_service import ScriptedService
from tests.unit.botctl_runs import Run, complaint, run

BOT = "11111111-1111-1111-1111-111111111111"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path."""
    with tempfile.TemporaryDirectory(prefix="botctl-") as path:
        yield Path(path)


def dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def test_no_service_says_how_to_start_one_or_to_find_another(directory: Path) -> None:
    said = complaint(run("--target", f"unix://{directory}/s.sock", "start", BOT), ExitCode.NO_SERVICE)
    assert f"there is no socket {directory}/s.sock; start it with: container-manager serve" in said
    assert "--target or BOTCTL_TARGET" in said


def test_where_systemd_has_the_service_it_is_systemd_that_starts_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = directory / "container-manager.service"
    unit.touch()
    monkeypatch.setattr(reachability, "_UNIT", unit)
    said = complaint(run("--target", f"unix://{directory}/s.sock", "list"), ExitCode.NO_SERVICE)
    assert "start it with: systemctl start container-manager, or name another" in said


def test_the_default_is_the_services_own_socket() -> None:
    assert Path("/run/botmaker/container-manager.sock") == Connection().socket
    assert "default: unix:///run/botmaker/container-manager.sock" in " ".join(run("--help").output.split())


def test_a_stale_socket_and_a_missing_one_have_different_messages(directory: Path) -> None:
    dead_socket(directory / "s.sock")
    code, said = why_unreachable(Connection(f"unix://{directory}/s.sock"), "")
    assert ExitCode.NO_SERVICE == code
    assert f"nobody serves the socket {directory}/s.sock any more" in said


def test_a_file_that_is_not_a_socket_is_reported(directory: Path) -> None:
    (directory / "file").touch()
    code, said = why_unreachable(Connection(f"unix://{directory}/file"), "")
    assert ExitCode.NO_SERVICE == code
    assert f"{directory}/file is not a socket" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", ["socket", "directory"])
def test_no_permission_names_the_group_to_join(directory: Path, closed: str) -> None:
    directory.chmod(0o755)
    inner = directory / "run"
    inner.mkdir(mode=0o755)
    dead_socket(inner / "s.sock")
    (inner if closed == "directory" else inner / "s.sock").chmod(0o750)
    os.setegid(65_534)
    os.seteuid(65_534)
    try:
        code, said = why_unreachable(Connection(f"unix://{inner}/s.sock"), "")
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert ExitCode.NOT_ALLOWED == code
    assert f"no permission to open {inner}/s.sock: it is for its owner and group (root); join that group" in said


def test_a_tcp_port_without_a_service_is_reported() -> None:
    code, said = why_unreachable(Connection("tcp://127.0.0.1:1"), "last error: Connection refused")
    assert ExitCode.NO_SERVICE == code
    assert "no service answers at tcp://127.0.0.1:1 (Connection refused)" in said


def test_a_service_that_does_not_answer_is_reported(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(directory / "s.sock"))
        bound.listen()
        code, said = why_unreachable(Connection(f"unix://{directory}/s.sock"), "connection reset")
    assert ExitCode.NO_SERVICE == code
    assert "did not answer (connection reset)" in said


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/run/s.sock", "is not a valid target: use unix:///path or tcp://host:port"),
        ("http://localhost:1", "is not a valid target"),
        ("unix:///" + "x" * 107, "is too long: a socket's path has at most 107 bytes"),
    ],
)
def test_an_invalid_target_is_reported(target: str, said: str) -> None:
    assert said in complaint(run("list", "--target", target), ExitCode.USAGE)


def test_a_server_that_is_no_container_manager_is_reported() -> None:
    with tempfile.TemporaryDirectory(prefix="botctl-") as path:
        server = grpc.server(futures.ThreadPoolExecutor(1))
        server.add_insecure_port(f"unix:{path}/s.sock")
        server.start()
        said = complaint(run("--target", f"unix://{path}/s.sock", "start", BOT), ExitCode.NO_SERVICE)
        server.stop(0).wait()
    assert "is not a container manager" in said


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ("Socket closed", ExitCode.NOT_NOW),
        ("recvmsg:Connection reset by peer", ExitCode.NOT_NOW),
        (
            "failed to connect to all addresses; last error: UNKNOWN: unix:/s: No such file or directory",
            ExitCode.NOT_NOW,
        ),
        ("failed to connect to all addresses; last error: Timeout occurred", ExitCode.NO_SERVICE),
    ],
)
def test_a_call_that_a_restart_of_the_service_broke_is_one_line_without_grpcs_own_words(
    directory: Path, details: str, expected: ExitCode
) -> None:
    """By the time that the failure is looked into, the service is back."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/s.sock")
        listener.listen()
        with answering(listener, b""):
            code, said = why_unreachable(Connection(f"unix://{directory}/s.sock"), details)
    assert expected is code
    assert (expected is ExitCode.NOT_NOW) == (details not in said)
    assert ("ended or was restarted during the call" in said) == (expected is ExitCode.NOT_NOW)


def test_a_call_that_the_end_of_the_service_cancelled_is_one_line_without_grpcs_own_words() -> None:
    class Cancelled(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.CANCELLED

        def details(self) -> str:
            return "Cancelled on the server side"

    problem = explain(Cancelled(), Connection("unix:///run/x.sock"))
    assert ExitCode.NOT_NOW is problem.exit_code
    assert "ended or was restarted during the call" in problem.message
    assert "server side" not in problem.message


@contextmanager
def answering(listener: socket.socket, words: bytes) -> Iterator[None]:
    """A server that sends these bytes after the client's first bytes, and closes."""

    def answer() -> None:
        while True:
            try:
                connected = listener.accept()[0]
            except OSError:
                return
            # The client may close as soon as it has read enough.
            with connected, suppress(OSError):
                connected.recv(1)
                connected.sendall(words)
                connected.shutdown(socket.SHUT_WR)
                # Unread bytes would reset the connection before the client reads the answer.
                while connected.recv(4096):
                    pass

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(60)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        # Like the Docker Engine's socket, and like another gRPC server.
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request", "is not a container manager"),
        (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", "did not answer (broken)"),
        (b"", "did not answer (broken)"),
    ],
    ids=["HTTP/1", "HTTP/2", "nothing"],
)
def test_the_socket_of_another_service_is_told_from_one_that_does_not_answer(
    directory: Path, words: bytes, said: str
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/s.sock")
        listener.listen()
        with answering(listener, words):
            code, heard = why_unreachable(Connection(f"unix://{directory}/s.sock"), "broken")
    assert ExitCode.NO_SERVICE == code
    assert said in heard


def test_a_token_goes_with_every_call_and_comes_from_the_file(scripted: ScriptedService, directory: Path) -> None:
    token_file = directory / "token"
    token_file.write_text("token-of-a-test\n")
    scripted.add()
    scripted.fail("ListManagedContainers", UnauthenticatedError("no or a wrong token"))
    said = complaint(run("list", BOTCTL_TARGET=scripted.target), ExitCode.NOT_ALLOWED)
    assert f"{scripted.target} requires a token: pass --token-file or BOTCTL_TOKEN_FILE" in said
    environment = {"BOTCTL_TARGET": scripted.target, "BOTCTL_TOKEN_FILE": str(token_file)}
    said = complaint(run("list", **environment), ExitCode.NOT_ALLOWED)
    assert f"{scripted.target} does not accept the token in {token_file}" in said
    assert "token-of-a-test" not in said
    assert [None, "Bearer token-of-a-test"] == [metadata.get("authorization") for metadata in scripted.metadata]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "there is no token file"), ("", "must hold one line"), ("a b\nc", "must hold one line"), ("é", "be read")],
)
def test_an_unusable_token_file_is_reported(
    scripted: ScriptedService, directory: Path, content: str | None, said: str
) -> None:
    if content is not None:
        (directory / "token").write_text(content)
    result = run("list", "--token-file", str(directory / "token"), BOTCTL_TARGET=scripted.target)
    assert said in complaint(result, ExitCode.USAGE)
    assert [] == scripted.requests


def test_a_directory_is_no_token_file(scripted: ScriptedService, directory: Path) -> None:
    result = run("list", "--token-file", str(directory), BOTCTL_TARGET=scripted.target)
    assert "is not a file" in complaint(result, ExitCode.USAGE)


def test_the_commands_option_wins_over_the_programs_and_that_over_the_environment(scripted: ScriptedService) -> None:
    nowhere = "unix:///nowhere/s.sock"
    assert 0 == run("--target", scripted.target, "list", BOTCTL_TARGET=nowhere).exit_code
    assert 0 == run("--target", nowhere, "list", "--target", scripted.target).exit_code
    assert "[]\n" == run("--output", "json", "list", BOTCTL_TARGET=scripted.target).stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidConfigError(FieldViolation("config.network", "must not share")), ExitCode.USAGE),
        (SecretsUnavailableError("the secrets directory does not exist; make it first"), ExitCode.REFUSED),
        (ImageNotAllowedError("not on the list"), ExitCode.REFUSED),
        (EngineAccessDeniedError("the engine refuses the service"), ExitCode.REFUSED),
        (EngineTimeoutError("the engine is slow"), ExitCode.NOT_NOW),
        (CapacityExceededError("no disk"), ExitCode.NOT_NOW),
        (EngineUnavailableError("the engine cannot be reached"), ExitCode.NOT_NOW),
        (ImageRegistryUnavailableError("the registry is away"), ExitCode.NOT_NOW),
        (ShuttingDownError("the service ends"), ExitCode.NOT_NOW),
        (ContainerManagerError("internal error; the server's log has the details"), ExitCode.FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.name,
)
def test_what_the_service_says_is_passed_on_with_a_code_for_its_kind(
    botctl_run: Run, scripted: ScriptedService, error: ContainerManagerError, code: ExitCode
) -> None:
    scripted.fail("StartContainer", error)
    assert str(error) in complaint(botctl_run("start", scripted.add()), code)


def test_a_message_of_many_lines_is_one_line_and_moves_no_cursor(botctl_run: Run, scripted: ScriptedService) -> None:
    bot_id = scripted.add()
    scripted.fail("StartContainer", SecretsUnavailableError("one\ntwo \x1b[2J"))
    assert rf"{bot_id}: one two \x1b[2J" == complaint(botctl_run("start", bot_id), ExitCode.REFUSED)


def test_help_and_the_documentation_tell_every_exit_code(botctl_run: Run) -> None:
    help_text = botctl_run("--help").output
    page = (Path(__file__).parents[2] / "docs" / "botctl.md").read_text()
    for code, meaning in MEANINGS.items():
        assert f"{code:>3}  {meaning}" in help_text
        assert f"| {int(code)} | {meaning} |" in page
