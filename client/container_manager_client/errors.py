"""What a failed call says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass(frozen=True)
class ErrorInfo:
    """One error of the container manager, or of gRPC on the way to it."""

    code: grpc.StatusCode
    message: str
    """A sentence for a person."""
    reason: str = ""
    """Stable, such as ``CONTAINER_NOT_FOUND``; empty when the error is gRPC's own (no server, caller's deadline)."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Such as ``bot_id`` and ``container_id``."""
    field_violations: tuple[tuple[str, str], ...] = ()
    """Of an invalid argument: each field at fault, and what is wrong with it."""


def error_info(exc: grpc.RpcError) -> ErrorInfo:
    """The code, reason and metadata of an error that a stub raised, sync or aio.

    Details that are missing or not understood leave ``reason`` empty; this itself does not raise for any RPC error.
    """
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
