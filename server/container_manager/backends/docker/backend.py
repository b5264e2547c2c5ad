"""One Docker Engine as a :class:`~container_manager.backend.Backend`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from container_manager.backend import CallObserver, Feature
from container_manager.backends.docker.container_log import DockerContainerLog
from container_manager.backends.docker.container_source import ContainerSource
from container_manager.backends.docker.disk_use import disk_use
from container_manager.backends.docker.lifecycle import DockerLifecycle
from container_manager.backends.docker.maintenance import DockerMaintenance
from container_manager.backends.docker.status_reader import StatusReader
from container_manager.backends.engine_actions import EngineActions
from container_manager.backends.sampling import sample
from container_manager.config import BackendConfig
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.model import DiskUse, RawSample
from container_manager.provisioning.host_files import HostFiles
from container_manager.provisioning.host_secrets import HostSecrets
from container_manager.provisioning.host_states import HostStates


class DockerBackend:
    """The engine at ``config.docker_host``, which need not be there yet."""

    name = "docker"
    limitations: Mapping[Feature, str] = MappingProxyType({})

    def __init__(self, config: BackendConfig, observer: CallObserver | None = None) -> None:
        """``observer`` receives each call to the engine."""
        reader = StatusReader()
        self.lifecycle = DockerLifecycle(config, observer, reader)
        self.actions = EngineActions(
            config.docker_host, timeout_seconds=config.engine_timeout_seconds, observer=observer
        )
        self.secrets = HostSecrets(config.secrets_root, config.bot_user, self.lifecycle.host_user)
        self.files = HostFiles(config.state_root, config.bot_user, self.lifecycle.host_user)
        self._state_root = config.state_root
        self.maintenance = DockerMaintenance(config, self.lifecycle.images, observer)
        self.states = (
            None
            if config.state_root is None
            else HostStates(config.state_root, config.bot_user, self.lifecycle.host_user)
        )
        self._engine = AsyncEngineClient(
            config.docker_host, timeout_seconds=config.engine_timeout_seconds, observer=observer
        )
        self.source = ContainerSource(self._engine, reader)

    async def version(self) -> str:
        try:
            return str((await self._engine.get_json("/version"))["Version"])
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc

    def log(self, container_id: str) -> DockerContainerLog:
        return DockerContainerLog(self._engine, container_id)

    async def sample(self, container_id: str) -> RawSample | None:
        return await sample(self._engine, container_id)

    async def disk_use(self) -> Mapping[str, DiskUse]:
        return await disk_use(self._engine, self._state_root)

    async def close(self) -> None:
        await self._engine.close()
        self.lifecycle.close()
        self.actions.close()
        self.maintenance.close()
