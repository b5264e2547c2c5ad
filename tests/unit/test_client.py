"""The client's additions to a call, and its retries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_manager_pb2_grpc as pb_grpc
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from container_manager_client import connect, connect_aio, error_info
from container_manager_client.call_defaults import default_timeout, with_request_id
from container_manager_client.channel import SERVICE_CONFIG
from tests.unit.refusing_service import BOT, METHODS, Servicer, call, serving

READS = [
    method
    for file in (pb, observer_pb, maintainer_pb, provisioner_pb)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS and not method.server_streaming
]
RETRIED = {"CreateContainer", "StopContainer", "RemoveContainer", "GetContainerStatus", "ListManagedContainers"}


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
def target(servicer: Servicer) -> Iterator[str]:
    with serving(servicer) as target:
        yield target


def test_the_service_config_retries_exactly_reads_and_three_changes_on_unavailable_alone() -> None:
    (config,) = json.loads(SERVICE_CONFIG)["methodConfig"]
    changes = {("botmaker.container.v1.ContainerManager", f"{name}Container") for name in ("Create", "Stop", "Remove")}
    assert changes | {(method.containing_service.full_name, method.name) for method in READS} == {
        (name["service"], name["method"]) for name in config["name"]
    }
    assert ["UNAVAILABLE"] == config["retryPolicy"]["retryableStatusCodes"]


def test_retries_outlast_a_restart_of_the_service() -> None:
    """A restart of 3 s, also when gRPC's jitter shortens each wait by a fifth."""
    (config,) = json.loads(SERVICE_CONFIG)["methodConfig"]
    policy = config["retryPolicy"]
    first, most = (float(policy[name].removesuffix("s")) for name in ("initialBackoff", "maxBackoff"))
    waits = [min(most, first * policy["backoffMultiplier"] ** number) for number in range(policy["maxAttempts"] - 1)]
    assert sum(waits) * 0.8 >= 3
    # gRPC makes at most five attempts, whatever the policy says.
    assert policy["maxAttempts"] <= 5


@pytest.mark.parametrize("name", METHODS)
def test_unavailable_is_retried_but_for_start_and_restart(servicer: Servicer, target: str, name: str) -> None:
    servicer.refusals = 1
    with connect(target) as channel:
        if name in RETRIED:
            call(pb_grpc.ContainerManagerStub(channel), name)
        else:
            with pytest.raises(grpc.RpcError):
                call(pb_grpc.ContainerManagerStub(channel), name)
    assert [name] * (2 if name in RETRIED else 1) == servicer.names()


@pytest.mark.parametrize("read", [read for read in READS if read.name not in METHODS], ids=lambda read: read.name)
def test_a_read_of_whatever_other_service_is_retried(servicer: Servicer, read: Any) -> None:
    service, asked = read.containing_service.full_name, []

    def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
        asked.append(read.name)
        if len(asked) == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "refused")
        return b""

    methods = {read.name: grpc.unary_unary_rpc_method_handler(answer)}
    handler = grpc.method_handlers_generic_handler(service, methods)
    with serving(servicer, handler) as target, connect(target) as channel:
        channel.unary_unary(f"/{service}/{read.name}")(b"")
    assert [read.name] * 2 == asked


def test_a_create_of_the_largest_size_is_retried(servicer: Servicer, target: str) -> None:
    """The contract allows 1 MiB of environment and 1 MiB of command."""
    environment, command = {"A": "a" * 1024 * 1024}, ["b" * 1024 * 1024]
    request = pb.CreateContainerRequest(bot_id=BOT, config={"environment": environment, "command": command})
    servicer.refusals = 1
    with connect(target) as channel:
        pb_grpc.ContainerManagerStub(channel).CreateContainer(request)
    assert ["CreateContainer"] * 2 == servicer.names()


@pytest.mark.parametrize("code", [grpc.StatusCode.ABORTED, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL])
def test_no_other_code_is_retried(servicer: Servicer, target: str, code: grpc.StatusCode) -> None:
    servicer.refusals, servicer.code = 1, code
    with connect(target) as channel, pytest.raises(grpc.RpcError):
        call(pb_grpc.ContainerManagerStub(channel), "GetContainerStatus")
    assert 1 == len(servicer.calls)


def test_a_retried_create_carries_the_same_request_id(servicer: Servicer, target: str) -> None:
    servicer.refusals = 1
    with connect(target) as channel:
        call(pb_grpc.ContainerManagerStub(channel), "CreateContainer")
    first, second = (request.request_id for _, request, *_ in servicer.calls)
    assert first == second != ""


@pytest.mark.parametrize("token", [None, "secret-token-of-16"])
def test_a_token_is_sent_when_given(servicer: Servicer, target: str, token: str | None) -> None:
    with connect(target, token=token) as channel:
        call(pb_grpc.ContainerManagerStub(channel), "GetContainerStatus")
    ((_, _, metadata, _),) = servicer.calls
    assert (f"Bearer {token}" if token else None) == metadata.get("authorization")


def test_a_callers_own_token_metadata_and_timeout_are_kept(servicer: Servicer, target: str) -> None:
    with connect(target, token="of-the-channel") as channel:
        stub = pb_grpc.ContainerManagerStub(channel)
        call(stub, "GetContainerStatus", timeout=5, metadata=(("authorization", "Bearer own"), ("x", "y")))
    ((_, _, metadata, remaining),) = servicer.calls
    assert ("Bearer own", "y") == (metadata["authorization"], metadata["x"])
    assert remaining is not None
    assert 4 < remaining < 6  # the wire format has coarse units


@pytest.mark.parametrize("name", METHODS)
def test_every_call_has_a_deadline(servicer: Servicer, target: str, name: str) -> None:
    with connect(target) as channel:
        call(pb_grpc.ContainerManagerStub(channel), name)
    ((_, request, _, remaining),) = servicer.calls
    assert remaining is not None
    assert default_timeout(request) - 10 < remaining < default_timeout(request) + 1


def test_an_aio_channel_adds_the_same(servicer: Servicer, target: str) -> None:
    async def calls() -> None:
        async with connect_aio(target, token="secret-token") as channel:
            stub = pb_grpc.ContainerManagerStub(channel)
            servicer.refusals = 1
            await call(stub, "CreateContainer")
            servicer.refusals = 1
            with pytest.raises(grpc.RpcError) as caught:
                await call(stub, "StartContainer")
            assert grpc.StatusCode.UNAVAILABLE is error_info(caught.value).code

    asyncio.run(calls())
    assert ["CreateContainer", "CreateContainer", "StartContainer"] == servicer.names()
    for _, request, metadata, remaining in servicer.calls:
        assert "Bearer secret-token" == metadata["authorization"]
        assert remaining is not None
        assert remaining < default_timeout(request) + 1
    assert "" != servicer.calls[0][1].request_id


GRACEFUL = [pb.StopContainerRequest, pb.RestartContainerRequest, pb.RemoveContainerRequest]


@pytest.mark.parametrize("request_class", GRACEFUL)
@pytest.mark.parametrize("grace", [0, 10, 90, 86_400])
def test_a_grace_period_is_never_cut_by_the_default_timeout(request_class: Any, grace: int) -> None:
    assert default_timeout(request_class(grace_period=Duration(seconds=grace))) >= grace + 30


@pytest.mark.parametrize("request_class", GRACEFUL)
def test_a_grace_that_the_server_chooses_has_room(request_class: Any) -> None:
    waits_for_others = request_class is pb.RestartContainerRequest
    assert (690 if waits_for_others else 150) == default_timeout(request_class())


@pytest.mark.parametrize(
    ("request_message", "seconds"),
    [
        (pb.CreateContainerRequest(), 600),
        (pb.StartContainerRequest(), 600),
        (provisioner_pb.PutSecretsRequest(), 60),
        (provisioner_pb.DeleteSecretsRequest(), 60),
        (provisioner_pb.PutFilesRequest(), 60),
        (provisioner_pb.DeleteStateRequest(), 60),
        (provisioner_pb.ReloadSecretsRequest(), 240),
        (provisioner_pb.ListSecretsRequest(), 20),
        (pb.GetContainerStatusRequest(), 20),
        (pb.ListManagedContainersRequest(), 20),
        (object(), 20),
    ],
)
def test_the_default_timeouts(request_message: Any, seconds: float) -> None:
    assert seconds == default_timeout(request_message)


def test_a_request_id_is_filled_into_a_copy_and_only_when_empty() -> None:
    empty, given, other = pb.CreateContainerRequest(bot_id=BOT), pb.CreateContainerRequest(request_id="w"), object()
    filled = with_request_id(empty)
    assert ("", BOT) == (empty.request_id, filled.bot_id)
    assert 36 == len(filled.request_id)
    assert filled.request_id != with_request_id(empty).request_id
    assert given is with_request_id(given)
    assert other is with_request_id(other)
