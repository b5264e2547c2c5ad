"""The outcome table where a real engine does not get to: faults, each with its code, reason and words."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backends.docker.lifecycle import DockerLifecycle
from container_manager.backends.docker.status import status_from_inspect
from container_manager.config import ServerConfig
from container_manager.rpc.manager_codec import status_to_proto
from container_manager_client import connect, error_info
from tests.support.calls import Calls, fails_with
from tests.support.fake_engine import NO_CONTENT, Cut, FakeEngine, Hang, Json, error
from tests.support.serving import running_server
from tests.unit.documents import ID, inspected, running, state

GET = ("GET", "/containers/*/json")


@pytest.fixture
def own(fake: FakeEngine, bot_id: str) -> None:
    """The bot has a container that runs."""
    fake.on(*GET, Json(document(bot_id, running())))


def document(bot_id: str, engine_state: dict[str, Any]) -> dict[str, Any]:
    """The bot's container as the engine shows it."""
    labels = {"botmaker.managed": "true", "botmaker.bot-id": bot_id}
    return inspected(engine_state, name=f"/botmaker-{bot_id}", labels=labels)


def test_an_engine_that_is_gone_is_unavailable(rpc: Calls, fake: FakeEngine, bot_id: str) -> None:
    fake.socket_path.rename(fake.socket_path.with_suffix(".away"))
    try:
        for call in (rpc.status, rpc.start, rpc.stop, rpc.restart, rpc.remove, rpc.create):
            with fails_with("UNAVAILABLE", "ENGINE_UNAVAILABLE") as caught:
                call(bot_id)
            assert str(fake.socket_path) in caught[0].message
        with fails_with("UNAVAILABLE", "ENGINE_UNAVAILABLE"):
            rpc.list()
    finally:
        fake.socket_path.with_suffix(".away").rename(fake.socket_path)


@pytest.mark.usefixtures("own")
def test_an_engine_that_refuses_us_is_access_denied(rpc: Calls, fake: FakeEngine, bot_id: str) -> None:
    fake.on(*GET, error(403, "authorization denied by plugin"))
    with fails_with("FAILED_PRECONDITION", "ENGINE_ACCESS_DENIED") as caught:
        rpc.status(bot_id)
    assert "authorization denied by plugin" in caught[0].message


def test_an_engine_that_is_too_slow_is_told_before_the_callers_own_deadline(
    rpc: Calls, fake: FakeEngine, bot_id: str
) -> None:
    fake.on(*GET, Hang())
    with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
        rpc.stub.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id), timeout=1)
    with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
        rpc.status(bot_id)  # without a deadline the engine's own time-out applies


def test_one_container_that_hangs_on_inspect_holds_up_neither_the_list_nor_other_bots(
    rpc: Calls, fake: FakeEngine, bot_id: str
) -> None:
    wedged = "b" * 64
    row = {"Names": ["/wedged"], "State": "running", "Image": "i", "ImageID": "sha256:1", "Created": 1, "Labels": {}}
    fake.on("GET", "/containers/json", Json([{"Id": wedged, **row}, {"Id": ID, **row}]))
    fake.on("GET", f"/containers/{wedged}/json", Hang())
    fake.on("GET", f"/containers/{ID}/json", Json(document(bot_id, running())))
    fake.on("GET", f"/containers/botmaker-{bot_id}/json", Json(document(bot_id, running())))
    shown = rpc.list()
    assert {wedged, ID} == {status.container_id for status in shown}
    assert [pb.CONTAINER_STATE_RUNNING] * 2 == [status.state for status in shown]
    assert rpc.status(bot_id) is not None


@pytest.mark.usefixtures("own")
def test_an_engine_that_fails_is_unavailable_with_its_text(rpc: Calls, fake: FakeEngine, bot_id: str) -> None:
    fake.on("POST", "/containers/*/stop", error(500, "cannot stop container: permission denied"))
    with fails_with("UNAVAILABLE", "ENGINE_UNAVAILABLE") as caught:
        rpc.stop(bot_id)
    assert "cannot stop container: permission denied" in caught[0].message


def test_a_full_disk_is_capacity_exceeded(rpc: Calls, fake: FakeEngine, bot_id: str) -> None:
    fake.on("POST", "/containers/create", error(500, "mkdir /var/lib/docker/overlay2/x: no space left on device"))
    with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
        rpc.create(bot_id)


def test_a_connection_that_is_cut_on_start_is_told_and_no_start_is_sent_again(
    rpc: Calls, fake: FakeEngine, bot_id: str
) -> None:
    fake.on(*GET, Json(document(bot_id, state())))
    fake.on("POST", "/containers/*/start", Cut())
    with fails_with("UNAVAILABLE", "ENGINE_UNAVAILABLE"):
        rpc.start(bot_id)
    assert len(fake.seen("POST", "/containers/*/start")) == 1


def test_a_start_refused_amid_a_removal_is_invalid_state(rpc: Calls, fake: FakeEngine, bot_id: str) -> None:
    fake.on(*GET, Json(document(bot_id, state("removing"))))
    fake.on("POST", "/containers/*/start", error(409, "container is marked for removal and cannot be started"))
    with fails_with("FAILED_PRECONDITION", "INVALID_STATE"):
        rpc.start(bot_id)


def test_a_bug_is_internal_and_only_the_log_knows(
    rpc: Calls, bot_id: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the inside of the service")

    monkeypatch.setattr(DockerLifecycle, "get_container_status", broken)
    with caplog.at_level(logging.ERROR), fails_with("INTERNAL", "INTERNAL_ERROR") as caught:
        rpc.status(bot_id)
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


PULLS = {
    "manifest for bots/any:1 not found: manifest unknown": ("FAILED_PRECONDITION", "IMAGE_NOT_FOUND"),
    "pull access denied for bots/any, repository does not exist": ("FAILED_PRECONDITION", "IMAGE_PULL_DENIED"),
    "unexpected EOF": ("FAILED_PRECONDITION", "IMAGE_PULL_FAILED"),
    "dial tcp 127.0.0.1:1: connect: connection refused": ("UNAVAILABLE", "IMAGE_REGISTRY_UNAVAILABLE"),
}


@pytest.mark.parametrize("text", PULLS)
def test_a_failed_pull_is_told_with_the_engines_own_text(rpc: Calls, fake: FakeEngine, bot_id: str, text: str) -> None:
    fake.on("POST", "/containers/create", error(404, "No such image: bots/any:1"))
    fake.on("POST", "/images/create", error(500, text))
    with fails_with(*PULLS[text]) as caught:
        rpc.create(bot_id, image="bots/any:1")
    assert text in caught[0].message


def test_an_image_that_is_not_allowed_is_permission_denied(
    server_config: Callable[..., ServerConfig], fake: FakeEngine, session_dir: Path, bot_id: str
) -> None:
    config = server_config(f"unix://{session_dir}/allow/s.sock")
    config = replace(config, service=replace(config.service, allowed_images=("ghcr.io/openclaw/*",)))
    with (
        running_server(config) as addresses,
        connect(addresses[0]) as channel,
        fails_with("PERMISSION_DENIED", "IMAGE_NOT_ALLOWED"),
    ):
        Calls(ContainerManagerStub(channel)).create(bot_id, image="docker.io/evil/image:1")
    assert not fake.seen("POST", "/*")


def test_twenty_hung_statuses_of_one_bot_hold_up_no_other_bot_and_not_health(
    rpc: Calls, fake: FakeEngine, bot_id: str, grpc_channel: grpc.Channel
) -> None:
    wedged = "00000000-0000-4000-8000-000000000000"
    fake.on("GET", "/containers/botmaker-*/json", Json(document(bot_id, running())))
    fake.on("GET", f"/containers/botmaker-{wedged}/json", Hang())
    fake.on("GET", "/containers/json", Json([]))
    hung = [rpc.stub.GetContainerStatus.future(pb.GetContainerStatusRequest(bot_id=wedged)) for _ in range(20)]
    fake.await_request("GET", f"/containers/botmaker-{wedged}/json", 2)
    assert rpc.status(bot_id) is not None
    assert rpc.list() == []
    health = health_pb2_grpc.HealthStub(grpc_channel).Check(health_pb2.HealthCheckRequest())
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    fake.release()
    for call in hung:
        call.exception()


def test_five_thousand_containers_fit_one_list_within_the_default_message_limit() -> None:
    status = status_from_inspect(document("00000000-0000-4000-8000-000000000000", running()))
    many = pb.ListManagedContainersResponse(containers=[status_to_proto(status)] * 5_000)
    assert many.ByteSize() < 4 * 1024 * 1024


MUTATIONS = ("POST", "DELETE", "PUT")
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
def test_bad_configuration_is_told_by_field_and_reaches_no_engine(
    rpc: Calls, fake: FakeEngine, bot_id: str, config: str
) -> None:
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG") as caught:
        rpc.stub.CreateContainer(
            pb.CreateContainerRequest(bot_id=bot_id, config=pb.ContainerConfig(**BAD_CONFIGS[config]))
        )
    assert caught[0].field_violations
    assert not [request for request in fake.requests if request.method in MUTATIONS]


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
def test_a_bad_bot_id_is_refused_by_every_verb_and_reaches_no_engine(rpc: Calls, fake: FakeEngine, bad: str) -> None:
    for call in (rpc.create, rpc.start, rpc.stop, rpc.restart, rpc.remove, rpc.status):
        with fails_with("INVALID_ARGUMENT", "INVALID_BOT_ID"):
            call(bad)
    assert not [request for request in fake.requests if "/containers" in request.path]


@pytest.mark.parametrize("image", ["-v /:/host", "a b", "x" * 10_240, "image@sha256:short", "\0"])
def test_a_bad_image_is_refused_and_reaches_no_engine(rpc: Calls, fake: FakeEngine, bot_id: str, image: str) -> None:
    with fails_with("INVALID_ARGUMENT", "INVALID_IMAGE_REFERENCE") as caught:
        rpc.create(bot_id, image=image)
    assert ("config.image",) == tuple(field for field, _ in caught[0].field_violations)
    assert not [request for request in fake.requests if "/containers" in request.path]


def test_conformance_13_statuses_answer_while_200_stops_wait(rpc: Calls, fake: FakeEngine, bot_id: str) -> None:
    bots = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(200)]
    fake.on("GET", "/containers/botmaker-*/json", lambda request: Json(document(_bot(request.path), running())))
    fake.on("POST", "/containers/*/stop", Hang(then=NO_CONTENT))
    calls = [rpc.stub.StopContainer.future(pb.StopContainerRequest(bot_id=bot)) for bot in bots]
    # As many as there are workers; the others wait for one.
    fake.await_request("POST", "/containers/*/stop", 64)
    for bot in bots[:50]:
        assert rpc.stub.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot), timeout=60).HasField("status")
    assert not any(call.done() for call in calls)
    fake.release()
    assert [pb.StopContainerResponse()] * 200 == [call.result(timeout=60) for call in calls]


def _bot(path: str) -> str:
    return path.removeprefix("/containers/botmaker-").removesuffix("/json")


def test_many_calls_leave_no_descriptor_open(rpc: Calls, fake: FakeEngine, bot_id: str) -> None:
    fake.on(*GET, Json(document(bot_id, running())))
    before = len(list(Path("/proc/self/fd").iterdir()))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: rpc.status(bot_id), range(640)))
    # One kept connection per reading worker, and both of its ends are in this process.
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2 * 16 + 8


def test_a_deadline_that_has_passed_on_arrival_is_told_as_such(rpc: Calls, bot_id: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        rpc.stub.StopContainer(pb.StopContainerRequest(bot_id=bot_id), timeout=1e-9)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
