"""Remembers how containers' runs ended, for :attr:`ContainerStatus.last_exit`.

While a container runs, the engine still tells when its run before ended, and no longer how. That is known here from an
inspection between the runs, or from the engine's events: ``die`` has the exit code, and ``oom`` comes shortly before or
after it. The engine's time of that end decides whether what is known belongs to it, so a missed event leaves the last
exit unknown, and never shows one of an older run. Where the engine's clock was set back, the order of its events
decides. Nothing is stored: a restart of the service forgets the ends.

The engine marks a run in which any process was killed for lack of memory, whatever ends the run later. So the events
decide, not the mark: a run ended for lack of memory if an ``oom`` event is near its end, and no ``kill`` event or stop
of this service came before that. The mark counts if that event is some seconds older, for an end around which no events
were followed, and on Podman, which has no ``oom`` events, nor a ``kill`` event for a stop.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, NamedTuple

from container_manager.backends.exit_reasons import SIGKILL_CODE, exit_reason, signal_number
from container_manager.engine.timestamps import time_ns
from container_manager.model import ContainerState, ContainerStatus, ExitReason, LastExit

# With more containers, the ends of those that were noted first are forgotten.
_MAX_CONTAINERS = 10_000
_EXIT_CODE = re.compile(r"\d{1,3}", re.ASCII)
_RUNNING = (ContainerState.RUNNING, ContainerState.PAUSED)
# A run mostly ends this soon after the kernel has killed its process, or one whose exit code its process takes over.
_OOM_NS = 5_000_000_000
# It may end this late: much memory takes long to free, and the clock may be set meanwhile.
_MAYBE_OOM_NS = 30_000_000_000


class _Death(NamedTuple):
    """A ``die`` event. The engine sends it after the end of its run and before the next one starts."""

    time_ns: int
    exit_code: int
    oom_ns: int | None
    """The last ``oom`` event of its run."""
    killed: bool
    from_podman: bool
    followed_ns: int | None
    """Events were followed from then on."""
    start_followed: bool = False
    """A ``start`` event came after it."""

    def is_of(self, finish_ns: int, next_start_ns: int | None) -> bool:
        """Whether it is of the run that ended at ``finish_ns``, before the one that started at ``next_start_ns``."""
        if self.time_ns < finish_ns:
            return False
        if next_start_ns is None or self.time_ns <= next_start_ns:
            return True
        # It is of the next run itself, unless the clock was set back.
        return finish_ns > next_start_ns and self.start_followed

    def ran_out_of_memory(self, finish_ns: int) -> bool | None:
        """Whether the run that ended at ``finish_ns`` did so for lack of memory; ``None``: the events do not tell."""
        if self.killed or self.exit_code != SIGKILL_CODE:
            return False
        if self.oom_ns is not None and self.oom_ns >= finish_ns - _OOM_NS:
            return True
        earliest_ns = finish_ns - _MAYBE_OOM_NS
        if self.from_podman or self.followed_ns is None or earliest_ns < self.followed_ns:
            return None
        return None if self.oom_ns is not None and self.oom_ns > earliest_ns else False


@dataclass
class _Ends:
    """What is known of one container."""

    inspected: LastExit | None = None
    """The last end that an inspection has shown."""
    death: _Death | None = None
    """The last ``die`` event."""
    oom_ns: int | None = None
    """The last ``oom`` event since the last ``start`` or ``die`` event."""
    killed: bool = False
    """The engine was told to kill it since the last ``start`` or ``die`` event."""
    stopped_run: int | None = None
    """The start time of a run that this service has stopped."""
    before: tuple[int, LastExit] | None = None
    """The start time of a run, and the end of the run before it."""


class RunEnds:
    """The last ends of each container, from inspections and events; usable from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._ends: dict[str, _Ends] = {}
        self._followed_ns: int | None = None

    def follow(self, since_ns: int) -> None:
        """Note that the engine's events are followed without a gap from ``since_ns`` on, by the engine's clock."""
        with self._lock:
            self._followed_ns = since_ns

    def last_exit(self, status: ContainerStatus, document: dict[str, Any]) -> LastExit | None:
        """The end of the run before the present one, if it is known; notes the end that the status itself shows.

        ``document`` is that of ``GET /containers/{id}/json``, of which the status is.
        """
        if status.start_time_ns is None:
            return None
        with self._lock:
            return self._last_exit(status, status.start_time_ns, document)

    def stops(self, container: ContainerStatus) -> None:
        """Note that this service is about to stop a container, and may kill it."""
        if container.state in _RUNNING:
            with self._lock:
                self._of(container.container_id).stopped_run = container.start_time_ns

    def with_reason(self, status: ContainerStatus) -> ContainerStatus:
        """The status with the reason of its exit that the events tell, if the engine's mark tells another."""
        with self._lock:
            ends = self._ends.get(status.container_id)
            if ends is None or status.exit_reason not in (ExitReason.OOM_KILLED, ExitReason.KILLED):
                return status
            death, finish_ns = ends.death, status.finish_time_ns
            is_stopped = ends.stopped_run == status.start_time_ns
            if death is None or finish_ns is None or death.time_ns < finish_ns:
                out_of_memory = False if ends.killed or is_stopped else None
            elif death.from_podman and is_stopped:
                out_of_memory = False
            else:
                out_of_memory = death.ran_out_of_memory(finish_ns)
        if out_of_memory is None:
            return status
        return replace(status, exit_reason=ExitReason.OOM_KILLED if out_of_memory else ExitReason.KILLED)

    def event(self, container_id: str, action: str, attributes: Mapping[str, object], happened_ns: int) -> None:
        """Note an event of a container. Events may be repeated."""
        with self._lock:
            if action == "oom":
                ends = self._of(container_id)
                ends.oom_ns, death = happened_ns, ends.death
                if death is not None and not death.start_followed and happened_ns >= death.time_ns:
                    ends.death = death._replace(oom_ns=happened_ns)
            elif action == "kill":
                if signal_number(str(attributes.get("signal"))) == signal.SIGKILL:
                    self._of(container_id).killed = True
            elif action == "start":
                started = self._ends.get(container_id)
                if started is not None:
                    started.oom_ns, started.killed = None, False
                    if started.death is not None:
                        started.death = started.death._replace(start_followed=True)
            elif action in ("die", "died"):
                # Podman calls it containerExitCode, and newer versions exitCode too.
                from_podman = "containerExitCode" in attributes
                exit_code = str(attributes.get("containerExitCode" if from_podman else "exitCode"))
                ends = self._of(container_id)
                oom_ns, killed = ends.oom_ns, ends.killed
                ends.oom_ns, ends.killed = None, False
                is_repeated = ends.death is not None and ends.death.time_ns == happened_ns
                # A repeated event may come without the oom event before it.
                if _EXIT_CODE.fullmatch(exit_code) and not is_repeated:
                    ends.death = _Death(
                        happened_ns, int(exit_code), oom_ns, killed, from_podman, followed_ns=self._followed_ns
                    )

    def forget(self, container_id: str) -> None:
        """Forget a container that is gone."""
        with self._lock:
            self._ends.pop(container_id, None)

    def _last_exit(self, status: ContainerStatus, start_ns: int, document: dict[str, Any]) -> LastExit | None:
        if status.state in _RUNNING:
            found = self._end(status.container_id, start_ns, document)
            if found is not None:
                self._of(status.container_id).before = (start_ns, found)
            return found
        if status.exit_reason is ExitReason.START_FAILED:
            # No run has begun since the one that the engine's times are about.
            return self._end(status.container_id, None, document)
        if status.exit_code is not None and status.exit_reason and status.finish_time_ns is not None:
            end = LastExit(status.exit_code, status.exit_reason, status.finish_time_ns)
            self._of(status.container_id).inspected = end
        ends = self._ends.get(status.container_id)
        return ends.before[1] if ends and ends.before and ends.before[0] == start_ns else None

    def _end(self, container_id: str, next_start_ns: int | None, document: dict[str, Any]) -> LastExit | None:
        """The end at the document's ``FinishedAt``, of the run before the one that started at ``next_start_ns``."""
        finish_ns, ends = time_ns(document["State"].get("FinishedAt")), self._ends.get(container_id)
        if finish_ns is None or ends is None:
            return None
        inspected = ends.inspected if ends.inspected and ends.inspected.finish_time_ns == finish_ns else None
        death = ends.death
        if death is None or not death.is_of(finish_ns, next_start_ns):
            return inspected
        out_of_memory = death.ran_out_of_memory(finish_ns)
        # An inspection right after the end may come before the engine's mark, or see that of a child.
        if inspected is not None and out_of_memory is None:
            return inspected
        reason = exit_reason(death.exit_code, document["Config"].get("StopSignal"), oom_killed=out_of_memory is True)
        return LastExit(death.exit_code, reason, finish_ns)

    def _of(self, container_id: str) -> _Ends:
        ends = self._ends.get(container_id)
        if ends is None:
            if len(self._ends) >= _MAX_CONTAINERS:
                del self._ends[next(iter(self._ends))]
            ends = self._ends[container_id] = _Ends()
        return ends
