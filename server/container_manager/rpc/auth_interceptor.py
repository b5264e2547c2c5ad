"""The bearer token that TCP listeners ask for, and the file that holds it."""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog

from container_manager.errors import UnauthenticatedError
from container_manager.rpc.error_interceptor import abort
from container_manager.rpc.handlers import Continuation, Handler
from container_manager.rpc.startup_error import StartupError

_HEALTH_PREFIX = "/grpc.health.v1.Health/"
_MIN_TOKEN_LENGTH = 16

_log = structlog.get_logger(__name__)


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Refuses every call without ``authorization: Bearer <token>``, health checks excepted."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        if handler_call_details.method.startswith(_HEALTH_PREFIX) or self._accepts(handler_call_details):
            return await continuation(handler_call_details)
        # Of any kind of call: it is refused before its first message is read.
        return grpc.stream_stream_rpc_method_handler(_refuse)

    def _accepts(self, details: grpc.HandlerCallDetails) -> bool:
        given = [value for key, value in details.invocation_metadata or () if key == "authorization"]
        if len(given) != 1:
            return False
        value = given[0]
        return hmac.compare_digest(value.encode() if isinstance(value, str) else value, self._expected)


async def _refuse(_requests: Any, context: Any) -> Any:
    _log.warning("refused a call without a valid token", peer=context.peer())
    await abort(context, UnauthenticatedError("a valid bearer token is needed: metadata 'authorization: Bearer TOKEN'"))


def read_or_make_token(path: Path) -> str:
    """The token in ``path``; a new one is written there, mode 0600, when there is no such file.

    Raises :class:`StartupError` for a file that others may read, that is not this user's, or that holds no token.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return _read_token(path)
    except OSError as exc:
        raise StartupError(f"the token file {path} cannot be made: {exc.strerror}") from exc
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    return token


def _read_token(path: Path) -> str:
    try:
        # Not blocking, for what turns out to be a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, errors="replace") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise StartupError(f"the token file {path} must be a file of this user's with mode 0600")
            token = file.read().strip()
    except OSError as exc:
        raise StartupError(f"the token file {path} cannot be read: {exc.strerror}") from exc
    if len(token) < _MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable():
        raise StartupError(f"the token file {path} must hold one line of at least {_MIN_TOKEN_LENGTH} ASCII characters")
    return token
