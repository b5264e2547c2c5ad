"""The client in TypeScript: its own tests, and its programs on the real service and engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from container_manager.validation import is_bot_id
from container_manager_client.call_defaults import default_timeout
from container_manager_client.channel import SERVICE_CONFIG
from dev.node_client import NODE_CLIENT, Node, ensure_node_client
from tests.support.bots import NODE_UID, Bots
from tests.support.calls import FOREVER, Calls
from tests.support.certificates import Authority, put, server_files
from tests.support.serving import ServerProcess

# The first test may have to install Node, the packages and the compiler.
pytestmark = pytest.mark.timeout(600)

UID, MEMBERS = 65_533, 54_322
COUNTS = ("sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done")
# Like the bot image, it has a program that reloads its secrets.
RELOADABLE = {
    "command": [
        *("sh", "-c"),
        """printf '#!/bin/sh\\necho "{\\"confirmed\\": [\\"GATEWAY_TOKEN\\"]}"\\n' >/tmp/node
        chmod 755 /tmp/node; echo ready; exec sleep 100000""",
    ],
    "environment": {"PATH": "/tmp:/bin"},
}
Answers = dict[str, Callable[..., str]]


@pytest.fixture(scope="module")
def node() -> Node:
    """Node, with the client built."""
    return ensure_node_client()


class Service:
    """The service as a process, which can be restarted."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.state_root = log.parent / "state"
        self._arguments = arguments
        self._log = log
        self.process = ServerProcess(arguments, log)

    @property
    def targets(self) -> list[str]:
        """Where it serves."""
        return self.process.line.partition(" serving on ")[2].split()

    def stop(self) -> None:
        """Shut it down."""
        self.process.terminate()
        assert 0 == self.process.wait()
        self.process.close()

    def start(self) -> None:
        """Start it again."""
        self.process = ServerProcess(self._arguments, self._log)


@pytest.fixture(scope="module")
def directory(session_dir: Path) -> Iterator[Path]:
    """For the socket, the state root, the token and the log."""
    with tempfile.TemporaryDirectory(prefix="n", dir=session_dir) as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture(scope="module")
def serve(engine_url: str, secrets_root: Path, directory: Path, test_image: str) -> Iterator[Callable[..., Service]]:
    """Starts services with these and further options, and ends them."""
    served: list[Service] = []

    def start(*further: str) -> Service:
        options = {
            "--docker-host": engine_url,
            "--secrets-root": str(secrets_root),
            "--default-image": test_image,
            "--token-file": str(directory / "token"),
        }
        served.append(Service([*(part for pair in options.items() for part in pair), *further], directory / "log"))
        return served[-1]

    yield start
    for service in served:
        service.process.close()


@pytest.fixture(scope="module")
def service(serve: Callable[..., Service], directory: Path) -> Service:
    """On a unix socket that belongs to a group, and on TCP; with a state root."""
    state_root = directory / "state"
    state_root.mkdir(mode=0o711)
    group = MEMBERS if os.geteuid() == 0 else os.getegid()
    listen = ("--listen", f"unix://{directory}/run/s.sock", "--listen", "tcp://127.0.0.1:0")
    return serve(*listen, "--state-root", str(state_root), "--socket-group", str(group))


def bots_in(root: Path) -> set[str]:
    """The bots that have a directory. The service has some of its own beside them."""
    return {path.name for path in root.iterdir() if is_bot_id(path.name)}


def run(node: Node, program: str, *arguments: str, answers: Answers | None = None) -> None:
    """Run a program of the client's tests, and answer each line that it prints."""
    command = [node.program, str(NODE_CLIENT / "dist" / "test" / "service" / f"{program}.js"), *arguments]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, env=node.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            asked, *words = line.rstrip("\n").split(" ", 2)
            process.stdin.write(f"{(answers or {})[asked](*words)}\n")
            process.stdin.flush()
        code = process.wait()
        errors.seek(0)
        assert 0 == code, errors.read()


def test_the_clients_own_tests_pass(node: Node) -> None:
    """Retries and deadlines, never a second start; errors decoded; watches and logs that resume."""
    tests = [str(path) for path in sorted((NODE_CLIENT / "dist" / "test").glob("*.test.js"))]
    done = subprocess.run(
        [node.program, "--test", *tests], env=node.environment, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stdout
    assert 2 == len(tests)


def test_the_client_has_every_service_of_the_contract() -> None:
    proto = NODE_CLIENT.parents[1] / "proto"
    client = (NODE_CLIENT.parents[1] / "examples" / "node_client" / "proto" / "client.proto").read_text()
    files = sorted(path.relative_to(proto).as_posix() for path in proto.rglob("*.proto"))
    assert files == [name for name in re.findall(r'^import "(.*)";$', client, re.MULTILINE) if name in files]


def test_the_clients_deadlines_and_retries_are_those_of_the_python_client(node: Node) -> None:
    program = str(NODE_CLIENT / "dist" / "test" / "service" / "defaults.js")
    printed = subprocess.run([node.program, program], env=node.environment, capture_output=True, check=True).stdout
    timeouts = {
        f"/{service.full_name}/{method.name}": default_timeout(method.input_type._concrete_class())
        for file in (maintainer_pb, pb, observer_pb, provisioner_pb)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if not method.server_streaming
    }
    assert {"timeouts": timeouts, "serviceConfig": json.loads(SERVICE_CONFIG)} == json.loads(printed)


@pytest.mark.parametrize("listener", ["unix", "tcp"])
def test_a_bots_life_over_a_unix_socket_and_over_tcp_with_a_token(
    listener: str, node: Node, service: Service, directory: Path, bots: Bots
) -> None:
    (target,) = (each for each in service.targets if each.startswith(listener))
    run(node, "lifecycle", target, bots.new(), *([] if listener == "unix" else [str(directory / "token")]))
    assert [] == bots.containers()


def test_a_bots_life_over_tls(node: Node, serve: Callable[..., Service], directory: Path, bots: Bots) -> None:
    authority = Authority()
    server = server_files(directory, authority)
    tls = ("--tls-cert", str(server.cert), "--tls-key", str(server.key), "--tls-client-ca", str(server.client_ca))
    (target,) = serve("--listen", "tcp://127.0.0.1:0", *tls).targets
    client = authority.client()
    files = {"ca": client.ca, "client-cert": client.cert, "client-key": client.key}
    for name, content in files.items():
        assert isinstance(content, bytes)
        put(directory / name, content)
    run(node, "lifecycle", target, bots.new(), str(directory / "token"), *(str(directory / name) for name in files))


def test_a_watch_and_a_log_lose_and_repeat_nothing_across_restarts_of_the_service_and_of_the_bot(
    node: Node, service: Service, bots: Bots, calls: Calls
) -> None:
    writing, other = bots.new(), bots.new()
    calls.run(writing, *COUNTS)
    calls.run(other, *FOREVER)

    def restart_service(*_: str) -> str:
        service.stop()
        bots.engine.containers.get(f"botmaker-{other}").remove(force=True)
        service.start()
        return "restarted"

    def log(bot_id: str) -> str:
        written = bots.engine.containers.get(f"botmaker-{bot_id}").logs()
        return json.dumps(written.decode().splitlines())

    run(
        node,
        "follow",
        service.targets[0],
        writing,
        other,
        answers={"restart-service": restart_service, "log": log},
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_botmakers_api_tier_does_is_done_by_a_user_whose_only_right_is_the_sockets_group(
    node: Node, service: Service, engine_url: str, bots: Bots, calls: Calls
) -> None:
    """Write secrets, create, start, list, stats, rotate a key, stop, delete, orphans after a restart."""
    tenant = str(uuid.uuid4())
    of_another = bots.new()
    calls.run(of_another, *FOREVER, labels={"tenant": "another"})
    containers = bots.engine.containers
    states = bots_in(service.state_root)

    def restart_service() -> str:
        service.stop()
        service.start()
        return "restarted"

    def in_bot(bot_id: str, command: str) -> str:
        bots.wait_for_log(bot_id, b"ready")
        done = containers.get(f"botmaker-{bot_id}").exec_run(command, user=str(NODE_UID))
        return done.output.decode()

    run(
        node,
        "botmaker",
        service.targets[0],
        *(str(UID), str(MEMBERS)),
        *(str(bots.secrets_root), engine_url.removeprefix("unix://")),
        *(tenant, json.dumps(RELOADABLE)),
        answers={"restart-service": restart_service, "in-bot": in_bot},
    )
    assert [] == containers.list(all=True, filters={"label": f"tenant={tenant}"})
    assert {of_another} == bots_in(bots.secrets_root)
    assert states == bots_in(service.state_root)
    assert "running" == containers.get(f"botmaker-{of_another}").status
