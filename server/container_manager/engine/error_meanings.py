"""Maps the engine's error responses to domain errors.

The HTTP status decides where it can. Where the engine gives one status to several failures (500 for most starts), its
text does: the tables below hold every phrase that is relied on, first match wins. Pulls have a module of their own,
:mod:`container_manager.engine.pull_errors`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from container_manager.bot_directories import RootDirectory
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    CapacityExceededError,
    CommandNotExecutableError,
    CommandNotFoundError,
    ContainerManagerError,
    EngineUnavailableError,
    FieldViolation,
    InvalidConfigError,
    InvalidStateError,
    OperationInProgressError,
    PortInUseError,
    SecretsUnavailableError,
    StartFailedError,
    StateUnavailableError,
)

_HTTP_BAD_REQUEST = 400
_HTTP_NOT_FOUND = 404
_HTTP_CONFLICT = 409
_HTTP_SERVER_ERROR = 500

# Lower-case fragments that the text must all contain, and the error that they mean.
Table = Sequence[tuple[tuple[str, ...], type[ContainerManagerError]]]

DISK_PHRASES: Table = (
    (("no space left on device",), CapacityExceededError),
    (("disk quota exceeded",), CapacityExceededError),
)

# Of a swarm, about some that this process has just found there.
_REPLACED = re.compile("secrets? not found:")

# Of a swarm, about a change of something that has become too large for it.
_OVERSIZED = "message is too large"

# A path follows. This process has just found the directory. So it was removed since, or the engine sees another file
# system, and --host-secrets-root or --host-state-root is missing or wrong.
_NOT_MOUNTED = "bind source path does not exist"

# The engine lacks a program of its own: its init process, the runtime, or containerd's shim. The engine then looks up
# the program itself, so that its text begins where runc's texts about a bot's command say first who could not start it.
ENGINE_PROGRAM = re.compile(
    r"""
    ^exec:\ " | at\ "(/sbin/docker-init|/dev/init|/run/podman-init)" | exec:?\ "?/(sbin/docker|run/podman)-init\b |
    `/(sbin/docker|run/podman)-init` |
    unable\ to\ retrieve\ OCI\ runtime\ error | failed\ to\ start\ shim | lookup\ init\ binary
    """,
    re.IGNORECASE | re.VERBOSE,
)

# The command and the variables, of which the image may have more.
_TOO_LONG = "argument list too long"

# A restart's text has this before that of the start.
_RESTART = re.compile(r"^Cannot restart container \S+: ")

# The engine's texts about ports, and those of runc and crun about a process that could not be started. runc's contain
# 'exec: "' or " exec /"; without that, the missing file is another one, such as the source of a mount, or a hook
# ("fork/exec /").
START_PHRASES: Table = (
    (("port is already allocated",), PortInUseError),
    (("address already in use",), PortInUseError),
    (('exec: "', "executable file not found"), CommandNotFoundError),
    (('exec: "', "no such file or directory"), CommandNotFoundError),
    (('exec: "', "not a directory"), CommandNotFoundError),
    (('exec: "', "too many levels of symbolic links"), CommandNotFoundError),
    (('exec: "', "file name too long"), CommandNotFoundError),
    ((" exec /", "no such file or directory"), CommandNotFoundError),
    (('exec: "', "permission denied"), CommandNotExecutableError),
    (('exec: "', "is a directory"), CommandNotExecutableError),
    # Go's exec.ErrDot.
    (('exec: "', "cannot run executable found relative"), CommandNotExecutableError),
    ((" exec /", "permission denied"), CommandNotExecutableError),
    # The program has file capabilities.
    ((" exec /", "operation not permitted"), CommandNotExecutableError),
    (("executable file `", "not found"), CommandNotFoundError),
    (("executable file not found in $path: no such file",), CommandNotFoundError),
    (("exec container process", "no such file or directory"), CommandNotFoundError),
    (("open executable:",), CommandNotExecutableError),
    (("exec container process", "permission denied"), CommandNotExecutableError),
    (("exec container process", "operation not permitted"), CommandNotExecutableError),
    (("exec format error",), CommandNotExecutableError),
    # A dead container; the status of a start is 409, that of a restart 500.
    (("marked for removal",), InvalidStateError),
    # Podman, for a paused container or one that is being removed; its status is 500 instead of 409.
    (("container state improper",), InvalidStateError),
)

# An address and a port: "127.0.0.1:80", "[::1]:80", "::1:80", ":80", or the port alone. Of several, such as
# "127.0.0.1:80:172.17.0.2:80/tcp", the first one.
# The text may contain a caller's command of 128 KiB, so no repetition may begin at each character and be unbounded.
_HOST_PORT = re.compile(
    r"(?<![\w.:])(\d+\.\d+\.\d+\.\d+|\[[^\]\s]{0,64}\]|(?:[0-9a-f]{0,4}:){2,}[0-9a-f]{0,4}|):(\d{1,5})(?!\w)"
    r"|\bport (\d{1,5})(?!\w|\.\d)",
    re.IGNORECASE,
)


def start_error(
    exc: EngineRejectedError, bot_id: str, state_root: RootDirectory | None = None
) -> ContainerManagerError:
    """The error for the engine's error response to a start or restart of a bot with its state below this root."""
    if exc.status == _HTTP_CONFLICT:
        return InvalidStateError(f"the container can't be started now: {exc.text}", bot_id=bot_id)
    if ENGINE_PROGRAM.search(_RESTART.sub("", exc.text)) and not (disk_error(exc.text, "") or _TOO_LONG in exc.text):
        return StartFailedError(
            f"a program of the engine itself is missing or broken; run the doctor on its machine: {exc.text}",
            bot_id=bot_id,
        )
    table = (*DISK_PHRASES, *_mount_phrases(bot_id, state_root), *START_PHRASES)
    cls = _lookup(exc.text, table) or StartFailedError
    what = f"{_taken_port(exc.text)} is in use; " if cls is PortInUseError else ""
    return cls(f"{what}the engine could not start the container: {exc.text}", bot_id=bot_id)


def disk_error(text: str, message: str, **metadata: str) -> ContainerManagerError | None:
    """The error with this ``message`` if the engine's ``text`` is about a full disk."""
    cls = _lookup(text, DISK_PHRASES)
    return cls(message, **metadata) if cls is not None else None


def is_name_conflict(exc: EngineRejectedError, name: str) -> bool:
    """Whether a create was refused since there is a container of this name."""
    # Podman's status is 500.
    return exc.status == _HTTP_CONFLICT or f'container name "{name}" is already in use' in exc.text


def create_error(
    exc: EngineRejectedError, bot_id: str, state_root: RootDirectory | None = None
) -> ContainerManagerError:
    """The error for the engine's error response to a create, other than a name conflict or a missing image."""
    if cls := _lookup(exc.text, _mount_phrases(bot_id, state_root)):
        return cls(f"the engine cannot mount the bot's directory: {exc.text}", bot_id=bot_id)
    if _REPLACED.search(exc.text):
        return engine_error(exc, bot_id)
    # 404: something that the request names, such as its network, was removed a moment ago.
    if exc.status in (_HTTP_BAD_REQUEST, _HTTP_NOT_FOUND):
        return InvalidConfigError(FieldViolation("config", f"the engine refused it: {exc.text}"))
    return engine_error(exc, bot_id)


def engine_error(exc: EngineRejectedError, bot_id: str = "") -> ContainerManagerError:
    """The error for an unexpected error response: a fault of the engine, or, below 500, an error in this service."""
    metadata = {"bot_id": bot_id} if bot_id else {}
    if _REPLACED.search(exc.text):
        return OperationInProgressError("the bot's secrets were changed at the same time; try again", **metadata)
    if error := disk_error(exc.text, f"the engine's disk is full: {exc.text}", **metadata):
        return error
    if _OVERSIZED in exc.text:
        return InvalidStateError(f"it is too large for the swarm to keep: {exc.text}", **metadata)
    if exc.status >= _HTTP_SERVER_ERROR:
        return EngineUnavailableError(f"the engine failed: {exc.text}", **metadata)
    return ContainerManagerError(f"the engine refused an unexpected request: {exc}", **metadata)


def _mount_phrases(bot_id: str, state_root: RootDirectory | None) -> Table:
    secrets = ((_NOT_MOUNTED,), SecretsUnavailableError)
    if state_root is None:
        return (secrets,)
    source = state_root.source(bot_id).lower()
    return (((f"{_NOT_MOUNTED}: {source}",), StateUnavailableError), secrets)


def _taken_port(text: str) -> str:
    """The host port that the engine could not bind, in words."""
    found = _HOST_PORT.search(text)
    if found is None:
        return "a host port of the bot"
    address, port = (found[1] or "").strip("[]"), found[2] or found[3]
    return f"host port {port} of {address}" if address else f"host port {port}"


def _lookup(text: str, table: Table) -> type[ContainerManagerError] | None:
    lowered = text.lower()
    return next((cls for fragments, cls in table if all(part in lowered for part in fragments)), None)
