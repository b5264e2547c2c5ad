"""A Docker Swarm as a :class:`~container_manager.backend.Backend`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from container_manager.backend import CallObserver
from container_manager.backends.swarm.lifecycle import SwarmLifecycle
from container_manager.backends.swarm.limitations import limitations
from container_manager.backends.swarm.maintenance import SwarmMaintenance
from container_manager.backends.swarm.node_engines import NodeActions, NodeFigures
from container_manager.backends.swarm.overdue import Overdue
from container_manager.backends.swarm.pinned_files import PinnedFiles
from container_manager.backends.swarm.pinned_states import PinnedStates
from container_manager.backends.swarm.placement import Placing, shared_states
from container_manager.backends.swarm.secrets import SwarmSecrets
from container_manager.backends.swarm.service_log import ServiceLog
from container_manager.backends.swarm.source import SwarmSource
from container_manager.backends.swarm.state_volumes import StateVolumes
from container_manager.backends.swarm.task_log import LogEngines
from container_manager.bot_directories import same_user
from container_manager.config import BackendConfig, SwarmConfig
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.model import DiskUse, RawSample
from container_manager.provisioning.host_files import HostFiles
from container_manager.provisioning.host_states import HostStates


class SwarmBackend:
    """The swarm that the engine at ``config.docker_host`` is a manager of; it need not be there yet."""

    name = "swarm"

    def __init__(self, config: BackendConfig, swarm: SwarmConfig, observer: CallObserver | None = None) -> None:
        """``observer`` receives each call to the manager and to nodes' engines."""
        seconds = config.engine_timeout_seconds
        self.limitations = limitations(config, swarm)
        self._manager = AsyncEngineClient(config.docker_host, timeout_seconds=seconds, observer=observer)
        self._engine = SwarmClient(config.docker_host, timeout_seconds=seconds, observer=observer)
        self.secrets = SwarmSecrets(self._engine, config.bot_user)
        self.lifecycle = SwarmLifecycle(self._engine, config, swarm, self.secrets, observer)
        self.maintenance = SwarmMaintenance(self.lifecycle.images)
        self.actions = NodeActions(swarm.node_engines, self._engine, seconds=seconds, observer=observer)
        self._overdue = Overdue(lambda each: asyncio.to_thread(self.lifecycle.upkeep.attend, each))
        self.source = SwarmSource(self._manager, self._overdue)
        self._nodes = {
            name: AsyncEngineClient(url, timeout_seconds=seconds, observer=observer)
            for name, url in swarm.node_engines.items()
        }
        self._log_engines = LogEngines(self._nodes)
        self._figures = NodeFigures(self._nodes, self.source)
        self._shared = shared_states(config, swarm)
        self.files: HostFiles | PinnedFiles
        self.states: HostStates | PinnedStates | None
        if Placing(swarm.placement) is Placing.FLOATING:
            self.files = HostFiles(self._shared, config.bot_user, same_user)
            self.states = None if self._shared is None else HostStates(self._shared, config.bot_user, same_user)
        else:
            nodes = self.lifecycle.state_nodes
            volumes = StateVolumes(swarm.node_engines, seconds=seconds, observer=observer)
            copies = None if config.state_root is None else HostStates(config.state_root, config.bot_user, same_user)
            self.files = PinnedFiles(nodes, volumes, copies)
            self.states = None if copies is None else PinnedStates(self._engine, nodes, copies, volumes)

    async def version(self) -> str:
        try:
            return str((await self._manager.get_json("/version"))["Version"])
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc

    def log(self, container_id: str) -> ServiceLog:
        return ServiceLog(self._manager, self.source, container_id, self._log_engines)

    async def sample(self, container_id: str) -> RawSample | None:
        return await self._figures.sample(container_id)

    async def disk_use(self) -> Mapping[str, DiskUse]:
        return await self._figures.disk_use(self._shared)

    async def close(self) -> None:
        self.lifecycle.upkeep.close()
        await self._overdue.close()
        await self._manager.close()
        for node in self._nodes.values():
            await node.close()
        self.secrets.close()
        self.actions.close()
        self.lifecycle.close()
        self._engine.close()
