"""Errors of calls to the engine: error responses, and no response. The same for every HTTP client in use."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator

from container_manager.errors import (
    ContainerManagerError,
    EngineAccessDeniedError,
    EngineTimeoutError,
    EngineUnavailableError,
)

_UNAUTHORIZED = (401, 403)
# The engine has this 403 of its own, for a start after an unclean end (moby, libnetwork's createEndpoint).
_ENDPOINT_EXISTS = "already exists in network"
STATUSES_OF_PROXIES = (502, 503, 504)
"""The engine may still carry out what a proxy before it has given up."""
# From connect(2) alone: nothing listens there.
_NOT_CONNECTED = (errno.ECONNREFUSED, errno.ENOENT)


class EngineRejectedError(Exception):
    """An error response of the engine: its HTTP ``status`` and its ``text``."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{text} (HTTP {status})")
        self.status = status
        self.text = text


def no_answer(docker_host: str, exc: BaseException, timeouts: tuple[type[BaseException], ...]) -> ContainerManagerError:
    """The domain's error for a call that raised ``exc``. ``timeouts`` are the client's timeout exceptions."""
    causes = list(_causes(exc))
    if any(isinstance(cause, timeouts) for cause in causes):
        return EngineTimeoutError(f"the Docker Engine at {docker_host} did not answer in time")
    if any(isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM) for cause in causes):
        return access_denied(docker_host, "permission denied")
    detail = next((c.strerror for c in causes if isinstance(c, OSError) and c.strerror), "no usable answer")
    return EngineUnavailableError(f"the Docker Engine at {docker_host} cannot be reached: {detail}")


def was_not_sent(error: BaseException) -> bool:
    """Whether the engine has certainly not taken the request of a call that failed with ``error``."""
    return isinstance(error, EngineAccessDeniedError) or any(
        isinstance(cause, OSError) and cause.errno in _NOT_CONNECTED for cause in _causes(error.__cause__)
    )


def denies_access(rejected: EngineRejectedError) -> bool:
    """Whether the engine, or a proxy before it, denies access to this process."""
    return rejected.status in _UNAUTHORIZED and _ENDPOINT_EXISTS not in rejected.text


def access_denied(docker_host: str, detail: str) -> EngineAccessDeniedError:
    """The domain's error for an engine that denies access to this process."""
    return EngineAccessDeniedError(
        f"the Docker Engine at {docker_host} refuses this process ({detail}); "
        "run it as a user that may use the engine, such as a member of the group that owns the socket"
    )


def error_text(body: bytes) -> str:
    """The text of an error response: from the engine's JSON, or the body that a proxy sent."""
    try:
        return str(json.loads(body)["message"]).strip()
    except (ValueError, LookupError, TypeError):
        return body.decode("utf-8", "replace").strip()


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    """The exception, its causes and contexts, and exceptions in its arguments, as urllib3 and requests have them."""
    seen: set[int] = set()
    todo = [exc]
    while todo:
        cause = todo.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        todo += [cause.__cause__, cause.__context__, *(arg for arg in cause.args if isinstance(arg, BaseException))]
