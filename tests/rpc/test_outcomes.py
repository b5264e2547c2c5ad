"""Faults of a backend and mistakes in requests: each reaches the caller with its code, reason and words."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager import errors
from container_manager.bot_directories import RootDirectory
from container_manager.config import ServerConfig
from container_manager.errors import ContainerManagerError, FieldViolation, InvalidArgumentError
from container_manager.model import ContainerState, ContainerStatus
from container_manager.rpc.manager_codec import status_to_proto
from container_manager_client import connect, error_info
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.serving import running_server

ERRORS = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, ContainerManagerError)]


@pytest.mark.usefixtures("without_notices")
def test_an_engine_that_is_gone_is_unavailable(rpc: Calls, memory: MemoryBackend, bot_id: str) -> None:
    memory.go_away()
    for call in (rpc.status, rpc.start, rpc.stop, rpc.restart, rpc.remove, rpc.create):
        with fails_with("UNAVAILABLE", "ENGINE_UNAVAILABLE") as caught:
            call(bot_id)
        assert "the containers in memory are away" == caught[0].message
    with fails_with("UNAVAILABLE", "ENGINE_UNAVAILABLE"):
        rpc.list()


@pytest.mark.parametrize("cls", ERRORS)
def test_every_error_of_a_backend_reaches_the_caller_with_its_code_reason_text_and_metadata(
    rpc: Calls, memory: MemoryBackend, bot_id: str, cls: type[ContainerManagerError]
) -> None:
    invalid = issubclass(cls, InvalidArgumentError)
    memory.script("start_container", cls(FieldViolation("field", "text")) if invalid else cls("text", bot_id=bot_id))
    with fails_with(cls.code, cls.reason) as caught:
        rpc.start(bot_id)
    info = caught[0]
    if invalid:
        assert ("field: text", (("field", "text"),)) == (info.message, info.field_violations)
    else:
        assert ("text", {"bot_id": bot_id}) == (info.message, info.metadata)


@pytest.mark.usefixtures("without_notices")
def test_an_engine_that_is_too_slow_is_told_before_the_callers_own_deadline(
    rpc: Calls, memory: MemoryBackend, bot_id: str
) -> None:
    with memory.held("get_container_status"):
        with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
            rpc.stub.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id), timeout=1)
        with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
            rpc.status(bot_id)  # without a deadline the backend's own time-out applies


def test_a_bug_is_internal_and_only_the_log_knows(
    rpc: Calls, memory: MemoryBackend, bot_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    memory.script("start_container", RuntimeError("the inside of the service"))
    with caplog.at_level(logging.ERROR), fails_with("INTERNAL", "INTERNAL_ERROR") as caught:
        rpc.start(bot_id)
    assert "inside" not in caught[0].message
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(logged) == 1
    assert logged[0].msg["exc_info"]


def test_every_error_carries_the_domain(rpc: Calls) -> None:
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    with pytest.raises(grpc.RpcError) as caught:
        rpc.start("no bot")
    status = rpc_status.from_call(caught.value)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("container.botmaker", "INVALID_BOT_ID")
    assert ("bot_id",) == tuple(field for field, _ in error_info(caught.value).field_violations)


def test_an_image_that_is_not_allowed_is_permission_denied(
    server_config: Callable[..., ServerConfig], rpc_secrets: RootDirectory, session_dir: Path, bot_id: str
) -> None:
    memory = MemoryBackend(rpc_secrets, allowed_images=("ghcr.io/openclaw/*",))
    config = server_config(f"unix://{session_dir}/allow/s.sock")
    with (
        running_server(config, backend=memory.opened) as addresses,
        connect(addresses[0]) as channel,
        fails_with("PERMISSION_DENIED", "IMAGE_NOT_ALLOWED"),
    ):
        Calls(ContainerManagerStub(channel)).create(bot_id, image="docker.io/evil/image:1")
    assert {} == memory.containers


@pytest.mark.usefixtures("without_notices")
def test_twenty_hung_statuses_of_one_bot_hold_up_no_other_bot_and_not_health(
    rpc: Calls, memory: MemoryBackend, bots: MemoryBots, grpc_channel: grpc.Channel
) -> None:
    bot_id, wedged = bots.new(), bots.new()
    memory.add(bot_id)
    with memory.held("get_container_status", wedged):
        hung = [rpc.stub.GetContainerStatus.future(pb.GetContainerStatusRequest(bot_id=wedged)) for _ in range(20)]
        memory.await_calls("get_container_status", 2)
        assert rpc.status(bot_id) is not None
        assert [bot_id] == [status.bot_id for status in rpc.list()]
        health = health_pb2_grpc.HealthStub(grpc_channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
    for call in hung:
        call.exception()


def test_five_thousand_containers_fit_one_list_within_the_default_message_limit() -> None:
    status = ContainerStatus(
        "f" * 64,
        "00000000-0000-4000-8000-000000000000",
        "botmaker-00000000-0000-4000-8000-000000000000",
        ContainerState.RUNNING,
        "botmaker/openclaw:1",
        "sha256:" + "f" * 64,
        create_time_ns=1_700_000_000_123_456_789,
        start_time_ns=1_700_000_001_123_456_789,
    )
    many = pb.ListManagedContainersResponse(containers=[status_to_proto(status)] * 5_000)
    assert many.ByteSize() < 4 * 1024 * 1024


BAD_CONFIGS: dict[str, dict[str, Any]] = {
    "environment name with =": {"environment": {"A=B": "x"}},
    "environment name with NUL": {"environment": {"A\0": "x"}},
    "empty environment name": {"environment": {"": "x"}},
    "reserved environment name": {"environment": {"AI_MODEL": "x"}},
    "environment value with NUL": {"environment": {"A": "x\0y"}},
    "port 0": {"ports": [pb.PortBinding(container_port=0)]},
    "port 70000": {"ports": [pb.PortBinding(container_port=70_000)]},
    "host port 70000": {"ports": [pb.PortBinding(container_port=1, host_port=70_000)]},
    "host ip": {"ports": [pb.PortBinding(container_port=1, host_ip="localhost; rm")]},
    "protocol": {"ports": [pb.PortBinding(container_port=1, protocol=99)]},
    "host network": {"network": "host"},
    "container network": {"network": "container:abc"},
    "network option": {"network": "-v"},
    "extra host": {"extra_hosts": {"a b": "1.2.3.4"}},
    "negative memory": {"resources": pb.ResourceLimits(memory_bytes=-1)},
    "provider with NUL": {"ai_provider": "a\0"},
    "command with NUL": {"command": ["a\0"]},
}


@pytest.mark.parametrize("config", BAD_CONFIGS)
def test_bad_configuration_is_told_by_field_and_reaches_no_backend(
    rpc: Calls, memory: MemoryBackend, bot_id: str, config: str
) -> None:
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG") as caught:
        rpc.stub.CreateContainer(
            pb.CreateContainerRequest(bot_id=bot_id, config=pb.ContainerConfig(**BAD_CONFIGS[config]))
        )
    assert caught[0].field_violations
    assert [] == memory.seen()


BAD_BOT_IDS = [
    "",
    "../" + "a" * 33,
    "7C9E6679-7425-40DE-944B-E07FC1F90AE7",
    "{7c9e6679-7425-40de-944b-e07fc1f90ae7}",
    "7c9e6679-7425-40de-944b-e07fc1f90ae7\n",
    "7c9e6679742540de944be07fc1f90ae7",
    "7c9e6679-7425-40de-944b-e07fc1f90ae\0",
    "x" * 10_240,
]


@pytest.mark.parametrize("bad", BAD_BOT_IDS)
def test_a_bad_bot_id_is_refused_by_every_verb_and_reaches_no_backend(
    rpc: Calls, memory: MemoryBackend, bad: str
) -> None:
    for call in (rpc.create, rpc.start, rpc.stop, rpc.restart, rpc.remove, rpc.status):
        with fails_with("INVALID_ARGUMENT", "INVALID_BOT_ID"):
            call(bad)
    assert [] == memory.seen()


@pytest.mark.parametrize("image", ["-v /:/host", "a b", "x" * 10_240, "image@sha256:short", "\0"])
def test_a_bad_image_is_refused_and_makes_nothing(rpc: Calls, memory: MemoryBackend, bot_id: str, image: str) -> None:
    with fails_with("INVALID_ARGUMENT", "INVALID_IMAGE_REFERENCE") as caught:
        rpc.create(bot_id, image=image)
    assert ("config.image",) == tuple(field for field, _ in caught[0].field_violations)
    assert {} == memory.containers


@pytest.mark.usefixtures("without_notices")
def test_conformance_13_statuses_answer_while_200_stops_wait(
    rpc: Calls, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_ids = [bots.new() for _ in range(200)]
    for bot_id in bot_ids:
        memory.add(bot_id)
    with memory.held("stop_container"):
        calls = [rpc.stub.StopContainer.future(pb.StopContainerRequest(bot_id=bot_id)) for bot_id in bot_ids]
        memory.await_calls("stop_container", 200)
        for bot_id in bot_ids[:50]:
            answer = rpc.stub.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id), timeout=60)
            assert answer.HasField("status")
        assert not any(call.done() for call in calls)
    assert [pb.StopContainerResponse()] * 200 == [call.result(timeout=60) for call in calls]


def test_a_deadline_that_has_passed_on_arrival_is_told_as_such(rpc: Calls, bot_id: str, memory: MemoryBackend) -> None:
    # Held, since gRPC rounds the time-out up: a stop may be fast enough.
    with memory.held("stop_container"), pytest.raises(grpc.RpcError) as caught:
        rpc.stub.StopContainer(pb.StopContainerRequest(bot_id=bot_id), timeout=1e-9)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
