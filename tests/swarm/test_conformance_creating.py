"""The promises of the contract on a swarm: how bots are created, and what they look like."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backends.swarm.backend import SwarmBackend
from container_manager.config import BackendConfig, ServerConfig, SwarmConfig
from container_manager_client import connect, error_info
from dev.swarm import SwarmBed
from tests.support.bots import GATEWAY_TOKEN
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.hanging_pull_contract import HangingPullContract
from tests.support.health_calls import probe
from tests.support.serving import running_server
from tests.support.swarm_bots import SwarmBots
from tests.support.swarm_containers import container_of
from tests.support.swarm_service import swarm_calls
from tests.support.waiting import wait_until

Json = dict[str, Any]
SILENT = """import socket, sys, time
listener = socket.create_server((sys.argv[1], 0))
print(listener.getsockname()[1], flush=True)
time.sleep(600)"""
CLOSED = "10.219.0.1:5999"  # beside the registry, where nothing listens


def test_conformance_01_status_list_manager_and_the_container_on_its_node_agree(
    session_bed: SwarmBed, bots: SwarmBots, calls: Calls, swarm_image: str
) -> None:
    """Also the rows of the contract's golden container: which of them hold, and how the others differ."""
    bot_id, create_labels = bots.new(), {"team": "blue"}
    config: Json = {
        "ai_provider": "anthropic",
        "ai_model": "claude",
        "channel_type": "telegram",
        "environment": {"LOG_LEVEL": "debug"},
        "extra_hosts": {"api": "10.0.0.7"},
        "labels": create_labels,
        "resources": pb.ResourceLimits(nano_cpus=500_000_000, pids_limit=64),
    }
    container_id = calls.create(bot_id, *FOREVER, request_id="wish", **config)
    status = calls.status(bot_id)
    assert status is not None
    assert [status] == calls.listed([bot_id])
    (service,) = bots.services()
    spec = service["Spec"]
    assert (container_id, f"botmaker-{bot_id}") == (service["ID"], spec["Name"])
    assert (container_id, spec["Name"], swarm_image) == (status.container_id, status.name, status.image)
    assert f"{swarm_image}@{status.image_id}" == spec["TaskTemplate"]["ContainerSpec"]["Image"]
    assert {"wish", bot_id} <= set(spec["Labels"].values())
    uuid.UUID(spec["Labels"]["botmaker.create-id"])

    calls.start(bot_id)
    container = container_of(session_bed, bots, bot_id)
    running = calls.status(bot_id)
    assert running is not None
    assert container.node.name == running.node
    assert [status.image_id] == container.image_digests()
    document = container.inspect()
    own, host = document["Config"], document["HostConfig"]
    own["Env"] = [each for each in own["Env"] if not each.startswith("PATH=")]
    holds = {
        "Hostname": bot_id,
        "Cmd": list(FOREVER),
        "Env": [
            f"BOT_ID={bot_id}",
            "AI_PROVIDER=anthropic",
            "AI_MODEL=claude",
            "CHANNEL_TYPE=telegram",
            "LOG_LEVEL=debug",
        ],
    }
    assert holds == {key: own.get(key) for key in holds}
    assert {**create_labels, "botmaker.managed": "true", "botmaker.bot-id": bot_id}.items() <= own["Labels"].items()
    host_holds = {
        "NetworkMode": "bridge",
        "Init": True,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "UsernsMode": "",
        "NanoCpus": 500_000_000,
        "PidsLimit": 64,
        "Memory": 0,
    }
    assert host_holds == {key: host.get(key) for key in host_holds}
    assert not host["CapAdd"]
    assert not host["Binds"]
    assert not host["Devices"]
    assert not host["PortBindings"]
    mounts = [(each["Type"], each["Source"], each["Destination"], each["RW"]) for each in document["Mounts"]]
    assert [("bind", f"{session_bed.shared}/{bot_id}", "/home/node/.openclaw", True)] == mounts
    assert GATEWAY_TOKEN not in str(document)
    # The swarm names containers; it starts them again, and stops them with the grace period, by itself.
    assert document["Name"].startswith(f"/botmaker-{bot_id}.1.")
    assert host["RestartPolicy"]["Name"] in ("", "no")
    assert own.get("StopTimeout") is None
    modern = tuple(map(int, bots.api.version()["ApiVersion"].split("."))) >= (1, 44)
    assert (["no-new-privileges=true"] if modern else None) == host["SecurityOpt"]
    # Where the service does not give it, as on 20.10, each node's daemon has to.
    assert (0, "NoNewPrivs:\t1\n") == container.run("grep", "NoNewPrivs", "/proc/self/status")


def test_conformance_10_registries_errors_have_their_own_reasons(
    session_bed: SwarmBed, bots: SwarmBots, calls: Calls, swarm_image: str
) -> None:
    bot_id = bots.new()
    for image, code, reason in (
        (f"{session_bed.registry}/bots/none:1", "FAILED_PRECONDITION", "IMAGE_NOT_FOUND"),
        (f"{CLOSED}/bots/any:1", "UNAVAILABLE", "IMAGE_REGISTRY_UNAVAILABLE"),
        ("a b", "INVALID_ARGUMENT", "INVALID_IMAGE_REFERENCE"),
    ):
        with fails_with(code, reason):
            calls.create(bot_id, *FOREVER, image=image)
    assert bots.containers() == []
    calls.create(bot_id, *FOREVER, image=swarm_image)


def test_conformance_11_a_failed_and_a_cancelled_create_leave_nothing_and_the_next_one_succeeds(
    bots: SwarmBots, calls: Calls
) -> None:
    bot_id = bots.new()
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        calls.create(bot_id, *FOREVER, network="no-such-network")
    assert bots.containers() == []
    for after in (0.002, 0.01, 0.02, 0.04, 0.08):
        with suppress(grpc.RpcError):
            calls.create(bot_id, *FOREVER, timeout=after)
        calls.stop(bot_id)  # waits for the bot's turn
        assert len(bots.services()) in (0, 1)
        calls.remove(bot_id)
        assert bots.containers() == []
    calls.create(bot_id, *FOREVER)


@pytest.fixture
def silent_registry(session_bed: SwarmBed) -> Iterator[str]:
    """Beside the swarm's registry, one that accepts connections and never answers."""
    host = session_bed.registry.partition(":")[0]
    with subprocess.Popen(
        [*session_bed.enter_switch, sys.executable, "-c", SILENT, host], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        yield f"{host}:{process.stdout.readline().decode().strip()}"
        process.kill()


class TestHangingPull(HangingPullContract):
    """With the fixtures of this directory."""


@pytest.mark.slow
def test_conformance_11_a_hundred_remove_create_cycles(bots: SwarmBots, calls: Calls) -> None:
    bot_id = bots.new()
    ids = set()
    for _ in range(100):
        ids.add(calls.create(bot_id, *FOREVER))
        calls.remove(bot_id)
    assert 100 == len(ids)
    assert bots.containers() == []


@pytest.mark.slow
def test_conformance_16_without_a_manager_it_is_unavailable_and_not_serving_and_the_list_is_true_when_it_is_back(
    bed: SwarmBed, bots: SwarmBots, swarm_service: BackendConfig, swarm_config: SwarmConfig, session_dir: Path
) -> None:
    config = ServerConfig(service=swarm_service, swarm=swarm_config, listen=(f"unix://{session_dir}/away/s.sock",))
    backend = partial(SwarmBackend, swarm_service, swarm_config)
    with running_server(config, backend=backend) as (address,), connect(address) as channel:
        calls, bot_id = Calls(ContainerManagerStub(channel)), bots.new()
        calls.run(bot_id, *FOREVER)
        before = calls.status(bot_id)
        bed.nodes[0].kill_engine()
        wait_until(lambda: probe(channel) == health_pb2.HealthCheckResponse.NOT_SERVING, "it is not serving")
        # The view bears a manager that is away for some seconds.
        wait_until(lambda: problem_of(calls.list), "the list is refused")
        assert "ENGINE_UNAVAILABLE" == problem_of(calls.list)
        bed.nodes[0].start_engine()
        wait_until(lambda: probe(channel) == health_pb2.HealthCheckResponse.SERVING, "it is serving")
        after = wait_until(lambda: running(calls, bot_id), "the bot runs")
        assert before is not None
        assert before.container_id == after.container_id
        assert [after] == calls.listed([bot_id])


def problem_of(call: Callable[[], object]) -> str:
    """The reason of the error that it raises; empty: none."""
    try:
        call()
    except grpc.RpcError as exc:
        return error_info(exc).reason
    return ""


def running(calls: Calls, bot_id: str) -> pb.ContainerStatus | None:
    status = calls.status(bot_id)
    return status if status is not None and status.state == pb.CONTAINER_STATE_RUNNING else None


def test_what_a_swarm_cannot_keep_is_refused_with_its_field_and_makes_nothing(
    swarm_service: BackendConfig, bots: SwarmBots, session_dir: Path
) -> None:
    port = pb.PortBinding(container_port=80, host_port=18080, host_ip="127.0.0.1")
    refused: dict[str, Json] = {
        "config.ports[0].host_ip": {"ports": [port]},
        "config.network": {"network": "none"},
        "config.resources.memory_bytes": {"resources": pb.ResourceLimits(memory_bytes=64 << 20)},
    }
    bot_id = bots.new()
    swarm = SwarmConfig(allow_weaker=("no-new-privileges",))
    with swarm_calls(swarm_service, swarm, session_dir / "strict.sock") as calls:
        for field, config in refused.items():
            with fails_with("UNIMPLEMENTED", "NOT_SUPPORTED_BY_BACKEND") as caught:
                calls.create(bot_id, *FOREVER, **config)
            assert field == caught[0].metadata["field"]
    assert [] == bots.services()
