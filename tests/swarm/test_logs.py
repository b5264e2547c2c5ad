"""Bots' logs on a real swarm, and what only the nodes' own engines can do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, nullcontext, suppress

import pytest

from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.backends.docker.container_log import DockerContainerLog
from container_manager.backends.swarm.node_engines import NodeActions, NodeFigures
from container_manager.backends.swarm.service_log import ServiceLog
from container_manager.backends.swarm.task_log import SILENCE_SECONDS
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.errors import NodeUnavailableError
from container_manager.logs.existing import LogOptions
from container_manager.logs.reader import LogReader
from container_manager.model import LogEntry, RawEntry
from container_manager.view.container_versions import ContainerVersions
from dev.swarm import Node, SwarmBed
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.observing import reading
from tests.support.swarm_bots import SwarmBots
from tests.support.swarm_services import Followed, HandMade, followed

# Both outputs, a line of three pieces, one without a newline, and one per 0.1 s until the file is there. Then it ends.
SCRIPT = """
echo out; echo err >&2; head -c 40000 /dev/zero | tr '\\0' x; echo
n=0; while ! [ -e /tmp/end ]; do n=$((n + 1)); echo "line $n"; sleep 0.1; done; printf rest; exit 3
"""
LONG = 40_000
WRITTEN = 100_000


@pytest.fixture
def by_hand(session_bed: SwarmBed, swarm_image: str) -> Iterator[HandMade]:
    """Makes services without the service."""
    with HandMade(session_bed.nodes[0].docker_url, swarm_image) as made:
        yield made


@pytest.fixture
def nodes_send_logs(session_bed: SwarmBed, swarm_image: str) -> None:
    """All nodes do, to the manager: after a fault in an earlier test, one may not until its engine is restarted."""
    manager = session_bed.nodes[0].docker_url

    async def sends(service_id: str) -> bool:
        async with followed(manager) as (view,):
            with suppress(NodeUnavailableError, TimeoutError):
                await _readable(view.log(service_id), 20)
                return True
        return False

    for node in session_bed.nodes:
        with HandMade(manager, swarm_image) as made:
            _, service_id = made.run(*FOREVER, node=node.name)
            if asyncio.run(sends(service_id)):
                continue
            node.kill_engine()
            node.start_engine()
            session_bed.wait_until_ready()
            assert asyncio.run(sends(service_id)), f"{node.name} sends no logs"


class Follower:
    """A caller that follows a bot's log."""

    def __init__(self, view: Followed, service_id: str, versions: ContainerVersions) -> None:
        self.received: list[LogEntry] = []
        log = view.log(service_id)
        self._reader = LogReader(log, service_id, LogOptions(follow=True), versions)
        self.task = asyncio.create_task(self._follow())

    async def has(self, count: int, seconds: float = 30, *, runs: int = 1) -> None:
        """Wait until so many lines have come that begin with ``line``, and the fifth of so many runs."""
        async with asyncio.timeout(seconds):
            while not self.task.done():
                numbers = self.numbers()
                if len(numbers) >= count and numbers.count(5) >= runs:
                    return
                await asyncio.sleep(0.05)
        # Why it ended, if that was an error.
        self.task.result()

    def numbers(self) -> list[int]:
        return [int(entry.line.split()[1]) for entry in self.received if entry.line.startswith(b"line")]

    async def _follow(self) -> None:
        async with aclosing(self._reader.batches()) as batches:
            async for batch in batches:
                self.received += batch


@asynccontextmanager
async def following(view: Followed, service_id: str) -> AsyncIterator[Follower]:
    follower = Follower(view, service_id, ContainerVersions(view.keeper.view))
    try:
        yield follower
    finally:
        follower.task.cancel()
        await asyncio.gather(follower.task, return_exceptions=True)


@pytest.fixture(params=["manager", "nodes"])
def named(request: pytest.FixtureRequest, session_bed: SwarmBed) -> dict[str, str]:
    """The engines that the operator names; none of them: logs come through the manager."""
    if request.param == "manager":
        request.getfixturevalue("nodes_send_logs")
        return {}
    return {node.name: node.docker_url for node in session_bed.nodes}


def test_a_log_has_every_line_of_every_run_once_and_a_follower_receives_them(
    by_hand: HandMade, session_bed: SwarmBed, named: dict[str, str]
) -> None:
    """As the nodes' own engines have them, one run after another."""
    manager, node = session_bed.nodes[0], session_bed.nodes[1]
    _, service_id = by_hand.run("sh", "-c", SCRIPT, node=node.name)
    actions = NodeActions({node.name: node.docker_url}, by_hand.engine, seconds=30)

    async def main() -> None:
        async with followed(manager.docker_url, nodes=named) as (view,):
            log = view.log(service_id)
            assert await log.runs()
            await _readable(log)
            async with following(view, service_id) as follower:
                await follower.has(5)
                for runs in (2, 3):
                    await asyncio.to_thread(actions.run, service_id, ("touch", "/tmp/end"), seconds=30)
                    await follower.has(5, runs=runs)
                whole = await _containers_logs(node, by_hand, service_id)
                await follower.has(sum(entry[2].startswith(b"line") for entry in whole))
                received = [(entry.source, entry.line, entry.partial) for entry in follower.received]
                assert [entry[1:] for entry in whole] == received[: len(whole)]
                assert not any(entry.gap for entry in follower.received)
                assert 3 == sum(len(entry.line) + 16384 * 2 == LONG for entry in follower.received)
                starts = [at for at, entry in enumerate(follower.received) if entry.line == b"out"]
                assert 3 == len(starts)
                # The last one goes back into the first run.
                for tail in (0, 1, 5, len(whole) - 5):
                    entries = await _read(log, tail)
                    assert tail == len(entries)
                    later = await _read(log)
                    assert not entries or entries == later[(at := later.index(entries[0])) : at + tail]
            await asyncio.to_thread(by_hand.engine.remove_service, service_id)

    asyncio.run(main())
    actions.close()


def test_a_stream_goes_on_across_starts_and_stops_and_ends_with_the_bot(
    calls: Calls, observer: ContainerObserverStub, bots: SwarmBots
) -> None:
    """Through the service."""
    bot_id = bots.new()
    calls.create(bot_id, "sh", "-c", "echo run; exec sleep 100000")
    request = observer_pb.StreamLogsRequest(bot_id=bot_id, follow=True)
    with reading(observer.StreamLogs(request)) as read:
        for number in range(1, 3):
            calls.start(bot_id)
            read.wait_for(lambda messages, number=number: len(messages) >= number, f"run {number}")
            calls.stop(bot_id, grace=0)
        assert not read.ended.is_set()
        calls.remove(bot_id)
        assert read.wait_end() is None
        assert [b"run"] * 2 == [message.entry.line for message in read.messages]


@pytest.mark.usefixtures("nodes_send_logs")
def test_a_missing_program_is_told_also_where_no_nodes_engine_is_named(managers_only: Calls, bots: SwarmBots) -> None:
    bot_id = bots.new()
    managers_only.create(bot_id, "no-such-program")
    with fails_with("FAILED_PRECONDITION", "COMMAND_NOT_FOUND"):
        managers_only.start(bot_id)


def test_figures_come_from_the_engine_of_the_bots_node(by_hand: HandMade, session_bed: SwarmBed) -> None:
    manager, node = session_bed.nodes[0], session_bed.nodes[1]
    _, service_id = by_hand.run("sh", "-c", f"head -c {WRITTEN} /dev/zero >/tmp/x; sleep 86400", node=node.name)

    async def main() -> None:
        async with followed(manager.docker_url, nodes={node.name: node.docker_url}) as (view,):
            figures = NodeFigures(view.nodes, view.source)
            sample = await figures.sample(service_id)
            assert sample is not None
            assert sample.pids >= 1
            assert ((await figures.disk_use(None))[service_id].layer_bytes or 0) >= WRITTEN

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["power", "link"])
def test_a_follower_outlives_a_node_and_no_reader_waits_long_for_one(
    by_hand: HandMade, bed: SwarmBed, fault: str
) -> None:
    """The bot goes on elsewhere. The lines of the lost node are missing, and those before are not read twice.

    All engines are named: after a fault, a manager may get no log of a node until that node's engine is restarted.
    """
    manager = bed.nodes[0]
    named = {node.name: node.docker_url for node in bed.nodes}
    bot_id, service_id = by_hand.create("sh", "-c", SCRIPT)
    by_hand.change(service_id, lambda spec: _not_on(spec, manager.name))
    by_hand.start(service_id)

    async def main() -> None:
        async with followed(manager.docker_url, nodes=named) as (view,):
            status = await view.shows(bot_id, lambda each: bool(each.node))
            lost = next(node for node in bed.nodes if node.name == status.node)
            log = view.log(service_id)
            await _readable(log)
            async with following(view, service_id) as follower:
                await follower.has(10)
                if fault == "power":
                    lost.power_cut()
                else:
                    lost.cut_link()
                now = asyncio.get_running_loop().time
                began = now()
                # The engine's socket is on this machine, where a cut link does not matter.
                with nullcontext() if fault == "link" else pytest.raises(NodeUnavailableError, match=lost.name):
                    await _read(log, 5)
                assert now() - began < SILENCE_SECONDS + 1
                await view.shows(bot_id, lambda each: each.node not in ("", lost.name), 60)
                before = len(follower.numbers())
                await follower.has(before + 10, 60)
                numbers = follower.numbers()
                again = numbers.index(1, 1)
                assert [*range(1, again + 1), *range(1, len(numbers) - again + 1)] == numbers
                assert 1 == sum(entry.gap for entry in follower.received)
                if fault == "power":
                    lost.boot()
                else:
                    lost.heal_link()
                await view.shows(bot_id, lambda each: not each.node_unreachable)
                await follower.has(len(follower.numbers()) + 20)
                numbers = follower.numbers()
                assert [*range(1, again + 1), *range(1, len(numbers) - again + 1)] == numbers

    asyncio.run(main())


async def _readable(log: ServiceLog, seconds: float = 60) -> None:
    """Wait until the node sends its log: after a boot, it takes tasks a moment earlier."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(NodeUnavailableError):
                await _read(log)
                return
            await asyncio.sleep(0.1)


async def _read(log: ServiceLog | DockerContainerLog, tail: int | None = None) -> list[RawEntry]:
    return [entry async for batch in log.existing(tail) for entry in batch]


async def _containers_logs(node: Node, by_hand: HandMade, service_id: str) -> list[RawEntry]:
    """What the node's own engine has of the containers of a service's tasks."""
    engine = AsyncEngineClient(node.docker_url, timeout_seconds=30)
    tasks = sorted(await asyncio.to_thread(by_hand.tasks, service_id), key=lambda task: str(task["CreatedAt"]))
    try:
        found = [
            await _read(DockerContainerLog(engine, task["Status"]["ContainerStatus"]["ContainerID"])) for task in tasks
        ]
        return [entry for entries in found for entry in entries]
    finally:
        await engine.close()


def _not_on(spec: dict[str, object], node: str) -> dict[str, object]:
    template = spec["TaskTemplate"]
    assert isinstance(template, dict)
    return {**spec, "TaskTemplate": {**template, "Placement": {"Constraints": [f"node.hostname!={node}"]}}}
