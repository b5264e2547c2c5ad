"""A bot on a scripted swarm with a log that its tasks have written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from container_manager.backends.swarm.service_log import ServiceLog
from container_manager.backends.swarm.source import SwarmSource
from container_manager.backends.swarm.task_log import LogEngines
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.model import LogEntry, RawEntry
from tests.support.scripted_swarm import ScriptedSwarm
from tests.unit.log_engine import SECOND, raw
from tests.unit.swarm_documents import BOT


def lines(first: int, count: int) -> list[RawEntry]:
    return [raw(number * SECOND, f"line {number}".encode()) for number in range(first, first + count)]


def texts(entries: Sequence[LogEntry | RawEntry]) -> list[str]:
    return [entry[2].decode() for entry in entries]


async def read(log: ServiceLog, tail: int | None = None) -> list[RawEntry]:
    return await entries_of(log.existing(tail))


async def entries_of(batches: AsyncIterator[list[RawEntry]]) -> list[RawEntry]:
    return [entry async for batch in batches for entry in batch]


class Bot:
    """A bot with a log."""

    def __init__(self) -> None:
        self.swarm = ScriptedSwarm()
        self.key = self.swarm.add(BOT)
        self.source = SwarmSource(self.swarm)  # type: ignore[arg-type]
        self.engines: dict[str, AsyncEngineClient] = {}
        """Those of nodes that are named."""
        self.log = self.new_log()
        self.tasks: list[str] = []

    def new_log(self) -> ServiceLog:
        return ServiceLog(self.swarm, self.source, self.key, LogEngines(self.engines))  # type: ignore[arg-type]

    def run(self, node: str = "node1", entries: Sequence[RawEntry] = ()) -> str:
        """Another run; the one before has ended."""
        for task in self.tasks:
            if self.swarm.node_of(task) not in self.swarm.silent:
                self.swarm.set(task, "failed", Err="task: non-zero exit (1)")
        task = self.swarm.run(self.key, node=node)
        self.swarm.logs[task] += entries
        self.tasks.append(task)
        return task


def lose(swarm: ScriptedSwarm, node: str, how: str) -> None:
    """Let a node be ``silent`` or ``down``, or bring it back."""
    swarm.silent -= {node}
    swarm.silent |= {node} if how == "silent" else set()
    swarm.set_node(node, "down" if how == "down" else "ready")
