"""Containers in memory: a whole :class:`~container_manager.backend.Backend` without an engine.

    memory = MemoryBackend(secrets_root)
    with running_server(config, backend=memory.opened) as addresses:
        ...
    memory.script("start_container", PortInUseError("taken"), None)  # fails once, and then works
    with memory.held("stop_container") as gate:  # calls wait until the end of the block, or until gate.open()
        memory.await_calls("stop_container", 2)
    memory.go_away()  # every call fails, and the stream of notices breaks

It keeps the rules that :mod:`container_manager.backend` states; tests/support/lifecycle_contract.py shows that.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from container_manager.backend import CallObserver, Feature
from container_manager.bot_directories import BotUser, RootDirectory
from container_manager.model import ContainerState, DiskUse, RawSample
from container_manager.provisioning.host_states import HostStates
from tests.support.memory_lifecycle import MemoryLifecycle
from tests.support.memory_maintenance import MemoryMaintenance
from tests.support.memory_provisioning import MemoryActions, MemoryFiles, MemorySecrets
from tests.support.memory_store import Container, MemoryStore
from tests.support.memory_streams import MemoryLog, MemorySource


class MemoryBackend(MemoryStore):
    """Lifecycle, source, logs and stats of the store's containers, and the secrets and files of bots."""

    name = "memory"

    def __init__(
        self,
        secrets_root: RootDirectory,
        *,
        allowed_images: tuple[str, ...] = (),
        limitations: Mapping[Feature, str] | None = None,
        state_root: RootDirectory | None = None,
    ) -> None:
        """``state_root``: where the states are that are copied and exchanged; files that are put are in memory."""
        super().__init__()
        self.limitations = limitations or {}
        self.versions_asked = 0
        self.samples_taken = 0
        self.disk_uses_taken = 0
        self.disk_uses: dict[str, DiskUse] = {}
        """What is measured, by container id."""
        self.unsampled: set[str] = set()
        """Containers that give no sample."""
        self.stuck: set[str] = set()
        """Containers whose samples never come."""
        self.secrets = MemorySecrets(self)
        self.files = MemoryFiles(self)
        self.actions = MemoryActions(self)
        self.maintenance = MemoryMaintenance(self, allowed_images)
        self.states = None if state_root is None else HostStates(state_root, BotUser(os.geteuid(), os.getegid()))
        self.lifecycle = MemoryLifecycle(self, secrets_root, self.secrets, allowed_images=allowed_images)
        self.source = MemorySource(self)

    def opened(self, _observer: CallObserver | None) -> MemoryBackend:
        """Returns itself, for a server that opens a backend. There are no engine calls to observe."""
        return self

    async def version(self) -> str:
        self.check_there()
        self.versions_asked += 1
        return "1.0"

    def log(self, container_id: str) -> MemoryLog:
        return MemoryLog(self, container_id)

    async def disk_use(self) -> dict[str, DiskUse]:
        self.disk_uses_taken += 1
        return self.disk_uses

    async def sample(self, container_id: str) -> RawSample | None:
        self.samples_taken += 1
        if container_id in self.stuck:
            await asyncio.Event().wait()
        container = self.containers.get(container_id)
        if container_id in self.unsampled or container is None or container.status.state is not ContainerState.RUNNING:
            return None
        now_ns = self.now_ns()
        # A third of one core, of four cores.
        cpu_ns = (now_ns - (container.status.start_time_ns or now_ns)) // 3
        return RawSample(now_ns, cpu_ns, 4, 1_000_000, 4_000_000, 10, 20, 3)

    async def close(self) -> None:
        """Nothing to do: its readers close what they open."""


class MemoryBots:
    """Bots for tests on a backend in memory, like :class:`tests.support.bots.Bots` on an engine."""

    def __init__(self, memory: MemoryBackend, secrets_root: Path) -> None:
        self.ids: list[str] = []
        self._memory = memory
        self._secrets_root = secrets_root

    def new(self) -> str:
        """A new bot's id; it has a secrets directory."""
        bot_id = self.bare()
        (self._secrets_root / bot_id).mkdir()
        return bot_id

    def bare(self) -> str:
        """A new bot's id; it has no secrets directory."""
        self.ids.append(str(uuid.uuid4()))
        return self.ids[-1]

    def containers(self) -> list[Container]:
        """Every container of these bots, from the backend's own store."""
        return [each for each in self._memory.containers.values() if each.status.bot_id in self.ids]
