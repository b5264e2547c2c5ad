"""``botctl`` and a service that is started and stopped, on separate sockets and ports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect
from tests.support.botctl_process import botctl, environment, on_terminal, piped
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls
from tests.support.serving import ServerProcess, server_process
from tests.support.waiting import wait_until

# Each run of the process prints its number and continues the count of the last run.
NUMBERED = """
n=$(cat /tmp/n 2>/dev/null || echo 0)
trap 'echo $n >/tmp/n; exit 0' TERM
while :; do n=$((n+1)); echo line $n; [ $((n % 20)) = 0 ] && sleep 0.01; done
"""


@pytest.fixture
def directory(session_dir: Path) -> Path:
    """A directory for one test, with a short path."""
    return Path(tempfile.mkdtemp(prefix="b", dir=session_dir))


@pytest.fixture
def arguments(directory: Path, engine_url: str, secrets_root: Path, test_image: str) -> list[str]:
    """Options of a server on the real engine."""
    return [
        *("--listen", f"unix://{directory}/run/s.sock", "--docker-host", engine_url),
        *("--secrets-root", str(secrets_root), "--default-image", test_image),
        *("--token-file", str(directory / "token")),
    ]


@pytest.fixture
def target(directory: Path) -> str:
    """The address of that server."""
    return f"unix://{directory}/run/s.sock"


def restarted(bot_id: str, target: str) -> None:
    """Restart the bot as from another terminal."""
    done = botctl(target, "restart", "--grace", "10s", bot_id)
    assert 0 == done.returncode, done.stderr


def test_a_followed_log_has_every_line_once_across_restarts_of_the_bot_and_of_the_service(
    arguments: list[str], directory: Path, target: str, bots: Bots
) -> None:
    bot_id = bots.new()
    server = ServerProcess(arguments, directory / "log")
    followed = directory / "followed"
    notices = directory / "notices"
    try:
        with connect(target) as channel:
            Calls(ContainerManagerStub(channel)).run(bot_id, "sh", "-c", NUMBERED)
        with followed.open("wb") as out, notices.open("wb") as err:
            follower = subprocess.Popen(
                [sys.executable, "-m", "botctl", "logs", "-f", bot_id], env=environment(target), stdout=out, stderr=err
            )
        for number in (signal.SIGTERM, signal.SIGKILL):
            goes_on(followed)
            restarted(bot_id, target)
            goes_on(followed)
            server.terminate(number)
            server.wait()
            wait_until(lambda: notices.read_text().endswith("(Ctrl-C ends this)\n"), "it is told")
            server.close()
            server = ServerProcess(arguments, directory / "log")
            goes_on(followed)
        assert 0 == botctl(target, "stop", "--grace", "10s", bot_id).returncode
        kept = bots.engine.api.logs(f"botmaker-{bot_id}").splitlines()
        wait_until(lambda: followed.read_bytes().endswith(kept[-1] + b"\n"), "the last line has come")
        # When the container is removed, its log ends, and so does following it.
        assert 0 == botctl(target, "remove", bot_id).returncode
        assert 0 == follower.wait(60)
    finally:
        follower.kill()
        follower.wait()
        server.close()
    assert [f"line {number}".encode() for number in range(1, len(kept) + 1)] == kept
    assert kept == followed.read_bytes().splitlines()
    told = [line.partition(";")[0] for line in notices.read_text().splitlines()]
    assert ["botctl: the service is away", "botctl: the service is back"] * 2 == told


def goes_on(followed: Path) -> None:
    """Wait for more lines."""
    before = followed.stat().st_size
    wait_until(lambda: followed.stat().st_size > before + 500, "following goes on")


def test_a_table_that_is_watched_is_true_again_after_the_service_was_away(
    arguments: list[str], directory: Path, target: str, bots: Bots
) -> None:
    bot_id = bots.new()
    with server_process(arguments, directory / "log") as server, connect(target) as channel:
        Calls(ContainerManagerStub(channel)).run(bot_id, *FOREVER)
        with on_terminal(target, "watch", bot_id) as terminal, piped(target, "watch", bot_id) as lines:
            terminal.wait_for(rf"{bot_id[:8]} +running")
            assert lines.stdout is not None
            states = [lines.stdout.readline().decode().split("  ")[2].strip()]
            server.terminate()
            server.wait()
            terminal.wait_for("the service is away")
            bots.engine.api.stop(f"botmaker-{bot_id}", timeout=0)
            with server_process(arguments, directory / "log"):
                terminal.wait_for(rf"{bot_id[:8]} +exited \(1\d\d, killed\)")
                states.append(lines.stdout.readline().decode().split("  ")[2].strip())
                terminal.press_ctrl_c()
                assert 130 == terminal.wait()
    assert ("running", "exited") == (states[0], states[1].split()[0])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_refused_user_is_told_whether_a_token_or_a_group_is_missing(
    arguments: list[str], directory: Path, target: str, bots: Bots
) -> None:
    directory.chmod(0o755)
    # Another user may not read where Python and its packages lie, so everything is loaded before.
    as_nobody = (
        "import botctl, importlib, os, pkgutil, sys\n"
        "for module in pkgutil.walk_packages(botctl.__path__, 'botctl.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); botctl.program.botctl(sys.argv[1:])"
    )
    with server_process([*arguments, "--listen", "tcp://127.0.0.1:0"], directory / "log") as server:
        tcp = server.line.split()[-1]
        assert 0 == botctl(tcp, "list", BOTCTL_TOKEN_FILE=str(directory / "token")).returncode
        done = botctl(tcp, "start", bots.new())
        assert (5, True) == (done.returncode, "pass --token-file" in done.stderr)
        (directory / "wrong").write_text("wrong-token-of-a-test\n")
        done = botctl(tcp, "watch", "--token-file", str(directory / "wrong"))
        assert (5, True) == (done.returncode, "does not accept the token" in done.stderr)
        assert 1 == len(done.stderr.splitlines())
        done = subprocess.run(
            [sys.executable, "-c", as_nobody, "list"],
            env=environment(target),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert 5 == done.returncode, done.stderr
        assert f"no permission to open {directory}/run/s.sock: it is for its owner and group (root)" in done.stderr
        assert 1 == len(done.stderr.splitlines())
