"""``container-manager serve`` as a process: its socket, its signals, its engine."""

from __future__ import annotations

import json
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager import __version__
from container_manager_client import connect
from dev.engine import PrivateEngine
from tests.support.bots import Bots
from tests.support.calls import STUBBORN, Calls, fails_with
from tests.support.fake_engine import FakeEngine, Hang
from tests.support.serving import server_process
from tests.support.waiting import wait_until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
Arguments = Callable[..., list[str]]


@pytest.fixture
def directory(session_dir: Path) -> Path:
    """A directory for one test, with a short path."""
    return Path(tempfile.mkdtemp(prefix="p", dir=session_dir))


@pytest.fixture
def arguments(directory: Path, engine_url: str, secrets_root: Path, test_image: str) -> Arguments:
    """Options of a server on the real engine; later ones win."""

    def build(*further: str, docker_host: str = engine_url) -> list[str]:
        return [
            *("--listen", f"unix://{directory}/run/s.sock"),
            *("--docker-host", docker_host),
            *("--secrets-root", str(secrets_root)),
            *("--default-image", test_image),
            *("--token-file", str(directory / "token")),
            *further,
        ]

    return build


def health(target: str) -> int:
    """The answer to a health probe."""
    with connect(target) as channel:
        return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60).status


def test_it_prints_one_line_with_its_addresses_when_it_serves(arguments: Arguments, directory: Path) -> None:
    with server_process(arguments("--listen", "tcp://127.0.0.1:0"), directory / "log") as server:
        prefix = f"container-manager serving on unix://{directory}/run/s.sock tcp://127.0.0.1:"
        assert server.line.startswith(prefix)
        assert int(server.line.removeprefix(prefix)) > 0
        server.terminate()
        assert server.wait() == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""


def test_the_socket_is_for_owner_and_group_in_a_directory_for_owner_and_group(
    arguments: Arguments, directory: Path
) -> None:
    with server_process(arguments(), directory / "log"):
        found = (directory / "run" / "s.sock").stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert found.st_mode & 0o777 == 0o660
        assert (directory / "run").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0_and_leaves_no_file(
    arguments: Arguments, directory: Path, number: signal.Signals
) -> None:
    with server_process(arguments(), directory / "log") as server:
        server.terminate(number)
        assert server.wait() == 0
        assert list((directory / "run").iterdir()) == []


def test_sighup_is_ignored(arguments: Arguments, directory: Path) -> None:
    with server_process(arguments(), directory / "log") as server:
        server.terminate(signal.SIGHUP)
        wait_until(lambda: "SIGHUP is ignored" in server.log_text(), "the signal is logged")
        server.terminate(signal.SIGTERM)
        assert server.wait() == 0


def test_sighup_is_ignored_while_it_starts_too(arguments: Arguments, directory: Path) -> None:
    command = [sys.executable, "-m", "container_manager", "serve", *arguments()]
    log = (directory / "log").open("wb")
    with log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            wait_until(lambda: _ignores_sighup(process.pid), "it has begun")
            process.send_signal(signal.SIGHUP)
            assert process.stdout is not None
            assert process.stdout.readline().startswith("container-manager serving on")
            process.terminate()
            assert 0 == process.wait(60)
        finally:
            process.kill()


def _ignores_sighup(pid: int) -> bool:
    ignored = Path(f"/proc/{pid}/status").read_text().split("SigIgn:")[1].split()[0]
    return bool(int(ignored, 16) & 1 << signal.SIGHUP - 1)


def test_a_second_server_on_the_socket_fails_and_the_first_still_answers(arguments: Arguments, directory: Path) -> None:
    with server_process(arguments(), directory / "log"):
        with server_process(arguments(), directory / "log2") as second:
            assert second.wait() == 1
            assert "is in use" in second.log_text()
            assert "Traceback" not in second.log_text()
        assert health(f"unix://{directory}/run/s.sock") in (SERVING, NOT_SERVING)


def test_a_second_server_on_the_port_fails_and_the_first_still_answers(arguments: Arguments, directory: Path) -> None:
    tcp = ("--listen", "tcp://127.0.0.1:0")
    with server_process(arguments(*tcp), directory / "log") as server:
        target = server.line.split()[-1]
        second_socket = ("--listen", f"unix://{directory}/two/s.sock", "--listen", target)
        with server_process([*second_socket, *arguments()[2:]], directory / "log2") as second:
            assert second.wait() == 1
            assert "Address already in use" in second.log_text()
        assert list((directory / "two").iterdir()) == []
        assert health(target) in (SERVING, NOT_SERVING)


def test_a_killed_servers_socket_is_replaced(arguments: Arguments, directory: Path) -> None:
    with server_process(arguments(), directory / "log") as server:
        server.terminate(signal.SIGKILL)
        server.wait()
    assert (directory / "run" / "s.sock").exists()
    with server_process(arguments(), directory / "log") as server:
        assert server.line
        assert health(f"unix://{directory}/run/s.sock") in (SERVING, NOT_SERVING)


def test_sigterm_lets_a_stop_under_way_end_and_takes_no_new_call(
    arguments: Arguments, directory: Path, bots: Bots
) -> None:
    with server_process(arguments(), directory / "log") as server, connect(_target(directory)) as channel:
        calls = Calls(ContainerManagerStub(channel))
        bot_id = _stubborn(calls, bots)
        with ThreadPoolExecutor(1) as pool:
            stop = pool.submit(calls.stop, bot_id, 3)
            bots.wait_for_log(bot_id, b"asked")
            server.terminate()
            wait_until(lambda: "shutting down" in server.log_text(), "the signal is heard")
            # On the open connection: a new one would fail because the socket is gone.
            with pytest.raises(grpc.RpcError) as refused:
                calls.stub.StartContainer(pb.StartContainerRequest(bot_id=bot_id), timeout=5)
            assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            stop.result()
        assert server.wait() == 0
    assert bots.inspect(bot_id)["State"]["ExitCode"] == 137


def test_it_exits_within_the_drain_and_a_second_although_a_handler_is_blocked(
    arguments: Arguments, directory: Path, bots: Bots
) -> None:
    with (
        server_process(arguments("--drain-seconds", "1"), directory / "log") as server,
        connect(_target(directory)) as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        calls = Calls(ContainerManagerStub(channel))
        bot_id = _stubborn(calls, bots)
        stop = pool.submit(calls.stop, bot_id, 600)
        bots.wait_for_log(bot_id, b"asked")
        begun = time.monotonic()
        server.terminate()
        assert server.wait() == 1
        took = time.monotonic() - begun
        with pytest.raises(grpc.RpcError):
            stop.result()
    # The handler alone would take ten minutes.
    assert took < 30
    assert "operations under way" in server.log_text()


def test_a_second_signal_ends_it_at_once(arguments: Arguments, directory: Path, bots: Bots) -> None:
    with (
        server_process(arguments("--drain-seconds", "60"), directory / "log") as server,
        connect(_target(directory)) as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        calls = Calls(ContainerManagerStub(channel))
        bot_id = _stubborn(calls, bots)
        stop = pool.submit(calls.stop, bot_id, 30)
        bots.wait_for_log(bot_id, b"asked")
        server.terminate()
        wait_until(lambda: "shutting down" in server.log_text(), "the first signal is heard")
        server.terminate()
        assert server.wait() == 128 + signal.SIGTERM
        with pytest.raises(grpc.RpcError):
            stop.result()


def test_conformance_16_without_an_engine_it_starts_says_so_and_recovers_by_itself(
    arguments: Arguments, directory: Path, private_engine: PrivateEngine
) -> None:
    url = private_engine.url
    private_engine.kill()
    try:
        with server_process(arguments(docker_host=url), directory / "log") as server:
            target = _target(directory)
            assert server.line
            assert health(target) == NOT_SERVING
            wait_until(lambda: "reason=ENGINE_UNAVAILABLE" in server.log_text(), "the log says so")
            with connect(target) as channel, fails_with("UNAVAILABLE", "ENGINE_UNAVAILABLE"):
                Calls(ContainerManagerStub(channel)).list()
            private_engine.start()
            wait_until(lambda: health(target) == SERVING, "health recovers")
            with connect(target) as channel:
                assert Calls(ContainerManagerStub(channel)).list() == []
            private_engine.kill()
            wait_until(lambda: health(target) == NOT_SERVING, "health tells of the engine's end")
            assert "Traceback" not in server.log_text()
    finally:
        if not private_engine.running:
            private_engine.start()


def test_it_exits_within_the_drain_although_a_read_hangs(arguments: Arguments, directory: Path, bots: Bots) -> None:
    with FakeEngine() as fake:
        fake.on("GET", "/containers/*/json", Hang())
        options = ("--drain-seconds", "1")
        with (
            server_process(arguments(*options, docker_host=fake.url), directory / "log") as server,
            connect(_target(directory)) as channel,
        ):
            stub = ContainerManagerStub(channel)
            call = stub.GetContainerStatus.future(pb.GetContainerStatusRequest(bot_id=bots.new()))
            fake.await_request("GET", "/containers/*/json")
            server.terminate()
            # The time-out of engine calls is a minute.
            assert server.wait(30) == 0
            assert call.exception() is not None


def test_no_secret_is_in_the_log_at_any_level_nor_in_an_error(
    arguments: Arguments, directory: Path, bots: Bots
) -> None:
    bot_id = bots.new()
    secret = f"secret-{bot_id}"
    (bots.secrets_root / bot_id / "API_KEY").write_text(secret)
    told = []
    with server_process(arguments("--log-level", "debug"), directory / "log") as server:
        with connect(_target(directory)) as channel:
            calls = Calls(ContainerManagerStub(channel))
            calls.create(bot_id, "no-such-command")
            with fails_with("FAILED_PRECONDITION", "COMMAND_NOT_FOUND") as caught:
                calls.start(bot_id)
            told.append(str(caught))
            with fails_with("ALREADY_EXISTS", "CONTAINER_ALREADY_EXISTS") as caught:
                calls.create(bot_id)
            told.append(str(caught))
            told.append(str(calls.list()))
            calls.remove(bot_id)
        server.terminate()
        server.wait()
        told.append(server.log_text())
    assert bot_id in told[-1]
    assert secret not in "".join(told)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_newline_in_a_command_and_a_short_deadline_write_no_line_of_the_log(
    arguments: Arguments, directory: Path, bots: Bots, log_format: str
) -> None:
    options = arguments("--log-format", log_format, "--log-level", "debug")
    with server_process(options, directory / "log") as server, connect(_target(directory)) as channel:
        calls = Calls(ContainerManagerStub(channel))

        def call_with_deadlines() -> bool:
            for seconds in (0.002, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4):
                bot_id = bots.new()
                with suppress(grpc.RpcError):
                    calls.create(bot_id, "no-such\n2026-01-01T00:00:00Z [error    ] forged", timeout=seconds)
                    calls.start(bot_id, timeout=seconds)
            return "an operation whose caller had gone ended with" in server.log_text()

        wait_until(call_with_deadlines, "an operation ends behind its caller's deadline")
        server.terminate()
        server.wait()
        assert "forged" not in server.log_text()


def test_json_logs_are_one_object_a_line_with_method_bot_code_and_duration(
    arguments: Arguments, directory: Path, bots: Bots
) -> None:
    bot_id = bots.new()
    with server_process(arguments("--log-format", "json"), directory / "log") as server:
        with connect(_target(directory)) as channel, fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
            Calls(ContainerManagerStub(channel)).start(bot_id)
        server.terminate()
        server.wait()
        records = [json.loads(line) for line in server.log_text().splitlines()]
    call = next(record for record in records if record["event"] == "call")
    assert (call["bot_id"], call["code"]) == (bot_id, "NOT_FOUND")
    assert call["method"].endswith("/StartContainer")
    assert call["duration_ms"] >= 0


def test_options_come_from_the_environment_too(directory: Path, engine_url: str, secrets_root: Path) -> None:
    environment = {
        "CONTAINER_MANAGER_LISTEN": f"unix://{directory}/a.sock unix://{directory}/b.sock",
        "CONTAINER_MANAGER_DOCKER_HOST": engine_url,
        "CONTAINER_MANAGER_SECRETS_ROOT": str(secrets_root),
    }
    with server_process([], directory / "log", **environment) as server:
        assert server.line.endswith(f"serving on unix://{directory}/a.sock unix://{directory}/b.sock")


def test_python_dash_m_and_the_script_are_the_same_program() -> None:
    script = shutil.which("container-manager", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("the distribution is not installed")
    for command in ([script, "--version"], [sys.executable, "-m", "container_manager", "--version"]):
        assert __version__ in subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _target(directory: Path) -> str:
    return f"unix://{directory}/run/s.sock"


def _stubborn(calls: Calls, bots: Bots) -> str:
    bot_id = bots.new()
    calls.run(bot_id, *STUBBORN, network="none")
    bots.wait_for_log(bot_id, b"ready")
    return bot_id
