"""The client: what it adds to a call, what it retries, and how it reads errors."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_manager_pb2_grpc as pb_grpc
from container_manager_client import ErrorInfo, TlsFiles, connect, connect_aio, error_info
from container_manager_client.call_defaults import default_timeout, with_request_id
from container_manager_client.channel import SERVICE_CONFIG

RETRIED = {"CreateContainer", "StopContainer", "RemoveContainer", "GetContainerStatus", "ListManagedContainers"}
BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"


class Servicer(pb_grpc.ContainerManagerServicer):
    """Refuses calls as often as told, and keeps what each of them carried."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, dict[str, Any], float | None]] = []
        self.refusals = 0
        self.code = grpc.StatusCode.UNAVAILABLE
        self.trailers: tuple[tuple[str, str | bytes], ...] = ()

    def _answer(self, name: str, request: Any, context: grpc.ServicerContext, response: Any) -> Any:
        metadata = dict(context.invocation_metadata())
        self.calls.append((name, request, metadata, context.time_remaining()))
        if self.refusals:
            self.refusals -= 1
            context.set_trailing_metadata(self.trailers)
            context.abort(self.code, "refused")
        return response

    def names(self) -> list[str]:
        return [name for name, *_ in self.calls]


def _method(name: str) -> Callable[..., Any]:
    def answer(self: Servicer, request: Any, context: grpc.ServicerContext) -> Any:
        return self._answer(name, request, context, getattr(pb, f"{name}Response")())

    return answer


METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["ContainerManager"].methods]
for _name in METHODS:
    setattr(Servicer, _name, _method(_name))


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
def target(servicer: Servicer) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="client-") as directory:
        server = grpc.server(futures.ThreadPoolExecutor(4))
        pb_grpc.add_ContainerManagerServicer_to_server(servicer, server)
        server.add_insecure_port(f"unix:{directory}/s.sock")
        server.start()
        yield f"unix://{directory}/s.sock"
        server.stop(0).wait()


def call(stub: Any, name: str, **kwargs: Any) -> Any:
    request = getattr(pb, f"{name}Request")
    fields = {"bot_id": BOT} if "bot_id" in request.DESCRIPTOR.fields_by_name else {}
    return getattr(stub, name)(request(**fields), **kwargs)


def test_the_service_config_retries_exactly_five_methods_on_unavailable_alone() -> None:
    (config,) = json.loads(SERVICE_CONFIG)["methodConfig"]
    assert {("botmaker.container.v1.ContainerManager", name) for name in RETRIED} == {
        (name["service"], name["method"]) for name in config["name"]
    }
    assert ["UNAVAILABLE"] == config["retryPolicy"]["retryableStatusCodes"]


def test_retries_outlast_a_restart_of_the_service() -> None:
    """Of 3 s, also when gRPC takes a fifth off each wait (its jitter)."""
    (config,) = json.loads(SERVICE_CONFIG)["methodConfig"]
    policy = config["retryPolicy"]
    first, most = (float(policy[name].removesuffix("s")) for name in ("initialBackoff", "maxBackoff"))
    waits = [min(most, first * policy["backoffMultiplier"] ** number) for number in range(policy["maxAttempts"] - 1)]
    assert sum(waits) * 0.8 >= 3
    # gRPC makes no more attempts than five, whatever is asked for.
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
    assert 4 < remaining < 6  # the wire counts in coarse units


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
    assert 150 == default_timeout(request_class())


@pytest.mark.parametrize(
    ("request_message", "seconds"),
    [
        (pb.CreateContainerRequest(), 600),
        (pb.StartContainerRequest(), 60),
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


@pytest.mark.parametrize("open_channel", [connect, connect_aio])
@pytest.mark.parametrize(
    "target",
    [
        "",
        "localhost:1",
        "unix:a",
        "unix:/a",
        "unix://a",
        "tcp://a",
        "tcp://a:",
        "tcp://a:x",
        "tcp://a:65536",
        "http://a:1",
        "dns:a:1",
    ],
)
def test_another_form_of_target_is_refused_by_its_text(open_channel: Callable[[str], Any], target: str) -> None:
    with pytest.raises(ValueError, match="is not a valid target: use unix:///path or tcp://host:port") as caught:
        open_channel(target)
    assert repr(target) in str(caught.value)


def _failure(servicer: Servicer, target: str) -> grpc.RpcError:
    with connect(target) as channel, pytest.raises(grpc.RpcError) as caught:
        call(pb_grpc.ContainerManagerStub(channel), "StartContainer")
    return caught.value


def _rich(*details: Any, code: int = 9, message: str = "refused") -> bytes:
    status = status_pb2.Status(code=code, message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return status.SerializeToString()


def test_an_error_of_the_service_is_read_whole(servicer: Servicer, target: str) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="f", description="d")
    servicer.refusals, servicer.code = 1, grpc.StatusCode.FAILED_PRECONDITION
    rich = _rich(
        error_details_pb2.ErrorInfo(reason="START_FAILED", domain="container.botmaker", metadata={"bot_id": BOT}),
        error_details_pb2.BadRequest(field_violations=[violation]),
        error_details_pb2.RetryInfo(),
    )
    servicer.trailers = (("grpc-status-details-bin", rich),)
    expected = ErrorInfo(servicer.code, "refused", "START_FAILED", {"bot_id": BOT}, (("f", "d"),))
    assert expected == error_info(_failure(servicer, target))


@pytest.mark.parametrize(
    "details",
    [b"", b"\xff garbage", _rich(code=5), _rich(message="another"), b"\x1a\x02\xff\xff"],
    ids=["empty", "garbage", "another code", "another message", "half a detail"],
)
def test_details_that_are_not_understood_leave_the_reason_empty(
    servicer: Servicer, target: str, details: bytes
) -> None:
    servicer.refusals, servicer.code = 1, grpc.StatusCode.FAILED_PRECONDITION
    servicer.trailers = (("grpc-status-details-bin", details),)
    assert ErrorInfo(servicer.code, "refused") == error_info(_failure(servicer, target))


def test_a_detail_with_a_broken_value_leaves_the_reason_empty(servicer: Servicer, target: str) -> None:
    status = status_pb2.Status(code=9, message="refused")
    status.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")
    servicer.refusals, servicer.code = 1, grpc.StatusCode.FAILED_PRECONDITION
    servicer.trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    assert ErrorInfo(servicer.code, "refused") == error_info(_failure(servicer, target))


def test_plain_errors_of_grpc_have_a_code_and_no_reason() -> None:
    with connect("unix:///nowhere/at/all.sock") as channel, pytest.raises(grpc.RpcError) as caught:
        call(pb_grpc.ContainerManagerStub(channel), "StartContainer", timeout=5)
    info = error_info(caught.value)
    assert (grpc.StatusCode.UNAVAILABLE, "") == (info.code, info.reason)
    assert (grpc.StatusCode.UNKNOWN, "?") == (
        error_info(grpc.RpcError("?")).code,
        error_info(grpc.RpcError("?")).message,
    )


def test_a_channel_connects_at_its_first_call_and_leaves_no_thread_behind(target: str) -> None:
    before = threading.active_count()
    connect(target).close()
    assert before == threading.active_count()


PEM = b"-----BEGIN CERTIFICATE-----"


@pytest.mark.parametrize("open_channel", [connect, connect_aio])
@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_tls_files_without_pem_are_refused_by_their_name(open_channel: Callable[..., Any], name: str) -> None:
    files = TlsFiles(**{"ca": PEM, "cert": PEM, "key": PEM, name: b"secret"})
    with pytest.raises(ValueError, match=rf"tls\.{name}: the bytes must be in PEM form"):
        open_channel("tcp://127.0.0.1:1", tls=files)


def test_tls_files_that_are_missing_are_an_os_error() -> None:
    with pytest.raises(FileNotFoundError, match="/nowhere"):
        connect("tcp://127.0.0.1:1", tls=TlsFiles(PEM, PEM, "/nowhere"))


def test_a_unix_socket_has_no_tls() -> None:
    with pytest.raises(ValueError, match="is a unix socket: TLS is for TCP targets only"):
        connect("unix:///s.sock", tls=TlsFiles(PEM, PEM, PEM))


def test_a_token_goes_to_another_machine_over_tls_alone() -> None:
    connect("tcp://192.0.2.1:1", token="secret-token", tls=TlsFiles(PEM, PEM, PEM)).close()
    with pytest.raises(ValueError, match="without TLS the token would be sent in plain text"):
        connect("tcp://192.0.2.1:1", token="secret-token")


def test_a_key_is_not_shown_by_its_files() -> None:
    assert "TlsFiles(...)" == repr(TlsFiles(PEM, PEM, b"secret"))
