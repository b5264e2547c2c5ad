"""The container that a create makes, read back from the engine field by field."""

from __future__ import annotations

import os
import socket
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backends.docker.docker_service import DockerService
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager.errors import StateUnavailableError
from container_manager.model import ContainerConfig
from container_manager_client import connect
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.serving import running_server
from tests.support.start_failure_contract import BuildImage
from tests.support.waiting import wait_until


def test_a_plain_container_is_golden(docker_service: DockerService, bots: Bots, test_image: str) -> None:
    bot_id = bots.new()
    typed = ContainerConfig(ai_provider="anthropic", ai_model="claude", channel_type="telegram", command=FOREVER)
    docker_service.create_container(bot_id, replace(typed, environment={"LOG_LEVEL": "debug"}))
    inspected = bots.inspect(bot_id)
    config, host = inspected["Config"], inspected["HostConfig"]
    assert f"/botmaker-{bot_id}" == inspected["Name"]
    image_labels = bots.engine.images.get(test_image).labels
    labels = config["Labels"]
    uuid.UUID(labels.pop("botmaker.create-id"))
    assert {"botmaker.managed": "true", "botmaker.bot-id": bot_id, **image_labels} == labels
    assert config["StopTimeout"] == 10
    assert bot_id == config["Hostname"]
    assert test_image == config["Image"]
    assert list(FOREVER) == config["Cmd"]
    ours = [item for item in config["Env"] if not item.startswith("PATH=")]
    assert [
        f"BOT_ID={bot_id}",
        "AI_PROVIDER=anthropic",
        "AI_MODEL=claude",
        "CHANNEL_TYPE=telegram",
        "LOG_LEVEL=debug",
    ] == ours
    assert {"Name": "unless-stopped", "MaximumRetryCount": 0} == host["RestartPolicy"]
    assert host["NetworkMode"] == "bridge"
    assert not host["Binds"]
    secrets = {"Type": "bind", "Source": f"{bots.secrets_root}/{bot_id}", "Target": "/run/secrets", "ReadOnly": True}
    assert [secrets] == host["Mounts"]
    assert host["Init"] is True
    assert host["Privileged"] is False
    assert ["ALL"] == host["CapDrop"]
    assert not host["CapAdd"]
    assert ["no-new-privileges"] == host["SecurityOpt"]
    assert {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}} == host["LogConfig"]
    limits = ("Memory", "MemorySwap", "NanoCpus", "CpuQuota", "CpuShares", "BlkioWeight")
    assert [0] * len(limits) == [host[name] for name in limits]
    assert not host["PidsLimit"]
    assert host["PidMode"] == ""
    assert host["IpcMode"] == "private"
    assert host["CgroupnsMode"] == "private"
    assert host["UTSMode"] == ""
    assert host["UsernsMode"] == ""
    assert not host["PortBindings"]
    assert not host["Devices"]


def test_a_named_bot_has_its_name_as_host_name_and_label_beside_the_callers_labels(
    calls: Calls, bots: Bots, build_image: BuildImage
) -> None:
    image = build_image("LABEL team=red app=openclaw botmaker.bot-hostname=berta")
    named, unnamed = bots.new(), bots.new()
    calls.run(named, *FOREVER, image=image, hostname="Anna-7", labels={"team": "blue", "app": "openclaw"})
    calls.create(unnamed, *FOREVER, image=image)
    config = bots.inspect(named)["Config"]
    assert ("Anna-7", "Anna-7") == (config["Hostname"], config["Labels"]["botmaker.bot-hostname"])
    assert {"team": "blue", "app": "openclaw"}.items() <= config["Labels"].items()
    (container,) = (each for each in bots.containers() if each.name == f"botmaker-{named}")
    assert container.exec_run(["hostname"]).output == b"Anna-7\n"
    shown, other = calls.status(named), calls.status(unnamed)
    assert shown is not None
    assert other is not None
    # What the image has too is not the caller's own.
    assert ("Anna-7", {"team": "blue"}) == (shown.hostname, dict(shown.labels))
    assert ("", {}) == (other.hostname, dict(other.labels))


def test_the_host_name_is_the_same_when_the_container_is_made_anew(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    names = []
    for _ in range(2):
        calls.run(bot_id, *FOREVER)
        (container,) = bots.containers()
        names.append(container.exec_run(["hostname"]).output.decode().strip())
        calls.remove(bot_id, grace=0)
    assert [bot_id] * 2 == names


def test_a_health_check_of_the_callers_replaces_the_images_and_shows_in_the_status(
    calls: Calls, bots: Bots, build_image: BuildImage
) -> None:
    image = build_image("HEALTHCHECK --interval=1h --retries=9 CMD true")
    bot_id, plain = bots.new(), bots.new()
    check = pb.HealthCheck(
        command=["test", "-e", "/tmp/well"],
        interval=Duration(seconds=1),
        timeout=Duration(seconds=5),
        start_period=Duration(nanos=1_000_000),
        retries=1,
    )
    calls.run(bot_id, *FOREVER, image=image, health_check=check)
    calls.create(plain, *FOREVER)
    healthcheck = bots.inspect(bot_id)["Config"]["Healthcheck"]
    assert {
        "Test": ["CMD", "test", "-e", "/tmp/well"],
        "Interval": 10**9,
        "Timeout": 5 * 10**9,
        "StartPeriod": 10**6,
        "Retries": 1,
    } == healthcheck
    assert "Healthcheck" not in bots.inspect(plain)["Config"]
    wait_until(lambda: calls.listed([bot_id])[0].health == pb.HEALTH_STATUS_UNHEALTHY, "it is unhealthy")
    (container,) = (each for each in bots.containers() if each.name == f"botmaker-{bot_id}")
    container.exec_run(["touch", "/tmp/well"])
    wait_until(lambda: calls.listed([bot_id])[0].health == pb.HEALTH_STATUS_HEALTHY, "it is healthy")


def test_init_is_process_1_and_privileges_cannot_be_gained(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *FOREVER)
    container = bots.containers()[0]
    assert b"init" in container.exec_run(["cat", "/proc/1/comm"]).output
    status = dict(
        line.split(":\t", 1) for line in container.exec_run(["cat", "/proc/1/status"]).output.decode().splitlines()
    )
    assert status["CapEff"] == status["CapBnd"] == "0000000000000000"
    assert status["NoNewPrivs"] == "1"


def test_a_bot_sees_no_control_group_of_the_host_and_shares_no_memory_with_other_containers(
    calls: Calls, bots: Bots
) -> None:
    """On cgroup v1, the engine's default is the host's namespace, where a bot's paths show the engine's own names."""
    for bot_id in (bots.new(), bots.new()):
        calls.run(bot_id, *FOREVER)
    one, other = bots.containers()
    groups = one.exec_run(["cat", "/proc/1/cgroup"]).output.decode().split()
    assert {"/"} == {line.rpartition(":")[2] for line in groups}
    assert one.exec_run(["touch", "/dev/shm/seen"]).exit_code == 0
    assert one.exec_run(["ls", "/dev/shm"]).output == b"seen\n"
    assert other.exec_run(["ls", "/dev/shm"]).output == b""


def test_the_engine_stops_a_bot_with_the_services_default_grace(bots: Bots, service_config: BackendConfig) -> None:
    """A stop without a time-out takes the container's own, as the engine's shutdown does.

    It is longer than the engine's default of 10 s, so that no slow machine can be taken for it.
    """
    service = DockerService(replace(service_config, grace_seconds=10.2))
    bot_id = bots.new()
    service.create_container(bot_id, ContainerConfig(command=("sh", "-c", "trap '' TERM; while :; do sleep 1; done")))
    service.start_container(bot_id)
    service.close()
    assert bots.inspect(bot_id)["Config"]["StopTimeout"] == 11
    begun = time.monotonic()
    bots.engine.api.stop(f"botmaker-{bot_id}")
    assert time.monotonic() - begun >= 11
    assert bots.inspect(bot_id)["State"]["ExitCode"] == 137


def test_limits_are_none_unless_set_and_then_exact(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    limits = pb.ResourceLimits(memory_bytes=64 * 1024 * 1024, nano_cpus=500_000_000, pids_limit=32)
    calls.run(bot_id, *FOREVER, resources=limits)
    host = bots.inspect(bot_id)["HostConfig"]
    assert limits.memory_bytes == host["Memory"] == host["MemorySwap"]
    assert limits.nano_cpus == host["NanoCpus"]
    assert limits.pids_limit == host["PidsLimit"]


def test_a_published_port_is_bound_on_loopback_and_shown_as_bound(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    serve = ("sh", "-c", "echo hello > /tmp/index.html; exec httpd -f -p 8080 -h /tmp")
    calls.run(bot_id, *serve, ports=[pb.PortBinding(container_port=8080), pb.PortBinding(container_port=9, protocol=2)])
    status = calls.status(bot_id)
    assert status is not None
    udp, tcp = status.ports
    assert (udp.container_port, udp.protocol, udp.host_ip) == (9, pb.PROTOCOL_UDP, "127.0.0.1")
    assert (tcp.container_port, tcp.protocol, tcp.host_ip) == (8080, pb.PROTOCOL_TCP, "127.0.0.1")
    with socket.create_connection(("127.0.0.1", tcp.host_port), timeout=5):
        pass
    assert tcp.host_port == int(bots.inspect(bot_id)["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"])


def test_a_port_is_published_on_every_address_if_the_caller_asks_for_it(calls: Calls, bots: Bots) -> None:
    """On each family of addresses by itself."""
    bot_id = bots.new()
    ports = [pb.PortBinding(container_port=8080, host_ip=address) for address in ("0.0.0.0", "::")]
    calls.create(bot_id, *FOREVER, ports=ports)
    bound = bots.inspect(bot_id)["HostConfig"]["PortBindings"]
    assert ["0.0.0.0", "::"] == [each["HostIp"] for each in bound["8080/tcp"]]
    bot_id = bots.new()
    calls.run(bot_id, *FOREVER, ports=ports[:1])
    status = calls.status(bot_id)
    assert status is not None
    assert ["0.0.0.0"] == [port.host_ip for port in status.ports]


def test_networks_by_name_none_and_a_user_defined_one(calls: Calls, bots: Bots, test_labels: dict[str, str]) -> None:
    alone, together = bots.new(), bots.new()
    network = bots.engine.networks.create(f"botmaker-test-{together[:8]}", labels=test_labels)
    try:
        calls.create(alone, *FOREVER, network="none")
        calls.run(together, *FOREVER, network=network.name, extra_hosts={"engine.internal": "host-gateway"})
        assert bots.inspect(alone)["HostConfig"]["NetworkMode"] == "none"
        assert [network.name] == list(bots.inspect(together)["NetworkSettings"]["Networks"])
        assert b"engine.internal" in bots.containers()[-1].exec_run(["cat", "/etc/hosts"]).output
    finally:
        bots.remove_all()
        network.remove()


def test_the_hosts_network_is_refused_also_by_its_id(calls: Calls, bots: Bots) -> None:
    host_network_id = bots.engine.networks.list(names=["host"])[0].id
    for network in ("host", "container:abc", host_network_id, host_network_id[:12]):
        with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
            calls.create(bots.new(), *FOREVER, network=network)
    assert bots.containers() == []


def test_no_secret_is_in_inspect_list_or_log(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    secret = f"secret-{bot_id}"
    (bots.secrets_root / bot_id / "API_KEY").write_text(secret)
    calls.run(bot_id, *FOREVER)
    assert secret not in str(bots.inspect(bot_id))
    assert secret not in str(calls.listed([bot_id]))
    assert secret.encode() not in bots.containers()[0].logs()


@pytest.fixture
def state_root(tmp_path: Path) -> Path:
    """A state root."""
    return tmp_path


def test_with_a_state_root_the_bot_has_a_state_directory_that_outlives_its_container(
    bots: Bots, service_config: BackendConfig, session_dir: Path, state_root: Path
) -> None:
    config = replace(service_config, state_root=RootDirectory(state_root, state_root))
    bot_id = bots.new()
    server = ServerConfig(service=config, listen=(f"unix://{session_dir}/state/s.sock",))
    with running_server(server) as addresses, connect(addresses[0]) as channel:
        calls = Calls(ContainerManagerStub(channel))
        calls.create(bot_id, *FOREVER)
        mounts = {mount["Target"]: mount for mount in bots.inspect(bot_id)["HostConfig"]["Mounts"]}
        state = {"Type": "bind", "Source": f"{state_root}/{bot_id}", "Target": "/home/node/.openclaw"}
        assert state == {key: value for key, value in mounts["/home/node/.openclaw"].items() if key != "ReadOnly"}
        assert not mounts["/home/node/.openclaw"].get("ReadOnly")
        made = (state_root / bot_id).stat()
        assert made.st_mode & 0o777 == 0o700
        assert made.st_uid == (1000 if os.geteuid() == 0 else os.geteuid())
        (state_root / bot_id / "memory").write_text("kept")
        calls.remove(bot_id)
        calls.create(bot_id, *FOREVER)
        assert (state_root / bot_id / "memory").read_text() == "kept"


def test_a_state_directory_that_is_a_link_is_refused(
    bots: Bots, service_config: BackendConfig, state_root: Path
) -> None:
    service = DockerService(replace(service_config, state_root=RootDirectory(state_root, state_root)))
    bot_id, other = bots.new(), bots.new()
    (state_root / other).mkdir()
    (state_root / bot_id).symlink_to(state_root / other)
    with pytest.raises(StateUnavailableError):
        service.create_container(bot_id, ContainerConfig(command=FOREVER))
    service.close()
    assert bots.containers() == []


def test_the_engine_mounts_the_secrets_from_where_it_sees_them(
    bots: Bots, service_config: BackendConfig, tmp_path: Path
) -> None:
    """When the service runs in a container, its path of the directory differs from the host's."""
    inside = tmp_path / "inside"
    inside.symlink_to(bots.secrets_root)
    service = DockerService(replace(service_config, secrets_root=RootDirectory(inside, bots.secrets_root)))
    bot_id = bots.new()
    service.create_container(bot_id, ContainerConfig(command=FOREVER))
    service.close()
    assert [f"{bots.secrets_root}/{bot_id}"] == [m["Source"] for m in bots.inspect(bot_id)["HostConfig"]["Mounts"]]
