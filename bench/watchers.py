"""From a change made outside of the service until the last of its watchers has it.

A running container is paused and unpaused through the engine's own API. Its watchers are ``grpc.aio`` streams in two
processes, which do not decode what they receive. The floor: an empty service that writes the same bytes to as many
streams of the same clients. Both have their watchers throughout, and take turns. A time starts with the moment that the
engine gives in its event, or that at which the empty service is told to write.

On two cores the clients are part of what is measured, on both sides alike.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from statistics import median
from typing import Any

import grpc.aio

from bench.clients import ECHO, SERVICE
from bench.engine_http import RawEngine, container_name
from bench.figures import ms, p99, ratio, ratio_of
from bench.processes import Child, ProcessError
from bench.report import Part
from bench.run import Run
from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_manager_pb2 import ContainerState, GetContainerStatusRequest
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect
from dev.remains import wait_for

_METHOD = "/botmaker.container.v1.ContainerObserver/WatchContainers"
_COUNTS = (1000, 1000, 4)
_CONNECTIONS = 5
_OPEN_SECONDS = 60.0
_CHANGE_SECONDS = 20.0
# Until a child reads again, and what the change before has left to do is done.
_QUIET_SECONDS = 0.05
# After each of the measured changes, in turn; one comes before them.
_STATES = (ContainerState.CONTAINER_STATE_RUNNING, ContainerState.CONTAINER_STATE_PAUSED)


class Watchers:
    """A child's side: some watchers of all containers. The methods are called one after another."""

    def __init__(self, target: str, count: int) -> None:
        self._target, self._count = target.replace("unix://", "unix:", 1), count
        self._runner = asyncio.Runner()
        self._channels: list[grpc.aio.Channel] = []
        self._calls: list[Any] = []

    def open(self) -> None:
        """Open the streams and read what there is, until each is in sync."""
        self._runner.run(self._open())

    def await_change(self) -> tuple[int, set[bytes]]:
        """Read one message of each: when the last one had it, in ``time.time_ns()``, and the different messages."""
        return self._runner.run(self._await_change())

    def close(self) -> None:
        """End the streams."""
        self._runner.run(self._close())
        self._runner.close()

    async def _open(self) -> None:
        # Each channel with a connection of its own, in place of one that all share.
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.default_authority", "localhost"))
        for number in range(self._count):
            if number % max(1, self._count // _CONNECTIONS) == 0:
                self._channels.append(grpc.aio.insecure_channel(self._target, options=options))
            watch: Any = self._channels[-1].unary_stream(_METHOD)
            self._calls.append(watch(pb.WatchContainersRequest().SerializeToString()))
        async with asyncio.timeout(_OPEN_SECONDS):
            await asyncio.gather(*(self._sync(call) for call in self._calls))
        # Full collections of a client's streams would take a part of the times.
        gc.freeze()

    async def _close(self) -> None:
        for call in self._calls:
            call.cancel()
        for channel in self._channels:
            await channel.close()
        # In a smoke run, what is still to come meets a closed loop in the same process.
        await asyncio.sleep(_QUIET_SECONDS)

    async def _sync(self, call: Any) -> None:
        while not pb.WatchContainersResponse.FromString(await call.read()).HasField("synced"):
            pass

    async def _await_change(self) -> tuple[int, set[bytes]]:
        async with asyncio.timeout(_CHANGE_SECONDS):
            times, messages = zip(*await asyncio.gather(*(self._read(call) for call in self._calls)), strict=True)
        return max(times), set(messages)

    async def _read(self, call: Any) -> tuple[int, bytes]:
        message = await call.read()
        return time.time_ns(), message


def measure(run: Run) -> Part:
    """Measure the fan-out of the service and of the empty one."""
    part = Part()
    count, rounds = run.pick(*_COUNTS), run.rounds(150, 25, 1)
    print(f"watchers, {count:,}: {rounds} rounds", flush=True)
    with ExitStack() as stack:
        service = stack.enter_context(run.service())
        (bot_id,) = run.make(service, 1, run.request(network="none"), start=True)
        # Once the view shows that it runs, nothing else is sent of it.
        if not wait_for(lambda: _state(service.target, bot_id) == _STATES[0], 30):
            raise ProcessError("the service does not show in time that a container runs")
        engine, events = (stack.enter_context(closing(RawEngine(run.docker_host))) for _ in range(2))
        happened, verbs = events.events(container_name(bot_id)), itertools.cycle(("pause", "unpause"))

        def act() -> int:
            engine.act(container_name(bot_id), next(verbs))
            moment: int = next(happened)["timeNano"]
            return moment

        children = {SERVICE: _open(run, stack, service.target)}
        _, message = _change(children[SERVICE], act)
        echo = run.echo(message)
        changes: dict[str, Callable[[], int]] = {SERVICE: act, ECHO: partial(echo.call, "send")}
        children[ECHO] = _open(run, stack, echo.target)
        seconds: dict[str, list[float]] = {name: [] for name in changes}
        draw = random.Random(9)
        for number in range(rounds):
            for name in draw.sample(list(changes), len(changes)):
                taken, message = _change(children[name], changes[name])
                seconds[name].append(taken)
                state = pb.WatchContainersResponse.FromString(message).changed.state
                if name == SERVICE and state != _STATES[number % 2]:
                    raise ProcessError(f"the watchers received {ContainerState.Name(state)} of another change")
    rows = [[name, ms(median(s)), ms(p99(s)), ms(max(s)), str(ratio(s, seconds[ECHO]))] for name, s in seconds.items()]
    head = ["", "p50", "p99", "slowest", f"p50 to {ECHO} [95 %]"]
    part.table(f"From a change to the last of {count:,} watchers (ms, {rounds} rounds)", head, rows)
    times = ratio_of(seconds[SERVICE], seconds[ECHO], p99, p99)
    last = p99(seconds[SERVICE]) * 1000
    part.aim(
        f"{count:,} watchers: event to the last, p99",
        f"{last:.0f} ms; {times} times the {ECHO}",
        "at most 130 ms, or 1.5 times",
        met=last <= 130 or times.value <= 1.5,
    )
    return part


def _state(target: str, bot_id: str) -> ContainerState:
    with connect(target) as channel:
        stub = ContainerManagerStub(channel)
        return stub.GetContainerStatus(GetContainerStatusRequest(bot_id=bot_id)).status.state


def _open(run: Run, stack: ExitStack, target: str) -> list[Child]:
    processes = run.pick(2, 2, 1)
    count = run.pick(*_COUNTS) // processes
    children = [stack.enter_context(Child(Watchers, target, count, thread=run.is_smoke)) for _ in range(processes)]
    for child in children:
        child.call("open")
        stack.callback(child.call, "close")
    return children


def _change(children: list[Child], make: Callable[[], int]) -> tuple[float, bytes]:
    """Make a change: seconds until the last watcher had it, and the message that all received."""
    reading = [child.begin("await_change") for child in children]
    time.sleep(_QUIET_SECONDS)
    happened_ns = make()
    times, received = zip(*[each.result() for each in reading], strict=True)
    messages: set[bytes] = set().union(*received)
    if len(messages) != 1:
        raise ProcessError(f"the watchers received {len(messages)} different messages of one change")
    return (max(times) - happened_ns) / 1e9, messages.pop()
