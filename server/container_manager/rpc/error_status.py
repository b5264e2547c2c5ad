"""Errors as ``google.rpc.Status``, with ErrorInfo and, for invalid arguments, BadRequest (AIP-193)."""

from __future__ import annotations

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import code_pb2, error_details_pb2, status_pb2

from container_manager.errors import ERROR_DOMAIN, ContainerManagerError, InvalidArgumentError

# gRPC reads a response's metadata up to 8 KiB by default, and a larger one is an error of another kind;
# the details travel base64-encoded beside the message.
_MAX_MESSAGE_BYTES = 1_000
_MAX_METADATA_BYTES = 300
_MAX_VIOLATIONS = 8
_MAX_VIOLATION_CHARACTERS = 120
STATUS_DETAILS_KEY = "grpc-status-details-bin"


def to_status(error: ContainerManagerError) -> status_pb2.Status:
    """The status of a domain error, within what gRPC's metadata holds."""
    message = _truncated(str(error), _MAX_MESSAGE_BYTES)
    metadata = {key: _truncated(value, _MAX_METADATA_BYTES) for key, value in error.metadata.items()}
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=metadata)
    details = [_packed(info)]
    if isinstance(error, InvalidArgumentError):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=_truncated(violation.field, _MAX_VIOLATION_CHARACTERS),
                description=_truncated(violation.description, _MAX_VIOLATION_CHARACTERS),
            )
            for violation in error.violations[:_MAX_VIOLATIONS]
        ]
        details.append(_packed(error_details_pb2.BadRequest(field_violations=violations)))
    return status_pb2.Status(code=code_pb2.Code.Value(error.code), message=message, details=details)


def internal_error() -> ContainerManagerError:
    """What a caller hears of a bug of ours: nothing of it."""
    return ContainerManagerError("internal error; the server's log has the details")


def grpc_code(status: status_pb2.Status) -> grpc.StatusCode:
    """gRPC's name for a status's code."""
    return grpc.StatusCode[code_pb2.Code.Name(status.code)]


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed


def _truncated(text: str, size: int) -> str:
    encoded = text.encode("utf-8", "replace")
    return encoded.decode() if len(encoded) <= size else encoded[:size].decode("utf-8", "ignore") + "…"
