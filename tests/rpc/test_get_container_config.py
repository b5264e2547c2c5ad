"""GetContainerConfig: the configuration that would make a container again."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.errors import ConfigNotReproducibleError
from container_manager.rpc.manager_codec import config_from_proto, config_to_proto
from container_manager_client import connect
from tests.rpc.conftest import ServeOn
from tests.support.calls import Calls, fails_with
from tests.support.config_contract import ConfigContract, read_config
from tests.support.memory_backend import MemoryBackend, MemoryBots


@pytest.fixture
def full_config() -> pb.ContainerConfig:
    """Every field."""
    return pb.ContainerConfig(
        image="botmaker/openclaw@sha256:" + "0f" * 32,
        ai_provider="anthropic",
        ai_model="claude",
        channel_type="telegram",
        environment={"TZ": "UTC", "EMPTY": "", "EQ": "a=b"},
        ports=[
            pb.PortBinding(container_port=53, host_port=5353, host_ip="0.0.0.0", protocol=pb.PROTOCOL_UDP),
            pb.PortBinding(container_port=18789, host_ip="::1", protocol=pb.PROTOCOL_TCP),
        ],
        network="bots",
        extra_hosts={"engine.internal": "host-gateway", "six": "fd00::1"},
        command=["node", "--version", ""],
        resources=pb.ResourceLimits(memory_bytes=64 << 20, nano_cpus=500_000_000, pids_limit=32),
        health_check=pb.HealthCheck(
            command=["true"],
            interval=Duration(seconds=30, nanos=1),
            timeout=Duration(nanos=250_000_000),
            start_period=Duration(seconds=86_400),
            retries=5,
        ),
        hostname="Anna-7",
        labels={"team": "blue", "empty": ""},
    )


class TestConfig(ConfigContract):
    """With the fixtures of this directory."""


def test_the_wire_form_of_a_configuration_is_the_inverse_of_reading_it(full_config: pb.ContainerConfig) -> None:
    for config in (full_config, pb.ContainerConfig(), pb.ContainerConfig(health_check=pb.HealthCheck(command=["x"]))):
        assert config == config_to_proto(config_from_proto(config))


def test_equal_requests_have_their_variables_in_one_order() -> None:
    names = [f"V{number}" for number in range(20)]
    one = pb.ContainerConfig(environment=dict.fromkeys(names, ""))
    other = pb.ContainerConfig(environment=dict.fromkeys(reversed(names), ""))
    assert list(config_from_proto(one).environment) == list(config_from_proto(other).environment) == sorted(names)


def test_a_configuration_that_no_create_gives_is_refused_with_its_fields(
    calls: Calls, observer: ContainerObserverStub, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    calls.create(bot_id)
    problem = ConfigNotReproducibleError("settings: HostConfig.Binds", bot_id=bot_id, fields="HostConfig.Binds")
    memory.script("get_container_config", problem)
    with fails_with("FAILED_PRECONDITION", "CONFIG_NOT_REPRODUCIBLE") as caught:
        read_config(observer, bot_id)
    assert {"bot_id": bot_id, "fields": "HostConfig.Binds"} == dict(caught[0].metadata)


def test_a_foreign_container_is_not_read(
    memory: MemoryBackend, observer: ContainerObserverStub, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    memory.add(bot_id, managed=False)
    with fails_with("FAILED_PRECONDITION", "NAME_IN_USE_UNMANAGED"):
        read_config(observer, bot_id)


@pytest.mark.usefixtures("early_answers")
def test_the_callers_deadline_bounds_the_reading_of_a_configuration(
    calls: Calls, observer: ContainerObserverStub, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    calls.create(bot_id)
    with memory.held("get_container_config"), fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
        observer.GetContainerConfig(observer_pb.GetContainerConfigRequest(bot_id=bot_id), timeout=1.5)


def test_without_an_engine_the_configuration_is_unavailable(
    serve_on: ServeOn, unix: str, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    memory.go_away()
    with serve_on(unix) as (target,), connect(target) as channel, fails_with("UNAVAILABLE", "ENGINE_UNAVAILABLE"):
        read_config(ContainerObserverStub(channel), bot_id)


def test_reading_a_configuration_takes_the_place_of_a_read_and_not_of_a_change(
    serve_on: ServeOn, unix: str, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    with serve_on(unix, max_concurrent_calls=1) as (target,), connect(target) as channel:
        calls, observer = Calls(ContainerManagerStub(channel)), ContainerObserverStub(channel)
        calls.create(bot_id)
        with memory.held("get_container_config"):
            waiting = observer.GetContainerConfig.future(observer_pb.GetContainerConfigRequest(bot_id=bot_id))
            memory.await_calls("get_container_config")
            with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
                calls.list()
            calls.start(bot_id)
        assert waiting.result(timeout=60).image_id
