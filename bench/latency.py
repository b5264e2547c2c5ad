"""What a status takes while something else goes on: many stops in flight, a log that is read, figures that are watched.

Statuses are asked one after another, of bots drawn at random, by a bare stub. In the same moments an empty service is
called in the same way: what it takes is the machine's doing, not the service's.

The containers that are stopped ignore SIGTERM, and all stops are sent at once. "In flight" lasts from the first one
sent until the first ends, with its grace period. Then the engine kills them, all at about the same time;
"ending" lasts until the last has ended. The log's reader is another process, and the cheapest reader of the service.
All watchers of figures are one process; a scripted engine has the bots.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

import grpc.aio

from bench.clients import BARE, ECHO, Setting
from bench.figures import ms, p99, percentile, ratio_of
from bench.logs import OURS, written_log
from bench.processes import Child, ProcessError, Program
from bench.report import Part
from bench.run import SMOKE_CONTAINERS, Run, status_answer
from bench.scripted_engine import ScriptedEngine, bot_ids
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect

# A program starts with the signals ignored that its parent ignores (execve(2)).
_STUBBORN = ("sh", "-c", "trap '' TERM; exec sleep 86400")
_AT_A_TIME = 25
_WATCH_STATS = "/botmaker.container.v1.ContainerObserver/WatchStats"


class Statuses:
    """Seconds of statuses, and of calls of the empty service, by what goes on meanwhile."""

    def __init__(self, bot_ids: list[str], service: Child, echo: Child) -> None:
        self._service, self._echo = service, echo
        self._bot_ids = bot_ids
        self._draw = random.Random(7)
        self.service: dict[str, list[float]] = {}
        self.echo: dict[str, list[float]] = {}

    def measure(self, what: str, goes_on: Callable[[int], bool]) -> list[float]:
        """Ask some, and more while ``goes_on``, which is given how many there are."""
        service, echo = self.service.setdefault(what, []), self.echo.setdefault(what, [])
        while not service or goes_on(len(service)):
            asked = self._draw.choices(self._bot_ids, k=_AT_A_TIME)
            service += self._service.call("each", "status", asked)[0]
            echo += self._echo.call("each", "status", asked)[0]
        return service

    def tell(self, part: Part, title: str) -> None:
        """Add a table."""
        rows = []
        for what in self.service:
            for suffix, series in (("", self.service), (f": {ECHO}", self.echo)):
                idle, seconds = series["idle"], series[what]
                figures = [ms(percentile(seconds, percent)) for percent in (50, 99, 100)]
                figures += [f"{p99(seconds) / percentile(idle, 50):.2f}", f"{p99(seconds) / p99(idle):.2f}"]
                rows.append([what + suffix, f"{len(seconds):,}", *figures])
        part.table(title, ["", "calls", "p50", "p99", "slowest", "p99 / idle p50", "p99 / idle p99"], rows)


class StatsWatchers:
    """A child's side: watchers of all bots' figures at the shortest interval, who do not decode them."""

    def __init__(self, target: str, count: int) -> None:
        self._target, self._count = target.replace("unix://", "unix:", 1), count

    def read(self, seconds: float) -> int:
        """Read for so long: how many messages came."""
        return asyncio.run(self._read(seconds))

    async def _read(self, seconds: float) -> int:
        request = observer_pb.WatchStatsRequest(interval={"nanos": 500_000_000}).SerializeToString()
        received = 0

        async def watch(call: Any) -> None:
            nonlocal received
            async for _ in call:
                received += 1

        options = (("grpc.default_authority", "localhost"),)
        async with grpc.aio.insecure_channel(self._target, options=options) as channel:
            method: Any = channel.unary_stream(_WATCH_STATS)
            calls = [method(request) for _ in range(self._count)]
            _, open_streams = await asyncio.wait(map(asyncio.ensure_future, map(watch, calls)), timeout=seconds)
            if len(open_streams) < self._count:
                raise ProcessError(f"{self._count - len(open_streams)} of {self._count} watchers were ended")
        return received


def measure(run: Run) -> Part:
    """Measure beside stops, beside a reader, and beside watchers of figures."""
    part = Part()
    with run.service() as service:
        _beside_stops(run, part, service)
        _beside_reader(run, part, service)
    _beside_watchers(run, part)
    return part


@contextmanager
def _statuses(run: Run, service: Program, bot_ids: list[str]) -> Iterator[Statuses]:
    """Of the idle service, to begin with."""
    idle = run.pick(4000, 1000, 25)
    with ExitStack() as stack:
        echo = run.echo(status_answer(service, bot_ids[0]))
        clients = [
            stack.enter_context(run.client(name, Setting("", target)))
            for name, target in ((BARE, service.target), (ECHO, echo.target))
        ]
        for client in clients:
            client.call("each", "status", bot_ids[:1] * _AT_A_TIME)
        statuses = Statuses(bot_ids, *clients)
        statuses.measure("idle", lambda done: done < idle)
        yield statuses


def _beside_stops(run: Run, part: Part, service: Program) -> None:
    count, grace = run.pick(200, 40, 3), run.pick(6, 3, 1)
    print(f"latency: starting {count} containers, and stopping them with a grace period of {grace} s", flush=True)
    bot_ids = run.make(service, count, run.request(network="none", command=_STUBBORN), start=True)
    with connect(service.target) as channel, _statuses(run, service, bot_ids) as statuses:
        stop = ContainerManagerStub(channel).StopContainer.future
        stops: list[Any] = [
            stop(pb.StopContainerRequest(bot_id=bot_id, grace_period={"seconds": grace})) for bot_id in bot_ids
        ]
        in_flight = statuses.measure("in flight", lambda _: not any(stop.done() for stop in stops))
        ending = statuses.measure("ending", lambda _: not all(stop.done() for stop in stops))
        for each in stops:
            each.result()
    statuses.tell(part, f"Status while {count} stubborn containers are stopped (ms)")
    times = ratio_of(in_flight, statuses.service["idle"], p99, median)
    part.at_most(f"status p99 with {count} stops in flight / idle p50", times, 4)
    slowest = max(in_flight + ending) * 1000
    part.at_most(f"slowest status until {count} stops have ended", slowest, 100, " ms")


def _beside_reader(run: Run, part: Part, service: Program) -> None:
    count, (name, operation) = run.pick(4000, 1000, 25), list(OURS.items())[-1]
    bot_id, lines = written_log(run, service)
    print(f"latency: a reader of {lines:,} lines ({name})", flush=True)
    request = ("each", operation, [bot_id])
    setting = Setting(run.docker_host, service.target)
    with run.client(BARE, setting) as reader, _statuses(run, service, [bot_id]) as statuses:
        reading = [reader.begin(*request)]

        def goes_on(done: int) -> bool:
            if reading[-1].done():
                reading.append(reader.begin(*request))
            return done < count

        beside = statuses.measure("beside a reader", goes_on)
        for each in reading:
            each.result()
    statuses.tell(part, f"Status beside a reader: {name} (ms)")
    idle = statuses.service["idle"]
    part.at_most("status p99 beside a log reader / idle p50", ratio_of(beside, idle, p99, median), 5)
    to_p99 = ratio_of(beside, idle, p99, p99)
    part.at_most("status p99 beside a log reader / idle p99", to_p99, 5)


def _beside_watchers(run: Run, part: Part) -> None:
    bots, count = run.pick(500, 500, SMOKE_CONTAINERS), run.pick(100, 100, 2)
    seconds = run.pick(30, 10, 1)
    print(f"latency: {count} watchers of the figures of {bots} bots", flush=True)
    with ExitStack() as stack:
        docker_host = run.docker_host
        if not run.is_smoke:
            docker_host = stack.enter_context(run.server(ScriptedEngine, bots)).target
        service, _ = stack.enter_context(run.synced_service(docker_host, bot_ids(1)[0]))
        watchers = stack.enter_context(Child(StatsWatchers, service.target, count, thread=run.is_smoke))
        statuses = stack.enter_context(_statuses(run, service, bot_ids(bots)))
        reading = watchers.begin("read", seconds)
        beside = statuses.measure("beside watchers", lambda _: not reading.done())
        print(f"latency: {reading.result() / seconds:,.0f} messages a second", flush=True)
    statuses.tell(part, f"Status beside {count} watchers of the figures of {bots} bots (ms)")
    part.at_most(f"status p50 beside {count} watchers of {bots} bots", median(beside) * 1000, 17, " ms")
    part.at_most(f"slowest status beside {count} watchers of {bots} bots", max(beside) * 1000, 170, " ms")
