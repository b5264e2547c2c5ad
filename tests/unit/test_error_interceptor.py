"""Errors on the wire, within the limit of gRPC's metadata; undecodable requests, and callers that have gone."""

from __future__ import annotations

import asyncio
import base64
import inspect
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from container_manager import errors
from container_manager.errors import (
    ContainerManagerError,
    ContainerNotFoundError,
    FieldViolation,
    ImageNotAllowedError,
    InvalidArgumentError,
    InvalidConfigError,
)
from container_manager.rpc.interceptors.errors import (
    ErrorInterceptor,
    grpc_code,
    internal_error,
    to_status,
    unsent_errors,
)
from container_manager.scheduling.unsent_answers import UnsentAnswers

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, ContainerManagerError)]


def details(status: status_pb2.Status) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.BadRequest]:
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        assert detail.Unpack(info) or detail.Unpack(bad_request)
    return info, bad_request


def size_on_the_wire(status: status_pb2.Status) -> int:
    """The size in bytes of an error's two headers."""
    encoded = base64.b64encode(status.SerializeToString())
    return len("grpc-message") + len(quote(status.message)) + len("grpc-status-details-bin") + len(encoded) + 100


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_has_its_code_reason_and_domain(cls: type[ContainerManagerError]) -> None:
    error = cls(FieldViolation("f", "d")) if issubclass(cls, InvalidArgumentError) else cls("m", bot_id="b")
    status = to_status(error)
    info, _ = details(status)
    assert grpc.StatusCode[cls.code] is grpc_code(status)
    assert code_pb2.Code.Value(cls.code) == status.code
    assert (cls.reason, "container.botmaker") == (info.reason, info.domain)
    assert str(error) == status.message
    assert error.metadata == dict(info.metadata)


def test_an_invalid_argument_names_its_fields() -> None:
    status = to_status(InvalidConfigError(FieldViolation("config.ports[0]", "is bad"), FieldViolation("b", "é")))
    _, bad_request = details(status)
    assert [("config.ports[0]", "is bad"), ("b", "é")] == [
        (v.field, v.description) for v in bad_request.field_violations
    ]


def test_other_errors_have_no_violations() -> None:
    assert 1 == len(to_status(ContainerNotFoundError("m")).details)


@pytest.mark.parametrize("text", ["x", "é", "語", "💣", "%", "\n"])
def test_however_large_an_error_is_it_fits_grpcs_metadata(text: str) -> None:
    large = text * 10_000
    for error in (
        ContainerManagerError(large, bot_id="0" * 36, container_id="0" * 64),
        InvalidConfigError(*(FieldViolation(large, large) for _ in range(1_000))),
        ImageNotAllowedError(large, image="a" * 638),
    ):
        status = to_status(error)
        assert size_on_the_wire(status) < 8 * 1024
        assert status.message.endswith("…")
        assert status.message[:10] == str(error)[:10]


@pytest.mark.parametrize("text", ["\ud800", "path \udcff"])
def test_text_that_is_no_unicode_still_makes_a_status(text: str) -> None:
    """Python represents a path that is not UTF-8 as such text."""
    assert to_status(ContainerManagerError(text)).message
    assert to_status(InvalidConfigError(FieldViolation(text, text))).details


def test_an_unexpected_error_reveals_no_details() -> None:
    status = to_status(internal_error())
    assert grpc.StatusCode.INTERNAL is grpc_code(status)
    assert "INTERNAL_ERROR" == details(status)[0].reason
    assert "internal error; the server's log has the details" == status.message


@pytest.fixture(autouse=True)
def errors_are_counted() -> Iterator[None]:
    """As the outermost interceptor has them counted."""
    token = unsent_errors.set(UnsentAnswers(2**20, lambda _: None))
    yield
    unsent_errors.reset(token)


class GoneContext:
    """The context of a call whose caller has gone: nothing can be sent."""

    async def abort(self, *_: object) -> None:
        raise grpc.aio.InternalError("Failed execute_batch")


class AbortedError(Exception):
    """In place of gRPC's own error."""


class Context:
    """The context of a call whose caller is still there."""

    async def abort(self, code: grpc.StatusCode, *_: object) -> None:
        raise AbortedError(code.name)


class Details:
    method = "/a.B/C"
    invocation_metadata = ()


def intercepted(handler: Any) -> Any:
    """The handler that the interceptor returns."""

    async def found(_: object) -> Any:
        return handler

    return asyncio.run(ErrorInterceptor().intercept_service(found, Details()))  # type: ignore[arg-type]


@pytest.mark.parametrize("raised", [ContainerNotFoundError("none"), grpc.aio.InternalError("write"), ValueError("bug")])
def test_a_caller_that_has_gone_ends_the_call_as_its_cancellation_would(
    raised: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def behavior(_request: object, _context: object) -> None:
        raise raised

    handler = intercepted(grpc.unary_unary_rpc_method_handler(behavior))
    with pytest.raises(asyncio.CancelledError), caplog.at_level(logging.ERROR):
        asyncio.run(handler.unary_unary(None, GoneContext()))
    # Only an unexpected error is logged, with or without a caller.
    assert isinstance(raised, ValueError) == bool(caplog.records)
