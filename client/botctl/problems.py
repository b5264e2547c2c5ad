"""Turns a failed call into an exit code and one line that says what to do."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from botctl.connection import SERVER_TOKEN_FILE, TOKEN_FILE_VARIABLE, Connection
from botctl.exit_codes import ExitCode
from botctl.reachability import went_away, why_unreachable
from botctl.rendering.words import one_line
from container_manager_client import ErrorInfo, error_info

_Code = grpc.StatusCode
_EXIT_CODES = {
    _Code.INVALID_ARGUMENT: ExitCode.USAGE,
    _Code.NOT_FOUND: ExitCode.NOT_FOUND,
    _Code.ALREADY_EXISTS: ExitCode.REFUSED,
    _Code.FAILED_PRECONDITION: ExitCode.REFUSED,
    _Code.PERMISSION_DENIED: ExitCode.REFUSED,
    _Code.UNAUTHENTICATED: ExitCode.NOT_ALLOWED,
    _Code.UNAVAILABLE: ExitCode.NOT_NOW,
    _Code.DEADLINE_EXCEEDED: ExitCode.NOT_NOW,
    _Code.ABORTED: ExitCode.NOT_NOW,
    _Code.RESOURCE_EXHAUSTED: ExitCode.NOT_NOW,
}
# Added to the service's message, which cannot name commands of botctl.
_HINTS = {
    "CONTAINER_NOT_FOUND": ": botctl create {bot_id}",
    "CONTAINER_ALREADY_EXISTS": ": botctl remove {bot_id}",
    "OPERATION_IN_PROGRESS": "; try again when it has finished",
    "SHUTTING_DOWN": "; try again when it is back",
}


@dataclass(frozen=True)
class Problem:
    """Why a command failed."""

    exit_code: ExitCode
    message: str
    """One line."""
    code: str = ""
    """The gRPC status code, such as ``NOT_FOUND``."""
    reason: str = ""
    """The service's reason, such as ``CONTAINER_NOT_FOUND``. Empty if the error is not the service's."""


def explain(exc: grpc.RpcError, connection: Connection) -> Problem:
    """The problem behind a failed call."""
    info = error_info(exc)
    exit_code, message = _of_service(info, connection) if info.reason else _of_grpc(info, connection)
    return Problem(exit_code, one_line(message), info.code.name, info.reason)


def _of_service(info: ErrorInfo, connection: Connection) -> tuple[ExitCode, str]:
    exit_code = _EXIT_CODES.get(info.code, ExitCode.FAILED)
    if info.code is _Code.UNAUTHENTICATED:
        return exit_code, _about_token(connection)
    hint = _HINTS.get(info.reason)
    if hint is None or ("{bot_id}" in hint and not info.metadata.get("bot_id")):
        return exit_code, info.message
    return exit_code, f"{info.message}{hint.format(bot_id=info.metadata.get('bot_id'))}"


def _of_grpc(info: ErrorInfo, connection: Connection) -> tuple[ExitCode, str]:
    if info.code is _Code.UNAVAILABLE:
        return why_unreachable(connection, info.message)
    if info.code is _Code.CANCELLED:
        return ExitCode.NOT_NOW, went_away(connection)
    if info.code is _Code.UNIMPLEMENTED:
        return connection.not_a_manager
    if info.code is _Code.UNAUTHENTICATED:
        return ExitCode.NOT_ALLOWED, _about_token(connection)
    if info.code is _Code.DEADLINE_EXCEEDED:
        return ExitCode.NOT_NOW, (
            f"the service at {connection.target} did not answer in time; see what it did with: botctl status"
        )
    return _EXIT_CODES.get(info.code, ExitCode.FAILED), f"{info.code.name}: {info.message}"


def _about_token(connection: Connection) -> str:
    where = f"the service's token is in its own --token-file ({SERVER_TOKEN_FILE} by default)"
    if connection.token_file is None:
        return f"{connection.target} requires a token: pass --token-file or {TOKEN_FILE_VARIABLE}; {where}"
    return f"{connection.target} does not accept the token in {connection.token_file}; {where}"
