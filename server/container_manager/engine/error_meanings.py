"""What an error answer of the engine means.

The HTTP status decides where it can. Where the engine gives one status to several failures (500 for most starts, 404
and 500 for most pulls), its text does: the tables below hold every phrase that is relied on, first match wins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    CapacityExceededError,
    CommandNotExecutableError,
    CommandNotFoundError,
    ContainerManagerError,
    EngineUnavailableError,
    FieldViolation,
    ImageNotFoundError,
    ImagePullDeniedError,
    ImagePullFailedError,
    ImageRegistryUnavailableError,
    InvalidConfigError,
    InvalidStateError,
    PortInUseError,
    SecretsUnavailableError,
    StartFailedError,
)

_HTTP_BAD_REQUEST = 400
_HTTP_NOT_FOUND = 404
_HTTP_CONFLICT = 409
_HTTP_SERVER_ERROR = 500

# Fragments that must all be in the text, lower case, and what they mean.
Table = Sequence[tuple[tuple[str, ...], type[ContainerManagerError]]]

DISK_PHRASES: Table = ((("no space left on device",), CapacityExceededError),)

# The directories are there when this process looks, so either they went a moment ago, or the engine sees another file
# system than this process and --host-secrets-root or --host-state-root does not say where.
MOUNT_PHRASES: Table = ((("bind source path does not exist",), SecretsUnavailableError),)

# The engine's words for a port, and runc's for a process that could not be made. The latter name the call, 'exec: "' or
# "exec /"; without that, a missing file is another one, such as the source of a mount.
START_PHRASES: Table = (
    (("port is already allocated",), PortInUseError),
    (("address already in use",), PortInUseError),
    (('exec: "', "executable file not found"), CommandNotFoundError),
    (('exec: "', "no such file or directory"), CommandNotFoundError),
    (('exec: "', "permission denied"), CommandNotExecutableError),
    (('exec: "', "is a directory"), CommandNotExecutableError),
    (("exec /", "permission denied"), CommandNotExecutableError),
    (("exec format error",), CommandNotExecutableError),
    # Podman's, for one that is paused or being removed; it answers 500 and not 409.
    (("container state improper",), InvalidStateError),
)

# The engine's and distribution's words; newer engines with the containerd image store word some of them anew.
PULL_PHRASES: Table = (
    (("pull access denied",), ImagePullDeniedError),
    (("unauthorized",), ImagePullDeniedError),
    (("authorization failed",), ImagePullDeniedError),
    (("no basic auth credentials",), ImagePullDeniedError),
    (("denied:",), ImagePullDeniedError),
    (("403 forbidden",), ImagePullDeniedError),
    (("manifest unknown",), ImageNotFoundError),
    (("name unknown",), ImageNotFoundError),
    (("repository does not exist",), ImageNotFoundError),
    (("no matching manifest",), ImageNotFoundError),
    (("connection refused",), ImageRegistryUnavailableError),
    (("no such host",), ImageRegistryUnavailableError),
    (("server misbehaving",), ImageRegistryUnavailableError),
    (("network is unreachable",), ImageRegistryUnavailableError),
    (("no route to host",), ImageRegistryUnavailableError),
    (("i/o timeout",), ImageRegistryUnavailableError),
    (("tls handshake timeout",), ImageRegistryUnavailableError),
    (("request canceled while waiting for connection",), ImageRegistryUnavailableError),
    (("context deadline exceeded",), ImageRegistryUnavailableError),
    (("502 bad gateway",), ImageRegistryUnavailableError),
    (("503 service unavailable",), ImageRegistryUnavailableError),
    (("toomanyrequests",), ImageRegistryUnavailableError),
    # Last: containerd ends many of its messages with it.
    (("not found",), ImageNotFoundError),
)


def start_error(exc: EngineRejectedError, bot_id: str) -> ContainerManagerError:
    """The engine's answer to a start or restart, other than success."""
    if exc.status == _HTTP_CONFLICT:
        return InvalidStateError(f"the container can't be started now: {exc.text}", bot_id=bot_id)
    cls = _lookup(exc.text, (*DISK_PHRASES, *MOUNT_PHRASES, *START_PHRASES)) or StartFailedError
    return cls(f"the engine could not start the container: {exc.text}", bot_id=bot_id)


def pull_error(text: str, reference: str) -> ContainerManagerError:
    """The engine's words for a failed pull, whether from an error answer or from inside a 200 stream."""
    # Without the image's name, whose own words ("unauthorized", "not-found") say nothing.
    name = re.escape(re.sub(r"(:[^:/]*)?(@.*)?$", "", reference))
    said = re.sub(rf"(?<![\w.-]){name}(?![\w-])[^\s\"',]*", "", text)
    cls = _lookup(said, (*DISK_PHRASES, *PULL_PHRASES)) or ImagePullFailedError
    return cls(f"image {reference} could not be pulled: {text}", image=reference)


def create_error(exc: EngineRejectedError, bot_id: str) -> ContainerManagerError:
    """The engine's answer to a create, other than success, name conflict and missing image."""
    if cls := _lookup(exc.text, MOUNT_PHRASES):
        return cls(f"the engine cannot mount the bot's directory: {exc.text}", bot_id=bot_id)
    # 404: something that it names, such as its network, was removed a moment ago.
    if exc.status in (_HTTP_BAD_REQUEST, _HTTP_NOT_FOUND):
        return InvalidConfigError(FieldViolation("config", f"the engine refused it: {exc.text}"))
    return engine_error(exc, bot_id)


def engine_error(exc: EngineRejectedError, bot_id: str = "") -> ContainerManagerError:
    """An answer that no operation expects: a fault of the engine, or, below 500, a bug of ours."""
    metadata = {"bot_id": bot_id} if bot_id else {}
    cls = _lookup(exc.text, DISK_PHRASES)
    if cls is not None:
        return cls(f"the engine's disk is full: {exc.text}", **metadata)
    if exc.status >= _HTTP_SERVER_ERROR:
        return EngineUnavailableError(f"the engine failed: {exc.text}", **metadata)
    return ContainerManagerError(f"the engine refused an unexpected request: {exc}", **metadata)


def _lookup(text: str, table: Table) -> type[ContainerManagerError] | None:
    lowered = text.lower()
    return next((cls for fragments, cls in table if all(part in lowered for part in fragments)), None)
