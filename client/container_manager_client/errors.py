"""Decodes the error of a failed call."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import DecodeError


@dataclass(frozen=True)
class ErrorInfo:
    """An error of the container manager, or of gRPC itself."""

    code: grpc.StatusCode
    message: str
    """A sentence for a person."""
    reason: str = ""
    """Stable, such as ``CONTAINER_NOT_FOUND``. Empty for gRPC's own errors (no server, expired deadline)."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Further values, such as ``bot_id`` and ``container_id``."""
    field_violations: tuple[tuple[str, str], ...] = ()
    """For an invalid argument: each invalid field and its problem."""


def error_info(exc: grpc.RpcError) -> ErrorInfo:
    """Returns the code, reason and metadata of an error that a stub raised, sync or aio.

    ``reason`` is empty if the error has no details or unknown ones. Never raises for an RPC error.
    """
    # Most runs of a program have no error to decode.
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    code = exc.code() if hasattr(exc, "code") else grpc.StatusCode.UNKNOWN
    message = (exc.details() if hasattr(exc, "details") else str(exc)) or ""
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    with suppress(AttributeError, ValueError, DecodeError):
        status = rpc_status.from_call(exc)  # type: ignore[arg-type]
        for detail in status.details if status is not None else ():
            for known in (info, bad_request):
                if detail.Is(known.DESCRIPTOR):
                    detail.Unpack(known)
    return ErrorInfo(
        code=code,
        message=message,
        reason=info.reason,
        metadata=dict(info.metadata),
        field_violations=tuple((violation.field, violation.description) for violation in bad_request.field_violations),
    )
