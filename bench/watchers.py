"""From a change made outside of the service until its watchers know.

A running container is paused and unpaused through the engine's own API, again and again. One watcher tells when an
external change is visible; a thousand, over ten connections, tell when the last one has it. Times are from the moment
that the engine gives in its event, and (in brackets) from just before the engine was asked for the change.

On few cores the clients are part of what is measured, so the thousand are measured twice: as clients that only cut
HTTP/2 frames into messages (``bench.http2_streams``) in one process, and as ``grpc.aio`` streams without decoding in
two. Beside each of them the floor: an empty ``grpc.aio`` service that writes the same bytes to as many streams of the
same clients, from the signal that makes it do so. CPU is that of all processes of a kind, per change: where both sides
of the floor keep the cores busy for longer than the aim, no service in Python meets it there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from statistics import median
from typing import Any, NamedTuple

from bench.belongings import Belongings
from bench.chart import Bars
from bench.child import Child
from bench.echo_service import EchoProcess
from bench.engine_http import RawEngine
from bench.figures import in_milliseconds, percentile
from bench.report import Aim, Part, Table
from bench.served_process import ServedProcess
from bench.service_process import ServiceProcess
from bench.watching import WATCH_METHOD, AioWatchers, Arrival, FrameWatchers
from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_manager_pb2 import ContainerState
from container_manager.model import container_name

AIM_VISIBLE_SECONDS = 0.1
AIM_LAST_SECONDS = 0.15
_CONNECTIONS = 10
_WATCHERS = 1000
_CHANGES = 200
_QUICK_CHANGES = 30
_ROUNDS = 100
_QUICK_ROUNDS = 20
_EACH = _WATCHERS // _CONNECTIONS
# Processes of clients: their kind, connections, and streams on each.
_CLIENTS: dict[str, list[tuple[Any, int, int]]] = {
    "frames only": [(FrameWatchers, _CONNECTIONS, _EACH)],
    "grpc.aio": [(AioWatchers, _CONNECTIONS // 2, _EACH)] * 2,
}
_EMPTY = "empty service"
# Until a child reads again, and what the change before has left to do is done.
_QUIET_SECONDS = 0.05


class _Series(NamedTuple):
    """One value for each change; seconds."""

    from_event: list[float]
    from_request: list[float]
    server_cpu: float
    client_cpu: float
    """Per change."""


def measure(belongings: Belongings, docker_host: str, *, rounds: int | None, quick: bool) -> Part:
    """Measure with one watcher and with many."""
    part = Part("watchers", __doc__ or "")
    changes = rounds or (_QUICK_CHANGES if quick else _CHANGES)
    rounds_of_many = rounds or (_QUICK_ROUNDS if quick else _ROUNDS)
    print(f"watchers: {changes} changes for one, {rounds_of_many} for {_WATCHERS}", flush=True)
    (bot_id,) = belongings.running_containers(1, ("sleep", "86400"))
    with (
        ServiceProcess(belongings, docker_host, "watched", "--max-watchers", str(3 * _WATCHERS)) as service,
        closing(RawEngine(docker_host)) as engine,
        closing(RawEngine(docker_host)) as events,
    ):
        pauses = _Pauses(engine, events, container_name(bot_id))
        one, _ = _watched(service, pauses, changes, [(FrameWatchers, 1, 1)])
        many = {}
        for name, kinds in _CLIENTS.items():
            many[name], message = _watched(service, pauses, rounds_of_many, kinds)
    with EchoProcess(belongings, "echo-watched", message) as echo:
        for name, kinds in _CLIENTS.items():
            many[f"{_EMPTY}, {name}"], _ = _watched(echo, _Signals(echo), rounds_of_many, kinds)
    _tell(part, one, many)
    return part


class _Pauses:
    """Changes of one container, made outside of the service."""

    def __init__(self, engine: RawEngine, events: RawEngine, name: str) -> None:
        self._engine, self._name = engine, name
        self._events: Iterator[dict[str, Any]] = events.events(name)
        self._paused = False

    def make(self) -> tuple[int, int]:
        """Make the next change; when it was asked for, and when the engine says that it was, in nanoseconds."""
        asked = time.time_ns()
        (self._engine.unpause if self._paused else self._engine.pause)(self._name)
        self._paused = not self._paused
        return asked, next(self._events)["timeNano"]

    def check(self, arrivals: Sequence[Arrival]) -> bytes:
        """What was told, if it is the change that was made and the same for all; else :class:`ValueError`."""
        messages = {message for arrival in arrivals for message in arrival.messages}
        told = [pb.WatchContainersResponse.FromString(message) for message in messages]
        expected = "CONTAINER_STATE_PAUSED" if self._paused else "CONTAINER_STATE_RUNNING"
        states = {ContainerState.Name(each.changed.state) for each in told}
        if len(messages) != 1 or states != {expected}:
            raise ValueError(f"the watchers were told {told}, not one change to {expected}")
        return messages.pop()


class _Signals:
    """The floor's changes."""

    def __init__(self, echo: EchoProcess) -> None:
        self._echo = echo

    def make(self) -> tuple[int, int]:
        asked = time.time_ns()
        self._echo.tell()
        return asked, asked

    def check(self, arrivals: Sequence[Arrival]) -> bytes:
        return arrivals[0].messages[0]


def _watched(
    server: ServedProcess, changes: _Pauses | _Signals, rounds: int, kinds: Sequence[tuple[Any, int, int]]
) -> tuple[_Series, bytes]:
    """Make so many changes while processes of these kinds of watchers, connections and streams each, watch."""
    from_event, from_request = [], []
    method = WATCH_METHOD if isinstance(changes, _Pauses) else "/bench.Echo/Watch"
    with ExitStack() as stack:
        children = [
            stack.enter_context(Child("watchers", kind, str(server.socket), method, connections, each))
            for kind, connections, each in kinds
        ]
        for child in children:
            child.call("open")
        message = b""
        for number in range(rounds + 1):
            if number == 1:
                begun = server.cpu_seconds(), sum(child.cpu_seconds() for child in children)
            for child in children:
                child.begin("await_change")
            time.sleep(_QUIET_SECONDS)
            asked, happened = changes.make()
            arrivals = [child.end() for child in children]
            message = changes.check(arrivals)
            if number:
                last = max(arrival.last_ns for arrival in arrivals)
                from_event.append((last - happened) / 1e9)
                from_request.append((last - asked) / 1e9)
        ended = server.cpu_seconds(), sum(child.cpu_seconds() for child in children)
    used = [(end - begin) / rounds for end, begin in zip(ended, begun, strict=True)]
    return _Series(from_event, from_request, *used), message


def _tell(part: Part, one: _Series, many: dict[str, _Series]) -> None:
    rows = [_row("1 watcher", one), *(_row(f"{_WATCHERS} watchers, {name}", series) for name, series in many.items())]
    head = ["", "p50", "p99", "server CPU", "client CPU"]
    part.tables.append(Table("From a change to the last watcher (ms; in brackets from asking for it)", head, rows))
    visible = percentile(one.from_request, 99)
    part.aims.append(
        Aim(
            "external change visible, p99, from asking for it",
            f"{in_milliseconds(visible)} ms",
            f"at most {AIM_VISIBLE_SECONDS * 1000:.0f} ms",
            met=visible <= AIM_VISIBLE_SECONDS,
        )
    )
    for name in _CLIENTS:
        last, floor = (percentile(many[key].from_event, 99) for key in (name, f"{_EMPTY}, {name}"))
        part.aims.append(
            Aim(
                f"{_WATCHERS} watchers, event to the last client, p99: {name}",
                f"{in_milliseconds(last)} ms (p50 {in_milliseconds(median(many[name].from_event))}; "
                f"{_EMPTY} {in_milliseconds(floor)})",
                f"at most {AIM_LAST_SECONDS * 1000:.0f} ms",
                met=last <= AIM_LAST_SECONDS,
            )
        )
    part.bars.append(
        Bars(
            "External change to the last watcher, p50",
            "ms",
            {row[0]: median(series.from_event) * 1000 for row, series in zip(rows, (one, *many.values()), strict=True)},
            base=rows[-1][0],
            ours=tuple(row[0] for row in rows if _EMPTY not in row[0]),
        )
    )
    part.samples = {name: series._asdict() for name, series in {"one": one, **many}.items()}


def _row(name: str, series: _Series) -> list[str]:
    times = [
        f"{in_milliseconds(of(series.from_event))} ({in_milliseconds(of(series.from_request))})"
        for of in (median, lambda values: percentile(values, 99))
    ]
    return [name, *times, in_milliseconds(series.server_cpu), in_milliseconds(series.client_cpu)]
