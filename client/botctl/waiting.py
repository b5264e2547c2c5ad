"""Waits until a started bot is ready: the server's rules for readiness, from what any client may ask.

The server has no call for it: health is in the container's status, and the action ``ready`` is one that callers run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from botctl.rendering.words import reason_word, state_word
from botmaker.container.v1 import container_manager_pb2 as pb

HELD_SECONDS = 3.0
"""How long a bot has to stay healthy, or its action has to succeed."""
RUNNING_SECONDS = 10.0
"""How long a bot has to run of which nothing better is known."""
_LOOK_SECONDS = 0.5
_PROBE_SECONDS = 2.0
# Some programs restart themselves after a migration.
_MOST_ENDS = 1
_CANNOT_RUN = (126, 127)


class NotReadyError(Exception):
    """The bot was started but is not ready. The message says why."""


class Probed(NamedTuple):
    """What the action ``ready`` of a bot has said."""

    exit_code: int | None
    """0: the bot is ready. ``None``: nothing is known of it, for the reason in ``words``."""
    words: str


class Ready(NamedTuple):
    """The outcome of a wait."""

    done: str
    """``healthy``, ``ready`` or ``running``."""
    remark: str = ""
    """What ``running`` means."""


@dataclass(frozen=True)
class _Seen:
    message: str
    ready: Ready | None = None
    """What the bot is when this has been so for long enough. ``None``: it is not ready."""
    needed_seconds: float = 0.0


def wait_until_ready(
    status_of: Callable[[], pb.ContainerStatus | None],
    probe: Callable[[], Probed],
    *,
    restart_count: int,
    timeout_seconds: float,
    on_progress: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Ready:
    """Returns what the bot is. Raises :class:`NotReadyError`, or the last error of an unavailable service.

    ``restart_count``: the container's restart count right after the start. A higher one means that the process ended.
    ``on_progress`` receives what is being waited for.
    """
    begun = clock()
    wait = _Wait(probe, restart_count, clock)
    message = ""
    while True:
        unavailable: grpc.RpcError | None = None
        try:
            wait.look_at(status_of())
        except grpc.RpcError as exc:
            if exc.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            # The service may be restarting.
            unavailable = exc
            wait.take(_Seen("the service is not there"))
        if (ready := wait.outcome()) is not None:
            return ready
        if wait.seen.message != message:
            message = wait.seen.message
            on_progress(message)
        if clock() - begun >= timeout_seconds:
            if unavailable is not None:
                raise unavailable
            raise NotReadyError(f"it was not ready within {timeout_seconds:g} s: {message}")
        sleep(_LOOK_SECONDS)


class _Wait:
    """What one wait has seen so far."""

    def __init__(self, probe: Callable[[], Probed], restart_count: int, clock: Callable[[], float]) -> None:
        self.seen = _Seen("its state is unknown")
        self._probe = probe
        self._restart_count = restart_count
        self._clock = clock
        self._since = self._next_probe = clock()
        self._started: Timestamp | None = None

    def look_at(self, status: pb.ContainerStatus | None) -> None:
        """Take over a status, and run the action if only that can tell more. Raises :class:`NotReadyError`."""
        if status is None:
            raise NotReadyError("its container was removed")
        _check(status, self._restart_count)
        if status.start_time != self._started:
            # Another run of the process.
            self._started, self._next_probe, self.seen = status.start_time, self._clock(), _Seen("")
        if (found := _of_status(status)) is not None:
            self.take(found)
        elif self._clock() >= self._next_probe:
            self._next_probe = self._clock() + _PROBE_SECONDS
            self.take(self._probed())

    def _probed(self) -> _Seen:
        probed = self._probe()
        if probed.exit_code not in _CANNOT_RUN:
            return _of_probe(probed)
        cannot = _Seen(f"its action ready cannot be run: {probed.words}")
        # The first time, the container may just have ended: the engine tells that in the same way.
        if self.seen == cannot:
            raise NotReadyError(cannot.message)
        return cannot

    def take(self, seen: _Seen) -> None:
        """Take over what has been found."""
        if seen.ready != self.seen.ready:
            self._since = self._clock()
        self.seen = seen

    def outcome(self) -> Ready | None:
        """What the bot is, if it has been so for long enough."""
        return self.seen.ready if self._clock() - self._since >= self.seen.needed_seconds else None


def _of_status(status: pb.ContainerStatus) -> _Seen | None:
    """What the status says; ``None`` if only the action can tell."""
    if status.state != pb.CONTAINER_STATE_RUNNING:
        return _Seen("its process has ended and is being started again")
    if status.health == pb.HEALTH_STATUS_HEALTHY:
        return _Seen(f"healthy, waiting until it has been so for {HELD_SECONDS:g} s", Ready("healthy"), HELD_SECONDS)
    if status.health == pb.HEALTH_STATUS_STARTING:
        return _Seen("its health check has not passed yet")
    return None


def _of_probe(probed: Probed) -> _Seen:
    if probed.exit_code is None:
        ready = Ready("running", f"for {RUNNING_SECONDS:g} s; {probed.words}")
        return _Seen(f"waiting until it has run for {RUNNING_SECONDS:g} s; {probed.words}", ready, RUNNING_SECONDS)
    if probed.exit_code:
        return _Seen(f"its action ready says: {probed.words}")
    return _Seen(f"ready, waiting until it has been so for {HELD_SECONDS:g} s", Ready("ready"), HELD_SECONDS)


def _check(status: pb.ContainerStatus, restart_count: int) -> None:
    """Raise :class:`NotReadyError` if the bot will not be ready."""
    ends = status.restart_count - restart_count
    ended = _end(status)
    if ends > 0 and _exit_code(status) in _CANNOT_RUN:
        raise NotReadyError(f"its command cannot be run: its process ended{ended}")
    if ends > _MOST_ENDS:
        raise NotReadyError(f"its process ended {ends} times, at last{ended or ' for an unknown reason'}")
    if status.state == pb.CONTAINER_STATE_RUNNING and status.health == pb.HEALTH_STATUS_UNHEALTHY:
        raise NotReadyError("its health check fails")
    if status.state in (pb.CONTAINER_STATE_RUNNING, pb.CONTAINER_STATE_RESTARTING):
        return
    if status.error:
        raise NotReadyError(status.error)
    if status.state == pb.CONTAINER_STATE_EXITED:
        raise NotReadyError(f"its process ended{ended}")
    raise NotReadyError(f"its container is {state_word(status.state)}")


def _exit_code(status: pb.ContainerStatus) -> int | None:
    if status.HasField("exit_code"):
        return status.exit_code
    return status.last_exit.exit_code if status.HasField("last_exit") else None


def _end(status: pb.ContainerStatus) -> str:
    """How the last run ended, as the end of a sentence; empty if unknown."""
    code = _exit_code(status)
    if code is None:
        return ""
    reason = status.exit_reason if status.HasField("exit_code") else status.last_exit.exit_reason
    return f" with exit code {code} ({reason_word(reason)})"
