"""What it means when the engine answers with an error, or not at all; the same for every HTTP client in use."""

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

HTTP_UNAUTHORIZED = (401, 403)


class EngineRejectedError(Exception):
    """The engine answered with an error: its HTTP ``status`` and its own ``text``."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{text} (HTTP {status})")
        self.status = status
        self.text = text


def no_answer(docker_host: str, exc: BaseException, timeouts: tuple[type[BaseException], ...]) -> ContainerManagerError:
    """The domain's error for a call that ended with ``exc``; ``timeouts`` are the client's exceptions for one."""
    causes = list(_causes(exc))
    if any(isinstance(cause, timeouts) for cause in causes):
        return EngineTimeoutError(f"the Docker Engine at {docker_host} did not answer in time")
    if any(isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM) for cause in causes):
        return access_denied(docker_host, "permission denied")
    detail = next((c.strerror for c in causes if isinstance(c, OSError) and c.strerror), "no usable answer")
    return EngineUnavailableError(f"the Docker Engine at {docker_host} cannot be reached: {detail}")


def access_denied(docker_host: str, detail: str) -> EngineAccessDeniedError:
    """The domain's error for an engine that does not let this process in."""
    return EngineAccessDeniedError(
        f"the Docker Engine at {docker_host} refuses this process ({detail}); "
        "run it as a user that may use the engine, such as a member of the group that owns the socket"
    )


def error_text(body: bytes) -> str:
    """The text of an error answer: the engine's JSON, or whatever a proxy in front of it says."""
    try:
        return str(json.loads(body)["message"]).strip()
    except (ValueError, LookupError, TypeError):
        return body.decode("utf-8", "replace").strip()


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    """An exception, what it was raised from, and exceptions it merely carries, as urllib3's and requests' do."""
    seen: set[int] = set()
    todo = [exc]
    while todo:
        cause = todo.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        todo += [cause.__cause__, cause.__context__, *(arg for arg in cause.args if isinstance(arg, BaseException))]
