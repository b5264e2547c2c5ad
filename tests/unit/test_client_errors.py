"""How the client reads errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from botmaker.container.v1 import container_manager_pb2_grpc as pb_grpc
from container_manager_client import ErrorInfo, connect, error_info
from tests.unit.refusing_service import BOT, Servicer, call, serving


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
def target(servicer: Servicer) -> Iterator[str]:
    with serving(servicer) as target:
        yield target


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
