"""Conformance 9: a start that the engine rejects is reported with its reason, and happens once."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import docker.errors
import grpc
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager.backends.docker.docker_service import DockerService
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig
from container_manager.doctor import Verdict
from container_manager.doctor.engine_checks import check_engine
from container_manager.errors import CommandNotFoundError, StartFailedError
from container_manager.model import ContainerConfig, ExitReason
from dev.engine import PrivateEngine
from dev.images import ensure_test_image
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.engine_proxy import EngineProxy
from tests.support.start_failure_contract import BuildImage, StartFailureContract
from tests.unit.documents import BOT


class TestStartFailure(StartFailureContract):
    """With the fixtures of the real engine."""


def test_the_status_and_the_error_have_the_engines_own_text(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.create(bot_id, "no-such-command")
    with fails_with("FAILED_PRECONDITION", "COMMAND_NOT_FOUND") as caught:
        calls.start(bot_id)
    status = calls.status(bot_id)
    assert status is not None
    assert status.error == bots.inspect(bot_id)["State"]["Error"]
    assert status.error in caught[0].message


def test_conformance_09_exactly_one_start_reaches_the_engine(
    bots: Bots, service_config: BackendConfig, session_dir: Path
) -> None:
    with EngineProxy(service_config.docker_host, session_dir / "proxy.sock") as proxy:
        service = DockerService(BackendConfig(**{**vars(service_config), "docker_host": proxy.url}))
        bot_id = bots.new()
        service.create_container(bot_id, ContainerConfig(command=("no-such-command",)))
        with pytest.raises(CommandNotFoundError):
            service.start_container(bot_id)
        service.close()
        starts = [line for line in proxy.requests if "/start" in line]
    assert len(starts) == 1


def test_a_command_in_the_images_path_and_working_directory_is_found(
    calls: Calls, bots: Bots, build_image: BuildImage
) -> None:
    image = build_image(
        "ENV PATH=/opt/tool/bin:/bin\n"
        "RUN mkdir -p /opt/tool/bin && ln -s ../../../bin/busybox /opt/tool/bin/special "
        "&& printf '#!/bin/sh\\nexec sleep 1000\\n' > /opt/tool/run && chmod 755 /opt/tool/run\n"
        "WORKDIR /opt/tool"
    )
    for command in ("special", "./run", "/opt/tool/run"):
        bot_id = bots.new()
        calls.create(bot_id, command, image=image)
        assert bots.inspect(bot_id)["HostConfig"]["Init"] is True


def test_a_taken_port_is_port_in_use_and_the_container_starts_once_it_is_free(calls: Calls, bots: Bots) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        bot_id = bots.new()
        calls.create(bot_id, *FOREVER, ports=[pb.PortBinding(container_port=80, host_port=port)])
        with fails_with("FAILED_PRECONDITION", "PORT_IN_USE") as caught:
            calls.start(bot_id)
        assert caught[0].message.startswith(f"host port {port} of 127.0.0.1 is in use; ")
        status = calls.status(bot_id)
        assert status is not None
        assert status.exit_reason == pb.EXIT_REASON_START_FAILED
        assert caught[0].message.endswith(status.error)
    calls.start(bot_id)
    after = calls.status(bot_id)
    assert after is not None
    assert after.state == pb.CONTAINER_STATE_RUNNING
    assert after.error == ""
    assert [port] == [binding.host_port for binding in after.ports]


@pytest.mark.parametrize(("address", "held_by"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("::1", "::")])
def test_a_port_that_another_bot_holds_is_told_by_its_number(
    calls: Calls, bots: Bots, address: str, held_by: str
) -> None:
    first, second = bots.new(), bots.new()
    calls.run(first, *FOREVER, ports=[pb.PortBinding(container_port=80, host_ip=held_by)])
    (bound,) = calls.listed([first])[0].ports
    wanted = pb.PortBinding(container_port=80, host_port=bound.host_port, host_ip=address)
    calls.create(second, *FOREVER, ports=[wanted])
    with fails_with("FAILED_PRECONDITION", "PORT_IN_USE") as caught:
        calls.start(second)
    assert caught[0].message.startswith(f"host port {bound.host_port} of ")


@pytest.mark.parametrize(
    ("one", "other", "fits"),
    [
        ("0.0.0.0", "127.0.0.1", False),
        ("127.0.0.1", "0.0.0.0", False),
        ("::", "::1", False),
        ("::ffff:127.0.0.1", "127.0.0.1", False),
        ("0.0.0.0", "::", True),
        ("127.0.0.1", "::1", True),
        ("127.0.0.1", "127.0.0.2", True),
    ],
)
def test_two_bindings_of_one_port_are_refused_at_create_where_the_engine_could_not_start_them(
    calls: Calls, bots: Bots, one: str, other: str, fits: bool
) -> None:
    bot_id = bots.new()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ports = [pb.PortBinding(container_port=80, host_port=port, host_ip=address) for address in (one, other)]
    if fits:
        calls.run(bot_id, *FOREVER, ports=ports)
        return
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG") as caught:
        calls.create(bot_id, *FOREVER, ports=ports)
    assert "config.ports[1].host_port" in caught[0].message
    # The engine itself would refuse the start.
    bindings = {"80/tcp": [(one, port), (other, port)]}
    host_config = bots.engine.api.create_host_config(port_bindings=bindings)
    made = bots.engine.api.create_container(
        "botmaker-test/busybox:1",
        list(FOREVER),
        ports=[80],
        host_config=host_config,
        labels={"botmaker.bot-id": bot_id},
    )
    with pytest.raises(docker.errors.APIError):
        bots.engine.api.start(made["Id"])


def test_a_network_that_is_gone_is_start_failed_and_not_a_missing_container(
    calls: Calls, bots: Bots, test_labels: dict[str, str]
) -> None:
    bot_id = bots.new()
    network = bots.engine.networks.create(f"botmaker-test-{bot_id[:8]}", labels=test_labels)
    try:
        calls.create(bot_id, *FOREVER, network=network.name)
    finally:
        network.remove()
    with fails_with("FAILED_PRECONDITION", "START_FAILED"):
        calls.start(bot_id)


def test_an_engine_without_its_init_process_says_so_and_the_doctor_finds_it(tmp_path: Path) -> None:
    """The engine's text looks like that of a missing command."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for directory in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for program in Path(directory).iterdir():
            if program.name != "docker-init" and not (programs / program.name).is_symlink():
                (programs / program.name).symlink_to(program)
    dockerd = tmp_path / "dockerd"
    dockerd.write_text(f'#!/bin/sh\nPATH={programs} exec dockerd "$@"\n')
    dockerd.chmod(0o755)
    with PrivateEngine(tmp_path / "engine", dockerd=str(dockerd)) as engine:
        root = RootDirectory(tmp_path / "secrets", tmp_path / "secrets")
        config = BackendConfig(secrets_root=root, docker_host=engine.url, default_image=ensure_test_image(engine.url))
        (root.path / BOT).mkdir(parents=True)
        service = DockerService(config)
        service.create_container(BOT, ContainerConfig(command=FOREVER))
        with pytest.raises(StartFailedError) as caught:
            service.start_container(BOT)
        status = service.get_container_status(BOT)
        service.remove_container(BOT)
        service.close()
        findings = {finding.name: finding for finding in asyncio.run(check_engine(config)).findings}
    assert StartFailedError is type(caught.value)
    assert "a program of the engine itself" in str(caught.value)
    assert status is not None
    assert ExitReason.START_FAILED is status.exit_reason
    assert status.error in str(caught.value)
    assert Verdict.FAILED is findings["init process"].verdict


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        ("/bin/sleep/", {}),
        ("/" + "x" * 5_000, {}),
        ("sleep", {"PATH": ""}),
        ("none", {"PATH": "a" + ":a" * 5_000}),
    ],
)
def test_a_command_that_cannot_be_run_is_no_crash_loop(
    calls: Calls, bots: Bots, command: str, environment: dict[str, str]
) -> None:
    bot_id = bots.new()
    calls.create(bot_id, command, environment=environment)
    with pytest.raises(grpc.RpcError) as caught:
        calls.start(bot_id)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    status = calls.status(bot_id)
    assert status is not None
    assert (status.exit_reason, status.restart_count) == (pb.EXIT_REASON_START_FAILED, 0)
